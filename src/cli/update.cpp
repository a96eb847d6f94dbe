// SPDX-License-Identifier: Apache-2.0
// rainfsctl update: has the array take up what its file says, where no file must be moved for it.
#include <fmt/format.h>

#include <algorithm>

#include "change.hpp"
#include "rainfs/placement/placement.hpp"
#include "rainfs/topology/from_config.hpp"

namespace rainfs::cli {

namespace {

namespace po = boost::program_options;

void take_rules(topology::Rules& rules, const topology::Rules& wanted) {
  // Another number of replicas is another command's, which copies; what goes with it must fit the one there is.
  if (rules.replicas != wanted.replicas) return;
  rules.min_replicas = wanted.min_replicas;
  rules.quorum = wanted.quorum;
}

// Other weights change where new files go; those there are found where they are until rainfs-scrub --balance moves
// them.
bool take_weight(topology::Export& exp, const topology::Export& wanted) {
  if (exp.witness || wanted.weight == 0 || wanted.weight == exp.weight) return false;  // 0: measured, once
  exp.weight = wanted.weight;
  return true;
}

topology::Topology updated(const config::Config& config, topology::Topology topology, bool& reweighted) {
  const topology::Topology wanted = topology::make_topology(config);
  take_rules(topology.defaults, wanted.defaults);
  topology.reserve_per_mille = wanted.reserve_per_mille;
  for (topology::Export& exp : topology.exports) {
    for (const topology::Export& now : wanted.exports) {
      if (now.name != exp.name || exp.state == topology::State::retired) continue;
      exp.raid = now.raid;
      reweighted |= take_weight(exp, now);
    }
  }
  for (topology::Policy& policy : topology.policies) {
    for (const topology::Policy& now : wanted.policies) {
      if (now.path == policy.path) take_rules(policy.rules, now.rules);
    }
  }
  if (reweighted) placement::derive_weights(topology);
  return topology;
}

int run(const Command& self, const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  po::options_description options("Options");
  options.add_options()("yes,y", "do not ask");
  int status = exit_done;
  const auto values = parse_arguments(self, arguments, options, 1, 1, out, err, status);
  if (!values) return status;
  const Fail fail{self, err};
  auto array = open_array(operands_of(*values).front());
  if (!array) return fail(array.error());
  const std::vector<std::string> before = topology::differences(array->config, array->topology);
  if (before.empty()) {
    out << fmt::format("The array {} is as its file says.\n", array->config.array);
    return exit_done;
  }
  bool reweighted = false;
  topology::Topology after = updated(array->config, array->topology, reweighted);
  if (const auto left = topology::differences(array->config, after); !left.empty()) {
    std::string text = "nothing was changed, as this needs more than an update (replicas, add, drain, retire):";
    for (const std::string& difference : left) text += "\n" + difference;
    return fail(base::config_error(std::move(text)));
  }
  std::string what;
  for (const std::string& difference : before) what += difference + "\n";
  if (!agreed(self, what + "The array takes up what the file says.\n", values->count("yes") != 0, out, err))
    return exit_failed;
  array->topology = std::move(after);
  if (auto written = write_change(*array); !written) return fail(written.error());
  out << "Done; mounted nodes obey it within seconds.\n";
  if (reweighted) {
    out << fmt::format("rainfs-scrub --balance {} moves files to where the new weights want them.\n",
                       operands_of(*values).front());
  }
  return exit_done;
}

}  // namespace

const Command update_command{
    "update", "ARRAY", "have the array take up what its file says",
    "After a change of min_replicas, quorum, reserve, raid, weight, or of these in a policy, in the array's file. What "
    "would\n"
    "need files to be copied is refused, and it is said which command does it; then nothing is changed. Files stay "
    "where\n"
    "they are when weights change, until a balancing scrub, see rainfs-scrub(8), moves them.\n\n"
    "Exit status: 0 done, 1 refused or failed, 2 wrong usage.",
    run};

}  // namespace rainfs::cli
