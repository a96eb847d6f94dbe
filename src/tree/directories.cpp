// SPDX-License-Identifier: Apache-2.0
// Listing directories: the union of all reachable exports, each name once.
#include <dirent.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "rainfs/log/log.hpp"
#include "rainfs/replica/intent.hpp"
#include "tree_internal.hpp"

namespace rainfs::tree {

base::Result<std::unique_ptr<OpenDirectory>> Tree::open_directory(NodeId id, const Caller&) {
  auto directory = std::make_unique<OpenTreeDirectory>();
  directory->node = id;
  return std::unique_ptr<OpenDirectory>(std::move(directory));
}

base::Result<void> Tree::fill(OpenTreeDirectory& directory) {
  auto path = path_or_gone(directory.node);
  if (!path) {
    // Removed while open: empty, but for nothing. As on a local file system.
    directory.entries.clear();
    return {};
  }
  return list_union(*path, directory);
}

// A name that has been given to fewer than R racks, none of them where it is looked for first: what a node left that
// died while it made a hard link, say. Nobody was told that it is there, and a lookup may be right to say that it is
// not.
bool Tree::is_stray(const std::string& path, ExportSet shown_by, ExportSet unknown) const {
  const auto topology = array_.topology();
  const topology::Rules& rules = topology->rules_for(path);
  if (topology->racks_of(shown_by | unknown) >= topology->racks_to_hold(rules)) return false;
  const ExportSet home = placement::choose(placement::order(path, *topology), *topology, rules.replicas,
                                           array_.online() & topology->placeable());
  return (home & shown_by).empty();
}

base::Result<void> Tree::list_union(const std::string& path, OpenTreeDirectory& directory) {
  const auto topology = array_.topology();
  const topology::Rules& rules = topology->rules_for(path);
  const ExportSet data = topology->data_exports();
  nas::Answers answers =
      array_.metadata(data, [&](ExportIndex) { return make_operation(io::Kind::read_directory, path); });
  const ExportSet answered = answers.ok() | answers.with_error(ENOENT) | answers.with_error(ENOTDIR);
  const bool lenient = rules.quorum == topology::Quorum::lenient && !answers.ok().empty();
  if (topology->complete_racks(answered) < topology->racks_to_deny(rules) && !lenient) {
    log::warning("listing-unprovable", "/{}: too few racks answered to list it", path);
    return base::unexpected(EIO);
  }
  if (answers.ok().empty()) return base::unexpected(ENOENT);

  struct Union {
    std::uint64_t inode;
    std::uint8_t type;
    ExportSet shown_by;
  };
  std::unordered_map<std::string_view, Union> names;
  std::set<std::string> hidden;                // names that only facts, or exchanges that are under way, know of
  for (const nas::Answer& answer : answers) {  // in order of export, as st_ino of files is
    if (!answer.ok()) continue;
    for (const io::DirectoryEntry& entry : answer.operation->entries) {
      if (path.empty() && entry.name == nas::private_directory) continue;
      if (is_silly_name(entry.name)) continue;
      const auto [it, first] = names.try_emplace(entry.name, Union{entry.inode, entry.type, {}});
      if (first && entry.type != DT_DIR) it->second.inode = file_inode(answer.index, entry.inode);
      it->second.shown_by.insert(answer.index);
    }
  }
  directory.entries.clear();
  directory.entries.reserve(names.size() + 2);
  const std::string prefix = path.empty() ? std::string{} : path + "/";
  directory.entries.push_back({".", directory_inode(path), DT_DIR});
  directory.entries.push_back({"..", directory_inode(base::parent_of(path)), DT_DIR});
  // A name on fewer than R racks may be left from what another node has just removed, and one that is on none that
  // answers may be on those that do not: then the ledgers are looked at, not only the last poll's memory of them.
  const unsigned wanted = topology->racks_to_hold(rules);
  bool some_scarce = false;
  for (const auto& [name, seen] : names) some_scarce |= topology->racks_of(seen.shown_by) < wanted;
  const bool all_answered = answered == data;
  // (Before the ledgers, which know what an exchange has left behind by the time its intent goes.)
  if (!all_answered || array_.intents_pending()) {
    auto exchanged = replica::names_being_exchanged(array_, path);
    if (!exchanged) return base::Unexpected{exchanged.error()};
    hidden = std::move(*exchanged);
  }
  ExportSet blamed = array_.blamed_somewhere();
  if (some_scarce || !all_answered) {
    ExportSet heard;
    blamed |= ledger_.blamed_now(&heard);
    if (!all_answered && !lenient && !topology->ledger_heard(rules, heard)) {
      log::warning("listing-unprovable", "/{}: too few racks answered about what is behind to list it", path);
      return base::unexpected(EIO);
    }
  }
  // Exports that may be behind do not prove that there is nothing else.
  if (topology->complete_racks(answered - blamed) < topology->racks_to_deny(rules) && !lenient) {
    // Those that are behind about the whole directory have not answered about it. (No name is "."; so only facts
    // about directories come back.)
    const ledger::Testimony testimony = ledger_.ask(prefix + ".");
    if (!topology->ledger_heard(rules, testimony.answered) ||
        topology->complete_racks(answered - testimony.blamed) < topology->racks_to_deny(rules)) {
      log::warning("listing-unprovable", "/{}: too few racks that are not behind answered to list it", path);
      return base::unexpected(EIO);
    }
    auto facts = ledger_.beneath(path);
    if (!facts) return base::Unexpected{facts.error()};
    for (const ledger::Fact& fact : *facts) {
      const std::string_view rest = std::string_view(fact.path).substr(std::min(prefix.size(), fact.path.size()));
      if (!rest.empty() && rest.find('/') == std::string_view::npos) hidden.insert(std::string(rest));
    }
  }
  for (const std::string& name : hidden) {
    if (names.contains(name) || (path.empty() && name == nas::private_directory)) continue;
    auto location = find(prefix + name, {}, false, true, nullptr);
    if (!location) return base::Unexpected{location.error()};
    if (location->verdict.finding == replica::Finding::absent) continue;
    const struct statx& stat = location->elected();
    names.try_emplace(name,
                      Union{stat.stx_ino, static_cast<std::uint8_t>(IFTODT(stat.stx_mode)), location->verdict.good});
  }
  for (auto& [name, seen] : names) {
    std::string child = prefix + std::string(name);
    const bool only_behind = (seen.shown_by - blamed).empty();
    if (only_behind || is_stray(child, seen.shown_by, data - answered)) {
      // Only exports that may be behind show it; or it is to be listed if it can be looked up.
      auto location = find(child, {}, false, only_behind, nullptr);
      if (!location) return base::Unexpected{location.error()};
      if (location->verdict.finding == replica::Finding::absent) continue;
    }
    const std::uint64_t inode = seen.type == DT_DIR ? directory_inode(child) : seen.inode;
    directory.entries.push_back({std::string(name), inode, seen.type});
  }
  return {};
}

base::Result<void> Tree::read_directory(OpenDirectory& opened, std::uint64_t offset,
                                        const std::function<bool(const ListedEntry&)>& take) {
  auto& directory = static_cast<OpenTreeDirectory&>(opened);
  const std::lock_guard lock(directory.mutex);
  if (!directory.filled || offset == 0) {
    auto filled = fill(directory);
    if (!filled) return filled;
    directory.filled = true;
  }
  for (std::uint64_t i = offset; i < directory.entries.size(); ++i) {
    const OpenTreeDirectory::Listed& entry = directory.entries[i];
    if (!take({entry.name, entry.inode, entry.type, i + 1})) break;
  }
  return {};
}

base::Result<void> Tree::sync_directory(NodeId id) {
  auto path = path_or_gone(id);
  if (!path) return {};
  const auto topology = array_.topology();
  // Opened for it: fsync of a directory is rare.
  nas::Answers opened = array_.metadata(topology->data_exports(), [&](ExportIndex) {
    auto operation = make_operation(io::Kind::open, *path);
    operation->flags = O_RDONLY | O_DIRECTORY;
    return operation;
  });
  nas::Answers synced = array_.data(opened.ok(), [&](ExportIndex index) {
    auto operation = std::make_shared<io::Operation>(io::Kind::fsync);
    operation->file = opened.of(index)->operation->handle;
    return operation;
  });
  if (synced.ok().empty()) return base::unexpected(EIO);
  return {};
}

}  // namespace rainfs::tree
