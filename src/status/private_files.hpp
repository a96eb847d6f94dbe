// SPDX-License-Identifier: Apache-2.0
// The small files in `.rainfs` that tell of nodes and scrubs: JSON, read leniently, as other versions may have
// written them. Pure functions.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rainfs/status/heartbeat.hpp"
#include "rainfs/status/report.hpp"

namespace rainfs::status {

struct NodeMark {
  Mount mount;
  std::map<std::string, std::int64_t> absent_since_s;  // by export name, as that node sees it
};
std::string format_mark(const NodeMark& mark);
std::optional<NodeMark> parse_mark(std::string_view text);

// `.rainfs/scrub/last.json`, `.rainfs/scrub/history`, and one line of what `.rainfs/scrub/progress.json` says.
std::optional<Scrub> parse_scrub(std::string_view text);
inline constexpr std::size_t most_scrubs = 20;
std::vector<Scrub> parse_scrubs(std::string_view text);
std::string parse_progress(std::string_view text);

}  // namespace rainfs::status
