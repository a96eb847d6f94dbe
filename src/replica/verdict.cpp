// SPDX-License-Identifier: Apache-2.0
#include "rainfs/replica/verdict.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <tuple>

namespace rainfs::replica {

Stamp stamp_of(const struct statx& stat) {
  Stamp stamp;
  stamp.mode = stat.stx_mode;
  stamp.uid = stat.stx_uid;
  stamp.gid = stat.stx_gid;
  if (S_ISREG(stat.stx_mode) || S_ISLNK(stat.stx_mode)) {
    stamp.size = stat.stx_size;
    stamp.mtime_ns = stat.stx_mtime.tv_sec * std::int64_t{1'000'000'000} + stat.stx_mtime.tv_nsec;
  }
  if (S_ISBLK(stat.stx_mode) || S_ISCHR(stat.stx_mode)) {
    stamp.device = makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
  }
  return stamp;
}

namespace {

// Largest mtime, then largest size, then rendezvous order: the same on every node. A directory, which has no time of
// its own here, before anything else: where one export has a file in its place, that is one file to put aside and not a
// tree.
ExportIndex elect(const Evidence& evidence, const placement::Order& order, ExportSet candidates) {
  ExportIndex best = *candidates.begin();
  bool first = true;
  for (const ExportIndex index : order) {
    if (!candidates.contains(index)) continue;
    const Stamp& stamp = evidence.stamps[index];
    const Stamp& champion = evidence.stamps[best];
    const auto rank = [](const Stamp& s) { return std::tuple(S_ISDIR(s.mode), s.mtime_ns, s.size); };
    if (first || rank(stamp) > rank(champion)) {
      best = index;
      first = false;
    }
  }
  return best;
}

ExportSet agreeing(const Evidence& evidence, ExportIndex with, ExportSet among) {
  ExportSet set;
  for (const ExportIndex index : among) {
    if (evidence.stamps[index] == evidence.stamps[with]) set.insert(index);
  }
  return set;
}

}  // namespace

Verdict judge(const Evidence& evidence, const topology::Topology& topology, const topology::Rules& rules,
              const placement::Order& order, ExportSet blamed_somewhere) {
  Verdict verdict;
  const ExportSet credible = evidence.present - evidence.blamed;
  verdict.stale = evidence.present;
  const unsigned wanted = topology.racks_to_hold(rules);

  if (!credible.empty()) {
    const ExportIndex elected = elect(evidence, order, credible);
    const ExportSet good = agreeing(evidence, elected, credible);
    const bool all_agree = good == evidence.present;
    verdict.agreed = all_agree && topology.racks_of(good) >= wanted;
    if (verdict.agreed && (evidence.ledger_asked || (good & blamed_somewhere).empty())) {
      verdict.finding = Finding::present;
      verdict.elected = elected;
      verdict.good = good;
      verdict.stale = {};
      return verdict;
    }
    verdict.elected = elected;
    verdict.good = good;
    verdict.stale = evidence.present - good;
  }
  if (!evidence.ledger_asked) {
    // Nothing anywhere, and nobody is blamed: that needs no ledger.
    if (evidence.present.empty() && (evidence.missing & blamed_somewhere).empty() &&
        topology.complete_racks(evidence.missing) >= topology.racks_to_deny(rules)) {
      verdict.finding = Finding::absent;
    }
    return verdict;
  }

  // The ledger spoke: R to assert, K-R+1 to deny. Lenient rules take what is at hand.
  const bool lenient = rules.quorum == topology::Quorum::lenient;
  const ExportSet answered = (evidence.present | evidence.missing) & evidence.holders_answered;
  const unsigned needed = topology.racks_to_deny(rules);
  // Witnesses hold facts too, and may be those that were given this one.
  const bool heard = topology.ledger_heard(rules, evidence.holders_answered);
  if (!credible.empty()) {
    const bool proven = verdict.agreed || lenient || (heard && topology.complete_racks(answered) >= needed);
    verdict.finding = proven ? Finding::present : Finding::unprovable;
    return verdict;
  }
  // A blamed export does not count as having answered: it may lack what the others have. But what no export of
  // the whole array has, unless it is known to have missed the removal, is not.
  const ExportSet data = topology.data_exports();
  if ((evidence.present | evidence.missing) == data && (evidence.present - evidence.gone).empty()) {
    verdict.finding = Finding::absent;
    return verdict;
  }
  const bool denied = heard && topology.complete_racks(answered - evidence.blamed) >= needed;
  const bool lenient_denied = lenient && !(evidence.missing - evidence.blamed).empty();
  verdict.finding = denied || lenient_denied ? Finding::absent : Finding::unprovable;
  return verdict;
}

}  // namespace rainfs::replica
