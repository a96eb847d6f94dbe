// SPDX-License-Identifier: Apache-2.0
// Words that files and mount options share. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "rainfs/base/result.hpp"
#include "rainfs/log/log.hpp"

namespace rainfs::config {

inline base::Result<log::Level> parse_log_level(std::string_view text) {
  log::Level level{};
  if (log::parse_level(text, level)) return level;
  return base::unexpected(
      base::config_error("'" + std::string(text) + "' is no log level; write error, warning, notice, info or debug"));
}

}  // namespace rainfs::config
