// SPDX-License-Identifier: Apache-2.0
// What the kernel knows of the files of a loopback file system: nodes, the names that each was found by, and how often
// it was looked up. Any thread may call.
#pragma once

#include <map>
#include <mutex>
#include <unordered_map>

#include "rainfs/io/engines.hpp"
#include "rainfs/tree/file_system.hpp"

namespace rainfs::test {

class LoopbackNodes {
 public:
  using Identity = std::pair<std::uint64_t, std::uint64_t>;  // device, inode

  // How to reach a node: by one of its names, or without any by what is open of it, if anything is.
  struct Place {
    std::optional<std::string> path;  // beneath the root
    io::HandlePtr open;
  };

  void begin(const Identity& root);
  std::optional<Place> place_of(tree::NodeId node) const;  // nothing: it is not known
  // The path of a name in a directory; nothing where the directory is not known, or has no name.
  std::optional<std::string> path_in(tree::NodeId parent, std::string_view name) const;

  // Counts a lookup of what has this identity, and that name unless it has none.
  tree::NodeId count(const Identity& identity, const std::optional<std::string>& path, const io::HandlePtr& open);
  void forget(tree::NodeId node, std::uint64_t count);
  void opened(tree::NodeId node, const io::HandlePtr& handle);
  void removed(const std::string& path);
  void renamed(const std::string& from, const std::string& to);  // and what lies beneath it

  // Sum of the lookup counts of all nodes but the root's.
  std::uint64_t lookup_count() const;
  std::uint64_t lookup_count(tree::NodeId node) const;

 private:
  struct Node {
    std::vector<std::string> paths;  // beneath the root: the names it was found by; none: `open` has to do
    std::uint64_t lookups = 0;
    Identity identity;
    std::weak_ptr<io::Handle> open;
  };
  void forget_name_locked(const std::string& path);
  void forget_identity_locked(tree::NodeId id, const Node& node);

  mutable std::mutex mutex_;  // guards what follows
  std::unordered_map<tree::NodeId, Node> nodes_;
  std::map<Identity, tree::NodeId> known_;
  std::unordered_map<std::string, tree::NodeId> by_path_;
  tree::NodeId next_ = 2;
};

}  // namespace rainfs::test
