// SPDX-License-Identifier: Apache-2.0
// What is known of the request the calling thread processes beyond what libfuse 3.14 hands to its callbacks, and
// what is to be put into its reply beyond what libfuse lets one say. One per thread and request; a callback that
// leaves its reply to another thread must copy what it needs.
#pragma once

#include <cstdint>
#include <memory>

#include "rainfs/base/buffer.hpp"
#include "rainfs/fuse/session.hpp"

namespace rainfs::fuse {

struct Context {
  std::uint32_t opcode = 0;
  std::uint64_t unique = 0;
  bool kill_privileges = false;  // the kernel leaves it to us to clear setuid and setgid
  bool unnamed = false;          // a CREATE that came as TMPFILE
  Worker* worker = nullptr;
  RingEntry* ring_entry = nullptr;        // that the request came by; null: the device
  bool handed_over = false;               // another thread replies
  std::shared_ptr<base::Buffer> request;  // where the request lies

  // For the reply.
  std::uint32_t open_flags = 0;
  std::int32_t backing_id = 0;

  static thread_local Context* current;
};

// Reads what libfuse hides from the request in memory and makes an ordinary CREATE of a TMPFILE. False if it is
// no request at all.
bool inspect(void* request, std::size_t length, Context& context);

}  // namespace rainfs::fuse
