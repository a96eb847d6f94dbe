// SPDX-License-Identifier: Apache-2.0
#include "rainfs/tree/lock_table.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace rainfs::tree {

namespace {

bool overlaps(const HeldLock& lock, off_t start, off_t end) {
  return lock.start <= end && start <= lock.end;
}

int strength(short type) {
  return type == F_WRLCK ? 2 : type == F_RDLCK ? 1 : 0;
}

// How many locks of each type cover the point a sweep has come to.
struct Cover {
  int readers = 0;
  int writers = 0;
  short type() const { return writers > 0 ? F_WRLCK : readers > 0 ? F_RDLCK : F_UNLCK; }
};

struct Edge {
  std::uint64_t at;  // where the cover changes: one past an inclusive end may be past off_t
  short type;
  int by;  // +1 begins, -1 ends
  bool own;
};

// Calls visit(start, end, cover of the owner, cover of all others) for every stretch of [start, end].
template <typename Visit>
void sweep(std::vector<Edge>& edges, off_t start, off_t end, Visit visit) {
  std::sort(edges.begin(), edges.end(), [](const Edge& a, const Edge& b) { return a.at < b.at; });
  Cover own, others;
  auto from = static_cast<std::uint64_t>(start);
  const std::uint64_t past = static_cast<std::uint64_t>(end) + 1;
  const auto stretch = [&](std::uint64_t until) {
    if (from < until) visit(static_cast<off_t>(from), static_cast<off_t>(until - 1), own, others);
    from = std::max(from, until);
  };
  for (const Edge& edge : edges) {
    stretch(std::min(edge.at, past));
    Cover& cover = edge.own ? own : others;
    (edge.type == F_WRLCK ? cover.writers : cover.readers) += edge.by;
  }
  stretch(past);
}

void add_edges(std::vector<Edge>& edges, const HeldLock& lock, bool own) {
  edges.push_back({static_cast<std::uint64_t>(lock.start), lock.type, 1, own});
  edges.push_back({static_cast<std::uint64_t>(lock.end) + 1, lock.type, -1, own});
}

bool touches(off_t end, off_t start) {
  return end != end_of_file && end + 1 == start;
}

// An owner's locks after one more request: what it covers is cut out of the old ones, then it is put in, then
// neighbours of one type become one.
std::vector<HeldLock> replaced(const std::vector<HeldLock>& before, const HeldLock& wanted) {
  std::vector<HeldLock> after;
  for (const HeldLock& lock : before) {
    if (!overlaps(lock, wanted.start, wanted.end)) {
      after.push_back(lock);
      continue;
    }
    HeldLock left = lock, right = lock;
    left.end = wanted.start - 1;
    if (lock.start < wanted.start) after.push_back(left);
    if (lock.end <= wanted.end) continue;
    right.start = wanted.end + 1;
    after.push_back(right);
  }
  if (wanted.type != F_UNLCK) after.push_back(wanted);
  std::sort(after.begin(), after.end(), [](const HeldLock& a, const HeldLock& b) { return a.start < b.start; });
  std::vector<HeldLock> merged;
  for (const HeldLock& lock : after) {
    if (!merged.empty() && merged.back().type == lock.type && touches(merged.back().end, lock.start)) {
      merged.back().end = lock.end;
    } else {
      merged.push_back(lock);
    }
  }
  return merged;
}

}  // namespace

std::optional<HeldLock> RecordLocks::conflict(std::uint64_t owner, short type, off_t start, off_t end) const {
  std::optional<HeldLock> first;
  if (type == F_UNLCK) return first;
  for (const auto& [other, locks] : by_owner_) {
    if (other == owner) continue;
    for (const HeldLock& lock : locks) {
      const bool excludes = type == F_WRLCK || lock.type == F_WRLCK;
      if (excludes && overlaps(lock, start, end) && (!first || lock.start < first->start)) first = lock;
    }
  }
  return first;
}

RecordLocks::Plan RecordLocks::plan(std::uint64_t owner, pid_t pid, short type, off_t start, off_t end) const {
  Plan plan;
  const bool known = type == F_RDLCK || type == F_WRLCK || type == F_UNLCK;
  if (!known || start < 0 || end < start) {
    plan.error_ = EINVAL;
    return plan;
  }
  plan.conflict_ = conflict(owner, type, start, end);
  if (plan.conflict_) {
    plan.error_ = EAGAIN;
    return plan;
  }
  plan = make_plan(owner, pid, type, start, end);
  const auto own = by_owner_.find(owner);
  const std::size_t before = own == by_owner_.end() ? 0 : own->second.size();
  // Cutting a hole into a lock makes two of it; giving back as much or more is never refused.
  const bool more = plan.after_.size() > before;
  if (more && count_ - before + plan.after_.size() > most_locks_per_file) plan.error_ = ENOLCK;
  return plan;
}

RecordLocks::Plan RecordLocks::plan_drop(std::uint64_t owner) const {
  return make_plan(owner, 0, F_UNLCK, 0, end_of_file);
}

RecordLocks::Plan RecordLocks::make_plan(std::uint64_t owner, pid_t pid, short type, off_t start, off_t end) const {
  Plan plan;
  plan.owner_ = owner;
  plan.version_ = version_;
  const auto own = by_owner_.find(owner);
  plan.after_ =
      replaced(own == by_owner_.end() ? std::vector<HeldLock>{} : own->second, {owner, pid, type, start, end});
  plan.changes_ = changes_by(owner, type, start, end);
  return plan;
}

// Outside [start, end] nothing changes; inside it, the owner's locks give way to one of `type`.
std::vector<UnionChange> RecordLocks::changes_by(std::uint64_t owner, short type, off_t start, off_t end) const {
  std::vector<Edge> edges;
  for (const auto& [other, locks] : by_owner_) {
    for (const HeldLock& lock : locks) {
      if (overlaps(lock, start, end)) add_edges(edges, lock, other == owner);
    }
  }
  std::vector<UnionChange> changes;
  sweep(edges, start, end, [&](off_t from, off_t until, const Cover& own, const Cover& others) {
    const auto stronger = [](short a, short b) { return strength(a) >= strength(b) ? a : b; };
    const short before = stronger(others.type(), own.type()), after = stronger(others.type(), type);
    if (before == after) return;
    if (!changes.empty() && changes.back().from == before && changes.back().to == after &&
        touches(changes.back().end, from)) {
      changes.back().end = until;
    } else {
      changes.push_back({before, after, from, until});
    }
  });
  std::stable_partition(changes.begin(), changes.end(),
                        [](const UnionChange& change) { return strength(change.to) > strength(change.from); });
  return changes;
}

void RecordLocks::commit(Plan plan) {
  // Another plan in between would be undone by this one: a mistake that would cost somebody's lock.
  if (plan.error_ != 0 || plan.version_ != version_) std::abort();
  ++version_;
  const auto own = by_owner_.find(plan.owner_);
  if (own != by_owner_.end()) count_ -= own->second.size();
  count_ += plan.after_.size();
  if (!plan.after_.empty()) {
    by_owner_[plan.owner_] = std::move(plan.after_);
  } else if (own != by_owner_.end()) {
    by_owner_.erase(own);
  }
}

std::vector<UnionRange> RecordLocks::union_of(off_t start, off_t end) const {
  std::vector<Edge> edges;
  for (const auto& [owner, locks] : by_owner_) {
    for (const HeldLock& lock : locks) {
      if (overlaps(lock, start, end)) add_edges(edges, lock, false);
    }
  }
  std::vector<UnionRange> ranges;
  sweep(edges, start, end, [&](off_t from, off_t until, const Cover&, const Cover& all) {
    if (all.type() == F_UNLCK) return;
    if (!ranges.empty() && ranges.back().type == all.type() && touches(ranges.back().end, from)) {
      ranges.back().end = until;
    } else {
      ranges.push_back({all.type(), from, until});
    }
  });
  return ranges;
}

std::vector<HeldLock> RecordLocks::held() const {
  std::vector<HeldLock> all;
  for (const auto& [owner, locks] : by_owner_) all.insert(all.end(), locks.begin(), locks.end());
  return all;
}

int FileLocks::union_without(std::optional<std::uint64_t> owner) const {
  int strongest = LOCK_UN;
  for (const auto& [other, type] : by_owner_) {
    if (other == owner) continue;
    if (type == LOCK_EX) return LOCK_EX;
    strongest = LOCK_SH;
  }
  return strongest;
}

FileLocks::Plan FileLocks::plan(std::uint64_t owner, int operation) const {
  Plan plan;
  plan.owner_ = owner;
  plan.operation_ = operation;
  plan.version_ = version_;
  plan.from_ = plan.to_ = union_type();
  if (operation != LOCK_SH && operation != LOCK_EX && operation != LOCK_UN) {
    plan.error_ = EINVAL;
    return plan;
  }
  const int others = union_without(owner);
  if (operation != LOCK_UN && (others == LOCK_EX || (operation == LOCK_EX && others == LOCK_SH))) {
    plan.error_ = EAGAIN;
  } else if (operation != LOCK_UN && by_owner_.size() >= most_locks_per_file && by_owner_.count(owner) == 0) {
    plan.error_ = ENOLCK;
  } else {
    plan.to_ = others == LOCK_UN ? operation : others;
  }
  return plan;
}

void FileLocks::commit(Plan plan) {
  if (plan.error_ != 0 || plan.version_ != version_) std::abort();
  ++version_;
  if (plan.operation_ == LOCK_UN) {
    by_owner_.erase(plan.owner_);
  } else {
    by_owner_[plan.owner_] = plan.operation_;
  }
}

}  // namespace rainfs::tree
