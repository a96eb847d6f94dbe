// SPDX-License-Identifier: Apache-2.0
// Shared by the healer's source files only.
#pragma once

#include "heal.hpp"

namespace rainfs::scrub {

// What no fact speaks about and is younger than this may be in the middle of being made.
inline constexpr std::int64_t least_age_s = 2;
// A node seals what it has written within seconds: what is unsealed for longer belongs to nobody alive.
inline constexpr std::int64_t unsealed_age_s = 60;

// Bits of Blame: what facts about its other names say that a file has missed on an export.
unsigned doubted(const replica::Location& found, const HealOptions& options, ExportIndex index);

std::int64_t age_of(Session& session, const struct statx_timestamp& time);

// One look at one path, and what has been done about it.
struct Healer::Work {
  const std::string& path;
  const HealOptions& options;
  replica::Location found;
  std::map<ExportIndex, Blame> blames;
  ExportIndex source = 0;
  unsigned wanted = 1;        // racks
  bool unasked = false;       // nobody has asked the ledger yet
  bool by_catalogue = false;  // or by majority: which version is right, not to be asked again without it
  ExportSet home;             // where a new file's replicas would go now
  ExportSet kept;             // good replicas that stay where they are, one per rack
  ExportSet done;             // of these, repaired now
  std::string text;           // what was done

  std::int64_t grace_s(const Session& session) const {
    return std::max<std::int64_t>(least_age_s,
                                  std::chrono::duration_cast<std::chrono::seconds>(session.options.grace).count());
  }
  bool balanced(const Session& session) const { return session.options.balance && found.elected().stx_nlink == 1; }
  const topology::Topology& topology() const { return *found.topology; }
  ExportSet online() const { return found.evidence.present | found.evidence.missing; }
  unsigned racks_kept() const { return topology().racks_of(kept); }
  bool rack_free(ExportIndex index) const { return (topology().rack_members(index) & kept).empty(); }
  Placement placement_on(ExportIndex target) const {
    Placement placement;
    placement.path = path;
    placement.source = source;
    placement.source_stat = *found.stat_of(source);
    placement.target = target;
    return placement;
  }
};

}  // namespace rainfs::scrub
