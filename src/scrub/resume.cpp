// SPDX-License-Identifier: Apache-2.0
#include "resume.hpp"

#include <fmt/format.h>

#include <charconv>

#include "rainfs/base/paths.hpp"
#include "records.hpp"

namespace rainfs::scrub {

namespace {
constexpr base::Duration save_interval = std::chrono::seconds(10);
constexpr std::int64_t too_old_s = 7 * 24 * 3600;

bool is_ancestor(const std::string& above, const std::string& path) {
  return above.empty() ? !path.empty() : path != above && base::is_within(path, above);
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

Resume::Resume(Session& session, const std::string& pass, Prepare prepare)
    : session_(session),
      file_(fmt::format(".rainfs/scrub/resume-{}{}", pass,
                        session.options.shards > 1 ? fmt::format("-{}", session.options.shard) : "")),
      prepare_(std::move(prepare)),
      unrepaired_before_(unrepaired()),
      saved_(session.array.clock().now()) {
  if (!session.lease || !session.options.paths.empty()) return;
  const std::string text = read_record(session.array, file_);
  long long when = 0;
  int consumed = 0;
  if (std::sscanf(text.c_str(), "{\"time\": %lld}\n%n", &when, &consumed) != 1 || consumed == 0) return;
  std::string_view rest = std::string_view(text).substr(static_cast<std::size_t>(consumed));
  const auto line = [&] {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view one = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return one;
  };
  if (line() != key() || session.array.clock().realtime().tv_sec - when > too_old_s) return;
  const std::string_view number = line();
  std::uint64_t left = 0;
  std::from_chars(number.data(), number.data() + number.size(), left);
  note_ = line();
  cursor_ = rest;
  // A run that looks at the rest only must not say that all is well.
  if (left > 0) {
    session.found(
        Finding::left, "",
        fmt::format("{} could not be repaired by the run that was interrupted before /{}, where this one goes on: "
                    "the next one looks at them again",
                    left, cursor_));
  }
}

void Resume::save(const std::string& directory) {
  if (!session_.lease || !session_.options.paths.empty() || directory.empty()) return;
  const auto note = prepare_ ? prepare_() : std::string{};
  if (!note) return;
  write_record(session_, file_,
               fmt::format("{{\"time\": {}}}\n{}\n{}\n{}\n{}", session_.array.clock().realtime().tv_sec, key(),
                           unrepaired() - unrepaired_before_, *note, directory));
}

bool Resume::begin(const std::string& directory) {
  if (walked_before(directory, cursor_) && !is_ancestor(directory, cursor_)) return false;
  current_ = directory;
  open_.push_back({directory, std::make_shared<int>(0)});
  note_progress();
  return true;
}

void Resume::note_progress() {
  while (open_.size() > 1 && open_.front().users.use_count() == 1) open_.pop_front();
  const base::TimePoint now = session_.array.clock().now();
  if (now - saved_ > save_interval) {
    saved_ = now;
    if (!open_.empty()) save(open_.front().directory);
  }
}

bool Resume::done_before(const Walked& walked) const {
  return !walked.directory && is_ancestor(current_, cursor_);
}

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
  remove_record(session_, file_);
}

}  // namespace rainfs::scrub
