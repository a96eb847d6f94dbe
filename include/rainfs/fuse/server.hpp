// SPDX-License-Identifier: Apache-2.0
// A mounted file system: the mount, its session and the threads that serve it.
//
// One thread creates, mounts and serves; any thread (and signals) may stop. What must be done before any other
// thread exists is in the free functions. Never forks after that, never touches an export.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "rainfs/base/result.hpp"
#include "rainfs/fuse/options.hpp"
#include "rainfs/tree/file_system.hpp"

namespace rainfs::fuse {

// The absolute path of a mount point without following a mount on it, so that a dead mount does not hinder.
base::Result<std::string> resolve_mount_point(const std::string& path);

// Makes a mount point ready: takes a dead RainFS mount (its daemon was killed) away with a log line; refuses
// what is no directory and what has a living RainFS mount already. Forks a child to probe, as the mount may
// hang: to be called while the process has one thread and nothing on exports open.
base::Result<void> clear_mount_point(const std::string& mount_point);

// Changes the flags of an existing mount (mount -o remount,ro).
base::Result<void> remount(const std::string& mount_point, unsigned long mount_flags);

// What ends the RainFS mount that is at a mount point now, whatever its daemon does: who waits for it is let go, and
// where it is still mounted it is taken away. Empty if there is none. It knows the mount itself, not its number, which
// the kernel gives to the next file system as soon as this one is gone: called then, it does nothing. Neither touches
// the mounted file system. Any thread.
std::function<void()> end_of_mount(const std::string& mount_point);

// Blocks the signals that serve() takes; to be called before any thread is started.
void block_signals();

enum class Ended {
  clean,       // unmounted; every request was answered and every file released
  unfinished,  // requests are still stuck in the file system: the process can only _exit
};

class Server {
 public:
  static base::Result<std::unique_ptr<Server>> create(tree::FileSystem& file_system, Options options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Mounts and starts serving; returns when the kernel has been answered, so that the mount can be used.
  base::Result<void> mount();
  // Serves until the mount is gone (umount, abort), SIGTERM, SIGINT or stop(). SIGHUP calls `on_hangup`.
  // Tells the service manager that it stops, and feeds its watchdog.
  Ended serve(const std::function<void()>& on_hangup);
  // Whether requests come by FUSE over io_uring; of a mounted server. Any thread, without waiting.
  bool over_io_uring() const noexcept;
  // Asks serve() to unmount and return. Any thread.
  void stop() noexcept;

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rainfs::fuse
