// SPDX-License-Identifier: Apache-2.0
// One export's ring, the thread that alone submits to it, and a thread pool for what the ring cannot do.
//
// A ring's workers are bounded per submitting thread, so a hung export takes only those of this one. All is
// submitted with IOSQE_ASYNC: what is not can block the submitter itself. A running operation cannot be
// cancelled, so its slot, buffer and handles stay until its completion arrives, and with them the thread and
// this object, however long after the engine's owner is gone.
//
// Any thread may call the engine's functions; none of them blocks on the export.
#pragma once

#include <liburing.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <vector>

#include "rainfs/base/unique_fd.hpp"
#include "thread_pool.hpp"

namespace rainfs::io {

class UringCore final : public Engine {
 public:
  // 0, or the errno of there being no io_uring (ENOSYS, EPERM) or no memory for it.
  int open(const EngineOptions& options);
  // Begins the thread; call once, when a shared pointer owns this. 0 or an errno.
  int start();
  ~UringCore() override;

  void submit(OperationPtr operation) override;
  bool completes_inline() const noexcept override { return false; }
  void release(int number) noexcept override;
  unsigned outstanding() const noexcept override;
  void stop() noexcept;

 private:
  // An operation or a close in flight.
  struct Slot {
    OperationPtr operation;
    int closes = -1;        // descriptor, where there is no operation
    std::size_t moved = 0;  // bytes read or written so far
    int retries = 0;
  };

  int queue(OperationPtr& operation) noexcept;
  void wake() noexcept;
  void finish(OperationPtr operation, int error) noexcept;
  // In the ring's thread.
  void run() noexcept;
  bool take_work();
  void arm_wakeup();
  void issue(unsigned index);
  void prepare(io_uring_sqe* entry, Slot& slot);
  void reap();
  void completed(unsigned index, int result);
  bool again(Slot& slot, int result, int& error);
  void free_slot(unsigned index);

  EngineOptions options_;
  std::shared_ptr<ThreadPool> pool_;
  io_uring ring_{};
  bool ring_open_ = false;
  base::UniqueFd wakeup_;  // eventfd

  // The ring's thread only.
  std::vector<Slot> slots_;
  std::vector<unsigned> free_;
  std::vector<unsigned> to_issue_;
  std::uint64_t wakeups_ = 0;  // where the eventfd is read to
  bool wakeup_armed_ = false;

  mutable std::mutex mutex_;  // never held while an operation is done, completed or dropped
  std::condition_variable has_ended_;
  // Guarded by mutex_.
  std::deque<OperationPtr> queue_;
  std::deque<int> closes_;
  unsigned outstanding_ = 0;
  bool awake_ = true;  // the thread will look at the queues before it waits
  bool stopped_ = false;
  bool ended_ = false;  // the thread takes nothing any more
};

}  // namespace rainfs::io
