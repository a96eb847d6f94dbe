// SPDX-License-Identifier: Apache-2.0
// rainfsctl add: an export that the array's file lists, and the array does not have yet, becomes part of it.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>

#include "candidates.hpp"
#include "change.hpp"
#include "probe.hpp"
#include "rainfs/config/values.hpp"
#include "rainfs/placement/placement.hpp"
#include "rainfs/topology/from_config.hpp"

namespace rainfs::cli {

namespace {

namespace po = boost::program_options;

struct Wanted {
  const config::ExportConfig* config = nullptr;
  std::string rack;
  bool witness = false;
};

Wanted find_wanted(const config::Config& config, const std::string& name) {
  for (const config::RackConfig& rack : config.racks) {
    for (const config::ExportConfig& exp : rack.exports) {
      if (exp.name == name) return {&exp, rack.name, false};
    }
  }
  for (const config::ExportConfig& exp : config.witnesses) {
    if (exp.name == name) return {&exp, exp.name, true};
  }
  return {};
}

// The rack's number, made if there is none of that name.
unsigned rack_number(topology::Topology& topology, const Wanted& wanted) {
  if (!wanted.witness) {
    for (std::size_t i = 0; i < topology.racks.size(); ++i) {
      if (topology.racks[i].name == wanted.rack) return static_cast<unsigned>(i);
    }
  }
  topology.racks.push_back({wanted.rack});
  return static_cast<unsigned>(topology.racks.size() - 1);
}

base::Result<void> add(ArrayAtHand& array, const Wanted& wanted, const Candidate& candidate) {
  base::UniqueFd root(::fcntl(candidate.root.get(), F_DUPFD_CLOEXEC, 0));
  auto creation = nas::Creation::begin(std::move(root), candidate.path, array.config.array);
  if (!creation) return base::Unexpected{creation.error()};
  const auto directory = creation->open_temporary();
  if (!directory) return base::Unexpected{directory.error()};
  const auto abilities = probe(directory->get(), std::string(nas::temporary_prefix), candidate.path);
  if (!abilities) return base::Unexpected{abilities.error()};

  topology::Export exp;
  exp.name = wanted.config->name;
  exp.uuid = base::make_uuid();
  exp.rack = rack_number(array.topology, wanted);
  exp.witness = wanted.witness;
  exp.path = wanted.config->path;
  exp.raid = wanted.config->raid;
  exp.weight = wanted.config->weight.kind == config::Weight::Kind::automatic
                   ? topology::weight_of_bytes(abilities->capacity_bytes)
               : wanted.config->weight.kind == config::Weight::Kind::bytes
                   ? topology::weight_of_bytes(wanted.config->weight.value)
                   : wanted.config->weight.value;
  if (exp.witness) exp.weight = 0;
  array.topology.time_granularity_ns = std::max(array.topology.time_granularity_ns, abilities->time_granularity_ns);
  array.topology.exports.push_back(exp);
  if (!exp.witness && holds_files(candidate)) array.topology.set_replicas_missing(true);
  placement::derive_weights(array.topology);

  topology::Identity identity = topology::identity_of(array.topology, exp);
  identity.time_granularity_ns = abilities->time_granularity_ns;
  // The new export first: no node must look for it before it is there.
  topology::Topology next = array.topology;
  ++next.version;
  if (auto written = nas::write_topology(creation->root_fd(), candidate.path, next); !written) return written;
  if (auto written = nas::write_identity(creation->root_fd(), candidate.path, identity); !written) return written;
  if (auto written = write_change(array); !written) return written;
  creation->commit();
  return creation->finish();
}

int run(const Command& self, const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  po::options_description options("Options");
  options.add_options()("yes,y", "do not ask")("balance", "then move files to it, with rainfs-scrub --balance");
  int status = exit_done;
  const auto values = parse_arguments(self, arguments, options, 2, 2, out, err, status);
  if (!values) return status;
  const auto operands = operands_of(*values);
  const Fail fail{self, err};
  auto array = open_array(operands[0]);
  if (!array) return fail(array.error());
  const Wanted wanted = find_wanted(array->config, operands[1]);
  if (wanted.config == nullptr) {
    return fail(base::config_error(
        fmt::format("{} is not in {}: list it there first, in its rack", operands[1], array->config.file)));
  }
  if (find_export(array->topology, operands[1])) {
    return fail(base::config_error(
        fmt::format("{} is or was part of the array; give a new export a name of its own", operands[1])));
  }
  if (array->topology.exports.size() >= base::max_exports)
    return fail(base::config_error("an array has at most 64 exports"));
  const auto mounts = read_mounts();
  if (!mounts) return fail(mounts.error());
  config::Problems problems(array->config.file);
  const std::vector<Candidate> candidates = open_candidates(array->config, array->node, *mounts, problems);
  const auto candidate =
      std::find_if(candidates.begin(), candidates.end(), [&](const Candidate& c) { return c.config == wanted.config; });
  if (candidate == candidates.end() || !candidate->root)
    return fail(problems.empty() ? base::Error(ENOENT, wanted.config->path) : problems.all());
  if (candidate->inspection.state == nas::Formatted::yes) {
    return fail(base::config_error(fmt::format("{} is an export of array {} already", candidate->path,
                                               candidate->inspection.identity.array_name)));
  }
  const std::string what =
      fmt::format("Export {} at {} becomes part of array {}, in {}. Files that lie there will appear in the mount.\n",
                  operands[1], candidate->path, array->topology.array_name,
                  wanted.witness ? "a rack of its own, as a witness" : "rack " + wanted.rack);
  if (!agreed(self, what, values->count("yes") != 0, out, err)) return exit_failed;
  if (auto added = add(*array, wanted, *candidate); !added) return fail(added.error());
  out << fmt::format("{} is part of the array.\n", operands[1]);
  if (wanted.witness) return exit_done;
  if (array->topology.replicas_missing()) {
    out << fmt::format(
        "Files that lie there have fewer replicas than they should: rainfsctl replicas {} {} makes them.\n",
        operands[0], array->topology.defaults.replicas);
  }
  if (values->count("balance") == 0) {
    out << fmt::format("rainfs-scrub --balance {} moves files to it.\n", operands[0]);
    return exit_done;
  }
  return (run_scrub({operands[0], "--balance", "--quiet"}) & ~1) == 0 ? exit_done : exit_failed;
}

}  // namespace

const Command add_command{
    "add", "ARRAY EXPORT", "make an export part of the array",
    "EXPORT must be listed in the array's file. What lies on it already appears in the mount; it takes new files at\n"
    "once, and its share of the others with --balance.",
    run};

}  // namespace rainfs::cli
