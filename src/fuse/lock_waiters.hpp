// SPDX-License-Identifier: Apache-2.0
// Threads for locks that must be waited for, so that they do not take up those that answer requests: who holds the
// lock needs those to give it back. Any thread may call. Bounded.
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_set>

#include "context.hpp"

namespace rainfs::fuse {

class LockWaiters {
 public:
  // Waits until granted or the flag is set; returns an errno, 0 for granted.
  using Wait = std::function<int(const std::atomic<bool>& interrupted)>;

  explicit LockWaiters(unsigned most) : most_(most) {}

  // Within the request's callback. Answers the request when `wait` returns, or at once with ENOLCK if too many are
  // waiting. If it throws, the request is still the caller's to answer.
  void start(fuse_req_t request, Wait wait);
  // Interrupts all that wait and those to come; true if none was left after `bound`.
  bool end_all(std::chrono::milliseconds bound) noexcept;

 private:
  struct Waiting {
    fuse_req_t request;
    Context context;  // for the reply
    Wait wait;
    std::atomic<bool> interrupted{false};
  };
  void run(Waiting& waiting) noexcept;

  const unsigned most_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable none_left_;
  std::unordered_set<Waiting*> waiting_;
  bool ending_ = false;
};

}  // namespace rainfs::fuse
