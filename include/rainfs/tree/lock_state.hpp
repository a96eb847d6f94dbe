// SPDX-License-Identifier: Apache-2.0
// The locks on one open file: this node's table, and the descriptors that hold its union on the replicas.
//
// Owns one descriptor per replica, opened when the first lock is asked for. Any thread may call. Never waits
// for a lock: whoever waits asks again after pause(), which ends early when this node releases something.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "rainfs/nas/array.hpp"
#include "rainfs/tree/file_system.hpp"
#include "rainfs/tree/lock_table.hpp"

namespace rainfs::tree {

class LockState {
 public:
  // `open` opens the replicas for locking.
  LockState(nas::Array& array, std::function<nas::Answers()> open) : array_(array), open_(std::move(open)) {}

  // Granted: no value. Held by another owner of this node: that lock. Held by another node: EAGAIN. EIO when
  // the exports that hold the file's locks are gone.
  base::Result<std::optional<HeldLock>> try_record(std::uint64_t owner, const Lock& lock);
  // False if another owner of this node holds it; EAGAIN if another node does.
  base::Result<bool> try_flock(std::uint64_t owner, int operation);
  void drop(std::uint64_t owner);
  base::Result<Lock> test(std::uint64_t owner, const Lock& lock);
  void pause(base::Duration duration);
  // A lock that was granted is held nowhere any more, or nobody who holds it can be reached. Never waits.
  bool lost() const;
  bool idle() const;

 private:
  base::Result<void> open_handles();
  void note_holders();
  base::Result<void> mirror(const std::vector<UnionChange>& changes);
  base::Result<void> on_exports(const std::function<io::OperationPtr()>& make,
                                const std::function<io::OperationPtr()>& undo);

  nas::Array& array_;
  const std::function<nas::Answers()> open_;
  mutable std::mutex mutex_;  // guards what follows; held over operations on the exports
  std::condition_variable released_;
  RecordLocks records_;
  FileLocks flocks_;
  std::vector<std::pair<base::ExportIndex, io::HandlePtr>> handles_;
  bool all_open_ = true;  // of the replicas there were
  std::atomic<bool> lost_{false};
  std::atomic<std::uint64_t> held_on_{0};  // exports that hold this node's locks; 0 when it has none
};

// Which owner waits for which: finds the deadlocks among this node's processes. Bounded by the number of
// locks waited for at once.
class WaitGraph {
 public:
  // False if the holder waits, directly or not, for the waiter.
  bool add(std::uint64_t waiter, std::uint64_t holder);
  void remove(std::uint64_t waiter);

 private:
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, std::uint64_t> waits_;
};

}  // namespace rainfs::tree
