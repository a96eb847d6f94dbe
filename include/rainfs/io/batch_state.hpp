// SPDX-License-Identifier: Apache-2.0
// What a Batch and the operations it waits for share. Outlives the batch while operations are unfinished.
// Any thread; for engines that wait in a way of their own.
#pragma once

#include <condition_variable>
#include <mutex>

namespace rainfs::io {

struct BatchState {
  std::mutex mutex;
  std::condition_variable all_done;
  unsigned pending = 0;  // guarded by mutex: operations submitted and not completed

  bool complete() {
    const std::lock_guard lock(mutex);
    return pending == 0;
  }
};

}  // namespace rainfs::io
