// SPDX-License-Identifier: Apache-2.0
// What one export can do, found by doing it in a directory of its own. Blocking.
#pragma once

#include <cstdint>
#include <string>

#include "rainfs/base/result.hpp"

namespace rainfs::cli {

struct Abilities {
  std::uint32_t time_granularity_ns = 1;
  bool xattrs = false;  // user.*
  bool hard_links = false;
  bool unnamed = false;    // O_TMPFILE
  bool locks = false;      // fcntl, of open file descriptions
  bool ownership = false;  // files may be given to other users: not so where root is squashed
  std::uint64_t capacity_bytes = 0;
  std::uint64_t free_bytes = 0;
};

// `directory` is open and may be written; files that are made have names beginning with `prefix` and are gone
// afterwards. An error where RainFS cannot work at all: no files can be made, or no times set.
base::Result<Abilities> probe(int directory, const std::string& prefix, const std::string& where);

// "1 ns", "1 us", "2 s".
std::string format_granularity(std::uint32_t nanoseconds);

}  // namespace rainfs::cli
