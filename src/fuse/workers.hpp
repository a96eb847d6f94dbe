// SPDX-License-Identifier: Apache-2.0
// The threads that receive and process a session's requests. As many as there are processors are at work: the kernel
// wakes a thread for each request while one is waiting, so each one too many costs a change of context and cold caches.
// Whoever only waits for an export (base::Waiting), or has not ended its request for some milliseconds, does not count,
// and another takes its place: none that hangs keeps others waiting. Start and stop from one thread.
//
// Requests over io_uring have a pool for each processor's queue. The thread that is there from the start stays on the
// processor, so that a request is answered where it was made; others, for when that one waits, may run anywhere.
//
// Threads share the pool's state, so that one that is stuck in the file system may outlive the pool object.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rainfs/base/result.hpp"
#include "rainfs/base/unique_fd.hpp"
#include "rainfs/fuse/session.hpp"

namespace rainfs::fuse {

struct RingQueue {
  unsigned number;
};

class Workers {
 public:
  // running: 0: by the number of processors.
  Workers(Session& session, unsigned most, unsigned running);
  // Of one processor's queue of requests over io_uring. `most` does not count threads that keep the entry of a request
  // which waits for a lock.
  Workers(Session& session, unsigned most, RingQueue queue);
  ~Workers();

  base::Result<void> start();
  // Readable (an eventfd) once the last thread has ended.
  int ended_descriptor() const noexcept;
  bool ended() const noexcept;
  unsigned count() const noexcept;
  // Interrupts the threads that are receiving; to be repeated until ended(), as one may be about to receive.
  void wake() noexcept;
  // "WRITE of node 17 since 12 s", for each request in work.
  std::vector<std::string> in_work() const;
  // For how long no request could be taken up because all threads there may be were at work, none of them ending: how
  // long ago the last one began. 0 while one is free or may still be started.
  std::chrono::nanoseconds all_busy_for() const noexcept;

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace rainfs::fuse
