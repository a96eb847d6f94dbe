// SPDX-License-Identifier: Apache-2.0
// Changing an array's topology: read from the exports at hand, changed, written to all of them as the next
// version, which mounted nodes take up by themselves within seconds. Blocking, one thread.
#pragma once

#include <functional>

#include "command.hpp"
#include "rainfs/base/unique_fd.hpp"
#include "rainfs/config/config.hpp"
#include "rainfs/topology/topology.hpp"

namespace rainfs::cli {

struct Reached {
  std::size_t index = 0;  // in the topology
  std::string path;
  base::UniqueFd root;
};

struct ArrayAtHand {
  config::Config config;
  config::NodeConfig node;
  topology::Topology topology;         // the highest version found
  std::vector<Reached> exports;        // those that could be opened and are what they should be
  std::vector<std::string> unreached;  // names
};

// Errors say what is missing and what to do.
base::Result<ArrayAtHand> open_array(const std::string& name);

// An export by its index in the topology; null where it is not at hand.
const Reached* reached(const ArrayAtHand& array, std::size_t index);

// Writes topology (with its version raised) to all exports at hand. EIO if that is less than what any node can be
// sure to find: more than half of all.
base::Result<void> write_change(ArrayAtHand& array);

// Prints what will happen, and asks on a terminal unless `yes`. False: not agreed.
bool agreed(const Command& self, const std::string& what, bool yes, std::ostream& out, std::ostream& err);

// Runs rainfs-scrub, which is beside this program or in PATH. Its exit status.
int run_scrub(const std::vector<std::string>& arguments);

// The same, several times while files were in use, so that what was just written has its turn too.
int scrub_until_clean(std::vector<std::string> arguments);

// Index of an export by name; an error that lists the names where there is none.
base::Result<std::size_t> find_export(const topology::Topology& topology, const std::string& name);

}  // namespace rainfs::cli
