// SPDX-License-Identifier: Apache-2.0
// A bounded pool of threads that do operations and close descriptors. Threads are started when there is
// more to do than idle threads, and end when idle.
//
// Any thread may call; no call blocks on the export. The threads share in the ownership of the pool: one that
// hangs in a system call keeps what it needs and nobody waits for it.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "rainfs/io/engines.hpp"

namespace rainfs::io {

class ThreadPool : public std::enable_shared_from_this<ThreadPool> {
 public:
  explicit ThreadPool(EngineOptions options) : options_(std::move(options)) {}
  // Handles that are opened belong to *owner, which lives until the operation is dropped.
  void submit(OperationPtr operation, std::shared_ptr<Engine> owner) noexcept;
  // Closes in a thread. Not bounded by the queue: open descriptors bound it.
  void close(int number) noexcept;
  // From now on operations are completed with ECANCELED, those waiting too. Descriptors are closed still.
  // Waits a moment for what runs, so that threads do not outlive their engine without need.
  void stop() noexcept;
  unsigned outstanding() const noexcept;

 private:
  struct Item {
    std::shared_ptr<Engine> owner;  // outlives `operation`: declared before it
    OperationPtr operation;
  };
  int take(OperationPtr& operation, std::shared_ptr<Engine>& owner) noexcept;
  void attend() noexcept;
  void no_thread() noexcept;
  void work() noexcept;
  bool work_once(std::unique_lock<std::mutex>& lock);
  static void fail(std::vector<Item>& items, int error) noexcept;

  const EngineOptions options_;
  mutable std::mutex mutex_;  // never held while an operation is done, completed or dropped
  std::condition_variable work_, ended_;
  // Guarded by mutex_.
  std::deque<Item> queue_;
  std::deque<int> closes_;
  unsigned threads_ = 0;
  unsigned idle_ = 0;
  unsigned outstanding_ = 0;
  bool stopped_ = false;
};

// The engine as users own it. Its core is shared with operations and handles still under way, which may
// outlive it: the core itself is never waited for.
template <typename Core>
class EngineOwner final : public Engine {
 public:
  explicit EngineOwner(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  ~EngineOwner() override { core_->stop(); }
  void submit(OperationPtr operation) override { core_->submit(std::move(operation)); }
  bool completes_inline() const noexcept override { return false; }
  void release(int number) noexcept override { core_->release(number); }
  unsigned outstanding() const noexcept override { return core_->outstanding(); }

 private:
  std::shared_ptr<Core> core_;
};

// What every thread of an engine begins with: name, no signals, an identity that it keeps.
void enter_engine_thread(const std::string& export_name) noexcept;

}  // namespace rainfs::io
