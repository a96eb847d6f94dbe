// SPDX-License-Identifier: Apache-2.0
#include "rainfs/tree/node_table.hpp"

#include <xxhash.h>

#include <algorithm>

namespace rainfs::tree {

std::size_t NodeTable::NameHash::operator()(const std::pair<Node*, std::string_view>& key) const {
  return XXH3_64bits_withSeed(key.second.data(), key.second.size(), reinterpret_cast<std::uintptr_t>(key.first));
}

NodeTable::NodeTable() {
  root_.inode = root_node;
  root_.type = S_IFDIR;
  root_.lookups = 1;  // never forgotten
}

NodeTable::~NodeTable() {
  std::unordered_set<Node*> all;
  for (auto& [key, node] : names_) all.insert(node);
  for (auto& [key, node] : identities_) all.insert(node);
  all.erase(&root_);
  for (Node* node : all) delete node;
}

Node* NodeTable::from_id(NodeId id, NodeTable& table) {
  // Ids are the nodes' addresses: the kernel only gives back those it counts lookups of.
  return id == root_node ? &table.root_ : reinterpret_cast<Node*>(id);
}

NodeId NodeTable::id_of(const Node* node) const {
  return node == &root_ ? root_node : reinterpret_cast<NodeId>(node);
}

std::string NodeTable::path_locked(const Node* node) const {
  std::size_t length = 0;
  for (const Node* n = node; n != &root_; n = n->names.front().parent) {
    if (n->names.empty()) return {};
    length += n->names.front().name.size() + 1;
  }
  std::string path(length > 0 ? length - 1 : 0, '/');
  std::size_t end = path.size();
  for (const Node* n = node; n != &root_; n = n->names.front().parent) {
    const std::string& name = n->names.front().name;
    end -= name.size();
    std::copy(name.begin(), name.end(), path.begin() + static_cast<std::ptrdiff_t>(end));
    if (end > 0) --end;
  }
  return path;
}

std::optional<std::string> NodeTable::path_of(NodeId id) {
  const std::lock_guard lock(mutex_);
  const Node* node = from_id(id, *this);
  std::string path = path_locked(node);
  if (path.empty() && node != &root_) return std::nullopt;
  return path;
}

std::optional<std::string> NodeTable::path_of(NodeId parent, std::string_view name) {
  auto path = path_of(parent);
  if (!path) return path;
  if (!path->empty()) *path += '/';
  *path += name;
  return path;
}

bool NodeTable::has_other_names(NodeId id) {
  const std::lock_guard lock(mutex_);
  return from_id(id, *this)->names.size() > 1;
}

ExportSet NodeTable::where(NodeId id) {
  const std::lock_guard lock(mutex_);
  return from_id(id, *this)->where;
}

NodeTable::Glance NodeTable::glance(NodeId parent_id, std::string_view name) {
  Glance seen;
  const std::lock_guard lock(mutex_);
  Node* parent = from_id(parent_id, *this);
  std::string path = path_locked(parent);
  if (path.empty() && parent != &root_) return seen;
  if (!path.empty()) path += '/';
  path += name;
  seen.path = std::move(path);
  const Node* node = find_locked(parent, name);
  if (node == nullptr) return seen;
  seen.node = node;
  seen.is_open = node->open != nullptr;
  seen.is_directory = node->type == S_IFDIR;
  if (!seen.is_directory) seen.where = node->where;
  return seen;
}

Node* NodeTable::find_locked(Node* parent, std::string_view name) const {
  const auto it = names_.find(std::pair(parent, name));
  return it == names_.end() ? nullptr : it->second;
}

Node* NodeTable::find(NodeId parent, std::string_view name) {
  const std::lock_guard lock(mutex_);
  Node* node = find_locked(from_id(parent, *this), name);
  if (node != nullptr) ++node->pins;
  return node;
}

void NodeTable::name_locked(Node* node, Node* parent, std::string_view name) {
  // The vector may move its strings: the map's keys of this node are taken out and put in again.
  for (const Node::Name& known : node->names) names_.erase(std::pair(known.parent, std::string_view(known.name)));
  node->names.push_back({parent, std::string(name)});
  ++parent->children;
  for (const Node::Name& known : node->names) names_[std::pair(known.parent, std::string_view(known.name))] = node;
}

void NodeTable::unname_locked(Node* parent, std::string_view name) {
  const auto it = names_.find(std::pair(parent, name));
  if (it == names_.end()) return;
  Node* node = it->second;
  for (const Node::Name& known : node->names) names_.erase(std::pair(known.parent, std::string_view(known.name)));
  std::erase_if(node->names, [&](const Node::Name& known) { return known.parent == parent && known.name == name; });
  for (const Node::Name& known : node->names) names_[std::pair(known.parent, std::string_view(known.name))] = node;
  --parent->children;
  reap_locked(node);
  reap_locked(parent);
}

void NodeTable::identify_locked(Node* node, const std::vector<Identity>& identities) {
  if (node->identities == identities) return;
  for (const Identity& identity : node->identities) {
    const auto it = identities_.find(identity);
    if (it != identities_.end() && it->second == node) identities_.erase(it);
  }
  node->identities = identities;
  node->identities.shrink_to_fit();
  for (const Identity& identity : identities) identities_[identity] = node;
}

Node* NodeTable::bind(NodeId parent_id, std::string_view name, const Found& found) {
  const std::lock_guard lock(mutex_);
  Node* parent = from_id(parent_id, *this);
  Node* node = nullptr;
  for (const Identity& identity : found.identities) {
    const auto it = identities_.find(identity);
    if (it != identities_.end() && it->second->type == found.type) {
      node = it->second;
      break;
    }
  }
  const bool bound_already =
      node != nullptr && std::any_of(node->names.begin(), node->names.end(), [&](const Node::Name& known) {
        return known.parent == parent && known.name == name;
      });
  Node* named = bound_already ? node : find_locked(parent, name);
  // A directory has one name, and exports may lose and regain theirs: the name decides.
  if (node == nullptr && named != nullptr && named->type == S_IFDIR && found.type == S_IFDIR) node = named;
  if (node == &root_) node = nullptr;
  if (node == nullptr) {
    node = new Node;
    ++nodes_;
    node->type = found.type;
    node->inode = found.inode;
  }
  ++node->lookups;
  node->where = found.where;
  identify_locked(node, found.identities);
  if (named != node) {
    if (named != nullptr) unname_locked(parent, name);
    if (found.type == S_IFDIR) {
      // Renamed by another node: the old name is gone.
      const std::vector<Node::Name> old = node->names;
      for (const Node::Name& known : old) unname_locked(known.parent, known.name);
    }
    name_locked(node, parent, name);
  }
  return node;
}

Node* NodeTable::bind_unnamed(const Found& found) {
  const std::lock_guard lock(mutex_);
  Node* node = new Node;
  ++nodes_;
  node->type = found.type;
  node->inode = found.inode;
  node->where = found.where;
  node->lookups = 1;
  identify_locked(node, found.identities);
  return node;
}

void NodeTable::update(Node* node, const Found& found) {
  const std::lock_guard lock(mutex_);
  node->where = found.where;
  identify_locked(node, found.identities);
}

bool NodeTable::identified(NodeId id, const std::vector<Identity>& identities) {
  const std::lock_guard lock(mutex_);
  const Node* node = from_id(id, *this);
  if (node->type == S_IFDIR) return true;
  for (const Identity& identity : identities) {
    if (std::find(node->identities.begin(), node->identities.end(), identity) != node->identities.end()) return true;
  }
  return node->identities.empty();
}

void NodeTable::remember_gone(NodeId parent, std::string_view name, const struct stat& attributes) {
  const std::lock_guard lock(mutex_);
  Node* node = find_locked(from_id(parent, *this), name);
  if (node == nullptr || node->names.size() != 1) return;
  node->gone = std::make_unique<struct stat>(attributes);
  node->gone->st_ino = node->inode;
  node->gone->st_nlink = 0;
}

void NodeTable::unbind(NodeId parent, std::string_view name) {
  const std::lock_guard lock(mutex_);
  unname_locked(from_id(parent, *this), name);
}

void NodeTable::unbind_if(NodeId parent_id, std::string_view name, const Node* expected) {
  const std::lock_guard lock(mutex_);
  Node* parent = from_id(parent_id, *this);
  if (expected != nullptr && find_locked(parent, name) == expected) unname_locked(parent, name);
}

bool NodeTable::let_name_go(NodeId id, const std::string& path) {
  const std::lock_guard lock(mutex_);
  const Node* node = from_id(id, *this);
  if (path_locked(node) != path) return !node->names.empty();  // it has been already
  if (node->names.size() < 2) return false;
  const Node::Name name = node->names.front();
  unname_locked(name.parent, name.name);
  return true;
}

void NodeTable::add_name(NodeId id, NodeId parent_id, std::string_view name) {
  const std::lock_guard lock(mutex_);
  Node* parent = from_id(parent_id, *this);
  unname_locked(parent, name);
  name_locked(from_id(id, *this), parent, name);
}

void NodeTable::rename(NodeId parent_id, std::string_view name, NodeId new_parent_id, std::string_view new_name,
                       bool exchange) {
  const std::lock_guard lock(mutex_);
  Node* parent = from_id(parent_id, *this);
  Node* new_parent = from_id(new_parent_id, *this);
  Node* node = find_locked(parent, name);
  Node* other = find_locked(new_parent, new_name);
  if (node != nullptr && node == other) {
    // Looked up under its new name while it was being renamed.
    if (exchange || (parent == new_parent && name == new_name)) return;
    ++node->pins;
    unname_locked(parent, name);
    --node->pins;
    reap_locked(node);
    return;
  }
  for (Node* pinned : {node, other, parent, new_parent}) {
    if (pinned != nullptr) ++pinned->pins;
  }
  if (other != nullptr) unname_locked(new_parent, new_name);
  if (node != nullptr) {
    unname_locked(parent, name);
    name_locked(node, new_parent, new_name);
  }
  if (exchange && other != nullptr) name_locked(other, parent, name);
  for (Node* pinned : {node, other, parent, new_parent}) {
    if (pinned == nullptr) continue;
    --pinned->pins;
    reap_locked(pinned);
  }
}

void NodeTable::reap_locked(Node* node) {
  while (node != &root_ && node->lookups == 0 && node->children == 0 && node->pins == 0) {
    for (const Identity& identity : node->identities) {
      const auto it = identities_.find(identity);
      if (it != identities_.end() && it->second == node) identities_.erase(it);
    }
    Node* parent = nullptr;
    for (const Node::Name& known : node->names) {
      names_.erase(std::pair(known.parent, std::string_view(known.name)));
      --known.parent->children;
      if (parent != nullptr) reap_locked(parent);
      parent = known.parent;
    }
    delete node;
    --nodes_;
    if (parent == nullptr) return;
    node = parent;
  }
}

void NodeTable::forget(NodeId id, std::uint64_t count) {
  if (id == root_node) return;
  const std::lock_guard lock(mutex_);
  Node* node = from_id(id, *this);
  node->lookups -= std::min(node->lookups, count);
  reap_locked(node);
}

void NodeTable::directory_changed(NodeId id, ExportSet where) {
  const std::lock_guard lock(mutex_);
  Node* node = from_id(id, *this);
  if (!node->look) node->look = std::make_unique<DirectoryLook>();
  node->look->changed |= where;
  ++node->look->changes;
}

DirectoryLook NodeTable::look(NodeId id) {
  const std::lock_guard lock(mutex_);
  const Node* node = from_id(id, *this);
  return node->look ? *node->look : DirectoryLook{};
}

void NodeTable::keep_look(NodeId id, const DirectoryLook& look) {
  const std::lock_guard lock(mutex_);
  Node* node = from_id(id, *this);
  if (!node->look || node->look->changes != look.changes) return;
  *node->look = look;
  node->look->changed = {};
}

void NodeTable::pin(Node* node) {
  const std::lock_guard lock(mutex_);
  ++node->pins;
}

void NodeTable::unpin(Node* node) {
  const std::lock_guard lock(mutex_);
  --node->pins;
  reap_locked(node);
}

std::size_t NodeTable::size() {
  const std::lock_guard lock(mutex_);
  return nodes_;
}

}  // namespace rainfs::tree
