// SPDX-License-Identifier: Apache-2.0
#include "walk.hpp"

#include <dirent.h>
#include <xxhash.h>

#include <algorithm>

#include "resume.hpp"

namespace rainfs::scrub {

namespace {

// Names an NFS client gives to files that are removed while they are open: they go by themselves.
bool is_silly_name(std::string_view name) {
  if (!name.starts_with(".nfs") || name.size() != 28) return false;
  return std::all_of(name.begin() + 4, name.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

struct Listing {
  std::vector<std::string> files, directories;  // sorted
};

Listing list(Session& session, const std::string& path) {
  nas::Answers answers = session.array.metadata(session.array.online(),
                                                [&](ExportIndex) { return new_operation(Kind::read_directory, path); });
  Listing listing;
  for (nas::Answer& answer : answers) {
    if (!answer.ok()) {
      if (answer.error != ENOENT && answer.error != ENOTDIR) session.unanswered = true;
      continue;
    }
    for (io::DirectoryEntry& entry : answer.operation->entries) {
      if (path.empty() && entry.name == nas::private_directory) continue;
      if (is_silly_name(entry.name)) continue;
      std::uint8_t type = entry.type;
      if (type == DT_UNKNOWN) {
        const replica::Done stat =
            perform_on(session.array, answer.index,
                       new_operation(Kind::stat, path.empty() ? entry.name : path + "/" + entry.name));
        if (stat.ok() && S_ISDIR(stat.operation->stat.stx_mode)) type = DT_DIR;
      }
      (type == DT_DIR ? listing.directories : listing.files).push_back(std::move(entry.name));
    }
    answer.operation->entries = {};
  }
  for (std::vector<std::string>* names : {&listing.files, &listing.directories}) {
    std::sort(names->begin(), names->end());
    names->erase(std::unique(names->begin(), names->end()), names->end());
  }
  // A directory on one export and a file on another: as a directory it is looked at and into.
  std::erase_if(listing.files, [&](const std::string& name) {
    return std::binary_search(listing.directories.begin(), listing.directories.end(), name);
  });
  return listing;
}

}  // namespace

std::vector<std::string> walked_tops(const Session& session) {
  std::vector<std::string> tops = session.options.paths;
  std::sort(tops.begin(), tops.end(), [](const std::string& a, const std::string& b) { return walked_before(a, b); });
  std::vector<std::string> out;
  for (std::string& top : tops) {
    const bool covered = !out.empty() && (top == out.back() || top.starts_with(out.back() + "/"));
    if (!covered) out.push_back(std::move(top));
  }
  if (out.empty()) out.emplace_back();
  return out;
}

bool of_this_shard(const Session& session, const std::string& path) {
  if (session.options.shards <= 1) return true;
  return XXH3_64bits(path.data(), path.size()) % session.options.shards == session.options.shard;
}

void walk(Session& session, const std::string& top, const std::function<bool(const std::string&)>& begin,
          const std::function<void(const Walked&)>& take) {
  struct Level {
    std::string path;
    std::vector<std::string> directories;
    std::size_t next = 0;
  };
  std::vector<Level> levels;
  const auto enter = [&](const std::string& path) {
    if (begin && !begin(path)) return;
    Listing listing = list(session, path);
    const std::string prefix = path.empty() ? std::string{} : path + "/";
    for (const std::string& name : listing.files) {
      if (session.stopped()) return;
      take({prefix + name, false});
    }
    listing.files = {};
    for (const std::string& name : listing.directories) take({prefix + name, true});
    levels.push_back({path, std::move(listing.directories)});
  };
  if (!top.empty()) take({top, true});
  enter(top);
  while (!levels.empty() && !session.stopped()) {
    Level& level = levels.back();
    if (level.next == level.directories.size()) {
      levels.pop_back();
      continue;
    }
    const std::string name = std::move(level.directories[level.next++]);
    enter(level.path.empty() ? name : level.path + "/" + name);
  }
}

}  // namespace rainfs::scrub
