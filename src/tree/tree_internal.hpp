// SPDX-License-Identifier: Apache-2.0
// Shared by the tree's source files only.
#pragma once

#include <set>

#include "rainfs/base/paths.hpp"
#include "rainfs/tree/tree.hpp"

namespace rainfs::tree {

struct Tree::OpenTreeFile final : OpenFile {
  NodeId node = 0;
  OpenStatePtr open;
  FilePtr file;
  int flags = 0;
  io::CredentialsPtr credentials;       // of who opened it
  bool cached = false;                  // counted in open->cached_opens
  bool passthrough = false;             // counted in open->passthrough_opens
  std::set<std::uint64_t> lock_owners;  // that locked through it; guarded by open->mutex
};

struct Tree::OpenTreeDirectory final : OpenDirectory {
  struct Listed {
    std::string name;
    std::uint64_t inode;
    std::uint8_t type;
  };
  NodeId node = 0;
  std::mutex mutex;  // guards what follows: several threads may read one open directory
  bool filled = false;
  std::vector<Listed> entries;
};

// While it lives names in a directory are being changed, or the directory is: on any export, unless one says where.
class DirectoryChange {
 public:
  DirectoryChange(NodeTable& nodes, NodeId directory) : nodes_(nodes), directory_(directory) {}
  ~DirectoryChange() { nodes_.directory_changed(directory_, where_); }
  DirectoryChange(const DirectoryChange&) = delete;
  DirectoryChange& operator=(const DirectoryChange&) = delete;
  void only(ExportSet where) { where_ = where; }

 private:
  NodeTable& nodes_;
  const NodeId directory_;
  ExportSet where_ = any_export;
};

inline io::OperationPtr make_operation(io::Kind kind, const std::string& path, const Caller* caller = nullptr) {
  auto operation = io::new_operation(kind, path);
  if (caller != nullptr) operation->credentials = caller->credentials;
  return operation;
}

// st_ino of a directory: of its path, the same on every node and whichever export answers.
std::uint64_t directory_inode(std::string_view path);
// st_ino of a file: of one of its replicas.
std::uint64_t file_inode(ExportIndex index, std::uint64_t inode);
Identity identity_of(ExportIndex index, const struct statx& stat);
struct stat to_stat(const struct statx& stat, std::uint64_t inode);
inline bool is_private(NodeId parent, std::string_view name) {
  return parent == root_node && name == nas::private_directory;
}
// Names an NFS client gives to files that are removed while they are open.
bool is_silly_name(std::string_view name);

// What an operation that no export did is answered with.
int first_refusal(const nas::Answers& answers);

}  // namespace rainfs::tree
