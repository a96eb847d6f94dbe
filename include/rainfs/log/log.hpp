// SPDX-License-Identifier: Apache-2.0
// Structured log: one line per event that matters, to stderr or (as a service) to the journal by its
// stderr priority prefixes. Any thread may call. Bounded: per event id 64 lines at once, and then one every ten
// seconds with the count of those left out, so that hours of trouble are hundreds of lines and not millions.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <string>
#include <string_view>

namespace rainfs::log {

enum class Level { error = 3, warning = 4, notice = 5, info = 6, debug = 7 };  // syslog's numbers

void set_level(Level level);
Level level();
bool parse_level(std::string_view text, Level& out);
std::string_view name_of(Level level);
// Prefixes lines with "<N>" for systemd's journal instead of a date and a level word.
void use_journal_prefixes(bool on);

// How often an event that comes again and again is written. Tests are in more of a hurry.
void set_line_interval(std::chrono::milliseconds interval);

// `event` is a short constant id ("export-absent"), the rate limit's key.
void write(Level level, std::string_view event, std::string_view text);

template <typename... Args>
void print(Level lvl, std::string_view event, fmt::format_string<Args...> format, Args&&... args) {
  if (lvl <= level()) write(lvl, event, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void error(std::string_view event, fmt::format_string<Args...> format, Args&&... args) {
  print(Level::error, event, format, std::forward<Args>(args)...);
}
template <typename... Args>
void warning(std::string_view event, fmt::format_string<Args...> format, Args&&... args) {
  print(Level::warning, event, format, std::forward<Args>(args)...);
}
template <typename... Args>
void notice(std::string_view event, fmt::format_string<Args...> format, Args&&... args) {
  print(Level::notice, event, format, std::forward<Args>(args)...);
}
template <typename... Args>
void info(std::string_view event, fmt::format_string<Args...> format, Args&&... args) {
  print(Level::info, event, format, std::forward<Args>(args)...);
}
template <typename... Args>
void debug(std::string_view event, fmt::format_string<Args...> format, Args&&... args) {
  print(Level::debug, event, format, std::forward<Args>(args)...);
}

}  // namespace rainfs::log
