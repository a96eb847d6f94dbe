// SPDX-License-Identifier: Apache-2.0
// One mount in this process's mount namespace: makes it, knows it again, takes it away. Any thread may call the
// const functions. Never waits for the file system behind it, except unmount() while data is written back.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "rainfs/base/result.hpp"
#include "rainfs/base/unique_fd.hpp"
#include "rainfs/fuse/options.hpp"

namespace rainfs::fuse {

inline constexpr const char* mount_type = "fuse.rainfs";

class Mount {
 public:
  // Opens /dev/fuse and mounts; `device` is where requests come from. Requests come from then on.
  static base::Result<Mount> make(const Options& options, base::UniqueFd& device);
  // The RainFS mount that is on top at a mount point, whosever it is.
  static std::optional<Mount> at(const std::string& mount_point);

  // True while it is on top at its mount point.
  bool present() const noexcept;
  // umount(2); EBUSY while files are open.
  base::Result<void> unmount() const noexcept;
  // Takes it out of the tree at once; it lives on until its last file is closed.
  base::Result<void> detach() const noexcept;
  // Takes it out of the tree and ends the connection. Where it is out of the tree already, the connection is ended if
  // /sys/fs/fuse/connections is mounted.
  void end() const noexcept;
  void raise_read_ahead(unsigned kib) const noexcept;

 private:
  Mount(std::string mount_point, dev_t device);
  std::string mount_point_;
  dev_t device_;  // st_dev of what is mounted: another's, once this one is gone
  // What ends the connection when "1" is written to it. Opened while the mount was there, it stays this connection's:
  // once that is gone, nothing happens. It holds neither.
  std::shared_ptr<const base::UniqueFd> abort_;
};

}  // namespace rainfs::fuse
