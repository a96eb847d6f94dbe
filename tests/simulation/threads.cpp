// SPDX-License-Identifier: Apache-2.0
// What the product's code takes from the C library that must be the simulated world's while one of its activities
// runs: threads and waiting for them, condition variables, clocks, random numbers. A mutex that another activity
// holds must not stop the one thread all of them share: whoever finds it taken lets the others go on first.
// Replaces the C library's functions in this program; outside of an activity they do what they always do, as far as
// this program needs it.
#include <pthread.h>
#include <sched.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "simulated/world.hpp"

namespace {

using rainfs::simulated::World;

constexpr std::int64_t second_ns = 1'000'000'000;

std::int64_t to_ns(const struct timespec& time) {
  return time.tv_sec * second_ns + time.tv_nsec;
}

int wait_on(pthread_cond_t* condition, pthread_mutex_t* mutex, std::int64_t due_ns) {
  World* world = World::current();
  if (world == nullptr) std::abort();  // nobody could wake it
  ::pthread_mutex_unlock(mutex);
  const bool woken = world->wait_for_wake(condition, due_ns);
  ::pthread_mutex_lock(mutex);
  return woken ? 0 : ETIMEDOUT;
}

int wake(pthread_cond_t* condition, bool all) {
  if (World* world = World::current()) world->wake(condition, all);
  return 0;
}

}  // namespace

extern "C" {

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  while (true) {
    const int error = ::pthread_mutex_trylock(mutex);
    if (error != EBUSY) return error;
    if (!World::yield_current()) ::sched_yield();
  }
}

int pthread_create(pthread_t* thread, const pthread_attr_t*, void* (*routine)(void*), void* argument) noexcept {
  World* world = World::current();
  if (world == nullptr) return EAGAIN;
  *thread = world->spawn([routine, argument] { routine(argument); });
  return 0;
}

// Not noexcept: what waits may be told that its machine is dead.
int pthread_join(pthread_t thread, void**) {
  if (World* world = World::current()) world->join(thread);
  return 0;
}

int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  return wait_on(condition, mutex, std::numeric_limits<std::int64_t>::max());
}

int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           const struct timespec* due) {
  return wait_on(condition, mutex, to_ns(*due) - (clock == CLOCK_REALTIME ? World::epoch_ns : 0));
}

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex, const struct timespec* due) {
  return pthread_cond_clockwait(condition, mutex, CLOCK_REALTIME, due);
}

int pthread_cond_signal(pthread_cond_t* condition) noexcept {
  return wake(condition, false);
}
int pthread_cond_broadcast(pthread_cond_t* condition) noexcept {
  return wake(condition, true);
}

int clock_gettime(clockid_t clock, struct timespec* out) noexcept {
  const World* world = World::current();
  if (world == nullptr) return static_cast<int>(::syscall(SYS_clock_gettime, clock, out));
  const std::int64_t ns = world->now_ns() + (clock == CLOCK_REALTIME ? World::epoch_ns : 0);
  *out = {static_cast<time_t>(ns / second_ns), static_cast<long>(ns % second_ns)};
  return 0;
}

ssize_t getrandom(void* bytes, std::size_t size, unsigned flags) {
  const World* world = World::current();
  if (world == nullptr) return ::syscall(SYS_getrandom, bytes, size, flags);
  rainfs::simulated::Random random(world->noise());
  for (std::size_t at = 0; at < size; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = random.next();
    std::memcpy(static_cast<char*>(bytes) + at, &word, std::min(sizeof word, size - at));
  }
  return static_cast<ssize_t>(size);
}

}  // extern "C"
