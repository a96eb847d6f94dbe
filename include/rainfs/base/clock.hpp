// SPDX-License-Identifier: Apache-2.0
// Time behind a seam, so that the simulated world has its own. Any thread may call.
#pragma once

#include <chrono>
#include <ctime>

namespace rainfs::base {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;             // monotonic: deadlines
  virtual struct timespec realtime() const = 0;  // wall clock: mtimes, dates of facts
  virtual void sleep(Duration duration) = 0;

  static Clock& system();
};

// A point in time by which an answer is due. Value type.
class Deadline {
 public:
  explicit Deadline(TimePoint at) : at_(at) {}
  static Deadline in(const Clock& clock, Duration duration) { return Deadline(clock.now() + duration); }
  TimePoint at() const { return at_; }
  bool passed(const Clock& clock) const { return clock.now() >= at_; }

 private:
  TimePoint at_;
};

inline bool operator==(const struct timespec& a, const struct timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace rainfs::base
