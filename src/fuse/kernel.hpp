// SPDX-License-Identifier: Apache-2.0
// What Linux's FUSE protocol has that the linux/fuse.h of Debian 12 (protocol 7.38) does not: numbers as in Linux
// 6.9 (protocol 7.40, include/uapi/linux/fuse.h). Constants only.
#pragma once

#include <linux/fuse.h>
#include <sys/ioctl.h>

#include <cstdint>

namespace rainfs::fuse::kernel {

// INIT flags, bits 32 and up travel in flags2.
inline constexpr std::uint64_t direct_io_allow_mmap = std::uint64_t{1} << 36;
inline constexpr std::uint64_t passthrough = std::uint64_t{1} << 37;

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

}  // namespace rainfs::fuse::kernel
