// SPDX-License-Identifier: Apache-2.0
// Looking at an array for a command: through a mount of this node, or at its exports directly. Never waits longer
// than the array's deadlines add up to, whatever hangs.
#pragma once

#include <string>
#include <vector>

#include "rainfs/base/result.hpp"
#include "rainfs/status/report.hpp"

namespace rainfs::cli {

// What an operand means. Either may be empty, not both.
struct Target {
  std::string mount_point;
  std::string config_file;  // to look directly, if there is no mount or it does not answer
  std::string title() const { return mount_point.empty() ? config_file : mount_point; }
};

// A mount point of this node, an array's name or a file.
base::Result<Target> find_target(const std::string& operand);
// All that is mounted here, and all that has a file in /etc/rainfs.
base::Result<std::vector<Target>> all_targets();

// A path as the kernel names mounts; without looking at it, as that may hang.
std::string as_mount_point(const std::string& path);

base::Result<status::Report> look(const Target& target);

}  // namespace rainfs::cli
