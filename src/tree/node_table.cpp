// SPDX-License-Identifier: Apache-2.0
#include "rainfs/tree/node_table.hpp"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <unordered_set>

namespace rainfs::tree {

std::size_t Node::Name::hash(const Key& key) {
  return XXH3_64bits_withSeed(key.second.data(), key.second.size(), reinterpret_cast<std::uintptr_t>(key.first));
}

std::size_t Node::Replica::hash(const Key& key) {
  const std::array<std::uint64_t, 3> fields = {key.inode, static_cast<std::uint64_t>(key.birth_ns), key.index};
  return XXH3_64bits(fields.data(), sizeof(fields));
}

NodeTable::NodeTable() {
  root_.inode = root_node;
  root_.type = S_IFDIR;
  root_.lookups = 1;  // never forgotten
}

NodeTable::~NodeTable() {
  std::unordered_set<Node*> all;
  for (const Node::Name& name : names_) all.insert(name.node);
  for (const Node::Replica& replica : replicas_) all.insert(replica.node);
  names_.clear();
  replicas_.clear();
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

Node* NodeTable::find_locked(const Node* parent, std::string_view name) {
  const Node::Name* const found = names_.find({parent, name});
  return found == nullptr ? nullptr : found->node;
}

Node* NodeTable::find(NodeId parent, std::string_view name) {
  const std::lock_guard lock(mutex_);
  Node* node = find_locked(from_id(parent, *this), name);
  if (node != nullptr) ++node->pins;
  return node;
}

void NodeTable::name_locked(Node* node, Node* parent, std::string_view name) {
  node->names.emplace_back(node, parent, name);
  names_.put(node->names.back());
  ++parent->children;
}

void NodeTable::drop_name_locked(Node::Name& name) {
  Node* const node = name.node;
  Node* const parent = name.parent;
  names_.remove(name);
  node->names.remove_if([&](const Node::Name& known) { return &known == &name; });
  --parent->children;
  reap_locked(node);
  reap_locked(parent);
}

void NodeTable::unname_locked(Node* parent, std::string_view name) {
  if (Node::Name* const found = names_.find({parent, name}); found != nullptr) drop_name_locked(*found);
}

void NodeTable::identify_locked(Node* node, const std::vector<Identity>& identities) {
  const auto same = [](const Node::Replica& replica, const Identity& identity) { return replica.identity == identity; };
  if (std::equal(node->replicas.begin(), node->replicas.end(), identities.begin(), identities.end(), same)) return;
  std::vector<Node::Replica> replicas(identities.size());
  for (Node::Replica& replica : node->replicas) replicas_.remove(replica);
  node->replicas.swap(replicas);
  for (std::size_t i = 0; i < identities.size(); ++i) {
    node->replicas[i].node = node;
    node->replicas[i].identity = identities[i];
    replicas_.put(node->replicas[i]);
  }
}

Node* NodeTable::bind(NodeId parent_id, std::string_view name, const Found& found) {
  const std::lock_guard lock(mutex_);
  Node* parent = from_id(parent_id, *this);
  Node* node = nullptr;
  for (const Identity& identity : found.identities) {
    const Node::Replica* const known = replicas_.find(identity);
    if (known != nullptr && known->node->type == found.type) {
      node = known->node;
      break;
    }
  }
  Node* named = find_locked(parent, name);
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
      while (!node->names.empty()) drop_name_locked(node->names.front());
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
    for (const Node::Replica& replica : node->replicas) {
      if (replica.identity == identity) return true;
    }
  }
  return node->replicas.empty();
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
  Node* node = from_id(id, *this);
  if (path_locked(node) != path) return !node->names.empty();  // it has been already
  if (node->names.size() < 2) return false;
  drop_name_locked(node->names.front());
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
    for (Node::Replica& replica : node->replicas) replicas_.remove(replica);
    Node* parent = nullptr;
    while (!node->names.empty()) {
      Node::Name& name = node->names.front();
      parent = name.parent;
      names_.remove(name);
      node->names.pop_front();
      --parent->children;
      if (!node->names.empty()) reap_locked(parent);  // not while another name in it is counted
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
