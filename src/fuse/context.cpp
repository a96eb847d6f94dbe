// SPDX-License-Identifier: Apache-2.0
#include "context.hpp"

#include "kernel.hpp"

namespace rainfs::fuse {

thread_local Context* Context::current = nullptr;

namespace {

template <typename Body>
const Body* body_of(const fuse_in_header* header, std::size_t length) {
  if (length < sizeof(*header) + sizeof(Body)) return nullptr;
  return reinterpret_cast<const Body*>(header + 1);
}

}  // namespace

bool inspect(void* request, std::size_t length, Context& context) {
  if (length < sizeof(fuse_in_header)) return false;
  auto* header = static_cast<fuse_in_header*>(request);
  if (header->len != length) return false;
  context.opcode = header->opcode;
  context.unique = header->unique;
  switch (header->opcode) {
    case FUSE_WRITE:
      if (const auto* body = body_of<fuse_write_in>(header, length)) {
        context.kill_privileges = (body->write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
        // libfuse trusts the size: it must not lead it past what was received.
        return body->size <= length - sizeof(*header) - sizeof(*body);
      }
      return false;
    case FUSE_BATCH_FORGET:
      if (const auto* body = body_of<fuse_batch_forget_in>(header, length)) {
        return body->count <= (length - sizeof(*header) - sizeof(*body)) / sizeof(fuse_forget_one);
      }
      return false;
    case FUSE_OPEN:
      if (const auto* body = body_of<fuse_open_in>(header, length)) {
        context.kill_privileges = (body->open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
      }
      return true;
    case FUSE_SETATTR:
      if (const auto* body = body_of<fuse_setattr_in>(header, length)) {
        context.kill_privileges = (body->valid & FATTR_KILL_SUIDGID) != 0;
      }
      return true;
    case FUSE_TMPFILE:
      context.unnamed = true;
      header->opcode = FUSE_CREATE;
      [[fallthrough]];
    case FUSE_CREATE:
      if (const auto* body = body_of<fuse_create_in>(header, length)) {
        context.kill_privileges = (body->open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
      }
      return true;
    default:
      return true;
  }
}

}  // namespace rainfs::fuse
