// SPDX-License-Identifier: Apache-2.0
#include "uring_core.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "kinds.hpp"
#include "rainfs/log/log.hpp"

namespace rainfs::io {

namespace {

constexpr auto stop_grace = std::chrono::milliseconds(100);
constexpr auto pause_without_memory = std::chrono::milliseconds(1);
constexpr std::size_t most_at_once = std::size_t{1} << 30;  // bytes of one submission: results are ints
constexpr int most_retries = 64;                            // of one submission that was interrupted or found no memory
constexpr std::uint64_t wakeup_tag = ~std::uint64_t{0};

bool is_for_ring(const Operation& op) {
  switch (op.kind) {
    case Kind::read:
    case Kind::write:
    case Kind::fsync:
    case Kind::allocate:
      return true;
    case Kind::stat:
      return op.path.empty();
    default:
      return false;
  }
}

}  // namespace

int UringCore::open(const EngineOptions& options) {
  options_ = options;
  wakeup_ = base::UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!wakeup_) return errno;
  io_uring_params params{};
  params.flags = IORING_SETUP_CLAMP;
  // One entry more than slots, for reading the eventfd: getting an entry then never fails.
  const int error = ::io_uring_queue_init_params(std::max(options.ring_entries, 1U) + 1, &ring_, &params);
  if (error != 0) return -error;
  ring_open_ = true;
  const unsigned count = std::min(params.sq_entries - 1, std::max(options.ring_entries, 1U));
  slots_.resize(count);
  to_issue_.reserve(count);
  for (unsigned i = count; i-- > 0;) free_.push_back(i);
  pool_ = std::make_shared<ThreadPool>(options);
  return 0;
}

int UringCore::start() {
  try {
    std::thread([self = std::static_pointer_cast<UringCore>(shared_from_this())] { self->run(); }).detach();
  } catch (const std::system_error& error) {
    return error.code().value();
  }
  return 0;
}

UringCore::~UringCore() {
  if (ring_open_) ::io_uring_queue_exit(&ring_);
}

void UringCore::submit(OperationPtr operation) {
  if (!is_for_ring(*operation)) return pool_->submit(std::move(operation), shared_from_this());
  const bool moves = operation->kind == Kind::read || operation->kind == Kind::write;
  const int error = moves && !buffer_fits(*operation) ? EINVAL : queue(operation);
  if (error != 0) finish(std::move(operation), error);
}

int UringCore::queue(OperationPtr& operation) noexcept {
  const std::lock_guard lock(mutex_);
  if (stopped_) return ECANCELED;
  if (outstanding_ >= slots_.size() + options_.queue) return EBUSY;
  try {
    queue_.push_back(operation);
  } catch (const std::bad_alloc&) {
    return ENOMEM;
  }
  operation.reset();
  ++outstanding_;
  wake();
  return 0;
}

void UringCore::release(int number) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (!ended_) {
      try {
        closes_.push_back(number);
        return wake();
      } catch (const std::bad_alloc&) {
      }
    }
  }
  pool_->close(number);
}

// With mutex_ held.
void UringCore::wake() noexcept {
  if (awake_) return;
  awake_ = true;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wakeup_.get(), &one, sizeof one);
}

void UringCore::finish(OperationPtr operation, int error) noexcept {
  operation->error = error;
  operation->complete();
}

unsigned UringCore::outstanding() const noexcept {
  const unsigned in_threads = pool_->outstanding();
  const std::lock_guard lock(mutex_);
  return outstanding_ + in_threads;
}

void UringCore::stop() noexcept {
  std::deque<OperationPtr> dropped;
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    dropped.swap(queue_);
    outstanding_ -= static_cast<unsigned>(dropped.size());
    wake();
  }
  for (OperationPtr& operation : dropped) finish(std::move(operation), ECANCELED);
  dropped.clear();
  pool_->stop();
  std::unique_lock lock(mutex_);
  has_ended_.wait_for(lock, stop_grace, [&] { return ended_; });
}

void UringCore::run() noexcept {
  enter_engine_thread(options_.name);
  unsigned workers[2] = {options_.threads, options_.threads};  // for regular files, for all others
  if (const int error = ::io_uring_register_iowq_max_workers(&ring_, workers); error != 0) {
    log::warning("ring-workers", "{}: cannot bound the kernel's workers: error {}", options_.name, -error);
  }
  while (take_work()) {
    arm_wakeup();
    for (const unsigned index : to_issue_) issue(index);
    to_issue_.clear();
    const int submitted = ::io_uring_submit_and_wait(&ring_, 1);
    reap();
    // Out of memory for a moment: what was not submitted is so the next time.
    if (submitted < 0 && submitted != -EINTR) std::this_thread::sleep_for(pause_without_memory);
  }
}

// Fills free slots from the queues. False when the engine is stopped and nothing is left.
bool UringCore::take_work() {
  const std::lock_guard lock(mutex_);
  while (!free_.empty() && !(closes_.empty() && queue_.empty())) {
    const unsigned index = free_.back();
    free_.pop_back();
    Slot& slot = slots_[index];
    if (!queue_.empty()) {
      slot.operation = std::move(queue_.front());
      queue_.pop_front();
    } else {
      slot.closes = closes_.front();
      closes_.pop_front();
    }
    to_issue_.push_back(index);
  }
  // With all slots taken a completion comes first, and then this again.
  awake_ = !(closes_.empty() && queue_.empty());
  if (!stopped_ || awake_ || free_.size() < slots_.size()) return true;
  ended_ = true;
  has_ended_.notify_all();
  return false;
}

void UringCore::arm_wakeup() {
  if (wakeup_armed_) return;
  io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
  if (entry == nullptr) return;
  // Without IOSQE_ASYNC: an eventfd is polled for, no worker waits in it.
  ::io_uring_prep_read(entry, wakeup_.get(), &wakeups_, sizeof wakeups_, 0);
  entry->user_data = wakeup_tag;
  wakeup_armed_ = true;
}

void UringCore::issue(unsigned index) {
  io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
  if (entry == nullptr) std::abort();  // there are more entries than slots
  prepare(entry, slots_[index]);
  entry->user_data = index;
  entry->flags |= IOSQE_ASYNC;
}

void UringCore::prepare(io_uring_sqe* entry, Slot& slot) {
  if (!slot.operation) return ::io_uring_prep_close(entry, slot.closes);
  Operation& op = *slot.operation;
  const int fd = op.file->number();
  const auto rest = static_cast<unsigned>(std::min(op.length - slot.moved, most_at_once));
  const auto offset = static_cast<std::uint64_t>(op.offset) + slot.moved;
  std::byte* data = op.buffer ? op.buffer->data() + op.buffer_offset + slot.moved : nullptr;
  switch (op.kind) {
    case Kind::read:
      return ::io_uring_prep_read(entry, fd, data, rest, offset);
    case Kind::write:
      return ::io_uring_prep_write(entry, fd, data, rest, offset);
    case Kind::fsync:
      return ::io_uring_prep_fsync(entry, fd, (op.flags & 1) != 0 ? IORING_FSYNC_DATASYNC : 0);
    case Kind::allocate:
      return ::io_uring_prep_fallocate(entry, fd, op.flags, op.offset, static_cast<off_t>(op.length));
    default:  // stat, by is_for_ring()
      return ::io_uring_prep_statx(entry, fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT | (op.flags & AT_STATX_SYNC_TYPE),
                                   stat_mask, &op.stat);
  }
}

void UringCore::reap() {
  io_uring_cqe* entry = nullptr;
  while (::io_uring_peek_cqe(&ring_, &entry) == 0) {
    const std::uint64_t tag = entry->user_data;
    const int result = entry->res;
    ::io_uring_cqe_seen(&ring_, entry);
    if (tag == wakeup_tag) {
      wakeup_armed_ = false;
    } else {
      completed(static_cast<unsigned>(tag), result);
    }
  }
}

// True if the slot is to be submitted again, for the rest or because it was interrupted.
bool UringCore::again(Slot& slot, int result, int& error) {
  error = 0;
  if (result == -EINTR || result == -EAGAIN) {
    error = -result;
    return ++slot.retries <= most_retries;
  }
  Operation& op = *slot.operation;
  const bool moves = op.kind == Kind::read || op.kind == Kind::write;
  // See do_read(): the end of a file read with O_DIRECT.
  if (result == -EINVAL && op.kind == Kind::read && slot.moved > 0) result = 0;
  if (result < 0) error = -result;
  if (result < 0 || !moves) return false;
  slot.moved += static_cast<std::size_t>(result);
  slot.retries = 0;
  if (result > 0) return slot.moved < op.length;
  if (op.kind == Kind::write && op.length > 0) error = EIO;
  return false;
}

void UringCore::completed(unsigned index, int result) {
  Slot& slot = slots_[index];
  if (!slot.operation) return free_slot(index);  // closed, whatever it says
  int error = 0;
  if (again(slot, result, error)) return issue(index);
  OperationPtr operation = std::move(slot.operation);
  if (operation->kind == Kind::read || operation->kind == Kind::write) {
    operation->value = static_cast<std::int64_t>(slot.moved);
  }
  free_slot(index);
  {
    const std::lock_guard lock(mutex_);
    --outstanding_;
  }
  finish(std::move(operation), error);
}

void UringCore::free_slot(unsigned index) {
  slots_[index] = {};
  free_.push_back(index);
}

}  // namespace rainfs::io
