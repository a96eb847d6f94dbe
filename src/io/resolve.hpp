// SPDX-License-Identifier: Apache-2.0
// Paths beneath an export's root, resolved without following any symbolic link. Stateless; any thread.
// Everything returns 0 (or a descriptor) or a negative errno. Paths are bytes and may exceed PATH_MAX; an
// absolute one, one with a ".." component or a NUL byte is a mistake of the caller: EINVAL.
#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <string>

#include "rainfs/base/unique_fd.hpp"

namespace rainfs::io {

// The directory that holds a path's last component, and that component, for the *at system calls.
class Parent {
 public:
  // `path` must stay unchanged while this is used.
  int find(int root, const std::string& path);
  int directory() const { return directory_; }
  const char* leaf() const { return leaf_; }

 private:
  base::UniqueFd owned_;  // empty where the directory is the root itself
  int directory_ = -1;
  const char* leaf_ = nullptr;
};

// open(2) beneath root with O_CLOEXEC and O_NOCTTY. A symbolic link on the way is ENOTDIR; as the last
// component it is ELOOP, or opened itself with O_PATH | O_NOFOLLOW.
int open_beneath(int root, const std::string& path, int flags, mode_t mode);

// The object itself, whatever it is, for metadata that no swapped link can divert.
inline constexpr int itself = O_PATH | O_NOFOLLOW;

}  // namespace rainfs::io
