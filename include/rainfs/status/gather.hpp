// SPDX-License-Identifier: Apache-2.0
// Looks at an array and what lies in `.rainfs` of its exports, and says what it found. Any thread; blocks,
// bounded by the array's deadlines whatever hangs. Only reads.
#pragma once

#include "rainfs/nas/array.hpp"
#include "rainfs/status/report.hpp"

namespace rainfs::status {

// Bounds of what one report looks at, so that it stays quick however much there is.
inline constexpr std::size_t most_facts = 10000;     // paths with facts that are counted
inline constexpr std::size_t most_facts_read = 128;  // whose time is looked at
inline constexpr std::size_t most_examples = 10;
inline constexpr std::size_t most_nodes = 1024;
// A node whose file is older than this is taken for gone: three of its marks and some difference of clocks.
inline constexpr base::Duration alive_within = std::chrono::seconds(120);

// The array must have been polled. Looking at the nodes' marks costs as many small reads as there are nodes: what is
// done again and again leaves them out.
enum class Marks : std::uint8_t { looked_at, left_out };
Report gather(nas::Array& array, Marks marks = Marks::looked_at);

}  // namespace rainfs::status
