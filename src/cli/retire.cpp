// SPDX-License-Identifier: Apache-2.0
// rainfsctl retire: an export is lost for good, and its files are made anew from the others.
#include <fmt/format.h>

#include <algorithm>

#include "leave.hpp"
#include "rainfs/placement/placement.hpp"

namespace rainfs::cli {

namespace {

namespace po = boost::program_options;

int run(const Command& self, const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  po::options_description options("Options");
  options.add_options()("yes,y", "do not ask")("force", "even if fewer racks than replicas remain")(
      "no-scrub", "leave the rebuilding to a rainfs-scrub of your own");
  int status = exit_done;
  const auto values = parse_arguments(self, arguments, options, 2, 2, out, err, status);
  if (!values) return status;
  const auto operands = operands_of(*values);
  const Fail fail{self, err};
  auto array = open_array(operands[0]);
  if (!array) return fail(array.error());
  auto index = find_export(array->topology, operands[1]);
  if (!index) return fail(index.error());
  topology::Export& exp = array->topology.exports[*index];
  const bool resumed = exp.state == topology::State::retired && exp.rebuild_pending;
  if (!resumed) {
    index = may_leave(*array, operands[1], values->count("force") != 0);
    if (!index) return fail(index.error());
    std::string what = fmt::format(
        "Export {} of rack {} leaves the array for good. Its files are made anew from the other replicas; what has no\n"
        "other replica is gone from the mount. It cannot be taken back but as a new, empty export.\n",
        exp.name, array->topology.racks[exp.rack].name);
    if (reached(*array, *index) != nullptr)
      what += "It can be reached: to keep its replicas till others exist, use rainfsctl drain instead.\n";
    if (!agreed(self, what, values->count("yes") != 0, out, err)) return exit_failed;
    exp.state = topology::State::retired;
    exp.rebuild_pending = !exp.witness;
    placement::derive_weights(array->topology);
    std::erase_if(array->exports, [&](const Reached& r) { return r.index == *index; });
    if (auto written = write_change(*array); !written) return fail(written.error());
    out << fmt::format("{} is retired.\n", exp.name);
  }
  if (exp.witness) return exit_done;
  if (values->count("no-scrub") != 0) {
    out << fmt::format("Run rainfs-scrub {} and then this command again.\n", operands[0]);
    return exit_done;
  }
  const std::uint64_t rebuilt_version = array->topology.version;
  const int scrubbed = scrub_until_clean({operands[0], "--rate", "0", "--quiet"});
  if ((scrubbed & ~1) != 0) {
    complain(self, "not every file has all its replicas again; the same command goes on where this ended", err);
    return exit_failed;
  }
  array = open_array(operands[0]);
  if (!array) return fail(array.error());
  const topology::Topology& now = array->topology;
  const bool settled =
      !now.replicas_missing() &&
      std::none_of(now.exports.begin(), now.exports.end(), [](const topology::Export& e) { return e.rebuild_pending; });
  if (settled) {  // the scrub has seen to it itself
    out << "All files have their replicas again.\n";
    return exit_done;
  }
  if (array->topology.version != rebuilt_version) {
    // Another export may have been retired meanwhile, and what it held not been made anew everywhere.
    complain(self, "the array was changed meanwhile; the same command makes sure that every file has its replicas",
             err);
    return exit_failed;
  }
  rebuilt(array->topology);
  if (auto written = write_change(*array); !written) return fail(written.error());
  out << "All files have their replicas again.\n";
  return exit_done;
}

}  // namespace

base::Result<std::size_t> may_leave(const ArrayAtHand& array, const std::string& name, bool force) {
  auto index = find_export(array.topology, name);
  if (!index) return index;
  const topology::Export& exp = array.topology.exports[*index];
  if (exp.state == topology::State::retired) {
    return base::unexpected(base::config_error(fmt::format("{} was retired before", name)));
  }
  if (exp.witness) return index;
  topology::Topology after = array.topology;
  after.exports[*index].state = topology::State::retired;
  const unsigned most = after.most_replicas();
  const unsigned left = after.rack_count();
  if (left == 0) return base::unexpected(base::config_error(fmt::format("{} is the last export", name)));
  if (left < most && !force) {
    return base::unexpected(
        base::config_error(fmt::format("without {} there are {} racks for {} replicas: add an export first, or use "
                                       "--force, or lower the number of replicas",
                                       name, left, most)));
  }
  return index;
}

void rebuilt(topology::Topology& topology) {
  for (topology::Export& exp : topology.exports) exp.rebuild_pending = false;
  topology.defaults.rebuilding_from = 0;
  for (topology::Policy& policy : topology.policies) policy.rules.rebuilding_from = 0;
}

const Command retire_command{
    "retire", "ARRAY EXPORT", "take a lost export out of the array and make its files anew",
    "For an export that is lost for good. Its files get new replicas from the others; till then the mount is as\n"
    "careful with what it believes as before. Interrupted, the same command goes on.",
    run};

}  // namespace rainfs::cli
