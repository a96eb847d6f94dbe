// SPDX-License-Identifier: Apache-2.0
// The union of all exports' trees, directory by directory, names sorted. One thread; the memory it takes is
// that of the listings of the directories from the root to where it is.
#pragma once

#include <functional>

#include "session.hpp"

namespace rainfs::scrub {

struct Walked {
  std::string path;
  bool directory = false;  // on any export
};

// Calls `take` for everything beneath `top`, and for `top` itself unless it is the root; a directory comes
// before what is in it. Of each directory first all that is no directory, then the directories.
// `begin` (may be empty) is told each directory before its names; false leaves the directory out.
void walk(Session& session, const std::string& top, const std::function<bool(const std::string& directory)>& begin,
          const std::function<void(const Walked&)>& take);

// Where the walks of a run begin, in their order; the root is the empty path.
std::vector<std::string> walked_tops(const Session& session);

// Which shard of a run handles a path.
bool of_this_shard(const Session& session, const std::string& path);

}  // namespace rainfs::scrub
