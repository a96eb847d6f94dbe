// SPDX-License-Identifier: Apache-2.0
// Small files under .rainfs/scrub by which any node can tell what a scrub does or did. Any thread.
#pragma once

#include "session.hpp"

namespace rainfs::scrub {

inline constexpr const char* progress_file = ".rainfs/scrub/progress.json";
inline constexpr const char* last_file = ".rainfs/scrub/last.json";   // of the last run over everything
inline constexpr const char* history_file = ".rainfs/scrub/history";  // one a line, the newest first
inline constexpr std::size_t most_history_lines = 100;

// On all exports that can be reached; readers see the old text or the new one. Failures are no matter.
void write_record(Session& session, const std::string& path, const std::string& text);
void remove_record(Session& session, const std::string& path);
// The newest text on any export (by its own time line), and nothing if there is none.
std::string read_record(nas::Array& array, const std::string& path);

// Counters as JSON; `result` is the exit status, -1 while it runs.
std::string describe(Session& session, int result, std::int64_t begun_s = 0);

// What a run that has ended came to, for status: over everything, and in the history.
void record_result(Session& session, int result, std::int64_t begun_s);

// How many files the last whole run found; 0 if there was none.
std::uint64_t files_last_time(nas::Array& array);

}  // namespace rainfs::scrub
