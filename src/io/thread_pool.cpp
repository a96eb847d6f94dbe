// SPDX-License-Identifier: Apache-2.0
#include "thread_pool.hpp"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <system_error>
#include <thread>

#include "rainfs/base/affinity.hpp"
#include "rainfs/log/log.hpp"

namespace rainfs::io {

namespace {
constexpr auto idle_time = std::chrono::seconds(10);
constexpr auto stop_grace = std::chrono::milliseconds(100);
}  // namespace

void enter_engine_thread(const std::string& export_name) noexcept {
  char name[16] = "rainfs:";  // the kernel keeps 15 characters
  export_name.copy(name + 7, sizeof name - 8);
  ::pthread_setname_np(::pthread_self(), name);
  base::follow_process();
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
  keep_identity();
}

void ThreadPool::submit(OperationPtr operation, std::shared_ptr<Engine> owner) noexcept {
  if (const int error = take(operation, owner); error != 0) {
    operation->error = error;
    operation->complete();
    return;
  }
  attend();
}

int ThreadPool::take(OperationPtr& operation, std::shared_ptr<Engine>& owner) noexcept {
  const std::lock_guard lock(mutex_);
  if (stopped_) return ECANCELED;
  if (outstanding_ >= options_.threads + options_.queue) return EBUSY;
  try {
    queue_.emplace_back();
  } catch (const std::bad_alloc&) {
    return ENOMEM;
  }
  queue_.back().owner = std::move(owner);
  queue_.back().operation = std::move(operation);
  ++outstanding_;
  return 0;
}

void ThreadPool::close(int number) noexcept {
  try {
    const std::lock_guard lock(mutex_);
    closes_.push_back(number);
  } catch (const std::bad_alloc&) {
    // Closing it here might block for as long as the export hangs; a descriptor is the lesser loss.
    log::error("descriptor-lost", "no memory to close a descriptor of {}", options_.name);
    return;
  }
  attend();
}

// Something was queued: wakes or starts a thread for it.
void ThreadPool::attend() noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() + closes_.size() <= idle_ || threads_ >= options_.threads) {
      work_.notify_one();
      return;
    }
    ++threads_;
  }
  try {
    std::thread([self = shared_from_this()] { self->work(); }).detach();
  } catch (const std::exception&) {  // EAGAIN: too many threads; or no memory
    no_thread();
  }
}

// A thread could not be started. Those that run will see to the queue; without any, nobody would.
void ThreadPool::no_thread() noexcept {
  std::vector<Item> items;
  {
    const std::lock_guard lock(mutex_);
    if (--threads_ > 0 || queue_.empty()) return;
    try {
      items.reserve(queue_.size());
    } catch (const std::bad_alloc&) {
      return;  // the next submission tries again
    }
    for (Item& item : queue_) items.push_back(std::move(item));
    queue_.clear();
    outstanding_ -= static_cast<unsigned>(items.size());
  }
  log::error("no-thread", "cannot start a thread for {}", options_.name);
  fail(items, ENOMEM);
}

void ThreadPool::fail(std::vector<Item>& items, int error) noexcept {
  for (Item& item : items) {
    item.operation->error = error;
    item.operation->complete();
  }
}

void ThreadPool::work() noexcept {
  enter_engine_thread(options_.name);
  std::unique_lock lock(mutex_);
  while (work_once(lock)) {
  }
  --threads_;
  ended_.notify_all();
}

// Does one thing, waiting for it; false if there was nothing for so long that the thread should end.
bool ThreadPool::work_once(std::unique_lock<std::mutex>& lock) {
  if (queue_.empty() && closes_.empty()) {
    if (stopped_) return false;
    ++idle_;
    work_.wait_for(lock, idle_time, [&] { return stopped_ || !queue_.empty() || !closes_.empty(); });
    --idle_;
    if (queue_.empty() && closes_.empty()) return false;
  }
  if (!queue_.empty()) {
    Item item = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    perform(*item.operation, *item.owner);
    lock.lock();
    --outstanding_;  // before the waiter can know: what is complete is not outstanding
    lock.unlock();
    item.operation->complete();
    item.operation.reset();  // its handles go while their engine lives
  } else {
    const int number = closes_.front();
    closes_.pop_front();
    lock.unlock();
    ::close(number);
  }
  lock.lock();
  return true;
}

void ThreadPool::stop() noexcept {
  std::deque<Item> dropped;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    dropped.swap(queue_);
    outstanding_ -= static_cast<unsigned>(dropped.size());
    work_.notify_all();
  }
  for (Item& item : dropped) {
    item.operation->error = ECANCELED;
    item.operation->complete();
  }
  dropped.clear();
  std::unique_lock lock(mutex_);
  ended_.wait_for(lock, stop_grace, [&] { return threads_ == 0; });
}

unsigned ThreadPool::outstanding() const noexcept {
  const std::lock_guard lock(mutex_);
  return outstanding_;
}

}  // namespace rainfs::io
