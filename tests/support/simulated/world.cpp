// SPDX-License-Identifier: Apache-2.0
#include "world.hpp"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <limits>

namespace rainfs::simulated {

namespace {
constexpr std::size_t stack_bytes = 256 * 1024;
constexpr std::size_t guard_bytes = 4096;
constexpr std::int64_t lock_retry_ns = 20'000;
constexpr std::int64_t join_retry_ns = 1'000'000'000;

void* new_stack() {
  void* stack =
      ::mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (stack == MAP_FAILED) std::abort();
  ::mprotect(stack, guard_bytes, PROT_NONE);
  return stack;
}

World* entering = nullptr;  // whose activity runs: makecontext hands over no pointers
}  // namespace

struct World::Activity {
  std::string name;
  std::function<bool()> alive;
  std::function<void()> body;
  ucontext_t context{};
  void* stack = nullptr;
  io::BatchState* awaited = nullptr;
  std::int64_t due_ns = 0;  // of the wait or sleep
  std::uint64_t task = 0;
  std::uint64_t number = 0;
  End end = End::unwound;
  const void* awaited_key = nullptr;  // of wake()
  bool woken = false;
  bool finished = false;
};

World::World(std::uint64_t seed) : random_(seed) {}

World::~World() {
  end();
  for (void* stack : free_stacks_) ::munmap(stack, stack_bytes);
}

void World::end() {
  // Whoever still runs is let go: its destructors run now.
  for (bool some = true; some;) {
    some = false;
    for (std::size_t i = 0; i < activities_.size(); ++i) {
      if (activities_[i]->finished) continue;
      activities_[i]->alive = [] { return false; };
      if (activities_[i]->end == End::whole) continue;
      resume(*activities_[i]);
      some = true;
      break;
    }
    std::erase_if(activities_, [](const auto& activity) { return activity->finished; });
  }
  drop_dead();
  events_.clear();
}

void World::start(std::string name, std::function<bool()> alive, std::function<void()> body, End end) {
  auto activity = std::make_unique<Activity>();
  activity->number = ++activities_started_;
  activity->end = end;
  activity->name = std::move(name);
  activity->alive = std::move(alive);
  activity->body = std::move(body);
  if (free_stacks_.empty()) free_stacks_.push_back(new_stack());
  activity->stack = free_stacks_.back();
  free_stacks_.pop_back();
  ::getcontext(&activity->context);
  activity->context.uc_stack.ss_sp = static_cast<char*>(activity->stack) + guard_bytes;
  activity->context.uc_stack.ss_size = stack_bytes - guard_bytes;
  activity->context.uc_link = nullptr;
  ::makecontext(&activity->context, &World::enter, 0);
  activity->due_ns = now_ns_;
  activities_.push_back(std::move(activity));
}

void World::enter() {
  World& world = *entering;
  Activity& self = *world.running_;
  try {
    if (self.alive()) self.body();
  } catch (const Killed&) {
  } catch (const std::exception& error) {
    fmt::print(stderr, "an exception ended activity {}: {}\n", self.name, error.what());
    std::abort();
  }
  self.body = nullptr;
  self.finished = true;
  world.wake(&world.activities_, true);
  ::swapcontext(&self.context, &world.scheduler_);
  std::abort();  // nobody resumes what has finished
}

void World::resume(Activity& activity) {
  running_ = &activity;
  entering = this;
  ::swapcontext(&scheduler_, &activity.context);
  running_ = nullptr;
  entering = nullptr;
  if (activity.finished && activity.stack != nullptr) {
    free_stacks_.push_back(activity.stack);
    activity.stack = nullptr;
  }
}

void World::switch_away() {
  Activity& self = *running_;
  ::swapcontext(&self.context, &scheduler_);
  self.awaited = nullptr;
}

void World::leave() {
  switch_away();
  if (!running_->alive()) die();
}

void World::die() {
  if (running_->end == End::unwound) throw Killed{};
  running_->finished = true;
  switch_away();
  std::abort();
}

void World::drop_dead() {
  for (const auto& activity : activities_) {
    if (activity->finished || activity->end == End::unwound || activity->alive()) continue;
    activity->finished = true;
    free_stacks_.push_back(activity->stack);
    activity->stack = nullptr;
  }
  std::erase_if(activities_, [](const auto& activity) { return activity->finished; });
}

World* World::current() {
  return entering;
}

std::uint64_t World::spawn(std::function<void()> body) {
  start(running_->name + " thread", running_->alive, std::move(body), running_->end);
  activities_.back()->task = running_->task;
  return activities_.back()->number;
}

void World::join(std::uint64_t number) {
  const auto over = [&] {
    return std::none_of(activities_.begin(), activities_.end(),
                        [&](const auto& a) { return a->number == number && !a->finished; });
  };
  while (!over()) wait_for_wake(&activities_, now_ns_ + join_retry_ns);
}

bool World::wait_for_wake(const void* key, std::int64_t due_ns) {
  Activity& self = *running_;
  self.awaited_key = key;
  self.woken = false;
  self.due_ns = due_ns;
  leave();
  self.awaited_key = nullptr;
  return self.woken;
}

void World::wake(const void* key, bool all) {
  for (const auto& activity : activities_) {
    if (activity->finished || activity->awaited_key != key || activity->woken) continue;
    activity->woken = true;
    activity->due_ns = now_ns_;
    if (!all) return;
  }
}

std::uint64_t World::noise() const {
  return Random(running_->number * 0x2545F4914F6CDD1Dull ^ static_cast<std::uint64_t>(now_ns_)).next();
}

std::uint64_t& World::task() {
  return running_ != nullptr ? running_->task : nobodys_task_;
}

bool World::yield_current() {
  if (entering == nullptr || entering->running_ == nullptr) return false;
  entering->running_->due_ns = entering->now_ns_ + lock_retry_ns;
  entering->switch_away();
  return true;
}

void World::wait(io::BatchState& state, base::Deadline deadline) {
  if (state.complete()) return;
  running_->awaited = &state;
  running_->due_ns = deadline.at().time_since_epoch().count();
  leave();
}

void World::sleep(base::Duration duration) {
  running_->due_ns = now_ns_ + duration.count();
  leave();
}

void World::sleep_until(const std::function<bool()>& condition, base::Duration step) {
  while (!condition()) sleep(step);
}

bool World::runnable(const Activity& activity) const {
  return activity.due_ns <= now_ns_ || !activity.alive() ||
         (activity.awaited != nullptr && activity.awaited->complete());
}

bool World::run_somebody() {
  drop_dead();
  std::vector<Activity*> ready;
  for (const auto& activity : activities_) {
    if (runnable(*activity)) ready.push_back(activity.get());
  }
  if (ready.empty()) return false;
  resume(*random_.pick(ready));
  std::erase_if(activities_, [](const auto& activity) { return activity->finished; });
  return true;
}

void World::at(std::int64_t time_ns, std::function<void()> event) {
  events_.emplace(std::max(time_ns, now_ns_), std::move(event));
}

void World::run(std::int64_t until_ns, const std::function<bool()>& done) {
  while (!done || !done()) {
    if (run_somebody()) continue;
    std::int64_t next = std::numeric_limits<std::int64_t>::max();
    for (const auto& activity : activities_) next = std::min(next, activity->due_ns);
    const bool event = !events_.empty() && events_.begin()->first <= next;
    if (event) next = events_.begin()->first;
    if (next > until_ns) {
      now_ns_ = std::max(now_ns_, until_ns);
      return;
    }
    now_ns_ = std::max(now_ns_, next);
    if (!event) continue;
    const auto happening = std::move(events_.begin()->second);
    events_.erase(events_.begin());
    happening();
  }
}

void World::tell(const std::string& line) {
  if (keeps_history) history_.push_back(fmt::format("{:>12.6f}  {}", static_cast<double>(now_ns_) / 1e9, line));
}

struct timespec NodeClock::realtime() const {
  const std::int64_t ns = World::epoch_ns + world_.now_ns() + skew_.count();
  return {static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
}

}  // namespace rainfs::simulated
