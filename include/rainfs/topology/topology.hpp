// SPDX-License-Identifier: Apache-2.0
// The array as an immutable value: racks, exports, states, replica counts, policies; what it tolerates.
// Read by any thread through shared_ptr<const Topology>; a change makes a new value of a higher version.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rainfs/base/ids.hpp"
#include "rainfs/base/result.hpp"

namespace rainfs::topology {

using base::ExportIndex;
using base::ExportSet;

inline constexpr int format_version = 1;

enum class State : std::uint8_t { active, draining, retired };
enum class Quorum : std::uint8_t { strict, lenient };

struct Export {
  std::string name;
  std::string uuid;
  unsigned rack = 0;  // index into Topology::racks; witnesses have a rack of their own
  State state = State::active;
  bool witness = false;                // holds .rainfs only: facts, no files
  std::string path;                    // where the admin mounted it when the array was made; nodes may differ
  int raid = 0;                        // 0, 5 or 6
  std::uint64_t weight = 1;            // capacity in MiB at create time, or as given
  std::uint64_t placement_weight = 0;  // what rendezvous uses, derived from the weights by placement; 0: weight
  bool rebuild_pending = false;
};

struct Rack {
  std::string name;
};

// What holds for one path: the array's default, or the longest policy that is an ancestor or the path.
struct Rules {
  unsigned replicas = 2;  // R
  unsigned min_replicas = 1;
  Quorum quorum = Quorum::strict;
  unsigned rebuilding_from = 0;  // fewer replicas, which files made before may still have; 0: none
};

struct Policy {
  std::string path;  // relative to the root, no leading slash
  Rules rules;
};

struct Tolerance {
  unsigned disks = 0;
  unsigned racks = 0;
};

class Topology {
 public:
  std::uint64_t version = 1;
  std::string array_name;
  std::string array_uuid;
  Rules defaults;
  std::uint32_t reserve_per_mille = 50;
  std::uint32_t time_granularity_ns = 1;  // coarsest of the exports: seals are rounded down to it
  std::vector<Rack> racks;
  std::vector<Export> exports;  // ExportIndex is the place here; witnesses too
  std::vector<Policy> policies;

  // All that are part of the array (active or draining), without witnesses.
  ExportSet data_exports() const;
  // Those plus the witnesses: the holders of facts.
  ExportSet fact_holders() const;
  // Exports where new replicas may go.
  ExportSet placeable() const;
  // K: racks with at least one data export that is part of the array.
  unsigned rack_count() const;
  // Number of distinct racks among the exports of a set.
  unsigned racks_of(ExportSet set) const;
  // Racks all of whose data exports are in `answered`: those count for K-R+1.
  unsigned complete_racks(ExportSet answered) const;
  std::optional<ExportIndex> export_named(std::string_view name) const;
  // Exports of the same rack, itself included.
  ExportSet rack_members(ExportIndex index) const;
  const Rules& rules_for(std::string_view path) const;
  unsigned most_replicas() const;  // of any path
  // R, or K where there are fewer racks: with replicas in so many a file has all that it can have.
  unsigned racks_to_hold(const Rules& rules) const;
  // K-R+1, at least 1: complete racks that must answer before absence is believed. While files are brought to
  // more replicas R is what they had before; while a retired rack's are rebuilt K still counts it.
  unsigned racks_to_deny(const Rules& rules) const;
  // Says that files may have one replica only, wherever it lies (they lay on an export before it was one), or that all
  // have theirs. Until then no name is denied before every rack has answered.
  void set_replicas_missing(bool missing);
  bool replicas_missing() const;
  // Whether the exports that answered about the ledger would know of any fact: of the R racks that were given one,
  // witnesses among them, at least one is complete in `answered`.
  bool ledger_heard(const Rules& rules, ExportSet answered) const;
  // Whether a fact about an export lies on as many racks as whoever recorded it needed to be told that it is
  // remembered: on fewer it may be that of an operation that failed, which what was acknowledged since need not have
  // heard of.
  bool remembered(const Rules& rules, ExportIndex target, ExportSet holders) const;
  // disks = (raid+1)*R-1 with the weakest raid of the array (1 for RAID 5, 2 for RAID 6), racks = R-1.
  Tolerance tolerance(const Rules& rules) const;
};

// The most data of which R copies fit in R distinct racks, given what each rack can take. 0 with fewer racks.
std::uint64_t usable_bytes(std::vector<std::uint64_t> racks, unsigned replicas);

// array.yaml of an export. Errors name `where` (the file) and its line.
base::Result<Topology> parse_topology(std::string_view text, const std::string& where);
std::string format_topology(const Topology& topology);

// export.yaml of an export.
struct Identity {
  std::string array_name;
  std::string array_uuid;
  std::string export_name;
  std::string export_uuid;
  std::string rack;
  int format = format_version;
  std::uint32_t time_granularity_ns = 1;
};
// Of an export of this array; the granularity is the export's own, and not known here.
Identity identity_of(const Topology& topology, const Export& exp);
base::Result<Identity> parse_identity(std::string_view text, const std::string& where);
std::string format_identity(const Identity& identity);

}  // namespace rainfs::topology
