// SPDX-License-Identifier: Apache-2.0
#include "watch.hpp"

#include <charconv>

#include "rainfs/log/log.hpp"

namespace rainfs::cli {

namespace {

constexpr base::Duration tick = std::chrono::milliseconds(500);
constexpr base::Duration first_pause = std::chrono::seconds(2);
constexpr base::Duration retry_pause = std::chrono::seconds(30);  // of a pass that could not begin
constexpr base::Duration longest_pause = std::chrono::minutes(10);

std::int64_t number_in(const std::string& text, const std::string& name) {
  const std::string key = "\"" + name + "\": ";
  const std::size_t at = text.find(key);
  std::int64_t value = 0;
  if (at != std::string::npos) std::from_chars(text.data() + at + key.size(), text.data() + text.size(), value);
  return value;
}

}  // namespace

std::time_t scheduled_before(const config::ScrubTime& at, std::time_t now) {
  struct tm parts {};
  ::localtime_r(&now, &parts);
  const int days_back = at.weekday ? (parts.tm_wday - *at.weekday + 7) % 7 : 0;
  const auto on_day = [&](int back) {
    struct tm day = parts;
    day.tm_mday -= back;
    day.tm_hour = at.hour;
    day.tm_min = at.minute;
    day.tm_sec = 0;
    day.tm_isdst = -1;
    return std::mktime(&day);
  };
  const std::time_t then = on_day(days_back);
  return then <= now ? then : on_day(days_back + (at.weekday ? 7 : 1));
}

void Watch::stop() {
  stopping_ = true;
  const std::lock_guard lock(mutex_);
  if (running_ != nullptr) running_->stop();
}

void Watch::change(const scrub::Options& options, const config::Scrub& schedule) {
  const std::lock_guard lock(mutex_);
  options_ = options;
  schedule_ = schedule;
}

std::pair<scrub::Options, config::Scrub> Watch::wanted() {
  const std::lock_guard lock(mutex_);
  return {options_, schedule_};
}

Watch::Outcome Watch::scrub(const scrub::Options& options) {
  scrub::Scrub scrub(context_, options, reporter_);
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Outcome::not_begun;
    running_ = &scrub;
  }
  const auto status = scrub.run();
  {
    const std::lock_guard lock(mutex_);
    running_ = nullptr;
  }
  if (!status) {
    log::info("scrub-not-begun", "{}", status.error().message());
    return Outcome::not_begun;
  }
  if (ended_) ended_(scrub, *status);
  const scrub::Counters& c = scrub.counters();
  log::notice("scrub-ended", "{}: {} files, {} facts, {} repaired, {} left", options.ledger_only ? "ledger" : "scrub",
              c.files.load(), c.facts.load(), c.repaired.load(), c.left + c.in_use);
  return (*status & scrub::status_left) == 0 ? Outcome::all_repaired : Outcome::something_left;
}

// At once when an export has come back, else while there are facts about what can be reached, less and less
// often where they cannot be done away with.
void Watch::drain_when_due() {
  nas::Array& array = context_.array;
  const base::ExportSet online = array.online();
  const bool came_back = !(online - online_before_).empty();
  online_before_ = online;
  if (came_back) {
    next_drain_ = array.clock().now();
    pause_ = first_pause;
  }
  if ((array.blamed_somewhere() & online).empty()) {
    pause_ = first_pause;
    return;
  }
  if (array.clock().now() < next_drain_) return;
  scrub::Options options = wanted().first;
  options.ledger_only = true;
  options.deep = false;
  pause_ = scrub(options) == Outcome::all_repaired ? first_pause : std::min(longest_pause, pause_ * 2);
  next_drain_ = array.clock().now() + pause_;
}

void Watch::scrub_when_due() {
  auto [options, schedule] = wanted();
  if (!schedule.at) return;
  const std::time_t now = context_.array.clock().realtime().tv_sec;
  const std::time_t due = scheduled_before(*schedule.at, now);
  // A scrub that was due while nobody was there to run it is run at the next time, not at any time.
  if (looked_at_ == 0) looked_at_ = now;
  if (due <= looked_at_) return;
  const auto last = scrub::last_result(context_.array);
  if (last && number_in(*last, "started") >= due) {
    looked_at_ = due;
    return;
  }
  const std::int64_t last_deep = last ? number_in(*last, "last_deep") : 0;
  options.deep = now - last_deep >= std::chrono::duration_cast<std::chrono::seconds>(schedule.deep_every).count();
  // Another node's scrub may be of the ledger only: then this one is still due when that has ended.
  if (context_.array.clock().now() < next_pass_) return;
  next_pass_ = context_.array.clock().now() + retry_pause;
  if (scrub(options) != Outcome::not_begun) looked_at_ = due;
}

void Watch::run() {
  while (!stopping_) {
    drain_when_due();
    scrub_when_due();
    context_.array.clock().sleep(tick);
  }
}

}  // namespace rainfs::cli
