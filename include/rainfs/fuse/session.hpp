// SPDX-License-Identifier: Apache-2.0
// One FUSE connection: takes the kernel's requests from a descriptor, has a tree::FileSystem do them, replies.
//
// Owns the descriptor, libfuse's session and every file and directory the kernel holds open. receive() and
// process() may be called by any number of threads, each with a Worker of its own. Never mounts, starts no
// thread but those that wait for locks, decides nothing about files: that is the file system's.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "rainfs/base/buffer.hpp"
#include "rainfs/base/result.hpp"
#include "rainfs/base/unique_fd.hpp"
#include "rainfs/fuse/options.hpp"
#include "rainfs/tree/file_system.hpp"

namespace rainfs::fuse {

class ReplyPipe;
class RingEntry;

// What one thread needs to receive and process requests. The buffers are given away to I/O that outlives a
// request: a buffer somebody else still holds is left to them and replaced.
class Worker {
 public:
  // Memory for a reply of up to `size` bytes that nobody else holds.
  const std::shared_ptr<base::Buffer>& reply_buffer(std::size_t size);
  // Null where there can be none. What goes wrong with it is mended by dropping it.
  ReplyPipe* reply_pipe();
  void drop_reply_pipe() noexcept;
  // Where its requests come from, if not from the device; null otherwise. Belongs to the worker's thread.
  RingEntry* ring_entry() const noexcept { return ring_entry_.get(); }
  Worker();
  ~Worker();
  Worker(Worker&&) noexcept;

 private:
  friend class Session;
  std::shared_ptr<base::Buffer> request_;
  std::shared_ptr<base::Buffer> reply_;
  std::unique_ptr<ReplyPipe> pipe_;
  std::unique_ptr<RingEntry> ring_entry_;
  bool no_pipe_ = false;
  std::size_t length_ = 0;  // of the request received
};

// What a worker is doing, readable by others: for the account of what is left when a stop takes too long.
struct Activity {
  std::atomic<std::uint32_t> opcode{0};  // 0: nothing
  std::atomic<std::uint64_t> node{0};
  std::atomic<std::int64_t> since_ns{0};  // steady clock
};

enum class Received {
  request,  // process() is due
  forget,   // the same, but it takes no time
  nothing,  // a signal, or a request that was taken back
  refused,  // the worker's ring entry is of no use any more; others are
  ended,    // unmounted, aborted or broken: no request will come any more
};

class Session {
 public:
  static base::Result<std::unique_ptr<Session>> create(tree::FileSystem& file_system, const Options& options,
                                                       base::UniqueFd device);
  // Gives up waits for locks. No thread may be in receive() or process().
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Received receive(Worker& worker);
  // A ring entry that has no reply afterwards gets it from another thread (a lock is waited for): it must be waited for
  // before the worker receives again.
  void process(Worker& worker, Activity* activity = nullptr) noexcept;

  // True once the kernel and the session have agreed on the protocol.
  bool initialised() const noexcept;
  // They have agreed on FUSE over io_uring: the kernel holds all requests back until each queue has an entry.
  bool over_io_uring() const noexcept;
  // Has the worker's requests come from a queue of it. By the worker's thread, once.
  base::Result<void> make_ring_entry(Worker& worker, unsigned queue) const;
  const std::string& mount_point() const noexcept;
  // Makes the kernel go on with the device alone, as an entry cannot be made.
  void give_up_io_uring() noexcept;
  // Ends the connection at once: waiters get ECONNABORTED, later replies go nowhere. Threads that are in
  // receive() must be woken by a signal.
  void abort() noexcept;
  // Makes threads that wait for locks give up; returns whether none was left after `bound`.
  bool end_lock_waits(std::chrono::milliseconds bound) noexcept;
  // Releases, and so commits, what the kernel left open. Only after all workers have ended.
  void release_open_files() noexcept;
  unsigned open_files() const noexcept;

  class Impl;

 private:
  explicit Session(std::unique_ptr<Impl> impl);
  void refuse(const void* request, std::size_t length, RingEntry* entry) noexcept;
  Received receive_from_ring(Worker& worker, std::byte* start) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rainfs::fuse
