// SPDX-License-Identifier: Apache-2.0
// Record locks and flocks: among this node's processes by a table, among nodes by open-file-description
// locks on the replicas, which hold the union of what this node's processes hold.
#include "rainfs/tree/lock_state.hpp"

#include <sys/file.h>

#include "rainfs/base/waiting.hpp"
#include "rainfs/log/log.hpp"
#include "tree_internal.hpp"

namespace rainfs::tree {

namespace {

// Waiting for another node's lock is asking again: the exports cannot call back.
constexpr base::Duration first_pause = std::chrono::milliseconds(1);
constexpr base::Duration longest_pause = std::chrono::milliseconds(50);
// The kernel tells of the last close of a file when the program has gone on long since: a lock that a file of this node
// holds may be one that was just given up. So many pauses, 7 ms in all, before it is said to be held.
constexpr int pauses_for_closes = 3;

// Of somebody who asks for a lock that is held.
class Patience {
 public:
  // Whether one who does not want to wait asks again all the same.
  bool for_a_close(bool held_by_this_node) { return held_by_this_node && --pauses_left_ >= 0; }
  void pause(LockState& state) {
    state.pause(interval_);
    interval_ = std::min(interval_ * 2, longest_pause);
  }

 private:
  base::Duration interval_ = first_pause;
  int pauses_left_ = pauses_for_closes;
};

off_t end_of(const Lock& lock) {
  return lock.length == 0 ? end_of_file : lock.start + lock.length - 1;
}

}  // namespace

// Without the mutex: reading and writing does not wait for a lock that another thread is asking a hung export for.
bool LockState::lost() const {
  if (lost_) return true;
  const base::ExportSet held(held_on_.load());
  for (const base::ExportIndex index : held) {
    if (array_.at(index).online()) return false;
  }
  return !held.empty();  // as long as nobody can tell that it is still held
}

bool LockState::idle() const {
  const std::lock_guard lock(mutex_);
  return records_.empty() && flocks_.empty();
}

base::Result<void> LockState::open_handles() {
  if (!handles_.empty()) return {};
  nas::Answers answers = open_();
  all_open_ = true;
  for (nas::Answer& answer : answers) {
    if (answer.ok()) handles_.emplace_back(answer.index, std::move(answer.operation->handle));
    if (!answer.ok()) all_open_ = false;
  }
  if (handles_.empty()) return base::unexpected(EIO, "no replica to lock");
  return {};
}

// On every replica in order of export, the same on all nodes. One that refuses decides; one that is away is
// left out as long as others hold the lock. Its descriptor is closed: what it may be granted late, or be told too late
// to give back, ends with that.
base::Result<void> LockState::on_exports(const std::function<io::OperationPtr()>& make,
                                         const std::function<io::OperationPtr()>& undo) {
  auto opened = open_handles();
  if (!opened) return opened;
  std::vector<std::size_t> taken;
  base::ExportSet away;
  int error = 0;
  for (std::size_t i = 0; i < handles_.size() && error == 0; ++i) {
    auto& [index, handle] = handles_[i];
    nas::Answers answers = array_.metadata(base::ExportSet::of(index), [&](ExportIndex) {
      auto operation = make();
      operation->file = handle;
      return operation;
    });
    const nas::Answer& answer = answers.list.front();
    if (answer.ok()) {
      taken.push_back(i);
    } else if (base::classify(answer.error) != base::ErrorClass::absent) {
      error = answer.error == EACCES ? EAGAIN : answer.error;
    } else {
      away.insert(index);
    }
  }
  const std::shared_ptr<void> leave_out(nullptr, [&](void*) {
    if (away.empty()) return;
    std::erase_if(handles_, [&](const auto& entry) { return away.contains(entry.first); });
    all_open_ = false;
    note_holders();
  });
  if (error == 0 && !taken.empty()) return {};
  for (const std::size_t i : taken) {
    array_.metadata(base::ExportSet::of(handles_[i].first), [&](ExportIndex) {
      auto operation = undo();
      operation->file = handles_[i].second;
      return operation;
    });
  }
  if (error != 0) return base::unexpected(error);
  // Every export that held this file's locks is gone: whoever relied on one must not go on as if it held.
  if (!records_.empty() || !flocks_.empty()) {
    if (!lost_) log::error("lock-lost", "a lock was lost with the exports that held it: its file fails with EIO now");
    lost_ = true;
  }
  return base::unexpected(EIO, "no replica can be locked");
}

// Who can tell that this node's locks are held. Where not all replicas could be had, the next lock after the last one
// was given back tries anew.
void LockState::note_holders() {
  const bool any = !records_.empty() || !flocks_.empty();
  if (!any && !all_open_) handles_.clear();
  base::ExportSet holders;
  for (const auto& [index, handle] : handles_) holders.insert(index);
  held_on_ = any ? holders.bits() : 0;
}

base::Result<void> LockState::mirror(const std::vector<UnionChange>& changes) {
  const auto operation = [](short type, const UnionChange& change) {
    auto made = std::make_shared<io::Operation>(io::Kind::lock);
    made->flags = type;
    made->offset = change.start;
    made->length = change.end == end_of_file ? 0 : static_cast<std::size_t>(change.end - change.start + 1);
    return made;
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    auto done = on_exports([&] { return operation(changes[i].to, changes[i]); },
                           [&] { return operation(changes[i].from, changes[i]); });
    const bool releases = changes[i].to == F_UNLCK;
    if (done || releases) continue;  // an unlock that an export does not take ends with its descriptor
    for (std::size_t j = 0; j < i; ++j) {
      auto undone = on_exports([&] { return operation(changes[j].from, changes[j]); },
                               [&] { return operation(changes[j].from, changes[j]); });
      if (!undone) log::debug("lock-not-undone", "{}", undone.error().message());
    }
    return done;
  }
  return {};
}

base::Result<std::optional<HeldLock>> LockState::try_record(std::uint64_t owner, const Lock& lock) {
  const std::lock_guard guard(mutex_);
  if (lost_) return base::unexpected(EIO, "its locks were lost");
  RecordLocks::Plan plan = records_.plan(owner, lock.pid, static_cast<short>(lock.type), lock.start, end_of(lock));
  if (plan.error() == EAGAIN) return plan.conflict();
  if (plan.error() != 0) return base::unexpected(plan.error());
  auto mirrored = mirror(plan.changes());
  if (!mirrored) return base::Unexpected{mirrored.error()};
  records_.commit(std::move(plan));
  note_holders();
  if (lock.type != F_WRLCK) released_.notify_all();
  return std::optional<HeldLock>{};
}

base::Result<bool> LockState::try_flock(std::uint64_t owner, int operation) {
  const std::lock_guard guard(mutex_);
  if (lost_) return base::unexpected(EIO, "its locks were lost");
  FileLocks::Plan plan = flocks_.plan(owner, operation);
  if (plan.error() == EAGAIN) return false;
  if (plan.error() != 0) return base::unexpected(plan.error());
  if (plan.from() != plan.to()) {
    const auto make = [](int type) {
      auto made = std::make_shared<io::Operation>(io::Kind::flock);
      made->flags = type;
      return made;
    };
    auto mirrored = on_exports([&] { return make(plan.to()); }, [&] { return make(plan.from()); });
    if (!mirrored && plan.to() != LOCK_UN) {
      if (mirrored.error().code == EAGAIN) return base::unexpected(EAGAIN);
      return base::Unexpected{mirrored.error()};
    }
  }
  flocks_.commit(std::move(plan));
  note_holders();
  if (operation != LOCK_EX) released_.notify_all();
  return true;
}

void LockState::drop(std::uint64_t owner) {
  const std::lock_guard guard(mutex_);
  RecordLocks::Plan plan = records_.plan_drop(owner);
  if (plan.changes().empty() && records_.empty()) return;
  auto mirrored = mirror(plan.changes());
  if (!mirrored) log::debug("lock-not-released", "{}", mirrored.error().message());
  records_.commit(std::move(plan));
  note_holders();
  released_.notify_all();
}

base::Result<Lock> LockState::test(std::uint64_t owner, const Lock& lock) {
  const std::lock_guard guard(mutex_);
  const auto conflict = records_.conflict(owner, static_cast<short>(lock.type), lock.start, end_of(lock));
  if (conflict) {
    const off_t length = conflict->end == end_of_file ? 0 : conflict->end - conflict->start + 1;
    return Lock{conflict->type, conflict->start, length, conflict->pid};
  }
  auto opened = open_handles();
  if (!opened) return base::Unexpected{opened.error()};
  for (auto& [index, handle] : handles_) {
    nas::Answers answers = array_.metadata(base::ExportSet::of(index), [&](ExportIndex) {
      auto operation = std::make_shared<io::Operation>(io::Kind::test_lock);
      operation->file = handle;
      operation->flags = lock.type;
      operation->offset = lock.start;
      operation->length = static_cast<std::size_t>(lock.length);
      return operation;
    });
    const nas::Answer& answer = answers.list.front();
    if (!answer.ok()) continue;
    if (answer.operation->value == F_UNLCK) break;
    // Another node's: who it is there is not known here.
    return Lock{static_cast<int>(answer.operation->value), answer.operation->offset,
                static_cast<off_t>(answer.operation->length), -1};
  }
  return Lock{F_UNLCK, 0, 0, 0};
}

void LockState::pause(base::Duration duration) {
  const base::Waiting waiting;
  std::unique_lock guard(mutex_);
  released_.wait_for(guard, duration);
}

bool WaitGraph::add(std::uint64_t waiter, std::uint64_t holder) {
  const std::lock_guard guard(mutex_);
  std::uint64_t next = holder;
  for (std::size_t steps = 0; steps <= waits_.size(); ++steps) {
    if (next == waiter) return false;
    const auto it = waits_.find(next);
    if (it == waits_.end()) break;
    next = it->second;
  }
  waits_[waiter] = holder;
  return true;
}

void WaitGraph::remove(std::uint64_t waiter) {
  const std::lock_guard guard(mutex_);
  waits_.erase(waiter);
}

std::shared_ptr<LockState> Tree::lock_state(OpenTreeFile& file, bool make) {
  const std::lock_guard lock(file.open->mutex);
  if (!file.open->locks && make) {
    const NodeId id = file.node;
    const std::weak_ptr<OpenState> state = file.open;
    file.open->locks = std::make_shared<LockState>(array_, [this, id, state]() -> nas::Answers {
      const OpenStatePtr open = state.lock();
      if (!open) return {};
      const FilePtr opened = some_file(*open, false);
      if (!opened) return {};
      const auto path = nodes_.path_of(id);
      const ExportSet where = path ? nodes_.where(id) & array_.online() : opened->usable();
      const auto open_with = [&](int flags, ExportSet targets) {
        return array_.metadata(targets, [&](ExportIndex index) {
          auto operation = make_operation(io::Kind::open, path.value_or(""));
          operation->flags = flags | O_NOFOLLOW | O_NONBLOCK;
          if (!path) operation->file = opened->handle_of(index);
          return operation;
        });
      };
      nas::Answers answers = open_with(O_RDWR, where);
      // Read-only exports and running programs can be locked for reading at least.
      for (nas::Answer& again : open_with(O_RDONLY, where - answers.ok())) {
        *answers.of(again.index) = std::move(again);
      }
      return answers;
    });
  }
  return file.open->locks;
}

base::Result<Lock> Tree::test_lock(OpenFile& file, std::uint64_t owner, const Lock& lock) {
  return lock_state(static_cast<OpenTreeFile&>(file), true)->test(owner, lock);
}

base::Result<void> Tree::set_lock(OpenFile& file, std::uint64_t owner, const Lock& lock, bool wait,
                                  const std::atomic<bool>& interrupted) {
  auto& open = static_cast<OpenTreeFile&>(file);
  const std::shared_ptr<LockState> state = lock_state(open, lock.type != F_UNLCK);
  if (!state) return {};
  if (lock.type != F_UNLCK) {
    const std::lock_guard guard(open.open->mutex);
    open.lock_owners.insert(owner);
  }
  Patience patience;
  while (true) {
    auto tried = state->try_record(owner, lock);
    const bool held_elsewhere = !tried && tried.error().code == EAGAIN;
    if (tried && !*tried) {
      open.open->shared->forget_end();  // whoever had the lock may have appended
      return {};
    }
    if (!tried && !held_elsewhere) return base::Unexpected{tried.error()};
    if (!wait && !patience.for_a_close(!held_elsewhere)) return base::unexpected(EAGAIN);
    if (wait && tried && !waits_.add(owner, (*tried)->owner)) return base::unexpected(EDEADLK);
    patience.pause(*state);
    if (wait) waits_.remove(owner);
    if (interrupted) return base::unexpected(EINTR);
  }
}

base::Result<void> Tree::set_flock(OpenFile& file, std::uint64_t owner, int operation, bool wait,
                                   const std::atomic<bool>& interrupted) {
  auto& open = static_cast<OpenTreeFile&>(file);
  const std::shared_ptr<LockState> state = lock_state(open, operation != LOCK_UN);
  if (!state) return {};
  Patience patience;
  while (true) {
    auto tried = state->try_flock(owner, operation);
    if (tried && *tried) {
      open.open->shared->forget_end();
      return {};
    }
    if (!tried && tried.error().code != EAGAIN) return base::Unexpected{tried.error()};
    if (!wait && !patience.for_a_close(tried.has_value())) return base::unexpected(EAGAIN);
    patience.pause(*state);
    if (interrupted) return base::unexpected(EINTR);
  }
}

}  // namespace rainfs::tree
