// SPDX-License-Identifier: Apache-2.0
#include "../../src/placement/logarithm.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <random>

using rainfs::placement::logarithm_fraction_bits;
using rainfs::placement::negative_logarithm;

TEST_CASE("the integer logarithm is right to fifty bits", "[placement]") {
  const auto seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 200'000; ++i) {
    const std::uint64_t hash = random() >> (i % 64);
    if (hash == 0) continue;
    const long double exact = 64 - std::log2(static_cast<long double>(hash));
    const long double ours = std::ldexp(static_cast<long double>(negative_logarithm(hash)), -logarithm_fraction_bits);
    if (std::abs(exact - ours) >= std::ldexp(1.0L, -50)) FAIL("hash " << hash);
  }
  CHECK(negative_logarithm(0) == negative_logarithm(1));
  CHECK(negative_logarithm(~std::uint64_t{0}) >= 1);
  // Golden values: part of the order.
  CHECK(negative_logarithm(0x8000000000000000) == 0x1fffffffffffffe);
  CHECK(negative_logarithm(0x123456789abcdef0) == 0x7a0a7eda4c112d1);
}
