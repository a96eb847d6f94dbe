// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <bit>
#include <limits>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "logarithm.hpp"
#include "rainfs/placement/placement.hpp"

namespace rainfs::placement {

namespace {

// Part of the format: another seed is another order, and every file would have to move.
constexpr std::uint64_t seed = 0x5261696e46530001;

struct Candidate {
  double time;  // exponentially distributed with the weight as rate: the smallest comes first
  ExportIndex index;
};

// One division of doubles, which IEEE 754 rounds the same everywhere; nothing else is done in floating point.
static_assert(std::numeric_limits<double>::is_iec559);
double time_of(std::uint64_t draw, std::uint64_t weight) {
  return static_cast<double>(draw) / static_cast<double>(weight);
}

// XXH3 reads bytes: the pair must be the same bytes on every machine.
std::uint64_t little_endian(std::uint64_t value) {
  return std::endian::native == std::endian::little ? value : __builtin_bswap64(value);
}

}  // namespace

Order order(std::string_view path, const topology::Topology& topology) {
  // The path is hashed once; the pair of that and an export's hash makes the export's draw.
  std::uint64_t pair[2] = {little_endian(XXH3_64bits_withSeed(path.data(), path.size(), seed)), 0};
  std::array<Candidate, base::max_exports> candidates;
  unsigned count = 0;
  for (const ExportIndex index : topology.data_exports()) {
    const topology::Export& one = topology.exports[index];
    pair[1] = little_endian(XXH3_64bits_withSeed(one.uuid.data(), one.uuid.size(), seed));
    const std::uint64_t weight = one.placement_weight != 0 ? one.placement_weight : one.weight;
    const std::uint64_t draw = negative_logarithm(XXH3_64bits_withSeed(pair, sizeof pair, seed));
    candidates[count++] = {time_of(draw, std::max<std::uint64_t>(weight, 1)), index};
  }
  std::sort(candidates.begin(), candidates.begin() + count, [&](const Candidate& a, const Candidate& b) {
    if (a.time != b.time) return a.time < b.time;
    return topology.exports[a.index].uuid < topology.exports[b.index].uuid;
  });
  Order result;
  result.count = count;
  for (unsigned i = 0; i < count; ++i) result.exports[i] = candidates[i].index;
  return result;
}

ExportSet choose(const Order& order, const topology::Topology& topology, unsigned replicas, ExportSet usable,
                 ExportSet taken) {
  ExportSet chosen;
  const auto rack_is_used = [&](unsigned rack) {
    for (const ExportIndex other : chosen | taken) {
      if (topology.exports[other].rack == rack) return true;
    }
    return false;
  };
  for (const ExportIndex index : order) {
    if (chosen.size() >= replicas) break;
    if (usable.contains(index) && !rack_is_used(topology.exports[index].rack)) chosen.insert(index);
  }
  return chosen;
}

}  // namespace rainfs::placement
