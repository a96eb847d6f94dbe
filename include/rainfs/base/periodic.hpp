// SPDX-License-Identifier: Apache-2.0
// Something done again and again on a thread of its own.
//
// Owns the thread. Made and destroyed by one thread. The first time is at once; the interval lies between the end of
// one time and the beginning of the next. Destruction waits for the one under way.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "rainfs/base/clock.hpp"

namespace rainfs::base {

class Periodic {
 public:
  Periodic(Duration interval, std::function<void()> work);
  ~Periodic();
  Periodic(const Periodic&) = delete;
  Periodic& operator=(const Periodic&) = delete;

 private:
  void run();

  const Duration interval_;
  const std::function<void()> work_;
  std::mutex mutex_;  // guards stopping_
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace rainfs::base
