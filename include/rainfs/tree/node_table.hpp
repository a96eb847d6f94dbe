// SPDX-License-Identifier: Apache-2.0
// The inodes the kernel knows of: one node per file, however many names and replicas it has, found by name
// or by the identity of any of its replicas.
//
// Owns all nodes. Any thread may call; one mutex, held for no I/O. A Node's own fields are guarded by the
// table's mutex unless said otherwise; a node lives while the kernel counts lookups of it, while children
// name it as parent, and while it is pinned.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rainfs/base/clock.hpp"
#include "rainfs/base/short_mutex.hpp"
#include "rainfs/replica/locate.hpp"
#include "rainfs/tree/file_system.hpp"
#include "rainfs/tree/index.hpp"

namespace rainfs::tree {

using base::ExportIndex;
using base::ExportSet;

// One replica's inode: export, inode number and, where the export tells, its time of birth (inode numbers
// are used again).
struct Identity {
  std::uint64_t inode = 0;
  std::int64_t birth_ns = 0;
  ExportIndex index = 0;
  friend bool operator==(const Identity&, const Identity&) = default;
};

struct OpenState;

// What all exports said of a directory a moment ago, and where this node has changed it since.
struct DirectoryLook {
  base::TimePoint at{};  // when they were asked
  ExportSet seen;        // empty: there is none
  struct statx merged {};
  ExportSet changed;
  std::uint64_t changes = 0;  // by this node, ever
};
inline constexpr ExportSet any_export = ExportSet::first(base::max_exports);

struct Node {
  struct Name : IndexLink {
    using Key = std::pair<const Node*, std::string_view>;
    Name(Node* node_in, Node* parent_in, std::string_view name_in) : node(node_in), parent(parent_in), name(name_in) {}
    Key key() const { return {parent, name}; }
    static std::size_t hash(const Key& key);

    Node* node;
    Node* parent;
    std::string name;
  };
  struct Replica : IndexLink {
    using Key = Identity;
    const Key& key() const { return identity; }
    static std::size_t hash(const Key& key);

    Node* node = nullptr;
    Identity identity;
  };
  std::uint64_t inode = 0;  // st_ino; stays while the node lives
  std::uint64_t lookups = 0;
  std::uint32_t children = 0;  // names that have this node as parent
  std::uint32_t pins = 0;
  mode_t type = 0;                    // S_IFMT part
  ExportSet where;                    // exports that held good replicas when last seen
  std::int64_t cached_mtime_ns = -1;  // of the contents the kernel may have cached
  std::uint64_t cached_size = 0;
  std::list<Name> names;  // empty: removed, or never had one
  std::vector<Replica> replicas;
  std::shared_ptr<OpenState> open;      // while files are open
  std::unique_ptr<struct stat> gone;    // attributes of a file or directory that was removed while in use
  std::unique_ptr<DirectoryLook> look;  // of a directory that this node changes
};

class NodeTable {
 public:
  NodeTable();
  ~NodeTable();

  Node* root() { return &root_; }
  static Node* from_id(NodeId id, NodeTable& table);
  NodeId id_of(const Node* node) const;

  // Path relative to the root; nothing if the node has no name.
  std::optional<std::string> path_of(NodeId id);
  // Path of a name in a directory.
  std::optional<std::string> path_of(NodeId parent, std::string_view name);
  bool has_other_names(NodeId id);  // than the one that path_of() gives
  ExportSet where(NodeId id);
  // All that is known of a name, in one look.
  struct Glance {
    std::optional<std::string> path;  // nothing if the directory has no name any more
    const Node* node = nullptr;       // to be compared, never followed: it may be gone by the time it is looked at
    ExportSet where;
    bool is_open = false;
    bool is_directory = false;
  };
  Glance glance(NodeId parent, std::string_view name);
  // Node bound to a name, pinned until unpin(); null if none.
  Node* find(NodeId parent, std::string_view name);

  // The node for a file found under a name: known by identity, or new. Adds one lookup.
  struct Found {
    std::vector<Identity> identities;
    mode_t type = 0;
    ExportSet where;
    std::uint64_t inode = 0;  // st_ino for a new node
  };
  Node* bind(NodeId parent, std::string_view name, const Found& found);
  // A node without a name (O_TMPFILE); one lookup.
  Node* bind_unnamed(const Found& found);
  // The name leads nowhere now. With `expected`, only if it still leads there: a look at the exports that
  // found nothing may be older than what was bound since.
  void unbind(NodeId parent, std::string_view name);
  void unbind_if(NodeId parent, std::string_view name, const Node* expected);
  // The name by which path_of() knows a file turned out to lead elsewhere by now: it is let go if there is another, and
  // path_of() gives that. False if there is none.
  bool let_name_go(NodeId id, const std::string& path);
  // Attributes for a node whose last name is about to go, if it is one the kernel may still ask about.
  void remember_gone(NodeId parent, std::string_view name, const struct stat& attributes);
  void add_name(NodeId node, NodeId parent, std::string_view name);
  void rename(NodeId parent, std::string_view name, NodeId new_parent, std::string_view new_name, bool exchange);
  void update(Node* node, const Found& found);
  bool identified(NodeId node, const std::vector<Identity>& identities);
  void forget(NodeId id, std::uint64_t count);
  // This node has changed a directory, or names in it, on these exports.
  void directory_changed(NodeId directory, ExportSet where);
  DirectoryLook look(NodeId directory);
  // Keeps a look that began as look() said, after which nothing is changed, unless the directory was meanwhile.
  void keep_look(NodeId directory, const DirectoryLook& look);

  void pin(Node* node);
  void unpin(Node* node);
  void unpin_locked(Node* node) {  // the caller holds mutex()
    --node->pins;
    reap_locked(node);
  }

  base::ShortMutex& mutex() { return mutex_; }
  std::size_t size();

 private:
  std::string path_locked(const Node* node) const;
  Node* find_locked(const Node* parent, std::string_view name);
  void name_locked(Node* node, Node* parent, std::string_view name);
  void unname_locked(Node* parent, std::string_view name);
  void drop_name_locked(Node::Name& name);
  void identify_locked(Node* node, const std::vector<Identity>& identities);
  void reap_locked(Node* node);

  base::ShortMutex mutex_;
  Node root_;
  Index<Node::Name> names_;
  Index<Node::Replica> replicas_;
  std::size_t nodes_ = 0;
};

}  // namespace rainfs::tree
