// SPDX-License-Identifier: Apache-2.0
// Weights for the hash. The rendezvous order of racks is successive sampling: a rack's first export comes at
// an exponentially distributed time whose rate is the sum of its weights, and the first R racks are taken.
// A rack of twice the weight is then taken less than twice as often, as nobody takes it twice. So rates are
// sought that make every rack's probability of being among the first R what its weight asks for.
#include <algorithm>
#include <cmath>
#include <vector>

#include "rainfs/placement/placement.hpp"

namespace rainfs::placement {

namespace {

using Numbers = std::vector<long double>;

// Racks that differ by less are taken as equal: their weights stay as they are, and adding an export then
// moves exactly what it takes.
constexpr long double equal_within = 0.01L;
// A rack that should hold a replica of every path holds one of so many of them; 1 would be an infinite rate.
constexpr long double most_probability = 0.9995L;
constexpr int most_rounds = 500;
constexpr long double good_enough = 1e-7L;
constexpr long double weight_scale = 1 << 20;  // precision of rates as integers
constexpr long double most_weight = 4.6e18L;   // below 2^62

// What each rack should hold of every path: in proportion to its weight, but none more than one replica;
// what is cut off there goes to the others. Sums to `replicas`.
Numbers targets_of(const Numbers& weights, unsigned replicas) {
  Numbers targets(weights.size(), 0);
  std::vector<bool> full(weights.size(), false);
  for (bool changed = true; changed;) {
    changed = false;
    long double rest = replicas, sum = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (full[i])
        rest -= most_probability;
      else
        sum += weights[i];
    }
    for (std::size_t i = 0; i < weights.size(); ++i) {
      targets[i] = full[i] ? most_probability : rest * weights[i] / sum;
      if (targets[i] > most_probability) full[i] = changed = true;
    }
  }
  return targets;
}

// Adds to `result` each rack's density of arriving at time t with fewer than `replicas` others before it.
void add_densities(const Numbers& rates, unsigned replicas, long double t, long double step, Numbers& result) {
  const std::size_t racks = rates.size();
  // head[i][k]: probability that exactly k of the racks before i have arrived; tail: of those from i on.
  std::vector<Numbers> head(racks + 1, Numbers(replicas, 0)), tail = head;
  head[0][0] = tail[racks][0] = 1;
  const auto extend = [&](const Numbers& from, Numbers& to, long double rate) {
    const long double here = -std::expm1(-rate * t);
    for (unsigned k = 0; k < replicas; ++k) {
      to[k] = from[k] * (1 - here) + (k > 0 ? from[k - 1] * here : 0);
    }
  };
  for (std::size_t i = 0; i < racks; ++i) extend(head[i], head[i + 1], rates[i]);
  for (std::size_t i = racks; i-- > 0;) extend(tail[i + 1], tail[i], rates[i]);
  for (std::size_t i = 0; i < racks; ++i) {
    long double fewer = 0;
    for (unsigned a = 0; a < replicas; ++a) {
      for (unsigned b = 0; a + b < replicas; ++b) fewer += head[i][a] * tail[i + 1][b];
    }
    result[i] += rates[i] * t * std::exp(-rates[i] * t) * fewer * step;
  }
}

// Probability of each rack to be among the first `replicas`: the integral of that density over the logarithm
// of time, where the trapezoidal rule converges exponentially.
Numbers inclusion(const Numbers& rates, unsigned replicas) {
  const long double fastest = *std::max_element(rates.begin(), rates.end());
  const long double slowest = *std::min_element(rates.begin(), rates.end());
  const long double begin = std::log(1e-12L / fastest), end = std::log(50.0L / slowest), step = 0.2L;
  Numbers result(rates.size(), 0);
  for (int i = 0; begin + i * step < end; ++i) {
    add_densities(rates, replicas, std::exp(begin + i * step), step, result);
  }
  return result;
}

Numbers rates_for(const Numbers& weights, unsigned replicas) {
  const Numbers targets = targets_of(weights, replicas);
  Numbers rates = weights;
  for (int round = 0; round < most_rounds; ++round) {
    const Numbers now = inclusion(rates, replicas);
    long double worst = 0, sum = 0;
    for (std::size_t i = 0; i < rates.size(); ++i) {
      worst = std::max(worst, std::abs(now[i] - targets[i]) / targets[i]);
      // Independent arrivals until a fixed time would be taken with 1 - exp(-rate): that correction is nearly
      // right, also close to 1.
      rates[i] *= std::log1p(-targets[i]) / std::log1p(-std::min(now[i], 1 - 1e-9L));
      sum += rates[i];
    }
    for (long double& rate : rates) rate /= sum;
    if (worst < good_enough) break;
  }
  return rates;
}

std::uint64_t usable_weight(const topology::Export& one) {
  return std::max<std::uint64_t>(one.weight, 1);
}

}  // namespace

void derive_weights(topology::Topology& topology) {
  for (topology::Export& one : topology.exports) one.placement_weight = usable_weight(one);
  std::vector<unsigned> racks;
  Numbers weights;
  for (const ExportIndex index : topology.placeable()) {
    const topology::Export& one = topology.exports[index];
    const auto at = static_cast<std::size_t>(std::find(racks.begin(), racks.end(), one.rack) - racks.begin());
    if (at == racks.size()) {
      racks.push_back(one.rack);
      weights.push_back(0);
    }
    weights[at] += static_cast<long double>(usable_weight(one));
  }
  const unsigned replicas = topology.defaults.replicas;
  if (replicas < 2 || racks.size() <= replicas) return;  // proportional as it is, or no choice
  const long double sum = [&] {
    long double all = 0;
    for (long double w : weights) all += w;
    return all;
  }();
  const auto [least, most] = std::minmax_element(weights.begin(), weights.end());
  if (*most - *least <= equal_within * *most) return;

  for (long double& weight : weights) weight /= sum;
  const Numbers rates = rates_for(weights, replicas);
  Numbers factors(topology.exports.size(), 1);
  long double largest = 1;
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const auto at = std::find(racks.begin(), racks.end(), topology.exports[i].rack) - racks.begin();
    if (static_cast<std::size_t>(at) < racks.size()) {
      factors[i] = rates[static_cast<std::size_t>(at)] / weights[static_cast<std::size_t>(at)];
    }
    largest = std::max(largest, factors[i] * static_cast<long double>(usable_weight(topology.exports[i])));
  }
  const long double scale = std::min(weight_scale, most_weight / largest);
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const long double exact = factors[i] * scale * static_cast<long double>(usable_weight(topology.exports[i]));
    topology.exports[i].placement_weight = static_cast<std::uint64_t>(std::max(1.0L, std::round(exact)));
  }
}

}  // namespace rainfs::placement
