// SPDX-License-Identifier: Apache-2.0
// A new array's topology from an administrator's file. Pure but for the random UUIDs; any thread.
#pragma once

#include "rainfs/config/config.hpp"
#include "rainfs/topology/topology.hpp"

namespace rainfs::topology {

// Version 1 with fresh UUIDs. Exports stand in the file's order, the witnesses behind, each in a rack of its
// own. Weights that are to be measured are 0, and placement_weight is 0 everywhere: the caller fills in both.
Topology make_topology(const config::Config& config);

// Bytes as a weight: MiB, at least 1.
std::uint64_t weight_of_bytes(std::uint64_t bytes);

// What `config` says otherwise than `topology`, which an earlier file of this array made: one sentence each.
// UUIDs, measured weights and where exports are mounted here are no difference, nor is what only the node
// that reads the file uses (deadlines, reads, coherence, trash, scrub).
std::vector<std::string> differences(const config::Config& config, const Topology& topology);

}  // namespace rainfs::topology
