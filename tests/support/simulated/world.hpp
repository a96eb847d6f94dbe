// SPDX-License-Identifier: Apache-2.0
// A world with its own time, in which everything happens in an order that one seed decides.
//
// Owns the virtual clock, the events to come and the activities (fibers of one thread): an activity runs until
// it waits for an operation or for time, then another one does. Never looks at real time and never starts a
// thread, so the same seed gives the same history, instruction for instruction.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "rainfs/base/clock.hpp"
#include "rainfs/io/batch_state.hpp"

namespace rainfs::simulated {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 0xD1B54A32D192ED03ull) {}
  std::uint64_t next() {  // splitmix64
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t bound) { return next() % bound; }
  bool chance(unsigned per_mille) { return below(1000) < per_mille; }
  template <typename List>
  auto& pick(List& list) {
    return list[below(list.size())];
  }

 private:
  std::uint64_t state_;
};

// Thrown out of whatever a node was doing when it is killed: nothing of the node runs any more.
struct Killed {};

class World {
 public:
  explicit World(std::uint64_t seed);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Ends every activity where it stands, as if killed, and drops what was to come.
  void end();

  Random& random() { return random_; }
  std::int64_t now_ns() const { return now_ns_; }
  // Wall clock of the world: nodes and exports may be off it.
  static constexpr std::int64_t epoch_ns = 1'700'000'000'000'000'000;

  // A new activity; it begins when it is next chosen. `alive` is asked whenever it is about to go on.
  // One of a `whole` machine does not go on from where its machine died: what it holds is dropped as it stands, no
  // destructor runs, as when a process is killed. (Others are ended by Killed: then what they hold is released.)
  enum class End : std::uint8_t { unwound, whole };
  void start(std::string name, std::function<bool()> alive, std::function<void()> body, End end = End::unwound);
  void at(std::int64_t time_ns, std::function<void()> event);
  void after(base::Duration delay, std::function<void()> event) { at(now_ns_ + delay.count(), std::move(event)); }

  // For the running activity. All may throw Killed.
  void wait(io::BatchState& state, base::Deadline deadline);
  void sleep(base::Duration duration);
  void sleep_until(const std::function<bool()>& condition, base::Duration step);

  // Runs until nothing is left to do but what lies behind `until_ns`, or until `done` says so.
  void run(std::int64_t until_ns, const std::function<bool()>& done = {});
  // The machine of the running activity is dead: nothing of it happens any more. Does not return.
  [[noreturn]] void die();

  // Threads that the code under test starts and waits for by the C library's functions (threads.cpp): activities of the
  // same machine. Null outside of a running activity.
  static World* current();
  std::uint64_t spawn(std::function<void()> body);
  void join(std::uint64_t activity);
  // Until wake() is called for `key` or the time has come; true if it was woken.
  bool wait_for_wake(const void* key, std::int64_t due_ns);
  void wake(const void* key, bool all);
  // The same for the same activity at the same time: what the machine takes for random.
  std::uint64_t noise() const;

  // What the running activity is at, for whoever accounts for it; a place of nobody's between activities.
  std::uint64_t& task();
  // Lets others than the running activity go first, once, whether it was killed or not; false if none runs.
  static bool yield_current();
  void tell(const std::string& line);  // for the history of a failing run
  const std::vector<std::string>& history() const { return history_; }
  bool keeps_history = false;

 private:
  struct Activity;
  static void enter();
  void leave();
  void switch_away();
  void drop_dead();
  bool runnable(const Activity& activity) const;
  bool run_somebody();
  void resume(Activity& activity);

  Random random_;
  std::int64_t now_ns_ = 0;
  std::multimap<std::int64_t, std::function<void()>> events_;
  std::vector<std::unique_ptr<Activity>> activities_;
  std::vector<void*> free_stacks_;
  Activity* running_ = nullptr;
  std::uint64_t activities_started_ = 0;
  std::uint64_t nobodys_task_ = 0;
  ucontext_t scheduler_{};
  std::vector<std::string> history_;
};

// A node's clock: the world's, off by `skew`.
class NodeClock final : public base::Clock {
 public:
  NodeClock(World& world, base::Duration skew) : world_(world), skew_(skew) {}
  base::TimePoint now() const override { return base::TimePoint(base::Duration(world_.now_ns())); }
  struct timespec realtime() const override;
  void sleep(base::Duration duration) override { world_.sleep(duration); }

 private:
  World& world_;
  base::Duration skew_;
};

}  // namespace rainfs::simulated
