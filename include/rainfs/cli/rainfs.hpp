// SPDX-License-Identifier: Apache-2.0
// The `rainfs` command: mounts an array and serves it, in the background or not. Also what mount(8) calls as
// mount.rainfs and mount.fuse.rainfs. To be called once, by the process's only thread.
#pragma once

#include <functional>
#include <memory>

#include "rainfs/base/result.hpp"
#include "rainfs/config/config.hpp"
#include "rainfs/tree/file_system.hpp"

namespace rainfs::cli {

// All that the command line and the files say about one mount.
struct Setup {
  config::Config config;
  config::NodeConfig node;
  config::MountOptions options;
  std::string mount_point;  // absolute

  config::Coherence coherence() const { return options.coherence.value_or(config.coherence); }
  // How long the kernel may keep attributes, and names.
  base::Duration attribute_timeout() const { return timeout(options.attr_timeout, node.attr_timeout); }
  base::Duration entry_timeout() const { return timeout(options.entry_timeout, node.entry_timeout); }

 private:
  base::Duration timeout(std::optional<base::Duration> given, std::optional<base::Duration> of_node) const {
    const bool strict = coherence() == config::Coherence::strict;
    return given.value_or(of_node.value_or(strict ? base::Duration{} : std::chrono::seconds(1)));
  }
};

// What is served, and what it stands on.
struct Service {
  std::shared_ptr<void> below;  // destroyed after the file system
  std::unique_ptr<tree::FileSystem> file_system;
  std::function<void()> reload;  // SIGHUP
  // Told once, before anything is mounted, how to ask whether requests come over io_uring. May be empty.
  std::function<void(std::function<bool()> over_io_uring)> before_mount;
};

// Opens the array. Called in the process that will serve, after it has gone to the background and before anything
// is mounted: it may start threads and open exports.
using MakeService = std::function<base::Result<Service>(const Setup&)>;

// Exit status of mount(8): 0; 1 for a wrong invocation; 32 if it could not be mounted.
int rainfs_main(int argc, char** argv, const MakeService& make_service);

}  // namespace rainfs::cli
