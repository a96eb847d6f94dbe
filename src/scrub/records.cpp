// SPDX-License-Identifier: Apache-2.0
#include "records.hpp"

#include <fmt/format.h>

#include <charconv>

#include "rainfs/scrub/json.hpp"

namespace rainfs::scrub {

namespace {
constexpr std::size_t largest_record_bytes = 1 << 20;

std::int64_t number_in(const std::string& text, const char* name) {
  const std::string key = fmt::format("\"{}\": ", name);
  const std::size_t at = text.find(key);
  std::int64_t time = 0;
  if (at != std::string::npos) std::from_chars(text.data() + at + key.size(), text.data() + text.size(), time);
  return time;
}

std::string scope_of(const Options& options) {
  std::string scope = options.ledger_only ? "ledger" : options.paths.empty() ? "all" : "paths";
  if (options.shards > 1) scope += fmt::format(" {}/{}", options.shard + 1, options.shards);
  return scope;
}
}  // namespace

void write_record(Session& session, const std::string& path, const std::string& text) {
  const std::string temporary = session.temporary();
  nas::Answers made = session.array.metadata(session.array.holders_online(), [&](ExportIndex) {
    auto make = new_operation(Kind::make_file, temporary);
    make->text = text;
    make->mode = 0600;
    return make;
  });
  session.array.metadata(made.ok(), [&](ExportIndex) {
    auto move = new_operation(Kind::rename, temporary);
    move->path2 = path;
    return move;
  });
}

void remove_record(Session& session, const std::string& path) {
  session.array.metadata(session.array.holders_online(),
                         [&](ExportIndex) { return new_operation(Kind::unlink, path); });
}

std::string read_record(nas::Array& array, const std::string& path) {
  nas::Answers answers = array.metadata(array.holders_online(), [&](ExportIndex) {
    auto read = new_operation(Kind::read_file, path);
    read->length = largest_record_bytes;
    return read;
  });
  std::string best;
  for (const nas::Answer& answer : answers) {
    if (answer.ok() && (best.empty() || number_in(answer.operation->text, "time") > number_in(best, "time")))
      best = answer.operation->text;
  }
  return best;
}

std::string describe(Session& session, int result, std::int64_t begun_s) {
  const Counters& c = session.counters;
  std::string text = fmt::format(
      "{{\"time\": {}, \"node\": {}, \"pass\": \"{}\", \"scope\": \"{}\", \"deep\": {}, \"{}\": {}, \"directories\": "
      "{}, \"facts\": {}, "
      "\"repaired\": {}, \"unrepaired\": {}, \"in_use\": {}, \"fewer_than_r\": {}, \"single\": {}, \"conflicts\": {}, "
      "\"damaged\": {}, \"copies\": {}, "
      "\"bytes_copied\": {}, \"bytes_read\": {}",
      session.array.clock().realtime().tv_sec, json_text(session.array.options().node_name), name_of(c.pass.load()),
      scope_of(session.options), session.options.deep, result < 0 ? "files_done" : "files", c.files.load(),
      c.directories.load(), c.facts.load(), c.repaired.load(), c.left + c.in_use, c.in_use.load(), c.few.load(),
      c.single.load(), c.conflicts.load(), c.damaged.load(), c.copies.load(), c.bytes_copied.load(),
      c.bytes_read.load());
  if (result < 0 && c.expected_files > 0) text += fmt::format(", \"files\": {}", c.expected_files.load());
  if (begun_s != 0)
    text += fmt::format(", \"started\": {}, \"finished\": {}", begun_s, session.array.clock().realtime().tv_sec);
  if (result >= 0) {
    // For those who run deep passes less often than others.
    const bool deep_done = session.options.deep && !session.stopped();
    const std::int64_t last_deep = deep_done ? begun_s : number_in(read_record(session.array, last_file), "last_deep");
    text += fmt::format(", \"last_deep\": {}", last_deep);
  }
  if (result >= 0) text += fmt::format(", \"status\": {}", result);
  return text + "}\n";
}

void record_result(Session& session, int result, std::int64_t begun_s) {
  const std::string line = describe(session, result, begun_s);
  const Options& options = session.options;
  if (!options.ledger_only && options.paths.empty()) write_record(session, last_file, line);
  const Counters& c = session.counters;
  // Draining an empty ledger is no news; a service does it again and again.
  if (options.ledger_only && c.facts == 0 && c.left + c.in_use == 0) return;
  // Two shards that end in the same moment may lose one's line: it is for people to look at.
  std::string history = line + read_record(session.array, history_file);
  std::size_t end = 0;
  for (std::size_t lines = 0; lines < most_history_lines && end < history.size(); ++lines) {
    end = std::min(history.find('\n', end), history.size() - 1) + 1;
  }
  history.resize(end);
  write_record(session, history_file, history);
}

std::uint64_t files_last_time(nas::Array& array) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, number_in(read_record(array, last_file), "files")));
}

base::Result<std::string> last_result(nas::Array& array) {
  std::string text = read_record(array, last_file);
  if (text.empty()) return base::unexpected(ENOENT);
  return text;
}

base::Result<std::string> running_progress(nas::Array& array) {
  if (!is_running(array)) return base::unexpected(ENOENT);
  std::string text = read_record(array, progress_file);
  if (text.empty()) return std::string("{}");
  return text;
}

}  // namespace rainfs::scrub
