// SPDX-License-Identifier: Apache-2.0
// A mutex that another activity holds must not stop the one thread all of them share: whoever finds it taken
// lets the others go on first. Replaces the C library's function in this program.
#include <pthread.h>
#include <sched.h>

#include <cerrno>

#include "simulated/world.hpp"

extern "C" int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  while (true) {
    const int error = ::pthread_mutex_trylock(mutex);
    if (error != EBUSY) return error;
    if (!rainfs::simulated::World::yield_current()) ::sched_yield();
  }
}
