// SPDX-License-Identifier: Apache-2.0
// The files of a running program read again. Any thread; blocks on the local files only.
#pragma once

#include "rainfs/cli/rainfs.hpp"
#include "rainfs/nas/array.hpp"
#include "rainfs/topology/topology.hpp"
#include "rainfs/tree/tree.hpp"

namespace rainfs::cli {

// What the array's file and node.yaml say now. An error, with all reasons, if either is wrong, or if anything is
// different that cannot change while it runs, or that the array itself has otherwise: then nothing is to be changed.
base::Result<Setup> read_again(const Setup& running, const topology::Topology& topology);

// What of `now` cannot be changed without a new mount, against what was mounted: one sentence each.
std::vector<std::string> not_changeable(const Setup& mounted, const Setup& now);

nas::Deadlines deadlines_of(const config::Config& config);
tree::Reads reads_of(const Setup& setup);

}  // namespace rainfs::cli
