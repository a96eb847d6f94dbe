// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <optional>

#include "rainfs/base/waiting.hpp"
#include "rainfs/io/batch_state.hpp"
#include "rainfs/io/operation.hpp"

namespace rainfs::io {

Handle::Handle(Engine& engine, int number, bool inert_links)
    : engine_(&engine), keeper_(engine.weak_from_this().lock()), number_(number), inert_links_(inert_links) {}

Handle::~Handle() {
  engine_->release(number_);
}

void Operation::complete() {
  // The waiter may be gone the moment done_ is seen, so what is needed of it is taken before.
  const std::shared_ptr<BatchState> waiter = std::move(waited_by_);
  if (clock_ != nullptr) taken = clock_->now() - submitted_;
  if (done_.exchange(true, std::memory_order_acq_rel)) std::abort();  // completed twice: results are garbage
  if (!waiter) return;
  const std::lock_guard lock(waiter->mutex);
  if (--waiter->pending == 0) waiter->all_done.notify_all();
}

void Engine::wait(BatchState& state, base::Deadline deadline) {
  const base::Waiting waiting;
  std::unique_lock lock(state.mutex);
  state.all_done.wait_until(lock, deadline.at(), [&] { return state.pending == 0; });
}

void Batch::add(OperationPtr operation) {
  Engine& engine = operation->file->engine();
  entries_.push_back({&engine, std::move(operation)});
}

void Batch::add(Engine& engine, OperationPtr operation) {
  entries_.push_back({&engine, std::move(operation)});
}

namespace {

// Handing an operation over costs some 10 to 50 us.
constexpr std::size_t worth_a_thread_bytes = 128 << 10;
// A read of so much has to wait for the disk, unless it is cached.
constexpr std::size_t worth_waiting_bytes = 64 << 10;

bool takes_long(const Operation& operation) {
  switch (operation.kind) {
    case Kind::write:
    case Kind::copy_range:
      return operation.length >= worth_a_thread_bytes;
    case Kind::fsync:
      return true;
    default:
      return false;
  }
}

void submit_here(Engine& engine, OperationPtr operation) {
  const bool waits =
      takes_long(*operation) || (operation->kind == Kind::read && operation->length >= worth_waiting_bytes);
  std::optional<base::Waiting> waiting;
  if (waits) waiting.emplace();
  engine.submit(std::move(operation));
}

}  // namespace

void Batch::run(const base::Clock& clock, base::Duration deadline) {
  // Of those that take long one is done here, the others beside it.
  unsigned asynchronous = 0;
  bool one_here = false;
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) {
    entry->inline_here = entry->engine->completes_inline();
    if (entry->inline_here && takes_long(*entry->operation)) {
      entry->inline_here = !one_here;
      one_here = true;
    }
    if (!entry->inline_here) ++asynchronous;
  }
  base::TimePoint due{};
  if (asynchronous > 0) {
    const base::TimePoint now = clock.now();
    due = now + deadline;
    state_ = std::make_shared<BatchState>();
    state_->pending = asynchronous;
    for (Entry& entry : entries_) {
      if (entry.inline_here) continue;
      waits_ = entry.engine;
      entry.operation->waited_by_ = state_;
      entry.operation->clock_ = &clock;
      entry.operation->submitted_ = now;
      entry.engine->submit_beside(std::move(entry.operation));
    }
  }
  for (Entry& entry : entries_) {
    if (!entry.inline_here) continue;
    entry.operation->clock_ = &clock;
    entry.operation->submitted_ = clock.now();
    submit_here(*entry.engine, std::move(entry.operation));
  }
  entries_.clear();
  if (waits_ != nullptr) waits_->wait(*state_, base::Deadline(due));
}

void Batch::wait_again(const base::Clock& clock, base::Duration deadline) {
  if (waits_ != nullptr) waits_->wait(*state_, base::Deadline::in(clock, deadline));
}

}  // namespace rainfs::io
