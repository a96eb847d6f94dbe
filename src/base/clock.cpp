// SPDX-License-Identifier: Apache-2.0
#include "rainfs/base/clock.hpp"

#include <thread>

#include "rainfs/base/waiting.hpp"

namespace rainfs::base {

namespace {
class SystemClock final : public Clock {
 public:
  TimePoint now() const override { return std::chrono::steady_clock::now(); }
  struct timespec realtime() const override {
    struct timespec now {};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return now;
  }
  void sleep(Duration duration) override {
    const Waiting waiting;
    std::this_thread::sleep_for(duration);
  }
};
}  // namespace

Clock& Clock::system() {
  static SystemClock clock;
  return clock;
}

}  // namespace rainfs::base
