// SPDX-License-Identifier: Apache-2.0
// -log2 of a uniform number, in integer arithmetic only: a logarithm of the C library, or a floating-point
// unit set up otherwise, could order two exports differently on two nodes. Pure; any thread.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace rainfs::placement {

// Q57: 57 bits behind the point, as results reach 64.
inline constexpr int logarithm_fraction_bits = 57;

namespace detail {

// A GCC and Clang extension, said so to the compiler's pedantry.
__extension__ using Wide = unsigned __int128;
__extension__ using SignedWide = __int128;

inline constexpr int table_bits = 8;

struct Segment {
  std::uint64_t inverse;    // 1/c in Q64, c being the middle of the segment of [1, 2)
  std::uint64_t logarithm;  // log2(c) in Q63
};

// log2 of x in [1, 2), Q63 to Q63, a bit at a time: squaring doubles the logarithm.
constexpr std::uint64_t slow_logarithm(std::uint64_t x) {
  std::uint64_t result = 0;
  for (int bit = 62; bit >= 0; --bit) {
    const Wide square = (static_cast<Wide>(x) * x) >> 63;
    const bool two = (square >> 64) != 0;
    x = static_cast<std::uint64_t>(two ? square >> 1 : square);
    if (two) result |= std::uint64_t{1} << bit;
  }
  return result;
}

constexpr auto make_segments() {
  std::array<Segment, 1 << table_bits> segments{};
  for (std::uint64_t i = 0; i < segments.size(); ++i) {
    const std::uint64_t middle = (std::uint64_t{1} << 63) + ((2 * i + 1) << (62 - table_bits));
    segments[i] = {static_cast<std::uint64_t>((static_cast<Wide>(1) << 127) / middle), slow_logarithm(middle)};
  }
  return segments;
}
inline constexpr auto segments = make_segments();

constexpr std::int64_t log2_e = 0x5c551d94ae0bf85d;  // 1.4426950408889634 in Q62
constexpr std::int64_t log2_e_over(int n) {          // Q63
  return static_cast<std::int64_t>(2 * static_cast<Wide>(log2_e) / static_cast<unsigned>(n));
}

// The high half of a product: unlike other shifts of it, one instruction.
constexpr std::int64_t high(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>((static_cast<SignedWide>(a) * b) >> 64);
}

}  // namespace detail

// -log2(hash / 2^64) in Q57, at least 1. hash 0 counts as 1.
constexpr std::uint64_t negative_logarithm(std::uint64_t hash) {
  using namespace detail;
  if (hash == 0) hash = 1;
  const int shift = std::countl_zero(hash);
  const std::uint64_t mantissa = hash << shift;  // [1, 2) in Q63
  const Segment& segment = segments[(mantissa >> (63 - table_bits)) & ((1 << table_bits) - 1)];
  // mantissa = c (1 + r) with |r| below 2^-8; log2(1 + r) by five terms of its series. r in Q71.
  const Wide ratio = static_cast<Wide>(mantissa) * segment.inverse;
  const auto difference = static_cast<std::uint64_t>(ratio >> 64) - (std::uint64_t{1} << 63);
  const std::int64_t r = static_cast<std::int64_t>(difference) * 256;
  std::int64_t sum = log2_e_over(4) - (high(r, log2_e_over(5)) >> 7);
  sum = log2_e_over(3) - (high(r, sum) >> 7);
  sum = log2_e_over(2) - (high(r, sum) >> 7);
  const std::int64_t rest = (high(r, log2_e) >> 6) - (high(r, high(r, sum) >> 7) >> 7);
  const std::int64_t fraction = static_cast<std::int64_t>(segment.logarithm) + rest;
  const std::int64_t result =
      static_cast<std::int64_t>((static_cast<std::uint64_t>(shift + 1) << logarithm_fraction_bits) - 1) -
      (fraction >> (63 - logarithm_fraction_bits));
  return result > 0 ? static_cast<std::uint64_t>(result) : 1;
}

}  // namespace rainfs::placement
