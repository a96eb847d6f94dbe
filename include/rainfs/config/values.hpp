// SPDX-License-Identifier: Apache-2.0
// Values as people write them, and how they are shown again. Pure functions; any thread. The errors say what
// is wrong with the text and what to write, without a place: the caller knows it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "rainfs/base/clock.hpp"
#include "rainfs/base/result.hpp"

namespace rainfs::config {

// "250ms", "5s", "5min", "2h", "14d"; whole or decimal numbers, a unit always (except for 0).
base::Result<base::Duration> parse_duration(std::string_view text);
// "200MB", "64KiB", "1.5TB": kB MB GB TB PB are powers of 1000, KiB MiB GiB TiB PiB of 1024, B is a byte.
base::Result<std::uint64_t> parse_size(std::string_view text);
// "5%", "2.5%", as thousandths.
base::Result<std::uint32_t> parse_percent(std::string_view text);
base::Result<std::uint64_t> parse_number(std::string_view text);

// "1.5 TB", with a power of 1000.
std::string format_size(std::uint64_t bytes);
// "5s", "14d": the largest unit that divides it.
std::string format_duration(base::Duration duration);

// Names of arrays, racks and exports become file names and appear in messages and metrics: letters, digits,
// '.', '_', '-', beginning with a letter or digit, at most 64.
bool is_name(std::string_view text);
inline constexpr std::string_view name_rule =
    "letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 64";

// "/a//b/" as "/a/b"; the empty string if it is not absolute or has ".." or "." in it.
std::string normalize_path(std::string_view path);

}  // namespace rainfs::config
