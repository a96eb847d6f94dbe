// SPDX-License-Identifier: Apache-2.0
// Looking up names and attributes.
#include <xxhash.h>

#include <sys/sysmacros.h>

#include <algorithm>
#include <thread>

#include "tree_internal.hpp"

namespace rainfs::tree {

std::uint64_t directory_inode(std::string_view path) {
  if (path.empty()) return root_node;
  return XXH3_64bits(path.data(), path.size()) | (std::uint64_t{0xff} << 56);
}

std::uint64_t file_inode(ExportIndex index, std::uint64_t inode) {
  // Export number and inode number side by side where they fit, which for local file systems and most
  // NAS they do: then no two files of the array can share one.
  const std::uint64_t prefix = static_cast<std::uint64_t>(index) + 1;
  if (inode < std::uint64_t{1} << 48) return prefix << 48 | inode;
  return (XXH3_64bits_withSeed(&inode, sizeof inode, prefix) >> 1) | std::uint64_t{1} << 62;
}

Identity identity_of(ExportIndex index, const struct statx& stat) {
  Identity identity;
  identity.index = index;
  identity.inode = stat.stx_ino;
  if ((stat.stx_mask & STATX_BTIME) != 0) {
    identity.birth_ns = stat.stx_btime.tv_sec * std::int64_t{1'000'000'000} + stat.stx_btime.tv_nsec;
  }
  return identity;
}

struct stat to_stat(const struct statx& from, std::uint64_t inode) {
  struct stat to {};
  to.st_ino = inode;
  to.st_mode = from.stx_mode;
  to.st_nlink = from.stx_nlink;
  to.st_uid = from.stx_uid;
  to.st_gid = from.stx_gid;
  to.st_rdev = makedev(from.stx_rdev_major, from.stx_rdev_minor);
  to.st_size = static_cast<off_t>(from.stx_size);
  to.st_blksize = from.stx_blksize;
  to.st_blocks = static_cast<blkcnt_t>(from.stx_blocks);
  to.st_atim = {from.stx_atime.tv_sec, from.stx_atime.tv_nsec};
  to.st_mtim = {from.stx_mtime.tv_sec, from.stx_mtime.tv_nsec};
  to.st_ctim = {from.stx_ctime.tv_sec, from.stx_ctime.tv_nsec};
  return to;
}

bool is_silly_name(std::string_view name) {
  // ".nfs" and 24 hexadecimal digits (Linux NFS client, nfs_sillyrename).
  if (!name.starts_with(".nfs") || name.size() != 28) return false;
  return std::all_of(name.begin() + 4, name.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

namespace {
constexpr int lookup_attempts = 50;  // while this node renames; each finds the name as a rule
}  // namespace

base::Result<replica::Location> Tree::find(const std::string& path, ExportSet hint, bool force_sync, bool everywhere,
                                           const Caller* caller) {
  if (array_.intents_pending()) finish_intents();
  replica::LocateOptions options;
  options.hint = hint;
  options.force_sync = force_sync;
  options.everywhere = everywhere;
  if (caller != nullptr) options.credentials = caller->credentials;
  return replica::locate(context_, path, options);
}

NodeTable::Found Tree::found_of(const replica::Location& location, const std::string& path) const {
  NodeTable::Found found;
  const struct statx& elected = location.elected();
  found.type = elected.stx_mode & S_IFMT;
  found.where = location.verdict.good;
  // Of all credible replicas, also of those that are about to be made equal: any of them is this file.
  for (const ExportIndex index : location.evidence.present - location.evidence.blamed) {
    const struct statx& stat = *location.stat_of(index);
    if ((stat.stx_mode & S_IFMT) == found.type) found.identities.push_back(identity_of(index, stat));
  }
  const Identity& first = found.identities.front();  // in order of export, so that hard links share it
  found.inode = S_ISDIR(found.type) ? directory_inode(path) : file_inode(first.index, first.inode);
  return found;
}

struct stat Tree::stat_of(const replica::Location& location, const Node* node) const {
  if (S_ISDIR(location.elected().stx_mode)) return to_stat(replica::merged_directory_stat(location), node->inode);
  struct statx stat = location.elected();
  for (const ExportIndex index : location.verdict.good) replica::take_newer_times(stat, *location.stat_of(index));
  return to_stat(stat, node->inode);
}

OpenStatePtr Tree::open_of(Node* node) {
  const std::lock_guard lock(nodes_.mutex());
  return node->open;
}

void Tree::apply_unsealed(const OpenStatePtr& open, struct stat& stat) {
  if (!open) return;
  const std::lock_guard lock(open->shared->mutex);
  if (open->shared->unsealed) stat.st_mtim = open->shared->mtime;
}

Entry Tree::admit(NodeId parent, std::string_view name, const std::string& path, const replica::Location& location) {
  Node* node = nodes_.bind(parent, name, found_of(location, path));
  Entry entry;
  entry.node = nodes_.id_of(node);
  entry.attributes = stat_of(location, node);
  apply_unsealed(open_of(node), entry.attributes);
  return entry;
}

base::Result<std::optional<Entry>> Tree::lookup_written(NodeId parent, std::string_view name, const std::string& path) {
  // A file that this node is writing has replicas with different mtimes until it is sealed: its writers
  // know which are good, no ledger is needed.
  Node* node = nodes_.find(parent, name);
  if (node == nullptr) return std::optional<Entry>{};
  const std::shared_ptr<void> unpin(nullptr, [&](void*) { nodes_.unpin(node); });
  const OpenStatePtr open = open_of(node);
  if (!open) return std::optional<Entry>{};
  ExportSet writing;
  {
    const std::lock_guard lock(open->shared->mutex);
    if (open->shared->unsealed) writing = open->shared->writing - open->shared->left_out;
  }
  for (const ExportIndex index : writing& array_.online()) {
    nas::Answers answers =
        array_.metadata(ExportSet::of(index), [&](ExportIndex) { return make_operation(io::Kind::stat, path); });
    const nas::Answer& answer = answers.list.front();
    if (!answer.ok()) continue;
    const Identity identity = identity_of(index, answer.operation->stat);
    if (!nodes_.identified(nodes_.id_of(node), {identity})) break;  // another file has the name now
    {
      const std::lock_guard lock(nodes_.mutex());
      ++node->lookups;
    }
    Entry entry;
    entry.node = nodes_.id_of(node);
    entry.attributes = to_stat(answer.operation->stat, node->inode);
    apply_unsealed(open, entry.attributes);
    return std::optional<Entry>(entry);
  }
  return std::optional<Entry>{};
}

base::Result<replica::Location> Tree::find_steadily(base::FunctionRef<std::optional<std::string>()> path_now,
                                                    std::string& path, ExportSet hint, bool force_sync, bool everywhere,
                                                    const Caller* caller) {
  for (int attempt = 0;; ++attempt) {
    const std::uint64_t ended = renames_ended_.load();
    const std::uint64_t begun = renames_begun_.load();
    auto location = find(path, hint, force_sync, everywhere, caller);
    if (!location || location->verdict.finding == replica::Finding::present) return location;
    // The exports are not asked at one moment: what was renamed meanwhile may have been missed on all.
    if ((begun == ended && begun == renames_begun_.load()) || attempt >= lookup_attempts) return location;
    std::this_thread::yield();
    auto now = path_now();
    if (!now) return location;
    path = std::move(*now);
  }
}

base::Result<replica::Location> Tree::find_node(NodeId id, std::string& path, ExportSet hint, bool force_sync,
                                                bool everywhere, const Caller* caller) {
  for (int attempt = 0;; ++attempt) {
    auto location = find_steadily([&] { return nodes_.path_of(id); }, path, hint, force_sync, everywhere, caller);
    if (!location || attempt >= lookup_attempts) return location;
    const bool present = location->verdict.finding == replica::Finding::present;
    if (present && (!nodes_.has_other_names(id) || nodes_.identified(id, found_of(*location, path).identities)))
      return location;
    if (!nodes_.let_name_go(id, path)) return location;
    auto now = nodes_.path_of(id);
    if (!now) return location;
    path = std::move(*now);
  }
}

base::Result<Entry> Tree::lookup(NodeId parent, std::string_view name, const Caller& caller) {
  if (name.size() > 255) return base::unexpected(ENAMETOOLONG);
  if (is_private(parent, name)) return base::unexpected(ENOENT);
  NodeTable::Glance known = nodes_.glance(parent, name);
  if (!known.path) return base::unexpected(ENOENT);
  if (known.is_open) {
    auto written = lookup_written(parent, name, *known.path);
    if (written && *written) return **written;
  }
  std::string asked = std::move(*known.path);
  auto location = find_steadily([&] { return nodes_.path_of(parent, name); }, asked, known.where, false,
                                known.is_directory, &caller);
  if (!location) return base::Unexpected{location.error()};
  if (location->verdict.finding == replica::Finding::present) return admit(parent, name, asked, *location);
  nodes_.unbind_if(parent, name, known.node);
  return base::unexpected(ENOENT);
}

void Tree::forget(NodeId node, std::uint64_t count) {
  nodes_.forget(node, count);
}

base::Result<std::string> Tree::path_or_gone(NodeId node) {
  auto path = nodes_.path_of(node);
  if (!path) return base::unexpected(ESTALE);
  return std::move(*path);
}

FilePtr Tree::some_file_locked(OpenState& open, bool writable) {
  for (const FilePtr& file : open.files) {
    if (!writable || file->writable()) return file;
  }
  return nullptr;
}

FilePtr Tree::some_file(OpenState& open, bool writable) {
  const std::lock_guard lock(open.mutex);
  return some_file_locked(open, writable);
}

base::Result<struct stat> Tree::unnamed_attributes(NodeId id) {
  Node* node = NodeTable::from_id(id, nodes_);
  const OpenStatePtr open = open_of(node);
  const auto last_known = [&]() -> base::Result<struct stat> {
    const std::lock_guard lock(nodes_.mutex());
    if (!node->gone) return base::unexpected(ESTALE);
    return *node->gone;
  };
  if (!open) return last_known();
  const FilePtr file = some_file(*open, false);
  if (!file) return last_known();
  auto stat = file->stat();
  if (!stat) return base::Unexpected{stat.error()};
  struct stat attributes = to_stat(*stat, node->inode);
  apply_unsealed(open, attributes);
  return attributes;
}

// The kernel asks for a directory's attributes again after each name that it had made or removed there.
std::optional<struct stat> Tree::look_where_changed(NodeId id, const std::string& path, DirectoryLook look) {
  if (look.seen.empty() || array_.clock().now() - look.at >= options_.directory_look) return std::nullopt;
  const auto topology = array_.topology();
  const ExportSet data = topology->data_exports();
  if (look.seen != data || (data - look.changed).empty()) return std::nullopt;
  if (array_.online() != data || array_.repairs_under_way() || array_.intents_pending()) return std::nullopt;
  replica::LocateOptions options;
  options.newest_times = false;
  const unsigned wanted = topology->rules_for(path).replicas;
  const unsigned racks = topology->racks_of(look.changed);
  options.hint = look.changed;
  if (racks < wanted) {
    options.hint |= placement::choose(placement::order(path, *topology), *topology, wanted - racks,
                                      topology->placeable(), look.changed);
  }
  const auto location = replica::locate(context_, path, options);
  if (!location || location->verdict.finding != replica::Finding::present || !location->verdict.agreed ||
      !(options.hint - location->verdict.good).empty())
    return std::nullopt;
  const struct statx now = replica::merged_directory_stat(*location);
  if (!(replica::stamp_of(now) == replica::stamp_of(look.merged))) return std::nullopt;
  replica::merge_directory(look.merged, now);
  nodes_.keep_look(id, look);
  return to_stat(look.merged, NodeTable::from_id(id, nodes_)->inode);
}

base::Result<struct stat> Tree::get_attributes(NodeId id) {
  Node* node = NodeTable::from_id(id, nodes_);
  const auto path = nodes_.path_of(id);
  if (!path) return unnamed_attributes(id);
  const OpenStatePtr open = open_of(node);
  if (open) {
    bool unsealed = false;
    {
      const std::lock_guard lock(open->shared->mutex);
      unsealed = open->shared->unsealed;
    }
    if (unsealed) {
      seal_for_stat(open, *path);
      auto attributes = unnamed_attributes(id);
      if (attributes) return attributes;
    }
  }
  std::string asked = *path;
  const bool is_directory = S_ISDIR(node->type);  // which all exports have
  DirectoryLook look;
  if (is_directory) {
    look = nodes_.look(id);
    if (auto attributes = look_where_changed(id, asked, look)) return *attributes;
    look.at = array_.clock().now();
  }
  auto location = find_node(id, asked, is_directory ? ExportSet{} : nodes_.where(id), false, is_directory, nullptr);
  if (!location) return base::Unexpected{location.error()};
  if (location->verdict.finding == replica::Finding::absent) {
    // Removed or renamed by another node while it is open here.
    auto attributes = unnamed_attributes(id);
    return attributes ? attributes : base::unexpected(ENOENT);
  }
  const NodeTable::Found found = found_of(*location, asked);
  if (found.type != node->type) return base::unexpected(ESTALE);
  if (!nodes_.identified(id, found.identities)) {
    // Another file has this name. The kernel keeps asking for the old one as long as it is open.
    auto attributes = unnamed_attributes(id);
    if (attributes) return attributes;
  }
  nodes_.update(node, found);
  if (is_directory) {
    look.seen = location->verdict.good;
    look.merged = replica::merged_directory_stat(*location);
    nodes_.keep_look(id, look);
    return to_stat(look.merged, node->inode);
  }
  struct stat attributes = stat_of(*location, node);
  apply_unsealed(open_of(node), attributes);
  return attributes;
}

base::Result<std::string> Tree::read_link(NodeId id) {
  auto path = path_or_gone(id);
  if (!path) return base::Unexpected{path.error()};
  auto location = find_node(id, *path, nodes_.where(id), false, false, nullptr);
  if (!location) return base::Unexpected{location.error()};
  if (location->verdict.finding == replica::Finding::absent) return base::unexpected(ENOENT);
  int error = EIO;
  for (const ExportIndex index : location->verdict.good) {
    nas::Answers answers =
        array_.metadata(ExportSet::of(index), [&](ExportIndex) { return make_operation(io::Kind::readlink, *path); });
    nas::Answer& answer = answers.list.front();
    if (answer.ok()) return std::move(answer.operation->text);
    error = answer.error;
    if (base::classify(error) == base::ErrorClass::file) break;
  }
  return base::unexpected(base::told(error));
}

base::Result<struct statvfs> Tree::file_system_statistics() {
  const auto topology = array_.topology();
  const unsigned replicas = std::max(1u, topology->defaults.replicas);
  const auto usable = [&](std::vector<std::uint64_t> racks) {
    return topology::usable_bytes(std::move(racks), replicas);
  };
  std::vector<std::uint64_t> total(topology->racks.size()), available(total), files(total), files_free(total);
  for (const ExportIndex index : topology->data_exports()) {
    const nas::Space space = array_.at(index).space();
    const unsigned rack = topology->exports[index].rack;
    total[rack] += space.total_bytes;
    if (array_.at(index).online()) available[rack] += space.available_bytes;
    files[rack] += space.files;
    files_free[rack] += space.files_free;
  }
  const auto racks_only = [&](const std::vector<std::uint64_t>& all) {
    std::vector<std::uint64_t> racks;
    for (std::size_t rack = 0; rack < all.size(); ++rack) {
      if (total[rack] > 0) racks.push_back(all[rack]);
    }
    return racks;
  };
  struct statvfs out {};
  out.f_bsize = out.f_frsize = 4096;
  out.f_blocks = usable(racks_only(total)) / 4096;
  out.f_bfree = out.f_bavail = usable(racks_only(available)) / 4096;
  out.f_files = usable(racks_only(files));
  out.f_ffree = out.f_favail = usable(racks_only(files_free));
  out.f_namemax = 255;
  return out;
}

}  // namespace rainfs::tree
