// SPDX-License-Identifier: Apache-2.0
// Sightings: empty files `.rainfs/seen/<export's uuid>-<tick>` on every export, by which exports remember how far one
// another had come. An export of which others tell a later tick than it does itself has been put back to an earlier
// moment as a whole: a NAS restored from a backup, a snapshot, or an empty disk under the old identity. No fact says
// what such an export has missed. The file about an export is made on itself first and on the others then, and names
// only grow: so no race of nodes can make an export that is as it was look older than it is.
//
// Values; one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rainfs/base/ids.hpp"
#include "rainfs/io/operation.hpp"
#include "rainfs/topology/topology.hpp"

namespace rainfs::nas {

inline constexpr const char* sightings_directory = ".rainfs/seen";
inline constexpr std::int64_t seconds_a_tick = 600;
// What an export forgets in a crash, unsynced, must not make it look old.
inline constexpr std::int64_t ticks_forgiven = 1;

struct Sighting {
  std::string_view uuid;  // of the export that was seen
  std::int64_t tick = 0;  // realtime of the node that saw it, in units of seconds_a_tick
};
std::string name_of(const Sighting& sighting);
std::optional<Sighting> parse_sighting(std::string_view name);

// What all exports tell in one round.
class Sightings {
 public:
  void take(base::ExportIndex holder, const std::vector<io::DirectoryEntry>& entries,
            const topology::Topology& topology);
  // A second look at an export that seems to have been put back: only at what it tells of itself, as what it tells of
  // others is newer than the look at those.
  void look_again(base::ExportIndex holder, const std::vector<io::DirectoryEntry>& entries,
                  const topology::Topology& topology);
  std::int64_t of_itself(base::ExportIndex index) const { return own_[index]; }   // 0: none
  std::int64_t of_others(base::ExportIndex index) const { return told_[index]; }  // 0: none
  bool put_back(base::ExportIndex index) const { return own_[index] + ticks_forgiven < told_[index]; }

 private:
  std::array<std::int64_t, base::max_exports> own_{};
  std::array<std::int64_t, base::max_exports> told_{};
};

// The names that the newest two of each export make superfluous.
std::vector<std::string> superfluous_sightings(const std::vector<io::DirectoryEntry>& entries);

}  // namespace rainfs::nas
