// SPDX-License-Identifier: Apache-2.0
// rainfsctl replicas: how many replicas files have, in the whole array or beneath a path.
#include <fmt/format.h>

#include <algorithm>

#include "leave.hpp"
#include "rainfs/config/values.hpp"

namespace rainfs::cli {

namespace {

namespace po = boost::program_options;

int run(const Command& self, const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  po::options_description options("Options");
  options.add_options()("yes,y", "do not ask")("no-scrub", "leave the copying to a rainfs-scrub of your own");
  int status = exit_done;
  const auto values = parse_arguments(self, arguments, options, 2, 3, out, err, status);
  if (!values) return status;
  const auto operands = operands_of(*values);
  const Fail fail{self, err};
  const auto number = config::parse_number(operands[1]);
  if (!number || *number == 0 || *number > base::max_exports) {
    complain(self, "give the number of replicas, 1 or more", err);
    return exit_usage;
  }
  const auto wanted = static_cast<unsigned>(*number);
  std::string path;
  if (operands.size() == 3) {
    path = config::normalize_path(operands[2].starts_with('/') ? operands[2] : "/" + operands[2]);
    if (path.empty()) return fail(base::config_error(operands[2] + ": give a path from the array's root"));
    path.erase(0, 1);
  }
  auto array = open_array(operands[0]);
  if (!array) return fail(array.error());
  topology::Topology& topology = array->topology;
  if (wanted > topology.rack_count()) {
    return fail(
        base::config_error(fmt::format("{} replicas need as many racks; there are {}", wanted, topology.rack_count())));
  }
  topology::Rules* rules = &topology.defaults;
  if (!path.empty()) {
    const auto policy = std::find_if(topology.policies.begin(), topology.policies.end(),
                                     [&](const topology::Policy& p) { return p.path == path; });
    if (policy == topology.policies.end()) {
      topology.policies.push_back({path, topology.rules_for(path)});
      rules = &topology.policies.back().rules;
    } else {
      rules = &policy->rules;
    }
  }
  const unsigned before = rules->replicas;
  const std::string where = path.empty() ? "Files" : "Files beneath /" + path;
  if (before != wanted) {
    const std::string what = fmt::format(
        "{} get {} replicas instead of {}. {}\n", where, wanted, before,
        wanted > before ? "What is missing is copied." : "What is too much goes to .rainfs/trash of its export.");
    if (!agreed(self, what, values->count("yes") != 0, out, err)) return exit_failed;
    rules->replicas = wanted;
    rules->min_replicas = std::min(rules->min_replicas, wanted);
    // Files that have fewer as yet must not look absent where a node sees too few exports.
    if (wanted > before && (rules->rebuilding_from == 0 || rules->rebuilding_from > before))
      rules->rebuilding_from = before;
    if (rules->rebuilding_from >= wanted) rules->rebuilding_from = 0;
    if (auto written = write_change(*array); !written) return fail(written.error());
  } else if (rules->rebuilding_from == 0 && (!path.empty() || !topology.replicas_missing())) {
    out << fmt::format("{} have {} replicas.\n", where, wanted);
    return exit_done;
  }
  if (values->count("no-scrub") != 0) {
    out << fmt::format("Run rainfs-scrub {} and then this command again.\n", operands[0]);
    return exit_done;
  }
  std::vector<std::string> scrub{operands[0]};
  if (!path.empty()) scrub.push_back(path);
  scrub.insert(scrub.end(), {"--rate", "0", "--quiet"});
  if ((scrub_until_clean(scrub) & ~1) != 0) {
    complain(self, "not every file has its replicas yet; the same command goes on where this ended", err);
    return exit_failed;
  }
  array = open_array(operands[0]);
  if (!array) return fail(array.error());
  topology::Rules* now = &array->topology.defaults;
  for (topology::Policy& policy : array->topology.policies) {
    if (!path.empty() && policy.path == path) now = &policy.rules;
  }
  if (now->replicas != wanted) {
    complain(self, fmt::format("somebody asked for {} replicas meanwhile", now->replicas), err);
    return exit_failed;
  }
  if (now->rebuilding_from != 0 || (path.empty() && array->topology.replicas_missing())) {
    now->rebuilding_from = 0;
    if (path.empty()) array->topology.set_replicas_missing(false);  // everything was looked at
    if (auto written = write_change(*array); !written) return fail(written.error());
  }
  out << fmt::format("{} have {} replicas now.\n", where, wanted);
  return exit_done;
}

}  // namespace

const Command replicas_command{
    "replicas", "ARRAY N [PATH]", "set how many replicas files have",
    "In the whole array, or beneath PATH (a policy). Files are copied, or what is too much goes to the trash.\n"
    "Interrupted, the same command goes on. The array's file should say the same afterwards.",
    run};

}  // namespace rainfs::cli
