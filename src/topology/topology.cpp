// SPDX-License-Identifier: Apache-2.0
#include "rainfs/topology/topology.hpp"
#include "rainfs/base/paths.hpp"

#include <algorithm>
#include <functional>

namespace rainfs::topology {

namespace {

// At most 64 exports have at most 64 racks: a set of racks is a machine word as well.
constexpr std::uint64_t rack_bit(unsigned rack) {
  return std::uint64_t{1} << (rack & 63U);
}

bool holds_data(const Export& e) {
  return !e.witness && e.state != State::retired;
}

bool covers(std::string_view policy, std::string_view path) {
  return policy.empty() || base::is_within(path, policy);
}

}  // namespace

ExportSet Topology::data_exports() const {
  ExportSet set;
  for (std::size_t i = 0; i < exports.size(); ++i) {
    if (holds_data(exports[i])) set.insert(static_cast<ExportIndex>(i));
  }
  return set;
}

ExportSet Topology::fact_holders() const {
  ExportSet set;
  for (std::size_t i = 0; i < exports.size(); ++i) {
    if (exports[i].state != State::retired) set.insert(static_cast<ExportIndex>(i));
  }
  return set;
}

ExportSet Topology::placeable() const {
  ExportSet set;
  for (std::size_t i = 0; i < exports.size(); ++i) {
    if (!exports[i].witness && exports[i].state == State::active) set.insert(static_cast<ExportIndex>(i));
  }
  return set;
}

unsigned Topology::rack_count() const {
  return racks_of(data_exports());
}

unsigned Topology::racks_of(ExportSet set) const {
  std::uint64_t seen = 0;
  for (const ExportIndex index : set) {
    if (index < exports.size()) seen |= rack_bit(exports[index].rack);
  }
  return static_cast<unsigned>(std::popcount(seen));
}

unsigned Topology::complete_racks(ExportSet answered) const {
  std::uint64_t seen = 0;
  std::uint64_t incomplete = 0;
  for (std::size_t i = 0; i < exports.size(); ++i) {
    if (!holds_data(exports[i])) continue;
    seen |= rack_bit(exports[i].rack);
    if (!answered.contains(static_cast<ExportIndex>(i))) incomplete |= rack_bit(exports[i].rack);
  }
  return static_cast<unsigned>(std::popcount(seen & ~incomplete));
}

std::optional<ExportIndex> Topology::export_named(std::string_view name) const {
  for (std::size_t i = 0; i < exports.size(); ++i) {
    if (exports[i].name == name) return static_cast<ExportIndex>(i);
  }
  return std::nullopt;
}

ExportSet Topology::rack_members(ExportIndex index) const {
  ExportSet set;
  for (std::size_t i = 0; i < exports.size(); ++i) {
    if (exports[i].rack == exports[index].rack) set.insert(static_cast<ExportIndex>(i));
  }
  return set;
}

const Rules& Topology::rules_for(std::string_view path) const {
  const Policy* best = nullptr;
  for (const Policy& policy : policies) {
    if (covers(policy.path, path) && (best == nullptr || policy.path.size() > best->path.size())) best = &policy;
  }
  return best == nullptr ? defaults : best->rules;
}

namespace {
// R, or what it was while files are being brought to more.
unsigned replicas_before(const Rules& rules) {
  return rules.rebuilding_from == 0 ? rules.replicas : std::min(rules.replicas, rules.rebuilding_from);
}
}  // namespace

unsigned Topology::most_replicas() const {
  unsigned most = defaults.replicas;
  for (const Policy& policy : policies) most = std::max(most, policy.rules.replicas);
  return most;
}

unsigned Topology::racks_to_hold(const Rules& rules) const {
  return std::min(rules.replicas, rack_count());
}

unsigned Topology::racks_to_deny(const Rules& rules) const {
  ExportSet counted = data_exports();
  for (std::size_t i = 0; i < exports.size(); ++i) {
    if (exports[i].rebuild_pending && !exports[i].witness) counted.insert(static_cast<ExportIndex>(i));
  }
  const unsigned racks_in_use = racks_of(counted);
  const unsigned replicas = replicas_before(rules);
  return racks_in_use < replicas ? 1 : racks_in_use - replicas + 1;
}

void Topology::set_replicas_missing(bool missing) {
  const auto set = [&](Rules& rules) { rules.rebuilding_from = missing && rules.replicas > 1 ? 1 : 0; };
  set(defaults);
  for (Policy& policy : policies) set(policy.rules);
}

bool Topology::replicas_missing() const {
  return defaults.rebuilding_from != 0 || std::any_of(policies.begin(), policies.end(), [](const Policy& policy) {
           return policy.rules.rebuilding_from != 0;
         });
}

bool Topology::remembered(const Rules& rules, ExportIndex target, ExportSet holders) const {
  const ExportSet others = fact_holders() - rack_members(target);
  return racks_of(holders & others) >= std::min(std::max(1U, replicas_before(rules)), racks_of(others));
}

bool Topology::ledger_heard(const Rules& rules, ExportSet answered) const {
  // Racks that may have a fact which nobody here has seen; a fact about a rack is not kept in it, so R = K leaves K-1.
  const unsigned silent = racks_of(fact_holders() - answered);
  const unsigned replicas = replicas_before(rules);
  return silent < std::max(1U, replicas) || replicas >= racks_of(fact_holders());
}

Tolerance Topology::tolerance(const Rules& rules) const {
  // Disks one export loses without loss of data: none without RAID, one with RAID 5, two with RAID 6.
  unsigned weakest = 2;
  for (const ExportIndex index : data_exports()) {
    const int raid = exports[index].raid;
    weakest = std::min(weakest, raid == 6 ? 2U : raid == 5 ? 1U : 0U);
  }
  if (rules.replicas == 0) return {};
  return {(weakest + 1) * rules.replicas - 1, rules.replicas - 1};
}

std::uint64_t usable_bytes(std::vector<std::uint64_t> racks, unsigned replicas) {
  if (replicas == 0 || racks.size() < replicas) return 0;
  // The most data x of which R copies fit: the racks, each giving at most x, must give R times x. With the k
  // largest racks holding one whole copy each, the others hold the remaining R-k.
  std::sort(racks.begin(), racks.end(), std::greater<>());
  std::uint64_t rest = 0;
  for (const std::uint64_t rack : racks) rest += rack;
  std::uint64_t most = ~std::uint64_t{0};
  for (unsigned k = 0; k < replicas; ++k) {
    most = std::min(most, rest / (replicas - k));
    rest -= racks[k];
  }
  return most;
}

}  // namespace rainfs::topology
