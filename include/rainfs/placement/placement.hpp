// SPDX-License-Identifier: Apache-2.0
// Where a path's replicas go: weighted rendezvous hashing, one replica per rack. Pure functions of their
// arguments: the same on every node and in every version (golden values in the tests). Any thread.
// Source: weighted rendezvous hashing after D. G. Thaler and C. V. Ravishankar, "Using name-based mappings
// to increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998, with the weights of J. Schindelhauer
// and G. Schomaker, "Weighted distributed hash tables", SPAA 2005.
#pragma once

#include <array>
#include <string_view>

#include "rainfs/topology/topology.hpp"

namespace rainfs::placement {

using base::ExportIndex;
using base::ExportSet;

// Exports of a path by descending rendezvous score.
struct Order {
  std::array<ExportIndex, base::max_exports> exports{};
  unsigned count = 0;
  const ExportIndex* begin() const { return exports.data(); }
  const ExportIndex* end() const { return exports.data() + count; }
};

// All data exports that are part of the array (active and draining), `path` relative to the root.
Order order(std::string_view path, const topology::Topology& topology);

// The first `replicas` placeable exports of the order in distinct racks: fewer if there are no more racks.
// home() of the design with `usable` = topology.placeable(); with exports left out (absent, full), the
// stepping over them. `taken` are exports that hold a replica already: their racks are used up.
ExportSet choose(const Order& order, const topology::Topology& topology, unsigned replicas, ExportSet usable,
                 ExportSet taken = {});

// Weights for the hash so that each export's share of replicas is proportional to its weight, as far as one
// replica per rack allows (a rack takes at most one replica of every path). Fills placement_weight of all
// exports; called when a topology is made or changed.
void derive_weights(topology::Topology& topology);

}  // namespace rainfs::placement
