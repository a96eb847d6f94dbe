// SPDX-License-Identifier: Apache-2.0
// Paths beneath an export's root, resolved without following any symbolic link. Stateless; any thread.
// Everything returns 0 (or a descriptor) or a negative errno. Paths are bytes and may exceed PATH_MAX; an
// absolute one, one with a ".." component or a NUL byte is a mistake of the caller: EINVAL.
#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <cerrno>
#include <string>

#include "rainfs/base/unique_fd.hpp"
#include "rainfs/io/operation.hpp"

namespace rainfs::io {

// A directory and a path from it that follows no link, for the *at system calls.
class Parent {
 public:
  // `path` must stay unchanged while this is used. Of a root with inert links nothing is walked yet.
  int find(const Handle& root, const std::string& path);
  // The directory that holds the path's last component, and that component.
  int find_last(int root, const std::string& path);
  int directory() const { return directory_; }
  const char* leaf() const { return leaf_; }
  // What a call's errno means: an inert link on the way is something that is no directory.
  int told(int error) const { return walks_yet_ && error == ELOOP ? ENOTDIR : error; }

 private:
  base::UniqueFd owned_;  // empty where the directory is the root itself
  int directory_ = -1;
  const char* leaf_ = nullptr;
  bool walks_yet_ = false;
};

// open(2) beneath root with O_CLOEXEC and O_NOCTTY. A symbolic link on the way is ENOTDIR; as the last
// component it is ELOOP, or opened itself with O_PATH | O_NOFOLLOW.
int open_beneath(int root, const std::string& path, int flags, mode_t mode);

// The object itself, whatever it is, for metadata that no swapped link can divert.
inline constexpr int itself = O_PATH | O_NOFOLLOW;

}  // namespace rainfs::io
