// SPDX-License-Identifier: Apache-2.0
// How one mount is to be made and served. Immutable once a server has it.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "rainfs/base/result.hpp"

namespace rainfs::fuse {

struct Options {
  std::string source;             // the array's name: what df and mount(8) show
  std::string mount_point;        // absolute, see resolve_mount_point()
  unsigned long mount_flags = 0;  // MS_RDONLY, MS_NODEV, ... of mount(2)
  bool allow_other = true;        // users other than the one who mounts

  double entry_timeout_s = 1.0;      // how long the kernel believes a name
  double attribute_timeout_s = 1.0;  // and attributes
  double negative_timeout_s = 0.0;   // and that a name does not exist
  unsigned read_ahead_kib = 2048;    // 0: the kernel's default; rounded to whole requests
  bool readdirplus = true;           // listings may carry attributes
  bool passthrough = true;           // use the kernel's direct way where the file system offers a descriptor

  bool over_io_uring = false;  // where the kernel offers it, requests come by io_uring, not by the device

  unsigned most_threads = 128;       // requests handled at once
  unsigned running_threads = 0;      // of them at work, not waiting for an export; 0: one per processor, at least two
  unsigned most_lock_waiters = 256;  // locks waited for at once; more are refused with ENOLCK
  // When every thread has been at one request for so long, none of them is expected to end: the service manager is told
  // no more that all is well. Longer than any request takes that exports are slow about.
  std::chrono::milliseconds stuck_after{std::chrono::minutes(20)};
  std::chrono::milliseconds busy_grace{5000};   // at a stop: how long open files may keep the mount alive
  std::chrono::milliseconds exit_grace{10000};  // at a stop: how long requests may take to end
};

// The largest read and write the kernel is asked to send at once.
inline constexpr std::size_t largest_transfer = std::size_t{1} << 20;

// mount(2)'s flags for the words config::MountOptions keeps for the kernel ("nodev", "noatime", ...).
base::Result<unsigned long> kernel_flags(const std::vector<std::string>& words);

}  // namespace rainfs::fuse
