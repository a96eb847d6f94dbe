// SPDX-License-Identifier: Apache-2.0
// A mutex for what is held for less time than a change of context takes, by many threads: who finds it taken tries
// again for some microseconds before it sleeps (PTHREAD_MUTEX_ADAPTIVE_NP of glibc). Use with std::lock_guard; not for
// condition variables.
#pragma once

#include <pthread.h>

namespace rainfs::base {

class ShortMutex {
 public:
  ShortMutex() noexcept = default;
  ~ShortMutex() { ::pthread_mutex_destroy(&mutex_); }
  ShortMutex(const ShortMutex&) = delete;
  ShortMutex& operator=(const ShortMutex&) = delete;

  void lock() noexcept { ::pthread_mutex_lock(&mutex_); }
  bool try_lock() noexcept { return ::pthread_mutex_trylock(&mutex_) == 0; }
  void unlock() noexcept { ::pthread_mutex_unlock(&mutex_); }

 private:
  pthread_mutex_t mutex_ = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;
};

}  // namespace rainfs::base
