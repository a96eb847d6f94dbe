// SPDX-License-Identifier: Apache-2.0
// What Linux's FUSE protocol has that the linux/fuse.h of Debian 12 (protocol 7.38) does not: numbers as in Linux
// 6.9 (protocol 7.40) and, for io_uring, 6.14 (7.42); include/uapi/linux/fuse.h. Constants and layouts only.
#pragma once

#include <linux/fuse.h>
#include <sys/ioctl.h>

#include <cstdint>

namespace rainfs::fuse::kernel {

// INIT flags, bits 32 and up travel in flags2.
inline constexpr std::uint64_t direct_io_allow_mmap = std::uint64_t{1} << 36;
inline constexpr std::uint64_t passthrough = std::uint64_t{1} << 37;
inline constexpr std::uint64_t over_io_uring = std::uint64_t{1} << 41;

// fuse_open_out.open_flags
inline constexpr std::uint32_t open_parallel_direct_writes = 1U << 6;
inline constexpr std::uint32_t open_passthrough = 1U << 7;

// fuse_init_out.max_stack_depth: the first word behind flags2, which 7.38 calls unused.
inline constexpr std::uint32_t passthrough_stack_depth = 1;

struct BackingMap {
  std::int32_t fd;
  std::uint32_t flags;
  std::uint64_t padding;
};
inline constexpr unsigned long backing_open = _IOW(FUSE_DEV_IOC_MAGIC, 1, BackingMap);
inline constexpr unsigned long backing_close = _IOW(FUSE_DEV_IOC_MAGIC, 2, std::uint32_t);

// An attribute that no file has. VFS asks the file system for its kind without looking at permissions.
inline constexpr const char* attribute_of_nobody = "security.rainfs.nobody";

// FUSE over io_uring: commands (cmd_op of IORING_OP_URING_CMD), what goes with them in a submission entry of 128 bytes,
// and what lies in the first of the two buffers an entry is registered with (the second one has the payload).
inline constexpr std::uint32_t ring_register = 1;
inline constexpr std::uint32_t ring_commit_and_fetch = 2;

struct RingCommand {
  std::uint64_t flags;
  std::uint64_t commit_id;
  std::uint16_t queue;
  std::uint8_t padding[6];
};

struct RingHeaders {
  unsigned char in_out[128];     // fuse_in_header, or fuse_out_header
  unsigned char operation[128];  // the first argument of the request
  struct {
    std::uint64_t flags;
    std::uint64_t commit_id;
    std::uint32_t payload_size;
    std::uint32_t padding;
    std::uint64_t reserved;
  } entry;
};
static_assert(sizeof(RingCommand) == 24 && sizeof(RingHeaders) == 288);

}  // namespace rainfs::fuse::kernel
