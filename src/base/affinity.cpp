// SPDX-License-Identifier: Apache-2.0
#include "rainfs/base/affinity.hpp"

#include <sched.h>
#include <unistd.h>

namespace rainfs::base {

void follow_process() noexcept {
  cpu_set_t allowed;
  // Larger machines than the set has room for: nothing is done, and nothing was kept anywhere.
  if (::sched_getaffinity(::getpid(), sizeof(allowed), &allowed) == 0)
    ::sched_setaffinity(0, sizeof(allowed), &allowed);
}

}  // namespace rainfs::base
