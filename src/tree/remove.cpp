// SPDX-License-Identifier: Apache-2.0
// Removing names. A name never comes back: exports that could not be asked get a fact.
#include <fmt/format.h>

#include "rainfs/log/log.hpp"
#include "rainfs/replica/upkeep.hpp"
#include "tree_internal.hpp"

namespace rainfs::tree {

bool Tree::move_aside(ExportIndex index, const std::string& path, std::uint64_t inode) {
  const auto moved = replica::move_aside(context_, index, path, replica::Aside::trash, inode);
  return moved || moved.error().code == ENOENT || (inode != 0 && moved.error().code == ESTALE);
}

base::Result<bool> Tree::empty_in_union(const std::string& path) {
  OpenTreeDirectory directory;
  auto listed = list_union(path, directory);
  if (!listed && listed.error().code == ENOENT) return true;
  if (!listed) return base::Unexpected{listed.error()};
  return directory.entries.size() == 2;  // "." and ".."
}

bool Tree::enough_to_deny(const std::string& path, ExportSet without) const {
  const auto topology = array_.topology();
  const topology::Rules& rules = topology->rules_for(path);
  return rules.quorum == topology::Quorum::lenient ||
         topology->complete_racks(without) >= topology->racks_to_deny(rules);
}

void Tree::prepare_removal(NodeId parent, std::string_view name, const std::string& path) {
  Node* node = nodes_.find(parent, name);
  if (node == nullptr) return;
  const std::shared_ptr<void> unpin(nullptr, [&](void*) { nodes_.unpin(node); });
  const OpenStatePtr open = open_of(node);
  if (open) {
    std::vector<FilePtr> files;
    {
      const std::lock_guard lock(open->mutex);
      files = open->files;
    }
    for (const FilePtr& file : files) file->hold_all(path);
    return;
  }
  // Not open here; but a directory may be somebody's working directory.
  if (!S_ISDIR(node->type)) return;
  auto attributes = get_attributes(nodes_.id_of(node));
  if (attributes) nodes_.remember_gone(parent, name, *attributes);
}

base::Result<void> Tree::remove(NodeId parent, std::string_view name, bool directory, const Caller& caller) {
  if (options_.read_only) return base::unexpected(EROFS);
  if (is_private(parent, name)) return base::unexpected(ENOENT);
  const auto path = nodes_.path_of(parent, name);
  if (!path) return base::unexpected(ENOENT);
  (void)wait_for_renames(*path);
  const auto topology = array_.topology();
  const topology::Rules& rules = topology->rules_for(*path);
  const ExportSet data = topology->data_exports();
  const bool lenient = rules.quorum == topology::Quorum::lenient;
  const io::Kind kind = directory ? io::Kind::rmdir : io::Kind::unlink;
  if (directory) {
    auto empty = empty_in_union(*path);
    if (!empty) return base::Unexpected{empty.error()};
    if (!*empty) return base::unexpected(ENOTEMPTY);
  }
  prepare_removal(parent, name, *path);
  DirectoryChange change(nodes_, parent);
  const bool repairs_before = array_.repairs_under_way();
  ExportSet remembered;
  const auto remember = [&](ExportSet missed) {
    auto recorded = missed.empty() ? base::Result<std::vector<ledger::Instance>>(std::vector<ledger::Instance>{})
                                   : ledger_.record(*path, missed, ledger::Why::removed, rules.replicas);
    remembered |= missed;
    if (recorded) ledger_.supersede(*recorded, ledger::Why::removed);
    return replica::as_required(rules, recorded);
  };
  // What cannot be remembered is not begun: the good replicas would be gone, and an old one come back.
  auto begun = remember(data - array_.online());
  if (!begun) return begun;
  nas::Answers answers = array_.metadata(data, [&](ExportIndex) { return make_operation(kind, *path, &caller); });
  ExportSet removed = answers.ok();
  ExportSet perhaps;  // failed over it, and may have removed it all the same
  for (const nas::Answer& answer : answers) {
    const bool tried = answer.operation || answer.error == ETIMEDOUT;
    if (tried && answer.error != EROFS && base::classify(answer.error) == base::ErrorClass::absent)
      perhaps.insert(answer.index);
  }
  if (repairs_before || array_.repairs_under_way()) {
    // A repairer may have put a replica back between our removals: once more, everywhere. What was missed must
    // not be a repairer's source any more by then.
    if (!removed.empty()) {
      auto known = remember(data - remembered - answers.ok() - answers.with_error(ENOENT) -
                            answers.with_error(ENOTDIR) - answers.with_error(ENOTEMPTY));
      if (!known) return known;
    }
    nas::Answers again = array_.metadata(data, [&](ExportIndex) { return make_operation(kind, *path, &caller); });
    removed |= again.ok();
    for (nas::Answer& answer : again) {
      if (!answers.of(answer.index)->ok()) *answers.of(answer.index) = std::move(answer);
    }
  }
  // Names that only a stale export still holds below a removed directory go with it, aside.
  for (const ExportIndex index : directory ? answers.with_error(ENOTEMPTY) : ExportSet{}) {
    auto still_empty = empty_in_union(*path);
    if (!still_empty || !*still_empty) return base::unexpected(ENOTEMPTY);
    if (!move_aside(index, *path)) continue;
    removed.insert(index);
    answers.of(index)->error = 0;
  }
  int refusal = 0;
  for (const nas::Answer& answer : answers) {
    const bool about_file = base::classify(answer.error) == base::ErrorClass::file;
    if (!answer.ok() && about_file && answer.error != ENOENT) refusal = answer.error;
  }
  const ExportSet answered = answers.ok() | answers.with_error(ENOENT) | answers.with_error(ENOTDIR);
  if (removed.empty()) {
    if (refusal != 0) return base::unexpected(refusal);
    if (!perhaps.empty()) return base::unexpected(EIO);
    if (!answers.with_error(EROFS).empty()) return base::unexpected(EROFS);
    if (answered != data && !lenient) {
      // Those that have it may just have gone away, and facts say that the others lack it.
      auto location = find(*path, {}, false, true, nullptr);
      if (!location) return base::Unexpected{location.error()};
      if (location->verdict.finding == replica::Finding::present) return base::unexpected(EIO);
    }
    nodes_.unbind(parent, name);
    return base::unexpected(ENOENT);
  }
  if (refusal != 0) {
    // Some exports removed it, others refuse: by the daemon's own right, or by a fact.
    nas::Answers again = array_.metadata(data - answered, [&](ExportIndex) { return make_operation(kind, *path); });
    for (nas::Answer& answer : again) *answers.of(answer.index) = std::move(answer);
  }
  // A directory is on every export: where R racks still had it, these would agree on it.
  if (directory && !enough_to_deny(*path, answers.ok() | answers.with_error(ENOENT) | answers.with_error(ENOTDIR))) {
    return base::unexpected(EIO, "too few racks removed the directory");
  }
  const ExportSet missed = data - answers.ok() - answers.with_error(ENOENT) - answers.with_error(ENOTDIR);
  auto known = remember(missed - remembered);
  if (!known) return known;
  // What was not there may lie under the new name of a rename that the last poll did not know of.
  const unsigned expected = directory ? topology->racks_of(data) : topology->racks_to_hold(rules);
  if (topology->racks_of(removed) < expected && half_renamed_now(*path) == HalfRenamed::yes) {
    return base::unexpected(EIO, "another node was renaming it");
  }
  nodes_.unbind(parent, name);
  if (!directory) change.only(removed);
  return {};
}

base::Result<void> Tree::unlink(NodeId parent, std::string_view name, const Caller& caller) {
  return remove(parent, name, false, caller);
}

base::Result<void> Tree::remove_directory(NodeId parent, std::string_view name, const Caller& caller) {
  return remove(parent, name, true, caller);
}

}  // namespace rainfs::tree
