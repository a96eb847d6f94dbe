// SPDX-License-Identifier: Apache-2.0
// The directories that an array's file names, opened and looked at but not changed.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "mounts.hpp"
#include "rainfs/base/unique_fd.hpp"
#include "rainfs/config/config.hpp"
#include "rainfs/config/problems.hpp"
#include "rainfs/nas/identity.hpp"

namespace rainfs::cli {

struct Candidate {
  const config::ExportConfig* config = nullptr;
  bool witness = false;
  std::string path;  // on this node
  base::UniqueFd root;
  struct stat attributes {};
  std::string real_path;  // without symbolic links
  // The same directory as seen from its file system, so that bind mounts are told: device and path in it.
  dev_t device = 0;
  std::string inner_path;
  nas::Inspection inspection;

  std::string title() const { return (witness ? "witness " : "export ") + config->name; }
};

// Opens all exports and witnesses in the file's order (the order of topology::make_topology). What is wrong
// with one, or with two of them together, goes to `problems`; the list is whole only if there are none.
std::vector<Candidate> open_candidates(const config::Config& config, const config::NodeConfig& node,
                                       const std::vector<Mount>& mounts, config::Problems& problems);

// Whether files of users lie there already; they have one replica then, wherever a new file's would lie.
bool holds_files(const Candidate& candidate);

}  // namespace rainfs::cli
