// SPDX-License-Identifier: Apache-2.0
#include "rainfs/replica/commit_facts.hpp"

#include "rainfs/log/log.hpp"
#include "rainfs/replica/upkeep.hpp"

namespace rainfs::replica {

base::Result<std::vector<ledger::Instance>> record_shortfall(Context& context, std::string_view path, ExportSet good,
                                                             ExportSet left_out, ExportSet unverified,
                                                             ledger::Why why) {
  const auto topology = context.array.topology();
  const topology::Rules& rules = topology->rules_for(path);
  const unsigned wanted = topology->racks_to_hold(rules);
  ExportSet blamed = left_out & topology->data_exports();
  ExportSet padding;
  if (topology->racks_of(good | blamed | unverified) < wanted) {
    // Home racks first; also exports that never had a replica: they could otherwise deny it later.
    for (const ExportIndex index : placement::order(path, *topology)) {
      const ExportSet counted = good | blamed | unverified | padding;
      if (topology->racks_of(counted) >= wanted) break;
      if ((topology->rack_members(index) & counted).empty()) padding.insert(index);
    }
  }
  std::vector<ledger::Instance> recorded;
  std::vector<std::pair<ledger::Why, std::vector<ledger::Instance>>> by_reason;
  const bool lenient = rules.quorum == topology::Quorum::lenient;
  const auto blame = [&](ExportSet targets, ledger::Why reason) -> base::Result<void> {
    if (targets.empty()) return {};
    auto instances = context.ledger.record(path, targets, reason, rules.replicas);
    if (!instances) {
      if (lenient) return {};
      return base::Unexpected{instances.error()};
    }
    recorded.insert(recorded.end(), instances->begin(), instances->end());
    by_reason.emplace_back(reason, std::move(*instances));
    return {};
  };
  for (const auto& [targets, reason] : {std::pair{blamed, why}, std::pair{padding, ledger::Why::being_copied},
                                        std::pair{unverified, ledger::Why::unverified}}) {
    auto done = blame(targets, reason);
    if (!done) return base::Unexpected{done.error()};
  }
  if (recorded.empty()) return recorded;
  context.meters.degraded_commits.add();
  // Two nodes, each cut off from the other's export, could blame each other's replica: then neither may
  // acknowledge.
  const ledger::Testimony testimony = context.ledger.ask(path);
  if (!(testimony.blamed & good).empty()) {
    context.ledger.withdraw(recorded);
    log::error("mutual-blame", "/{}: the replicas relied on are blamed by another node; not acknowledged", path);
    return base::unexpected(EIO, "replicas relied on are blamed by another node");
  }
  for (const auto& [reason, instances] : by_reason) {
    // (A rename's facts belong together in pairs.)
    if (reason != ledger::Why::renamed_to && reason != ledger::Why::renamed_from)
      context.ledger.supersede(instances, reason);
  }
  // R racks that are behind agree with each other, and agreement is believed without asking; so is what all of home
  // lack, where R racks suffice to deny. Then every node must know first that there are facts about them.
  const ExportSet behind = blamed | unverified;
  const ExportSet home = placement::choose(placement::order(path, *topology), *topology, wanted, topology->placeable());
  const bool overlooked = topology->racks_to_deny(rules) <= wanted && (good & home).empty();
  if (overlooked || topology->racks_of(behind) >= wanted) {
    const base::TimePoint known = context.array.known_everywhere(behind | padding);
    const base::TimePoint now = context.array.clock().now();
    if (known > now) context.array.clock().sleep(known - now);
  }
  return recorded;
}

base::Result<void> as_required(const topology::Rules& rules,
                               const base::Result<std::vector<ledger::Instance>>& recorded) {
  return recorded || rules.quorum == topology::Quorum::lenient ? base::Result<void>{}
                                                               : base::Unexpected{recorded.error()};
}

base::Result<void> remember_directories(Context& context, std::string_view path, ExportSet good) {
  const std::string directory = parent_of(std::string(path));
  if (directory.empty()) return {};
  const auto topology = context.array.topology();
  const topology::Rules& rules = topology->rules_for(directory);
  const unsigned wanted = topology->racks_to_hold(rules);
  if (topology->racks_of(good) >= wanted) return {};
  // Mostly they are everywhere, and that one export is away changes nothing about that.
  ExportSet known = good;
  for (const nas::Answer& answer : context.array.metadata(
           topology->data_exports() - good, [&](ExportIndex) { return new_operation(io::Kind::stat, directory); })) {
    if (answer.ok() && S_ISDIR(answer.operation->stat.stx_mode)) known.insert(answer.index);
  }
  if (topology->racks_of(good | (known - context.array.blamed_somewhere())) >= wanted) return {};
  known |= context.ledger.ask(directory).blamed;
  ExportSet lacking;
  for (const ExportIndex index : placement::order(directory, *topology)) {
    if (topology->racks_of(known | lacking) >= wanted) break;
    if ((topology->rack_members(index) & (known | lacking)).empty()) lacking.insert(index);
  }
  if (lacking.empty()) return {};  // and then those above are known too
  if (auto above = remember_directories(context, directory, good); !above) return above;
  auto recorded = context.ledger.record(directory, lacking, ledger::Why::may_lack, rules.replicas);
  return as_required(rules, recorded);
}

}  // namespace rainfs::replica
