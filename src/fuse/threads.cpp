// SPDX-License-Identifier: Apache-2.0
#include "threads.hpp"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include "rainfs/base/affinity.hpp"
#include "rainfs/io/operation.hpp"

namespace rainfs::fuse {

int wake_signal() noexcept {
  return SIGRTMIN + 5;
}

void stay_on_processor(unsigned number) noexcept {
  if (number >= CPU_SETSIZE) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(number, &one);
  ::sched_setaffinity(0, sizeof(one), &one);
}

void prepare_request_thread(const char* name) noexcept {
  ::pthread_setname_np(::pthread_self(), name);
  base::follow_process();
  io::prepare_thread();
  // A handler that does nothing, without SA_RESTART: read() returns EINTR.
  struct sigaction action {};
  action.sa_handler = [](int) {};
  ::sigaction(wake_signal(), &action, nullptr);
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, wake_signal());
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace rainfs::fuse
