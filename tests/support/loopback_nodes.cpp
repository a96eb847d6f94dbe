// SPDX-License-Identifier: Apache-2.0
#include "loopback_nodes.hpp"

#include <algorithm>

namespace rainfs::test {

void LoopbackNodes::begin(const Identity& root) {
  const std::lock_guard lock(mutex_);
  Node& node = nodes_[tree::root_node];
  node.lookups = 1;
  node.paths = {""};
  node.identity = root;
  known_[root] = tree::root_node;
}

std::optional<LoopbackNodes::Place> LoopbackNodes::place_of(tree::NodeId node) const {
  const std::lock_guard lock(mutex_);
  const auto it = nodes_.find(node);
  if (it == nodes_.end()) return {};
  if (it->second.paths.empty()) return Place{{}, it->second.open.lock()};
  return Place{it->second.paths.back(), nullptr};
}

std::optional<std::string> LoopbackNodes::path_in(tree::NodeId parent, std::string_view name) const {
  const auto directory = place_of(parent);
  if (!directory || !directory->path) return {};
  return directory->path->empty() ? std::string(name) : *directory->path + "/" + std::string(name);
}

tree::NodeId LoopbackNodes::count(const Identity& identity, const std::optional<std::string>& path,
                                  const io::HandlePtr& open) {
  const std::lock_guard lock(mutex_);
  const auto [it, fresh] = known_.try_emplace(identity, next_);
  if (fresh) ++next_;
  const tree::NodeId id = it->second;
  Node& node = nodes_[id];
  if (path) {
    if (std::find(node.paths.begin(), node.paths.end(), *path) == node.paths.end()) {
      forget_name_locked(*path);
      node.paths.push_back(*path);
    }
    by_path_[*path] = id;
  }
  node.identity = identity;
  if (open) node.open = open;
  ++node.lookups;
  return id;
}

void LoopbackNodes::forget(tree::NodeId id, std::uint64_t count) {
  const std::lock_guard lock(mutex_);
  const auto it = nodes_.find(id);
  if (it == nodes_.end() || id == tree::root_node) return;
  if (it->second.lookups > count) {
    it->second.lookups -= count;
    return;
  }
  forget_identity_locked(id, it->second);
  for (const std::string& path : it->second.paths) by_path_.erase(path);
  nodes_.erase(it);
}

void LoopbackNodes::opened(tree::NodeId node, const io::HandlePtr& handle) {
  const std::lock_guard lock(mutex_);
  nodes_.at(node).open = handle;
}

void LoopbackNodes::removed(const std::string& path) {
  const std::lock_guard lock(mutex_);
  forget_name_locked(path);
}

void LoopbackNodes::renamed(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  for (auto& [id, node] : nodes_) {
    for (std::string& path : node.paths) {
      if (path != from && !path.starts_with(from + "/")) continue;
      by_path_.erase(path);
      path = to + path.substr(from.size());
      by_path_[path] = id;
    }
  }
}

std::uint64_t LoopbackNodes::lookup_count() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t sum = 0;
  for (const auto& [id, node] : nodes_) sum += id == tree::root_node ? 0 : node.lookups;
  return sum;
}

std::uint64_t LoopbackNodes::lookup_count(tree::NodeId id) const {
  const std::lock_guard lock(mutex_);
  const auto it = nodes_.find(id);
  return it == nodes_.end() ? 0 : it->second.lookups;
}

void LoopbackNodes::forget_name_locked(const std::string& path) {
  const auto it = by_path_.find(path);
  if (it == by_path_.end()) return;
  Node& node = nodes_.at(it->second);
  std::erase(node.paths, path);
  if (node.paths.empty()) forget_identity_locked(it->second, node);
  by_path_.erase(it);
}

// The inode number may be used again.
void LoopbackNodes::forget_identity_locked(tree::NodeId id, const Node& node) {
  const auto known = known_.find(node.identity);
  if (known != known_.end() && known->second == id) known_.erase(known);
}

}  // namespace rainfs::test
