// SPDX-License-Identifier: Apache-2.0
// A small process that watches over the one that serves, for a service manager. A process with an operation stuck on a
// hung NAS cannot end, not even by SIGKILL, and keeps its mount hanging meanwhile; this one holds nothing on any
// export, so that it can always end the mount, and itself. To be used while the process has one thread.
#pragma once

#include <functional>
#include <string>

namespace rainfs::cli {

// Forks. The child runs `serve`, which calls the function it is given when it has mounted, and its result is what the
// child ends with. The parent passes signals on, ends the mount at `mount_point` if the child cannot, and returns the
// status to end with: the child's, or `failure` if that was killed or had to be left behind.
int supervise(const std::string& mount_point, int failure,
              const std::function<int(const std::function<void()>& mounted)>& serve);

}  // namespace rainfs::cli
