// SPDX-License-Identifier: Apache-2.0
// rainfsctl create: makes an array of the directories that its file names, or tells why not. Everything is
// looked at before anything is written; what was written is taken back if one export fails.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "candidates.hpp"
#include "command.hpp"
#include "probe.hpp"
#include "rainfs/config/values.hpp"
#include "rainfs/nas/identity.hpp"
#include "rainfs/placement/placement.hpp"
#include "rainfs/topology/from_config.hpp"
#include "table.hpp"

namespace rainfs::cli {

namespace {

namespace po = boost::program_options;
using config::Config;
using config::Problems;
using nas::Formatted;
using topology::Topology;

// ---- an array that exists -------------------------------------------------------------------------------

bool has_identity(const Candidate& c) {
  return !c.inspection.identity.array_uuid.empty();
}

// Directories of other arrays, or of other exports of this one.
void check_belonging(const Config& config, const std::vector<Candidate>& candidates, Problems& problems) {
  const Candidate* first = nullptr;
  for (const Candidate& c : candidates) {
    const topology::Identity& identity = c.inspection.identity;
    const std::string& array = has_identity(c) ? identity.array_name : c.inspection.creating_array;
    const std::string at = fmt::format("{}: {}", c.title(), c.path);
    if (!array.empty() && array != config.array) {
      problems.add(
          c.config->line,
          fmt::format("{} {} the array {}; give another directory, or, if that "
                      "array is given up, move {}/.rainfs away",
                      at,
                      c.inspection.state == Formatted::yes ? "belongs to" : "is left from an interrupted creation of",
                      array, c.path));
    } else if (c.inspection.state == Formatted::yes) {
      if (first == nullptr) first = &c;
      if (identity.array_uuid != first->inspection.identity.array_uuid) {
        problems.add(
            c.config->line,
            fmt::format("{} belongs to another array that is called {} as well (its UUID is {}, that of {} is {}); "
                        "give another directory, or, if that array is given up, move {}/.rainfs away",
                        at, array, identity.array_uuid, first->config->name, first->inspection.identity.array_uuid,
                        c.path));
      } else if (identity.export_name != c.config->name) {
        problems.add(c.config->line,
                     fmt::format("{} holds the export {} of this array; correct the path or what is mounted there", at,
                                 identity.export_name));
      }
    }
  }
}

// The newest topology that the exports hold. A damaged copy is passed over while another is good.
base::Result<Topology> newest_topology(const std::vector<Candidate>& candidates, const Command& self,
                                       std::ostream& err) {
  std::optional<Topology> newest;
  std::optional<base::Error> failed;
  for (const Candidate& c : candidates) {
    if (c.inspection.state != Formatted::yes) continue;
    auto found = nas::read_topology(c.root.get(), c.path);
    if (!found) {
      complain(self, found.error().message(), err);
      failed = found.error();
    } else if (found->array_uuid == c.inspection.identity.array_uuid && (!newest || found->version > newest->version)) {
      newest = std::move(*found);
    }
  }
  if (newest) return *newest;
  return base::unexpected(failed ? *failed : base::config_error("no export holds an array.yaml of its own array"));
}

// The array exists on at least one export: that it is as the file says, or what is not.
void compare_with_existing(const Config& config, const std::vector<Candidate>& candidates, const Topology& existing,
                           Problems& problems) {
  const auto differences = topology::differences(config, existing);
  for (const std::string& difference : differences) problems.add(0, difference);
  if (!differences.empty()) {
    problems.add(0, fmt::format("the array {} exists already and is not changed by 'create': give the file "
                                "as it was, or change the array "
                                "with 'rainfsctl add' and 'rainfsctl retire'",
                                config.array));
  }
  for (const Candidate& c : candidates) {
    const auto entry = std::find_if(existing.exports.begin(), existing.exports.end(),
                                    [&](const topology::Export& e) { return e.name == c.config->name; });
    if (entry == existing.exports.end()) continue;
    if (!has_identity(c)) {
      problems.add(
          c.config->line,
          fmt::format("{}: is part of the array {}, but {} is not: its identity is missing there; mount the NAS "
                      "at this path (nothing was written to it)",
                      c.title(), config.array, c.path));
    } else if (c.inspection.identity.export_uuid != entry->uuid) {
      problems.add(
          c.config->line,
          fmt::format("{}: {} has another UUID than the array's export of this name; correct the path or what is "
                      "mounted there",
                      c.title(), c.path));
    }
  }
}

int confirm_existing(const Command& self, const Config& config, const std::vector<Candidate>& candidates,
                     std::ostream& out, std::ostream& err) {
  const auto existing = newest_topology(candidates, self, err);
  if (!existing) {
    complain(self, existing.error().message(), err);
    return exit_failed;
  }
  Problems problems(config.file);
  compare_with_existing(config, candidates, *existing, problems);
  if (!problems.empty()) {
    complain(self, problems.all().message(), err);
    return exit_failed;
  }
  bool finished = false;
  for (const Candidate& c : candidates) {
    if (c.inspection.state != Formatted::creating) continue;
    if (const auto removed = nas::remove_marker(c.root.get(), c.path); !removed) {
      complain(self, removed.error().message(), err);
      return exit_failed;
    }
    finished = true;
  }
  out << fmt::format("The array {} exists already and is as {} says; {}.\n", config.array, config.file,
                     finished ? "the end of its interrupted creation was made up for" : "nothing was changed");
  return exit_done;
}

// ---- a new array ----------------------------------------------------------------------------------------

std::string with_remedy(const base::Error& error) {
  if (error.kind == base::ErrorClass::config) return error.message();
  const char* remedy = error.code == EROFS ? "mount the export writable"
                       : error.code == EACCES || error.code == EPERM
                           ? "run as root, and export the directory writable to root of this node"
                       : error.code == ENOSPC || error.code == EDQUOT ? "make room on the export"
                       : error.code == EBUSY                          ? "wait for it to end"
                                                                      : "check that the NAS is there and works";
  return fmt::format("{}; {}", error.message(), remedy);
}

// Makes `.rainfs` on every export; those made are taken back when the list goes.
std::vector<nas::Creation> begin_all(const Config& config, const std::vector<Candidate>& candidates,
                                     Problems& problems) {
  std::vector<nas::Creation> out;
  // What can be known before anything is written: so even the directories' times stay as they are.
  for (const Candidate& c : candidates) {
    if (::faccessat(c.root.get(), ".", W_OK | X_OK, AT_EACCESS) == 0) continue;
    problems.add(c.config->line, fmt::format("{}: {}", c.title(), with_remedy(base::Error(errno, c.path))));
  }
  if (!problems.empty()) return out;
  out.reserve(candidates.size());
  for (const Candidate& c : candidates) {
    base::UniqueFd root(::fcntl(c.root.get(), F_DUPFD_CLOEXEC, 0));
    auto begun = root ? nas::Creation::begin(std::move(root), c.path, config.array)
                      : base::Result<nas::Creation>(base::unexpected(errno, c.path));
    if (begun) {
      out.push_back(std::move(*begun));
    } else {
      problems.add(c.config->line, fmt::format("{}: {}", c.title(), with_remedy(begun.error())));
    }
  }
  return out;
}

std::vector<Abilities> probe_all(const std::vector<Candidate>& candidates, const std::vector<nas::Creation>& creations,
                                 Problems& problems) {
  std::vector<Abilities> out;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const auto directory = creations[i].open_temporary();
    auto found = directory ? probe(directory->get(), std::string(nas::temporary_prefix), candidates[i].path)
                           : base::Result<Abilities>(base::unexpected(directory.error()));
    if (!found) {
      problems.add(candidates[i].config->line,
                   fmt::format("{}: {}", candidates[i].title(), with_remedy(found.error())));
      found = Abilities{};
    } else if (found->capacity_bytes == 0 && !candidates[i].witness &&
               candidates[i].config->weight.kind == config::Weight::Kind::automatic) {
      problems.add(candidates[i].config->line,
                   fmt::format("{}: {} does not tell its capacity; give all exports a weight: in the file",
                               candidates[i].title(), candidates[i].path));
    }
    out.push_back(*found);
  }
  return out;
}

// What was measured goes into the topology.
void fill_in(const std::vector<Abilities>& abilities, Topology& topology) {
  for (std::size_t i = 0; i < abilities.size(); ++i) {
    topology::Export& e = topology.exports[i];
    if (e.witness) continue;
    if (e.weight == 0) e.weight = topology::weight_of_bytes(abilities[i].capacity_bytes);
    topology.time_granularity_ns = std::max(topology.time_granularity_ns, abilities[i].time_granularity_ns);
  }
  placement::derive_weights(topology);
}

// Topology first: whoever finds an identity finds the topology as well.
base::Result<void> write_all(const Topology& topology, const std::vector<Abilities>& abilities,
                             std::vector<nas::Creation>& creations) {
  for (const nas::Creation& c : creations) {
    if (auto written = nas::write_topology(c.root_fd(), c.root_path(), topology); !written) return written;
  }
  for (std::size_t i = 0; i < creations.size(); ++i) {
    topology::Identity identity = topology::identity_of(topology, topology.exports[i]);
    identity.time_granularity_ns = abilities[i].time_granularity_ns;
    if (auto written = nas::write_identity(creations[i].root_fd(), creations[i].root_path(), identity); !written)
      return written;
  }
  for (nas::Creation& c : creations) c.commit();
  return {};
}

// The array is complete; only the markers are in the way of saying so.
base::Result<void> finish_all(std::vector<nas::Creation>& creations) {
  for (nas::Creation& c : creations) {
    if (auto finished = c.finish(); !finished) return finished;
  }
  return {};
}

std::string count(std::size_t number, std::string_view what) {
  return fmt::format("{} {}{}", number, what, number == 1 ? "" : what.ends_with('s') ? "es" : "s");
}

void print_exports(const Topology& topology, const std::vector<Candidate>& candidates,
                   const std::vector<Abilities>& abilities, std::ostream& out) {
  const auto yes = [](bool can) { return std::string(can ? "yes" : "no"); };
  Table table(
      {"EXPORT", "RACK", "SIZE", "FREE", "WEIGHT", "TIMES", "XATTR", "LINKS", "TMPFILE", "LOCKS", "CHOWN", "PATH"});
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const topology::Export& e = topology.exports[i];
    const Abilities& a = abilities[i];
    table.add({e.name, e.witness ? "(witness)" : topology.racks[e.rack].name, config::format_size(a.capacity_bytes),
               config::format_size(a.free_bytes), e.witness ? "-" : std::to_string(e.weight),
               format_granularity(a.time_granularity_ns), yes(a.xattrs), yes(a.hard_links), yes(a.unnamed),
               yes(a.locks), yes(a.ownership), candidates[i].path});
  }
  table.print(out);
}

void warn_of_abilities(const Config& config, const std::vector<Candidate>& candidates,
                       const std::vector<Abilities>& abilities, std::vector<std::string>& out) {
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].witness) continue;
    const std::string& name = candidates[i].config->name;
    const Abilities& a = abilities[i];
    if (!a.xattrs)
      out.push_back(
          fmt::format("{} has no user extended attributes: the mount will have none where it holds a replica", name));
    if (!a.hard_links)
      out.push_back(fmt::format("{} has no hard links: link() will fail where it holds a replica", name));
    if (!a.locks)
      out.push_back(fmt::format("{} has no fcntl locks: programs on different nodes cannot exclude each other", name));
    if (!a.ownership) {
      out.push_back(fmt::format(
          "{} does not let root give files away (root squashed?): repair cannot keep the owners of files", name));
    }
    if (a.time_granularity_ns > 1'000'000'000) {
      out.push_back(fmt::format("{} keeps times to {} only: the times of all files will be as coarse", name,
                                format_granularity(a.time_granularity_ns)));
    }
    if (a.free_bytes < a.capacity_bytes / 1000 * config.reserve_per_mille) {
      out.push_back(fmt::format("{} has {} free, less than the reserve: nothing will be placed there", name,
                                config::format_size(a.free_bytes)));
    }
  }
}

void warn_of_layout(const Topology& topology, const std::vector<Candidate>& candidates, std::vector<std::string>& out) {
  std::set<std::string> shared;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (candidates[i].attributes.st_dev != candidates[k].attributes.st_dev ||
          topology.exports[i].rack == topology.exports[k].rack) {
        continue;
      }
      shared.insert(candidates[i].config->name);
      shared.insert(candidates[k].config->name);
    }
  }
  if (!shared.empty()) {
    out.push_back(
        fmt::format("{} are in different racks but share a file system: what is lost with it is lost in all "
                    "of them (are the NAS "
                    "mounted?)",
                    fmt::join(shared, ", ")));
  }
  const unsigned racks = topology.rack_count();
  const bool witnessed = topology.fact_holders().size() > topology.data_exports().size();
  const unsigned most = topology.most_replicas();
  if (most == racks && racks > 1 && !witnessed) {
    out.push_back(fmt::format(
        "there are as many replicas as racks ({}): if one rack is away while a file changes, and comes back "
        "while all "
        "others are away, it shows the old file; a witness (witnesses: in the file) closes this gap",
        racks));
  }
}

int create_new(const Command& self, const Config& config, const std::vector<Candidate>& candidates, std::ostream& out,
               std::ostream& err) {
  Problems problems(config.file);
  std::vector<nas::Creation> creations = begin_all(config, candidates, problems);
  std::vector<Abilities> abilities;
  if (problems.empty()) abilities = probe_all(candidates, creations, problems);
  if (!problems.empty()) {
    complain(self, problems.all().message(), err);
    return exit_failed;
  }
  Topology topology = topology::make_topology(config);
  fill_in(abilities, topology);
  const bool files = std::any_of(candidates.begin(), candidates.end(), [](const Candidate& candidate) {
    return !candidate.witness && holds_files(candidate);
  });
  topology.set_replicas_missing(files);
  if (const auto written = write_all(topology, abilities, creations); !written) {
    complain(self, with_remedy(written.error()), err);
    complain(self,
             "the array was not made; what was written has been taken back where it could be. Run it again "
             "after the cause is gone",
             err);
    return exit_failed;
  }
  if (const auto finished = finish_all(creations); !finished) {
    complain(self, with_remedy(finished.error()), err);
    complain(self, "the array is all but made; run it again after the cause is gone", err);
    return exit_failed;
  }
  print_exports(topology, candidates, abilities, out);
  std::vector<std::string> warnings;
  warn_of_abilities(config, candidates, abilities, warnings);
  warn_of_layout(topology, candidates, warnings);
  out << fmt::format("\nThe array {} is made: {} in {}, every file on {}.\n", config.array,
                     count(topology.data_exports().size(), "export"), count(topology.rack_count(), "rack"),
                     count(topology.defaults.replicas, "rack"));
  const topology::Tolerance tolerance = topology.tolerance(topology.defaults);
  out << fmt::format("It bears the loss of {}, or of any {}, without loss of data.\n", count(tolerance.racks, "rack"),
                     count(tolerance.disks, "disk"));
  if (topology.replicas_missing()) {
    out << fmt::format(
        "Files lie there already: they appear in the mount, with the replicas they have. To give them all of them:\n"
        "    rainfsctl replicas {} {}\n",
        config.array, config.defaults.replicas);
  }
  for (const std::string& warning : warnings) complain(self, "warning: " + warning, err);
  return exit_done;
}

int run(const Command& self, const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  po::options_description options("Options");
  options.add_options()("node-config",
                        po::value<std::string>()->value_name("FILE")->default_value(
                            std::string(config::default_directory) + "/node.yaml"),
                        "where exports are mounted on this node, if elsewhere");
  int status = exit_done;
  const auto values = parse_arguments(self, arguments, options, 1, 1, out, err, status);
  if (!values) return status;
  const Fail fail{self, err};
  const auto config = config::load_config(config::config_path(operands_of(*values).front()));
  if (!config) return fail(config.error());
  const std::string node_file = (*values)["node-config"].as<std::string>();
  // Only the usual one may be missing.
  if (!(*values)["node-config"].defaulted() && ::access(node_file.c_str(), F_OK) != 0) {
    return fail(base::Error(errno, base::ErrorClass::config, fmt::format("--node-config {}", node_file)));
  }
  const auto node = config::load_node_config(node_file);
  if (!node) return fail(node.error());
  const auto mounts = read_mounts();
  if (!mounts) return fail(mounts.error());
  Problems problems(config->file);
  const std::vector<Candidate> candidates = open_candidates(*config, *node, *mounts, problems);
  check_belonging(*config, candidates, problems);
  if (!problems.empty()) return fail(problems.all());
  const bool exists = std::any_of(candidates.begin(), candidates.end(),
                                  [](const Candidate& c) { return c.inspection.state == Formatted::yes; });
  return exists ? confirm_existing(self, *config, candidates, out, err)
                : create_new(self, *config, candidates, out, err);
}

}  // namespace

const Command create_command{
    "create", "CONFIG", "make an array of the exports that a file lists",
    "Checks the array's file CONFIG (a path, or NAME for /etc/rainfs/NAME.yaml) and the exports that it "
    "lists,\n"
    "tries out what they can do, and makes them an array: what describes it is written to the directory "
    ".rainfs\n"
    "of each. Files that lie on the exports stay and will appear in the mount. If anything is wrong, nothing "
    "is\n"
    "changed. Of an array that exists already it says whether it is as the file says, and changes "
    "nothing.\n\n"
    "TIMES is the granularity of modification times; CHOWN whether root may give files to other users.",
    run};

}  // namespace rainfs::cli
