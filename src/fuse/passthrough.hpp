// SPDX-License-Identifier: Apache-2.0
// Which files the kernel reads and writes directly (FUSE passthrough, Linux 6.9). Any thread may call.
//
// The kernel wants all descriptors of one inode that are open at the same time to be of one kind: all direct, with
// the same backing file, or none; it fails an open that is otherwise with EIO. So the first open decides until
// the last of its kind is closed: while a node is open the ordinary way, later opens are made ordinary too;
// while it is open directly, an open for which the file system offers no descriptor cannot be had (refused).
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "rainfs/tree/file_system.hpp"

namespace rainfs::fuse {

class Passthrough {
 public:
  struct Answer {
    bool refused = false;
    std::int32_t backing_id = 0;  // 0: the ordinary way
  };

  // `device` is /dev/fuse; not owned.
  explicit Passthrough(int device) : device_(device) {}
  // The kernel has agreed to it; before any open.
  void enable() noexcept { agreed_ = true; }
  bool enabled() const noexcept { return agreed_; }

  // `descriptor` is what the file system offers, -1 for nothing. Counted unless refused: closed() takes it back.
  Answer opened(tree::NodeId node, int descriptor);
  void closed(tree::NodeId node, bool passthrough) noexcept;

 private:
  struct Use {
    std::int32_t backing_id = 0;
    unsigned direct = 0;
    unsigned ordinary = 0;
  };
  std::int32_t register_backing(int descriptor);

  const int device_;
  std::atomic<bool> agreed_{false};
  std::mutex mutex_;                            // guards what follows
  bool forbidden_ = false;                      // registering was refused for good
  std::unordered_map<tree::NodeId, Use> uses_;  // of open nodes only
};

}  // namespace rainfs::fuse
