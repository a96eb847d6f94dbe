// SPDX-License-Identifier: Apache-2.0
// Finding the replicas of a path: one parallel stat to where they should be, and more only if these do not
// agree. Any thread; blocks, bounded by the metadata deadline per round (at most six rounds).
#pragma once

#include <memory>

#include "rainfs/ledger/ledger.hpp"
#include "rainfs/replica/verdict.hpp"

namespace rainfs::replica {

// What became of operations on replicas since the mount.
struct Meters {
  metrics::Counter failovers;         // reads that another replica answered after one had failed
  metrics::Counter degraded_commits;  // commit points that recorded facts
};

// What the operations on replicas work with; lives as long as the mount.
struct Context {
  nas::Array& array;
  ledger::Ledger& ledger;
  Meters meters{};
};

struct Location {
  std::shared_ptr<const topology::Topology> topology;
  topology::Rules rules;
  placement::Order order;
  Evidence evidence;
  Verdict verdict;
  nas::Answers answers;  // of the stats, for their results
  ExportSet asked;
  ExportSet not_reached;  // data exports that did not answer

  const struct statx* stat_of(ExportIndex index) const;
  const struct statx& elected() const { return *stat_of(verdict.elected); }
};

// A rename over an existing file removes what is left of that on other exports so long after the new one is there;
// looks that together take less cannot fall between, those that take longer are repeated before absence is believed.
inline constexpr base::Duration one_moment = std::chrono::milliseconds(1);

struct LocateOptions {
  ExportSet hint;                  // where the replicas were found last; asked first if they suffice
  bool force_sync = false;         // AT_STATX_FORCE_SYNC: do not trust a client's attribute cache
  bool everywhere = false;         // ask all exports at once: for operations that concern all of them
  bool newest_times = true;        // of a directory, whose times are the newest of all exports': ask all
  io::CredentialsPtr credentials;  // used where the daemon itself may not look (root-squashed exports)
};

// Facts are about names, and what an export misses of a file by one of its names it misses by all: of the exports that
// are not blamed about the path, those that are blamed about another name of the same file there. None where R agree.
// Reads the facts about such exports, where files of several names are concerned.
ExportSet behind_by_other_names(Context& context, const Location& found);

// Finding::absent is a Location too: its evidence is what operations that create or remove need. Errors:
// EIO with a log line where too few racks answered; the exports' own error where they agree on another one
// (EACCES, ENAMETOOLONG, ELOOP).
base::Result<Location> locate(Context& context, std::string_view path, const LocateOptions& options = {});

// A read touches one replica, and a change each at its own moment: the newest atime and ctime are the file's.
void take_newer_times(struct statx& stat, const struct statx& other);
// Merges what is known of a directory on several exports: newest times, mtime too, largest size and nlink.
void merge_directory(struct statx& stat, const struct statx& other);
struct statx merged_directory_stat(const Location& location);

}  // namespace rainfs::replica
