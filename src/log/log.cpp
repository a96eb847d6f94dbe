// SPDX-License-Identifier: Apache-2.0
#include "rainfs/log/log.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <ctime>
#include <map>
#include <mutex>

namespace rainfs::log {

namespace {

std::atomic<Level> current_level{Level::info};
std::atomic<bool> journal_prefixes{false};

constexpr int burst_lines = 64;               // per event id: as many as an array can have exports
constexpr std::size_t most_event_ids = 1024;  // event ids are constants of the program; this is a backstop

std::atomic<std::chrono::milliseconds> line_interval{std::chrono::seconds(10)};

// A line may be written where there is one left; there is one more, up to the burst, after every interval.
struct Allowance {
  std::chrono::steady_clock::time_point counted_at = std::chrono::steady_clock::now();
  int lines = burst_lines;
  int left_out = 0;
};

std::mutex mutex;  // guards allowances and keeps lines whole
std::map<std::string, Allowance, std::less<>>& allowances() {
  // Never destroyed: threads that are left behind in the file system may log while the process ends.
  static auto& map = *new std::map<std::string, Allowance, std::less<>>;
  return map;
}

}  // namespace

std::string_view name_of(Level level) {
  switch (level) {
    case Level::error:
      return "error";
    case Level::warning:
      return "warning";
    case Level::notice:
      return "notice";
    case Level::info:
      return "info";
    case Level::debug:
      return "debug";
  }
  return "?";
}

namespace {

void emit(Level level, std::string_view event, std::string_view text) {
  std::string line;
  if (journal_prefixes) {
    line = fmt::format("<{}>", static_cast<int>(level));
  } else {
    std::array<char, 32> date{};
    const std::time_t now = std::time(nullptr);
    struct tm parts {};
    ::localtime_r(&now, &parts);
    std::strftime(date.data(), date.size(), "%F %T", &parts);
    line = fmt::format("{} rainfs {}: ", date.data(), name_of(level));
  }
  line += event;
  line += ": ";
  for (const char c : text) line += (c == '\n' || c == '\r') ? ' ' : c;  // one event, one line
  line += '\n';
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

void set_level(Level level) {
  current_level = level;
}
Level level() {
  return current_level;
}
void use_journal_prefixes(bool on) {
  journal_prefixes = on;
}

void set_line_interval(std::chrono::milliseconds interval) {
  line_interval = interval;
}

bool parse_level(std::string_view text, Level& out) {
  for (const Level level : {Level::error, Level::warning, Level::notice, Level::info, Level::debug}) {
    if (name_of(level) == text) {
      out = level;
      return true;
    }
  }
  return false;
}

void write(Level level, std::string_view event, std::string_view text) {
  const std::lock_guard lock(mutex);
  auto& map = allowances();
  if (map.size() >= most_event_ids) map.clear();
  auto it = map.find(event);
  if (it == map.end()) it = map.emplace(std::string(event), Allowance{}).first;
  Allowance& allowance = it->second;
  const auto passed = (std::chrono::steady_clock::now() - allowance.counted_at) / line_interval.load();
  allowance.counted_at += passed * line_interval.load();
  allowance.lines = static_cast<int>(std::min<std::int64_t>(burst_lines, allowance.lines + passed));
  if (allowance.lines == 0) {
    ++allowance.left_out;
    return;
  }
  --allowance.lines;
  if (allowance.left_out > 0) {
    emit(level, event, fmt::format("{} (and {} more like it left out)", text, allowance.left_out));
    allowance.left_out = 0;
    return;
  }
  emit(level, event, text);
}

}  // namespace rainfs::log
