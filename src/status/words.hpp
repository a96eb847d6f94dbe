// SPDX-License-Identifier: Apache-2.0
// Moments and times as people read them. Pure functions.
#pragma once

#include <cstdint>
#include <string>

namespace rainfs::status {

std::string format_date(std::int64_t seconds);  // local time
std::string format_latency(std::uint64_t nanoseconds);

}  // namespace rainfs::status
