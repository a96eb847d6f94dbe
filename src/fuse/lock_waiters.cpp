// SPDX-License-Identifier: Apache-2.0
#include "lock_waiters.hpp"

#include <cerrno>
#include <thread>

#include "rainfs/log/log.hpp"
#include "threads.hpp"

namespace rainfs::fuse {

void LockWaiters::start(fuse_req_t request, Wait wait) {
  auto waiting = std::make_unique<Waiting>();
  waiting->request = request;
  waiting->context = *Context::current;
  waiting->context.worker = nullptr;
  waiting->context.request.reset();
  waiting->wait = std::move(wait);
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() >= most_ || ending_) {
      log::warning("lock-waiters-full", "{} locks are waited for already: one more is refused", waiting_.size());
      fuse_reply_err(request, ENOLCK);
      return;
    }
    waiting_.insert(waiting.get());
  }
  Waiting* const raw = waiting.release();
  try {
    std::thread([this, raw] { run(*raw); }).detach();
  } catch (...) {
    {
      const std::lock_guard lock(mutex_);
      waiting_.erase(raw);
    }
    fuse_reply_err(request, ENOLCK);
    delete raw;
  }
}

void LockWaiters::run(Waiting& waiting) noexcept {
  prepare_request_thread("rainfs-lock");
  const std::unique_ptr<Waiting> owner(&waiting);
  fuse_req_interrupt_func(
      waiting.request, [](fuse_req_t, void* data) { static_cast<Waiting*>(data)->interrupted = true; }, &waiting);
  int error = EIO;
  try {
    error = waiting.wait(waiting.interrupted);
  } catch (...) {
    log::error("lock-wait", "waiting for a lock failed unexpectedly");
  }
  // After this libfuse does not touch `waiting` any more.
  fuse_req_interrupt_func(waiting.request, nullptr, nullptr);
  Context::current = &waiting.context;
  fuse_reply_err(waiting.request, error);
  Context::current = nullptr;
  const std::lock_guard lock(mutex_);
  waiting_.erase(&waiting);
  if (waiting_.empty()) none_left_.notify_all();
}

bool LockWaiters::end_all(std::chrono::milliseconds bound) noexcept {
  std::unique_lock lock(mutex_);
  ending_ = true;
  for (Waiting* const waiting : waiting_) waiting->interrupted = true;
  return none_left_.wait_for(lock, bound, [this] { return waiting_.empty(); });
}

}  // namespace rainfs::fuse
