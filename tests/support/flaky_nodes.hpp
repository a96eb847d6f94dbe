// SPDX-License-Identifier: Apache-2.0
// What the kernel knows of a flaky NAS's files: one node per inode, kept as a file handle and not as a
// descriptor or a path, as an NFS server does. So renames of others do not confuse it, hundreds of thousands
// of nodes need no descriptors, and a removed file that somebody has open is still found.
//
// Any thread may call anything. Needs CAP_DAC_READ_SEARCH.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

namespace flaky {

// A descriptor that is closed at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int take();
  // A path that leads to the object itself, even where that is a symbolic link.
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

using NodeId = std::uint64_t;

class Nodes {
 public:
  static constexpr NodeId root_id = 1;

  // Serves the directory `root_fd`. False: errno says why file handles are not to be had there.
  bool start(int root_fd);
  // Opens a node. `flags` as for open(2), O_PATH among them. Invalid: errno says why.
  Descriptor open(NodeId id, int flags) const;
  // Finds a name below a directory and counts one lookup. 0, or the errno.
  int look_up(NodeId parent, const char* name, NodeId& id, struct stat& attributes);
  // Takes lookups back; a node without any is gone.
  void forget(NodeId id, std::uint64_t lookups);
  // The path that rules are matched with, beginning with "/": where the node lies now, or was last seen.
  std::string path(NodeId id) const;
  std::string path(NodeId parent, const char* name) const;

 private:
  struct Node {
    std::string handle;
    std::string last_path;
    std::uint64_t lookups = 0;
  };

  std::string handle_of(NodeId id, std::string* last_path) const;

  int root_fd_ = -1;
  std::string root_path_;
  mutable std::mutex mutex_;
  std::unordered_map<NodeId, Node> nodes_;             // guarded by mutex_
  std::unordered_map<std::string, NodeId> by_handle_;  // guarded by mutex_
  NodeId next_id_ = root_id + 1;                       // guarded by mutex_
};

}  // namespace flaky
