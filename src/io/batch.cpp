// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "rainfs/io/batch_state.hpp"
#include "rainfs/io/operation.hpp"

namespace rainfs::io {

Handle::Handle(Engine& engine, int number)
    : engine_(&engine), keeper_(engine.weak_from_this().lock()), number_(number) {}

Handle::~Handle() { engine_->release(number_); }

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

void Batch::run(const base::Clock& clock, base::Duration deadline) {
  unsigned asynchronous = 0;
  Engine* waits = nullptr;
  for (const Entry& entry : entries_) {
    if (entry.engine->completes_inline()) continue;
    ++asynchronous;
    waits = entry.engine;
  }
  std::shared_ptr<BatchState> state;
  base::TimePoint due{};
  if (asynchronous > 0) {
    const base::TimePoint now = clock.now();
    due = now + deadline;
    state = std::make_shared<BatchState>();
    state->pending = asynchronous;
    for (Entry& entry : entries_) {
      if (entry.engine->completes_inline()) continue;
      entry.operation->waited_by_ = state;
      entry.operation->clock_ = &clock;
      entry.operation->submitted_ = now;
      entry.engine->submit(std::move(entry.operation));
    }
  }
  for (Entry& entry : entries_) {
    if (!entry.operation) continue;
    entry.operation->clock_ = &clock;
    entry.operation->submitted_ = clock.now();
    entry.engine->submit(std::move(entry.operation));
  }
  entries_.clear();
  if (waits != nullptr) waits->wait(*state, base::Deadline(due));
}

}  // namespace rainfs::io
