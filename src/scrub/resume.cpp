// SPDX-License-Identifier: Apache-2.0
#include "resume.hpp"

#include <fmt/format.h>

#include "records.hpp"

namespace rainfs::scrub {

namespace {
constexpr const char* resume_file = ".rainfs/scrub/resume";
constexpr base::Duration save_interval = std::chrono::seconds(10);
constexpr std::int64_t too_old_s = 7 * 24 * 3600;

bool is_ancestor(const std::string& above, const std::string& path) {
  return above.empty() ? !path.empty() : path.size() > above.size() && path.starts_with(above) && path[above.size()] == '/';
}
}  // namespace

bool walked_before(std::string_view a, std::string_view b) {
  const std::size_t common = std::min(a.size(), b.size());
  for (std::size_t i = 0; i < common; ++i) {
    if (a[i] == b[i]) continue;
    if (a[i] == '/' || b[i] == '/') return a[i] == '/';
    return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[i]);
  }
  return a.size() < b.size();
}

std::string Resume::key() const {
  return fmt::format("deep {} shard {} of {} topology {}", session_.options.deep, session_.options.shard,
                     session_.options.shards, session_.array.topology()->version);
}

Resume::Resume(Session& session) : session_(session), saved_(session.array.clock().now()) {
  if (!session.lease || !session.options.paths.empty()) return;
  const std::string text = read_record(session.array, resume_file + (session.options.shards > 1 ? std::to_string(session.options.shard) : ""));
  long long when = 0;
  int consumed = 0;
  if (std::sscanf(text.c_str(), "{\"time\": %lld}\n%n", &when, &consumed) != 1 || consumed == 0) return;
  const std::size_t line = text.find('\n', static_cast<std::size_t>(consumed));
  if (line == std::string::npos || text.substr(static_cast<std::size_t>(consumed), line - static_cast<std::size_t>(consumed)) != key()) return;
  if (session.array.clock().realtime().tv_sec - when > too_old_s) return;
  cursor_ = text.substr(line + 1);
}

void Resume::save(const std::string& directory) {
  if (!session_.lease || !session_.options.paths.empty() || directory.empty()) return;
  const std::string path = resume_file + (session_.options.shards > 1 ? std::to_string(session_.options.shard) : "");
  write_record(session_, path, fmt::format("{{\"time\": {}}}\n{}\n{}", session_.array.clock().realtime().tv_sec, key(), directory));
}

bool Resume::begin(const std::string& directory) {
  if (walked_before(directory, cursor_) && !is_ancestor(directory, cursor_)) return false;
  current_ = directory;
  open_.push_back({directory, std::make_shared<int>(0)});
  while (open_.size() > 1 && open_.front().users.use_count() == 1) open_.pop_front();
  const base::TimePoint now = session_.array.clock().now();
  if (now - saved_ > save_interval) {
    saved_ = now;
    save(open_.front().directory);
  }
  return true;
}

bool Resume::done_before(const Walked& walked) const { return !walked.directory && is_ancestor(current_, cursor_); }

std::shared_ptr<void> Resume::task() {
  if (open_.empty()) return nullptr;
  return open_.back().users;
}

void Resume::keep() {
  while (open_.size() > 1 && open_.front().users.use_count() == 1) open_.pop_front();
  if (!open_.empty()) save(open_.front().directory);
}

void Resume::finish() {
  if (!session_.lease || !session_.options.paths.empty()) return;
  remove_record(session_, resume_file + (session_.options.shards > 1 ? std::to_string(session_.options.shard) : ""));
}

}  // namespace rainfs::scrub
