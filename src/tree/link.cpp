// SPDX-License-Identifier: Apache-2.0
// Further names of a file, and the first one of a file that was made without.
#include "tree_internal.hpp"

namespace rainfs::tree {

base::Result<Entry> Tree::link(NodeId id, NodeId new_parent, std::string_view new_name, const Caller& caller) {
  if (options_.read_only) return base::unexpected(EROFS);
  if (is_private(new_parent, new_name)) return base::unexpected(EPERM);
  if (new_name.size() > 255) return base::unexpected(ENAMETOOLONG);
  const auto to = nodes_.path_of(new_parent, new_name);
  if (!to) return base::unexpected(ENOENT);
  const DirectoryChange change(nodes_, new_parent);
  (void)wait_for_renames(*to);
  auto target = find_to_change(*to, [&] { return find(*to, {}, false, true, nullptr); });
  if (!target) return base::Unexpected{target.error()};
  if (target->verdict.finding == replica::Finding::present) return base::unexpected(EEXIST);
  for (const ExportIndex index : target->evidence.present) move_aside(index, *to);

  const auto from = nodes_.path_of(id);
  ExportSet sources;
  ExportSet good;
  OpenStatePtr open;
  Node* node = NodeTable::from_id(id, nodes_);
  if (from) {
    auto committed = commit_writers(open_of(node), *from);
    if (!committed) return base::Unexpected{committed.error()};
    auto source = find_to_change(*from, [&] { return find(*from, nodes_.where(id), false, true, nullptr); });
    if (!source) return base::Unexpected{source.error()};
    if (source->verdict.finding == replica::Finding::absent) return base::unexpected(ENOENT);
    trust_writers(open_of(node), *source);
    sources = source->evidence.present - source->evidence.blamed;
    good = source->verdict.good;
  } else {
    const std::lock_guard lock(nodes_.mutex());
    open = node->open;
    if (!open) return base::unexpected(ENOENT);
  }
  FilePtr unnamed;
  std::unique_lock<std::mutex> kept_open;  // the file without a name must not be closed meanwhile
  if (open) {
    kept_open = std::unique_lock(open->mutex);
    unnamed = some_file_locked(*open, true);
    if (!unnamed) return base::unexpected(ENOENT);
    sources = good = unnamed->usable();
  }
  const auto make = [&](ExportIndex index) {
    auto operation = make_operation(io::Kind::link, from.value_or(""), &caller);
    operation->path2 = *to;
    if (unnamed != nullptr) operation->other = unnamed->handle_of(index);
    return operation;
  };
  const auto link_on = [&](ExportSet set) {
    nas::Answers answers = array_.metadata(set, make);
    for (const ExportIndex index : answers.with_error(ENOENT)) {
      if (!ensure_directory(index, base::parent_of(*to))) continue;
      *answers.of(index) = std::move(array_.metadata(ExportSet::of(index), make).list.front());
    }
    return answers;
  };
  // The first decides between nodes that link to the same name at once.
  const ExportSet first = ExportSet::of(*sources.begin());
  nas::Answers answers = link_on(first);
  if (!answers.ok().empty() || !answers.failed().empty()) {
    for (nas::Answer& answer : link_on(sources - first)) answers.list.push_back(std::move(answer));
  }
  const ExportSet done = answers.ok();
  if (done.empty()) return base::unexpected(first_refusal(answers));
  const ExportSet believed = (done & good) - target->evidence.blamed;
  const ExportSet left_out = (sources - done) | (done - believed);
  if (believed.empty()) return base::unexpected(EIO);
  auto recorded = replica::record_shortfall(context_, *to, believed, left_out, {}, ledger::Why::missed_write);
  if (!recorded) return base::Unexpected{recorded.error()};
  if (auto known = replica::remember_directories(context_, *to, believed); !known)
    return base::Unexpected{known.error()};
  if (unnamed != nullptr) {
    // It has a name from now on: what was written to it is committed under that.
    nodes_.add_name(id, new_parent, new_name);
    auto committed = unnamed->commit(*to, replica::File::Durability::flush);
    if (!committed) return base::Unexpected{committed.error()};
  }
  auto location = find(*to, believed, false, false, nullptr);
  if (!location) return base::Unexpected{location.error()};
  if (location->verdict.finding == replica::Finding::absent) return base::unexpected(ENOENT);
  nodes_.add_name(id, new_parent, new_name);
  return admit(new_parent, new_name, *to, *location);
}

}  // namespace rainfs::tree
