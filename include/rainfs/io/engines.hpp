// SPDX-License-Identifier: Apache-2.0
// The engines. One per export and kind: a submitting thread is never shared by exports, because a hung
// export takes all the kernel's workers of the thread that submitted to it.
#pragma once

#include <memory>
#include <string>

#include "rainfs/io/operation.hpp"

namespace rainfs::io {

// Does every operation in the calling thread: for exports on local disk file systems, where it is faster
// than any hand-over and nothing hangs by itself. What takes long (large writes, fsync) on several exports at once is
// done side by side.
std::unique_ptr<Engine> make_direct_engine();

struct EngineOptions {
  std::string name;             // of the export: for thread names
  unsigned threads = 32;        // most operations running at once in threads
  unsigned queue = 1024;        // most operations waiting; more complete with EBUSY
  unsigned ring_entries = 256;  // io_uring submission queue
};

// A bounded pool of threads, started as needed, that ends when idle.
std::unique_ptr<Engine> make_thread_engine(EngineOptions options);

// read, write, fsync, allocate, stat of open files and close by io_uring with IOSQE_ASYNC from a submitting
// thread of its own; what io_uring cannot do by a thread engine. Null where io_uring is disabled.
std::unique_ptr<Engine> make_uring_engine(EngineOptions options);

// The best for exports that may hang: io_uring, else threads.
std::unique_ptr<Engine> make_remote_engine(EngineOptions options);

}  // namespace rainfs::io
