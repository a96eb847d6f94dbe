// SPDX-License-Identifier: Apache-2.0
// The threads of one run, and their queue. One thread adds and waits; the tasks run in the others.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace rainfs::scrub {

class Pool {
 public:
  explicit Pool(unsigned threads);
  ~Pool();  // does what is in the queue first
  // Waits while the queue is full.
  void add(std::function<void()> task);
  void wait_until_idle();

  static constexpr std::size_t most_waiting = 1024;

 private:
  void work();
  std::mutex mutex_;  // guards all
  std::condition_variable more_, room_, idle_;
  std::deque<std::function<void()>> waiting_;
  unsigned busy_ = 0;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace rainfs::scrub
