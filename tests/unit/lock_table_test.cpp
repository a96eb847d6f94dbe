// SPDX-License-Identifier: Apache-2.0
#include "rainfs/tree/lock_table.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <array>
#include <catch2/catch.hpp>
#include <random>

using namespace rainfs::tree;

namespace {

constexpr int bytes = 48;
constexpr int owners = 4;

int strength(short type) {
  return type == F_WRLCK ? 2 : type == F_RDLCK ? 1 : 0;
}

// What each owner holds of each byte. The last byte stands for all from there on.
struct Model {
  std::array<std::array<short, bytes>, owners> types;
  Model() {
    for (auto& row : types) row.fill(F_UNLCK);
  }
  bool conflicts(int owner, short type, int start, int end) const {
    for (int other = 0; other < owners; ++other) {
      for (int at = start; other != owner && at <= end; ++at) {
        const short held = types[other][at];
        if (type != F_UNLCK && held != F_UNLCK && (type == F_WRLCK || held == F_WRLCK)) return true;
      }
    }
    return false;
  }
  short union_at(int at) const {
    short strongest = F_UNLCK;
    for (const auto& row : types) {
      if (strength(row[at]) > strength(strongest)) strongest = row[at];
    }
    return strongest;
  }
  // Locks as fcntl(2) would keep them: maximal runs of one type.
  std::vector<HeldLock> held() const {
    std::vector<HeldLock> all;
    for (int owner = 0; owner < owners; ++owner) {
      for (int at = 0; at < bytes; ++at) {
        const short type = types[owner][at];
        if (type == F_UNLCK) continue;
        if (at > 0 && types[owner][at - 1] == type) {
          all.back().end = at;
        } else {
          all.push_back({static_cast<std::uint64_t>(owner), 0, type, at, at});
        }
      }
    }
    return all;
  }
};

off_t to_offset(int at) {
  return at == bytes - 1 ? end_of_file : at;
}
int to_byte(off_t at) {
  return at >= bytes - 1 ? bytes - 1 : static_cast<int>(at);
}

void require_same_locks(const RecordLocks& table, const Model& model) {
  const std::vector<HeldLock> real = table.held(), expected = model.held();
  REQUIRE(real.size() == expected.size());
  for (std::size_t i = 0; i < real.size(); ++i) {
    REQUIRE(real[i].owner == expected[i].owner);
    REQUIRE(real[i].type == expected[i].type);
    REQUIRE(to_byte(real[i].start) == expected[i].start);
    REQUIRE(to_byte(real[i].end) == expected[i].end);
  }
}

}  // namespace

TEST_CASE("record locks behave byte by byte as fcntl says, and changes of the union are exact", "[locks]") {
  const auto seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  RecordLocks table;
  Model model;
  std::array<short, bytes> mirrored;  // the union as the exports hold it: changes applied, nothing else
  mirrored.fill(F_UNLCK);
  for (int turn = 0; turn < 20'000; ++turn) {
    const int owner = static_cast<int>(random() % owners);
    const short type = std::array<short, 4>{F_RDLCK, F_RDLCK, F_WRLCK, F_UNLCK}[random() % 4];
    int start = static_cast<int>(random() % bytes), end = static_cast<int>(random() % bytes);
    if (start > end) std::swap(start, end);
    const bool drop = random() % 50 == 0;
    if (drop) start = 0, end = bytes - 1;
    auto plan = drop ? table.plan_drop(owner) : table.plan(owner, 100 + owner, type, start, to_offset(end));
    require_same_locks(table, model);  // planning changes nothing
    const bool conflicts = !drop && model.conflicts(owner, type, start, end);
    REQUIRE((plan.error() == EAGAIN) == conflicts);
    REQUIRE(table.conflict(owner, drop ? F_UNLCK : type, start, to_offset(end)).has_value() == conflicts);
    if (conflicts) {
      const HeldLock& by = *plan.conflict();
      REQUIRE(by.owner != static_cast<std::uint64_t>(owner));
      REQUIRE(by.pid == 100 + static_cast<int>(by.owner));
      REQUIRE(model.types[by.owner][to_byte(by.start)] == by.type);
      REQUIRE((by.start <= to_offset(end) && start <= by.end));
      continue;
    }
    REQUIRE(plan.error() == 0);
    if (random() % 5 == 0) continue;  // an export refused: nothing happens
    bool weakened = false;
    for (const UnionChange& change : plan.changes()) {
      const bool stronger = strength(change.to) > strength(change.from);
      REQUIRE((!weakened || !stronger));
      weakened = weakened || !stronger;
      for (int at = to_byte(change.start); at <= to_byte(change.end); ++at) {
        REQUIRE(mirrored[at] == change.from);
        mirrored[at] = change.to;
      }
    }
    table.commit(std::move(plan));
    for (int at = start; at <= end; ++at) model.types[owner][at] = drop ? short{F_UNLCK} : type;
    require_same_locks(table, model);
    std::array<short, bytes> together;
    together.fill(F_UNLCK);
    for (const UnionRange& range : table.union_of()) {
      for (int at = to_byte(range.start); at <= to_byte(range.end); ++at) together[at] = range.type;
    }
    for (int at = 0; at < bytes; ++at) {
      REQUIRE(mirrored[at] == model.union_at(at));
      REQUIRE(together[at] == model.union_at(at));
    }
  }
}

TEST_CASE("ranges reach to the end of the file without overflowing", "[locks]") {
  RecordLocks table;
  table.commit(table.plan(1, 1, F_WRLCK, 0, end_of_file));
  table.commit(table.plan(1, 1, F_UNLCK, end_of_file, end_of_file));
  REQUIRE(table.held().size() == 1);
  CHECK(table.held()[0].end == end_of_file - 1);
  table.commit(table.plan(2, 2, F_RDLCK, end_of_file, end_of_file));
  CHECK(table.plan(1, 1, F_WRLCK, end_of_file, end_of_file).error() == EAGAIN);
  CHECK(table.union_of().size() == 2);
  CHECK(table.plan(1, 1, F_RDLCK, -1, 5).error() == EINVAL);
  CHECK(table.plan(1, 1, F_RDLCK, 5, 4).error() == EINVAL);
  CHECK(table.plan(1, 1, 77, 4, 5).error() == EINVAL);
}

TEST_CASE("the lock reported is the first in the file", "[locks]") {
  RecordLocks table;
  table.commit(table.plan(1, 11, F_WRLCK, 50, 60));
  table.commit(table.plan(2, 22, F_RDLCK, 10, 20));
  const auto first = table.conflict(3, F_WRLCK, 0, end_of_file);
  REQUIRE(first);
  CHECK(first->pid == 22);
  CHECK(table.conflict(3, F_RDLCK, 0, end_of_file)->pid == 11);
  CHECK_FALSE(table.conflict(3, F_RDLCK, 0, 49));
}

TEST_CASE("the number of locks is bounded, and giving back is always possible", "[locks]") {
  RecordLocks table;
  for (std::size_t i = 0; i < most_locks_per_file; ++i) {
    auto plan = table.plan(i % 3, 1, F_RDLCK, static_cast<off_t>(10 * i), static_cast<off_t>(10 * i + 4));
    REQUIRE(plan.error() == 0);
    table.commit(std::move(plan));
  }
  CHECK(table.plan(1, 1, F_RDLCK, 5, 5).error() == ENOLCK);
  CHECK(table.plan(0, 1, F_UNLCK, 2, 2).error() == ENOLCK);  // would make two of one
  CHECK(table.plan(0, 1, F_UNLCK, 0, 4).error() == 0);
  CHECK(table.plan(0, 1, F_RDLCK, 0, end_of_file).error() == 0);
  for (const std::uint64_t owner : {0, 1, 2}) table.commit(table.plan_drop(owner));
  CHECK(table.empty());
  CHECK(table.union_of().empty());
}

TEST_CASE("whole-file locks exclude each other, and the union is the strongest", "[locks]") {
  FileLocks table;
  const auto set = [&](std::uint64_t owner, int operation) {
    const auto plan = table.plan(owner, operation);
    if (plan.error() == 0) table.commit(plan);
    return plan;
  };
  auto plan = set(1, LOCK_SH);
  CHECK((plan.from() == LOCK_UN && plan.to() == LOCK_SH));
  plan = set(2, LOCK_SH);
  CHECK((plan.from() == LOCK_SH && plan.to() == LOCK_SH));
  CHECK(set(1, LOCK_EX).error() == EAGAIN);
  CHECK(table.plan(2, LOCK_EX).error() == EAGAIN);  // the refused conversion left owner 1 its lock
  plan = set(2, LOCK_UN);
  CHECK((plan.from() == LOCK_SH && plan.to() == LOCK_SH));
  plan = set(1, LOCK_EX);
  CHECK((plan.from() == LOCK_SH && plan.to() == LOCK_EX));
  CHECK(set(2, LOCK_SH).error() == EAGAIN);
  plan = set(1, LOCK_SH);
  CHECK((plan.from() == LOCK_EX && plan.to() == LOCK_SH));
  plan = set(1, LOCK_UN);
  CHECK((plan.from() == LOCK_SH && plan.to() == LOCK_UN));
  CHECK(table.empty());
  CHECK(set(1, LOCK_SH | LOCK_EX).error() == EINVAL);
  for (std::uint64_t owner = 0; owner < most_locks_per_file; ++owner) REQUIRE(set(owner, LOCK_SH).error() == 0);
  CHECK(set(most_locks_per_file, LOCK_SH).error() == ENOLCK);
  CHECK(set(0, LOCK_SH).error() == 0);
}
