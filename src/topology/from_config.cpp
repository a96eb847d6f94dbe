// SPDX-License-Identifier: Apache-2.0
#include "rainfs/topology/from_config.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace rainfs::topology {

namespace {

Rules rules_of(const config::Rules& rules) {
  return {rules.replicas, rules.min_replicas,
          rules.quorum == config::Quorum::strict ? Quorum::strict : Quorum::lenient};
}

Export make_export(const config::ExportConfig& from, unsigned rack) {
  Export out;
  out.name = from.name;
  out.uuid = base::make_uuid();
  out.rack = rack;
  out.path = from.path;
  out.raid = from.raid;
  switch (from.weight.kind) {
    case config::Weight::Kind::automatic:
      out.weight = 0;
      break;
    case config::Weight::Kind::bytes:
      out.weight = weight_of_bytes(from.weight.value);
      break;
    case config::Weight::Kind::share:
      out.weight = from.weight.value;
      break;
  }
  return out;
}

std::string_view word(Quorum quorum) {
  return quorum == Quorum::strict ? "strict" : "lenient";
}

void compare_rules(const std::string& what, const Rules& now, const Rules& before, std::vector<std::string>& out) {
  const auto changed = [&](std::string_view key, const auto& a, const auto& b) {
    if (a != b) out.push_back(fmt::format("{}{} is {}, in the array {}", what, key, a, b));
  };
  changed("replicas", now.replicas, before.replicas);
  changed("min_replicas", now.min_replicas, before.min_replicas);
  changed("quorum", word(now.quorum), word(before.quorum));
}

void compare_exports(const Topology& now, const Topology& before, const std::vector<bool>& measured,
                     std::vector<std::string>& out) {
  const auto named = [](const Topology& t, const std::string& name) {
    const auto found =
        std::find_if(t.exports.begin(), t.exports.end(), [&](const Export& e) { return e.name == name; });
    return found == t.exports.end() ? nullptr : &*found;
  };
  for (std::size_t i = 0; i < now.exports.size(); ++i) {
    const Export& e = now.exports[i];
    const Export* old = named(before, e.name);
    if (old == nullptr || old->state == State::retired) {
      out.push_back(fmt::format("export {} is {} the array", e.name, old == nullptr ? "not in" : "retired from"));
      continue;
    }
    const std::string& rack = before.racks[old->rack].name;
    if (now.racks[e.rack].name != rack) {
      out.push_back(fmt::format("export {} is in rack {}, in the array in {}", e.name, now.racks[e.rack].name, rack));
    }
    if (e.raid != old->raid) out.push_back(fmt::format("raid of {} is {}, in the array {}", e.name, e.raid, old->raid));
    if (!measured[i] && e.weight != old->weight) {
      out.push_back(fmt::format("weight of {} is {}, in the array {}", e.name, e.weight, old->weight));
    }
  }
  for (const Export& e : before.exports) {
    if (e.state != State::retired && named(now, e.name) == nullptr) {
      out.push_back(fmt::format("export {} of the array is not listed", e.name));
    }
  }
}

}  // namespace

std::uint64_t weight_of_bytes(std::uint64_t bytes) {
  return std::max<std::uint64_t>(1, bytes >> 20);
}

Topology make_topology(const config::Config& config) {
  Topology out;
  out.array_name = config.array;
  out.array_uuid = base::make_uuid();
  out.defaults = rules_of(config.defaults);
  out.reserve_per_mille = config.reserve_per_mille;
  for (const config::RackConfig& rack : config.racks) {
    const auto index = static_cast<unsigned>(out.racks.size());
    out.racks.push_back({rack.name});
    for (const config::ExportConfig& e : rack.exports) out.exports.push_back(make_export(e, index));
  }
  for (const config::ExportConfig& e : config.witnesses) {
    const auto index = static_cast<unsigned>(out.racks.size());
    out.racks.push_back({"witness:" + e.name});  // no rack of the file can be called so
    Export witness = make_export(e, index);
    witness.witness = true;
    out.exports.push_back(std::move(witness));
  }
  for (const config::PolicyConfig& policy : config.policies)
    out.policies.push_back({policy.path, rules_of(policy.rules)});
  return out;
}

std::vector<std::string> differences(const config::Config& config, const Topology& topology) {
  std::vector<std::string> out;
  const Topology now = make_topology(config);
  std::vector<bool> measured;
  for (const Export& e : now.exports) measured.push_back(e.weight == 0);
  if (now.array_name != topology.array_name) {
    out.push_back(fmt::format("the array is called {}, here {}", topology.array_name, now.array_name));
  }
  compare_rules("", now.defaults, topology.defaults, out);
  if (now.reserve_per_mille != topology.reserve_per_mille) {
    out.push_back(fmt::format("reserve is {}%, in the array {}%", now.reserve_per_mille / 10.0,
                              topology.reserve_per_mille / 10.0));
  }
  compare_exports(now, topology, measured, out);
  const auto policy_of = [](const Topology& t, const std::string& path) {
    const auto found =
        std::find_if(t.policies.begin(), t.policies.end(), [&](const Policy& p) { return p.path == path; });
    return found == t.policies.end() ? nullptr : &*found;
  };
  for (const Policy& policy : now.policies) {
    const Policy* old = policy_of(topology, policy.path);
    if (old == nullptr) {
      out.push_back(fmt::format("policy /{} is not in the array", policy.path));
    } else {
      compare_rules(fmt::format("policy /{}: ", policy.path), policy.rules, old->rules, out);
    }
  }
  for (const Policy& policy : topology.policies) {
    if (policy_of(now, policy.path) == nullptr)
      out.push_back(fmt::format("policy /{} of the array is not listed", policy.path));
  }
  return out;
}

}  // namespace rainfs::topology
