// SPDX-License-Identifier: Apache-2.0
#include "settle.hpp"

#include <algorithm>

#include "leave.hpp"

namespace rainfs::cli {

base::Result<void> settle(const std::string& name, const scrub::Scrub& scrub, int status) {
  const scrub::Coverage& covered = scrub.coverage();
  if ((status & ~scrub::status_repaired) != 0 || !covered.complete || !covered.replicas_missing) return {};
  auto array = open_array(name);
  if (!array) return base::Unexpected{array.error()};
  topology::Topology& topology = array->topology;
  if (topology.version != covered.topology_version) return {};
  bool changed = false;
  if (covered.paths.empty()) {
    changed = topology.replicas_missing() || std::any_of(topology.exports.begin(), topology.exports.end(),
                                                         [](const topology::Export& e) { return e.rebuild_pending; });
    rebuilt(topology);
  } else {
    for (topology::Policy& policy : topology.policies) {
      const bool all = std::any_of(covered.paths.begin(), covered.paths.end(), [&](const std::string& path) {
        return policy.path == path || policy.path.starts_with(path + "/");
      });
      if (!all || policy.rules.rebuilding_from == 0) continue;
      policy.rules.rebuilding_from = 0;
      changed = true;
    }
  }
  if (!changed) return {};
  return write_change(*array);
}

}  // namespace rainfs::cli
