// SPDX-License-Identifier: Apache-2.0
// The mounts of this process's namespace, from /proc/self/mountinfo (proc(5)). Values; any thread.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "rainfs/base/result.hpp"

namespace rainfs::cli {

struct Mount {
  dev_t device = 0;
  std::string root;    // the directory of the file system that is mounted here
  std::string point;   // where
  std::string type;    // ext4, nfs4, fuse.rainfs
  std::string source;  // /dev/sda1, server:/path; of RainFS the array's name
  bool is_rainfs() const { return type == "fuse.rainfs" || type == "rainfs"; }
};

std::vector<Mount> parse_mounts(std::string_view mountinfo);
base::Result<std::vector<Mount>> read_mounts();

// The mount that a path without symbolic links lies in: the last mounted of those with the longest point.
// Null only where the list is empty.
const Mount* mount_of(const std::vector<Mount>& mounts, std::string_view real_path);

// Whether `path` is `directory` or lies beneath it; both absolute, without symbolic links.
bool is_beneath(std::string_view path, std::string_view directory);

}  // namespace rainfs::cli
