// SPDX-License-Identifier: Apache-2.0
#include "pool.hpp"

#include "rainfs/io/operation.hpp"

namespace rainfs::scrub {

Pool::Pool(unsigned threads) {
  for (unsigned i = 0; i < threads; ++i) {
    threads_.emplace_back([this] {
      io::prepare_thread();
      work();
    });
  }
}

Pool::~Pool() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  more_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Pool::add(std::function<void()> task) {
  std::unique_lock lock(mutex_);
  // Once it is full, half of it is let go: else the one who adds would be woken for every single task.
  if (waiting_.size() >= most_waiting) room_.wait(lock, [this] { return waiting_.size() <= most_waiting / 2; });
  waiting_.push_back(std::move(task));
  more_.notify_one();
}

void Pool::wait_until_idle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return waiting_.empty() && busy_ == 0; });
}

void Pool::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    more_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    const std::function<void()> task = std::move(waiting_.front());
    waiting_.pop_front();
    ++busy_;
    if (waiting_.size() == most_waiting / 2) room_.notify_one();
    lock.unlock();
    task();
    lock.lock();
    if (--busy_ == 0 && waiting_.empty()) idle_.notify_all();
  }
}

}  // namespace rainfs::scrub
