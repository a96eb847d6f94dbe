// SPDX-License-Identifier: Apache-2.0
// The locks that this node's processes hold on one file, record locks (fcntl) and whole-file locks (flock),
// and what they come to together: their union is what the node holds on the exports against other nodes.
//
// Nothing is changed by asking: a plan says whether a request can be granted and how it would change the
// union; the caller carries the changes to the exports and commits the plan when that has worked. Between
// plan() and commit() the table must stay as it is: the caller holds the file's lock mutex over both. Not
// synchronised, does no I/O, never waits.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <vector>

namespace rainfs::tree {

// The end of a range to the end of the file, however far that will be.
inline constexpr off_t end_of_file = std::numeric_limits<off_t>::max();

// A file's locks of one kind on this node; more are refused with ENOLCK.
inline constexpr std::size_t most_locks_per_file = 4096;

struct HeldLock {
  std::uint64_t owner = 0;
  pid_t pid = 0;
  short type = 0;  // F_RDLCK or F_WRLCK
  off_t start = 0;
  off_t end = 0;  // inclusive
};

// How the node's union changes on a range: to be mirrored by one open-file-description lock of type `to`.
struct UnionChange {
  short from = 0;  // F_UNLCK, F_RDLCK or F_WRLCK
  short to = 0;
  off_t start = 0;
  off_t end = 0;  // inclusive
};

// A stretch of the union.
struct UnionRange {
  short type = 0;
  off_t start = 0;
  off_t end = 0;
};

class RecordLocks {
 public:
  class Plan {
   public:
    // 0; EAGAIN: held by another owner, see conflict(); ENOLCK: too many; EINVAL: no such range or type.
    int error() const { return error_; }
    const std::optional<HeldLock>& conflict() const { return conflict_; }
    // What strengthens the union comes first: if an export refuses it, the changes before are undone by
    // setting `from` again, and that only gives back.
    const std::vector<UnionChange>& changes() const { return changes_; }

   private:
    friend class RecordLocks;
    int error_ = 0;
    std::optional<HeldLock> conflict_;
    std::vector<UnionChange> changes_;
    std::uint64_t owner_ = 0;
    std::vector<HeldLock> after_;  // the owner's locks
    std::uint64_t version_ = 0;
  };

  // F_SETLK of a range by an owner: type F_RDLCK, F_WRLCK or F_UNLCK, end inclusive. Splits, merges, upgrades
  // and downgrades the owner's locks as fcntl(2) says.
  Plan plan(std::uint64_t owner, pid_t pid, short type, off_t start, off_t end) const;
  // All locks of an owner that has closed the file. Never refused.
  Plan plan_drop(std::uint64_t owner) const;
  // Only a plan without an error, made since the last commit.
  void commit(Plan plan);

  // F_GETLK: the lock that keeps the owner from this one, that with the lowest start; none if nothing does.
  std::optional<HeldLock> conflict(std::uint64_t owner, short type, off_t start, off_t end) const;
  // The strongest lock on each stretch of a range, stretches without a lock left out.
  std::vector<UnionRange> union_of(off_t start = 0, off_t end = end_of_file) const;
  // All locks, by owner and start.
  std::vector<HeldLock> held() const;
  bool empty() const { return by_owner_.empty(); }

 private:
  Plan make_plan(std::uint64_t owner, pid_t pid, short type, off_t start, off_t end) const;
  std::vector<UnionChange> changes_by(std::uint64_t owner, short type, off_t start, off_t end) const;

  std::map<std::uint64_t, std::vector<HeldLock>> by_owner_;  // each sorted, disjoint, merged; none empty
  std::size_t count_ = 0;
  std::uint64_t version_ = 0;
};

class FileLocks {
 public:
  class Plan {
   public:
    int error() const { return error_; }  // 0; EAGAIN: held by another owner; ENOLCK; EINVAL
    // LOCK_UN, LOCK_SH or LOCK_EX: the union before and after. Equal: nothing to mirror.
    int from() const { return from_; }
    int to() const { return to_; }

   private:
    friend class FileLocks;
    int error_ = 0;
    int from_ = 0;
    int to_ = 0;
    std::uint64_t owner_ = 0;
    int operation_ = 0;
    std::uint64_t version_ = 0;
  };

  // flock(2) of an owner (an open file description): LOCK_SH, LOCK_EX or LOCK_UN. A conversion that is
  // refused leaves the owner the lock it had.
  Plan plan(std::uint64_t owner, int operation) const;
  void commit(Plan plan);
  int union_type() const { return union_without(std::nullopt); }
  bool empty() const { return by_owner_.empty(); }

 private:
  int union_without(std::optional<std::uint64_t> owner) const;

  std::map<std::uint64_t, int> by_owner_;  // LOCK_SH or LOCK_EX
  std::uint64_t version_ = 0;
};

}  // namespace rainfs::tree
