// SPDX-License-Identifier: Apache-2.0
// What is known of an array at one moment: as a value, as text for people, as JSON for programs. Values and
// pure functions; any thread. What is wrong is judged here, once, for all of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rainfs/base/result.hpp"

namespace rainfs::status {

// In this order: the health of the whole is the worst of what is found.
enum class Health : std::uint8_t {
  healthy,
  degraded,     // all data can be used, but something is missing, full or late
  unavailable,  // some data cannot be used
};
std::string_view name_of(Health health);

// One thing that an administrator should know: what it is, what it means, and what to do about it.
struct Problem {
  Health health = Health::degraded;
  std::string what;
  std::string means;
  std::string action;
};

struct Export {
  std::string name;
  std::string rack;  // empty for a witness
  std::string path;
  std::string state = "active";  // as the array has it: active, draining, retired
  int raid = 0;
  bool witness = false;
  bool online = false;
  bool slow = false;
  bool read_only = false;
  bool full = false;
  bool rebuild_pending = false;
  std::string absent_reason;
  std::int64_t absent_since_s = 0;  // seconds of the epoch; 0 if not known
  std::uint64_t total_bytes = 0;
  std::uint64_t available_bytes = 0;
  std::uint64_t latency_ns = 0;
  std::uint64_t facts = 0;  // paths about which it is not to be believed, as far as counted
};

struct Facts {
  std::uint64_t count = 0;    // pairs of a path and an export
  std::uint64_t paths = 0;    // that have fewer good replicas than they should
  bool complete = true;       // false: there are more than were counted
  std::int64_t oldest_s = 0;  // seconds of the epoch; 0 if there is none, or it is not known
  struct Example {
    std::string path, export_name, why, node;
    std::int64_t time_s = 0;
  };
  std::vector<Example> examples;  // the oldest of those looked at
};

// A mounted node, as the file it leaves on the exports tells.
struct Mount {
  std::string node;
  std::string mount_point;
  std::string version;
  std::int64_t mounted_s = 0;
  std::int64_t seen_s = 0;
  bool alive = false;
  std::uint64_t read_bytes_per_s = 0;  // by its programs, in the last half minute before it was seen
  std::uint64_t written_bytes_per_s = 0;
};

struct Scrub {
  bool running = false;
  // Of the last run that ended; `finished_s` 0 if there was none.
  std::int64_t started_s = 0;
  std::int64_t finished_s = 0;
  bool deep = false;  // contents too
  std::string scope;  // "all", "ledger" (what was known to be amiss), "paths"; of one of several shards " I/N"
  std::string node;
  std::uint64_t facts = 0;
  std::uint64_t files = 0;
  std::uint64_t repaired = 0;
  std::uint64_t unrepaired = 0;
  std::uint64_t conflicts = 0;
  std::uint64_t damaged = 0;
  std::uint64_t bytes_copied = 0;
  std::uint64_t fewer_than_r = 0;  // left with fewer than R replicas
  std::uint64_t single = 0;        // left with one replica
  // Of the run going on.
  std::string progress;
};

struct Policy {
  std::string path;
  unsigned replicas = 0;
};

// What is lost without data being lost: racks whole, or disks anywhere.
struct Tolerance {
  unsigned racks_whole = 0;  // when everything is there
  unsigned disks_whole = 0;
  unsigned racks_now = 0;
  unsigned disks_now = 0;
};

// What programs moved on one node in the interval that ended at a time.
struct Throughput {
  std::int64_t time_s = 0;
  std::uint64_t read_bytes_per_s = 0;
  std::uint64_t written_bytes_per_s = 0;
};

// Of the daemon that made the report; absent from reports made without a mount.
struct Daemon {
  std::string node;
  std::string mount_point;
  std::string version;
  std::string log_level;
  std::int64_t since_s = 0;
  std::uint64_t open_files = 0;
  std::uint64_t cached_nodes = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;
  std::uint64_t operations = 0;
  std::uint64_t failed_operations = 0;  // with an error that is not about a file's name or rights
  std::uint64_t degraded_commits = 0;
  std::uint64_t failovers = 0;
  bool over_io_uring = false;  // where its requests come from
  std::uint64_t facts_recorded = 0;
  std::vector<Throughput> throughput;  // of the last two hours, the oldest first
};

struct Report {
  std::string array;
  std::string uuid;
  std::uint64_t topology_version = 0;
  std::int64_t time_s = 0;
  unsigned replicas = 0;
  unsigned min_replicas = 0;
  bool strict = true;
  unsigned racks = 0;           // K
  unsigned racks_complete = 0;  // with all their exports online
  unsigned racks_to_deny = 0;   // complete racks without which absence cannot be proven
  std::vector<std::string> rack_names;
  std::vector<Export> exports;  // racks one after the other, witnesses last
  std::vector<Policy> policies;
  bool replicas_missing = false;  // files may have fewer than they should, by a change of the array or from before it
  std::uint64_t raw_bytes = 0;
  std::uint64_t usable_bytes = 0;            // at R replicas in R racks
  std::uint64_t usable_available_bytes = 0;  // of what is online
  Tolerance tolerance;
  Facts facts;
  Scrub scrub;                // the last one over everything, and the one going on
  std::vector<Scrub> scrubs;  // those that ended, of any scope, the newest first; the latest some
  std::vector<Mount> mounts;
  bool mounts_complete = true;
  std::optional<Daemon> daemon;

  // Judged from the above.
  Health health = Health::healthy;
  std::vector<Problem> problems;  // worst first
};

// Fills health and problems.
void judge(Report& report);

std::string to_text(const Report& report);
std::string to_json(const Report& report);
// One page for a browser.
std::string to_html(const std::vector<Report>& reports);
base::Result<Report> from_json(std::string_view text);

// "3 min", "2 h", "5 d"; for people.
std::string format_age(std::int64_t seconds);

// The losses that an array with R replicas stands, for each R up to its racks and each RAID level.
std::string tolerance_table(const Report& report);

}  // namespace rainfs::status
