// SPDX-License-Identifier: Apache-2.0
// One place for a request of FUSE over io_uring (Linux 6.14 and later, Documentation/filesystems/fuse-io-uring.rst):
// the kernel has a queue per processor, hands what is asked on a processor to an entry of its queue, and takes the
// reply and gives the next request in one call. There is one entry for each thread, as the kernel copies a request in
// when the thread that owns the entry asks for it: none may be given to a thread that is at work on another.
//
// One thread makes, uses and destroys an entry; put() may be called by any, once for each request.
#pragma once

#include <liburing.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <memory>

#include "kernel.hpp"
#include "rainfs/base/buffer.hpp"
#include "rainfs/base/result.hpp"

namespace rainfs::fuse {

class RingEntry {
 public:
  static constexpr unsigned no_queue = 0xffff;
  // The queues there are: one for each processor the machine may ever have.
  static unsigned queues();
  // Whether this process may have a ring at all: io_uring may be turned off or limited.
  static base::Result<void> probe();

  // Registers one: from now on the kernel may give it a request.
  static base::Result<std::unique_ptr<RingEntry>> make(int device, unsigned queue);
  // What is in work is given up: its caller gets ECONNABORTED once the connection ends.
  ~RingEntry();
  RingEntry(const RingEntry&) = delete;
  RingEntry& operator=(const RingEntry&) = delete;

  // Gives back the reply that was put, if any, and waits for a request, which is written to `request` as read(2) of the
  // device would. Returns its length, 0 for a signal, or the negative errno with which the entry came to its end.
  int receive(std::byte* request, std::size_t room) noexcept;
  // The reply to it; as writev(2) of the device.
  ssize_t put(const iovec* parts, int count) noexcept;
  bool replied() const noexcept { return replied_.load(std::memory_order_acquire); }
  // Until another thread has put the reply.
  void wait_for_reply() const noexcept;
  // Where a reply's payload goes in the end: who writes it there himself saves a copy. Only for what is complete when
  // it is put: the next request comes to the same place.
  base::Buffer& reply_room() noexcept { return *payload_; }

 private:
  RingEntry(int device, unsigned queue) : device_(device), queue_(queue) {}
  void submit(std::uint32_t operation) noexcept;
  int flatten(std::byte* request, std::size_t room) noexcept;

  const int device_;
  const unsigned queue_;
  io_uring ring_{};
  bool has_ring_ = false;
  std::atomic<bool> replied_{false};
  kernel::RingHeaders headers_{};
  std::shared_ptr<base::Buffer> payload_;
  iovec parts_[2]{};
};

}  // namespace rainfs::fuse
