// SPDX-License-Identifier: Apache-2.0
// Changing attributes and extended attributes.
#include <fmt/format.h>

#include <algorithm>

#include "tree_internal.hpp"

namespace rainfs::tree {

namespace {

// The kernel keeps user.* from symbolic links and special files: the second name serves these, for root.
bool names_replicas(const std::string& name) {
  return name == "user.rainfs.replicas" || name == "trusted.rainfs.replicas";
}

// Trusted attributes are shown to root alone, as by a local file system (CAP_SYS_ADMIN).
std::string shown_to(const Caller& caller, const std::string& names) {
  if (!caller.credentials || caller.credentials->uid == 0) return names;
  std::string shown;
  for (std::size_t at = 0; at < names.size();) {
    const std::string name = names.c_str() + at;
    at += name.size() + 1;
    if (!name.starts_with("trusted.")) shown.append(name).push_back('\0');
  }
  return shown;
}

bool in_group(const io::CredentialsPtr& credentials, gid_t group) {
  if (!credentials || credentials->uid == 0 || credentials->gid == group) return true;
  return std::find(credentials->groups.begin(), credentials->groups.end(), group) != credentials->groups.end();
}

// What a write by somebody without the right to keep them takes away: setuid always, setgid where the group
// may execute, or where the writer is not of the group (Linux's setattr_should_drop_suidgid).
mode_t without_privileges(const struct stat& file, const io::CredentialsPtr& writer) {
  mode_t cleared = file.st_mode & ~static_cast<mode_t>(S_ISUID);
  if ((file.st_mode & S_IXGRP) != 0 || !in_group(writer, file.st_gid)) cleared &= ~static_cast<mode_t>(S_ISGID);
  return cleared & 07777;
}

}  // namespace

base::Result<struct stat> Tree::change(NodeId id, const Make& make_bare, ledger::Why why) {
  if (options_.read_only) return base::unexpected(EROFS);
  auto path = path_or_gone(id);
  if (!path) return base::Unexpected{path.error()};
  Node* node = NodeTable::from_id(id, nodes_);
  const bool directory = S_ISDIR(node->type);
  std::optional<DirectoryChange> directory_change;
  if (directory) directory_change.emplace(nodes_, id);
  const OpenStatePtr open = open_of(node);
  (void)wait_for_renames(*path);
  auto committed = commit_writers(open, *path);
  if (!committed) return base::Unexpected{committed.error()};
  auto location = find_to_change(*path, [&] {
    return find_node(id, *path, directory ? ExportSet{} : nodes_.where(id), false, directory, nullptr);
  });
  if (!location) return base::Unexpected{location.error()};
  if (location->verdict.finding == replica::Finding::absent) return base::unexpected(ENOENT);
  trust_writers(open, *location);
  const ExportSet credible = location->evidence.present - location->evidence.blamed;
  const ExportSet targets = location->verdict.agreed || directory ? location->verdict.good : credible;
  const auto make = [&](ExportIndex index) {
    io::OperationPtr operation = make_bare(index);
    operation->path = *path;
    return operation;
  };
  nas::Answers answers = array_.metadata(targets, make);
  // A root-squashed export lets only the owner do it; the kernel has checked the caller's right already.
  const ExportSet squashed = answers.with_error(EPERM) | answers.with_error(EACCES);
  if (!squashed.empty()) {
    auto owner = std::make_shared<io::Credentials>();
    owner->uid = location->elected().stx_uid;
    owner->gid = location->elected().stx_gid;
    nas::Answers again = array_.metadata(squashed, [&](ExportIndex index) {
      auto operation = make(index);
      if (!operation->credentials) operation->credentials = owner;
      return operation;
    });
    for (nas::Answer& answer : again) *answers.of(answer.index) = std::move(answer);
  }
  const ExportSet done = answers.ok();
  if (done.empty()) {
    for (const nas::Answer& answer : answers) {
      if (base::classify(answer.error) == base::ErrorClass::file) return base::unexpected(answer.error);
    }
    return base::unexpected(answers.list.empty() ? EIO : base::told(answers.list.front().error));
  }
  if (location->topology->racks_of(done) < location->rules.min_replicas) return base::unexpected(EIO);
  // A directory is on every export: those that are away have the old attributes.
  ExportSet left_out = (location->evidence.present - done) | (targets - done);
  if (!location->verdict.agreed) left_out |= location->not_reached;  // the others may be there
  if (directory) left_out |= location->topology->data_exports() - done - location->evidence.missing;
  if (open && why == ledger::Why::missed_write) {
    // What is open here already would go on with contents that are no longer the file's.
    const std::lock_guard lock(open->shared->mutex);
    open->shared->left_out |= left_out;
  }
  auto recorded = replica::record_shortfall(context_, *path, done & location->verdict.good, left_out, {}, why);
  if (!recorded) return base::Unexpected{recorded.error()};
  if (answers.of(*done.begin())->operation->kind != io::Kind::set_attributes)
    return base::Result<struct stat>(to_stat({}, 0));
  for (nas::Answer& answer : answers) {
    if (answer.ok()) *location->answers.of(answer.index) = std::move(answer);
  }
  location->verdict.good = done;
  location->verdict.elected = done.contains(location->verdict.elected) ? location->verdict.elected : *done.begin();
  return stat_of(*location, node);
}

base::Result<void> Tree::clear_privileges(NodeId id, const io::CredentialsPtr& credentials) {
  auto now = get_attributes(id);
  if (!now) return base::Unexpected{now.error()};
  if (without_privileges(*now, credentials) == (now->st_mode & 07777)) return {};
  io::Attributes attributes;
  attributes.valid = io::Attributes::mode_set;
  attributes.mode = without_privileges(*now, credentials);
  auto changed = set_attributes(id, attributes, nullptr, false, Caller{});
  if (!changed) return base::Unexpected{changed.error()};
  return {};
}

base::Result<struct stat> Tree::set_gone(Node* node, const io::Attributes& attributes) {
  const std::lock_guard lock(nodes_.mutex());
  if (!node->gone) return base::unexpected(ESTALE);
  struct stat& gone = *node->gone;
  const auto asked = [&](std::uint32_t bit) { return (attributes.valid & bit) != 0; };
  if (asked(io::Attributes::mode_set)) gone.st_mode = (gone.st_mode & S_IFMT) | (attributes.mode & 07777);
  if (asked(io::Attributes::uid_set) && attributes.uid != static_cast<uid_t>(-1)) gone.st_uid = attributes.uid;
  if (asked(io::Attributes::gid_set) && attributes.gid != static_cast<gid_t>(-1)) gone.st_gid = attributes.gid;
  if (asked(io::Attributes::atime_set)) gone.st_atim = attributes.atime;
  if (asked(io::Attributes::mtime_set)) gone.st_mtim = attributes.mtime;
  gone.st_ctim = seal_time();
  return gone;
}

base::Result<struct stat> Tree::set_attributes(NodeId id, const io::Attributes& wanted, OpenFile* file,
                                               bool kill_privileges, const Caller& caller) {
  if (options_.read_only) return base::unexpected(EROFS);
  Node* node = NodeTable::from_id(id, nodes_);
  io::Attributes attributes = wanted;
  if (attributes.valid == 0 && kill_privileges) {
    auto cleared = clear_privileges(id, caller.credentials);
    return cleared ? get_attributes(id) : base::Unexpected{cleared.error()};
  }
  if (attributes.valid == 0) {
    // chown(-1, -1): changes no owner, but ctime and the set-id bits; these the kernel leaves to us, and to whom they
    // belong. It asks the same before fallocate(2), which whoever writes the file may do.
    const io::CredentialsPtr& who = caller.credentials;
    const OpenStatePtr open = open_of(node);
    const bool being_written = open && some_file(*open, true);
    if (who && who->uid != 0 && !S_ISDIR(node->type) && !being_written) {
      auto current = get_attributes(id);
      if (!current) return current;
      const bool clears = without_privileges(*current, who) != (current->st_mode & 07777);
      if (clears && who->uid != current->st_uid) return base::unexpected(EPERM);
    }
    attributes.valid = io::Attributes::uid_set | io::Attributes::gid_set;
    attributes.uid = static_cast<uid_t>(-1);
    attributes.gid = static_cast<gid_t>(-1);
  }
  // The same explicit times on all replicas, not each export's own idea of now.
  const struct timespec now = seal_time();
  if ((attributes.valid & io::Attributes::atime_set) != 0 && attributes.atime.tv_nsec == UTIME_NOW)
    attributes.atime = now;
  const bool sets_mtime = (attributes.valid & io::Attributes::mtime_set) != 0;
  if (sets_mtime && attributes.mtime.tv_nsec == UTIME_NOW) attributes.mtime = now;
  const bool sets_size = (attributes.valid & io::Attributes::size_set) != 0;
  if (sets_size && kill_privileges && (attributes.valid & io::Attributes::mode_set) == 0) {
    auto current = get_attributes(id);
    if (current && without_privileges(*current, caller.credentials) != (current->st_mode & 07777)) {
      attributes.valid |= io::Attributes::mode_set;
      attributes.mode = without_privileges(*current, caller.credentials);
    }
  }
  const OpenStatePtr open = open_of(node);
  if (sets_size && !sets_mtime) {
    attributes.valid |= io::Attributes::mtime_set;
    attributes.mtime = now;
  }
  const bool new_mtime = (attributes.valid & io::Attributes::mtime_set) != 0;
  bool unsealed = false;
  if (open) {
    const std::lock_guard lock(open->shared->mutex);
    unsealed = open->shared->unsealed;
  }
  // Through the descriptors where there is no name, or where the replicas are in the middle of being written.
  auto* tree_file = static_cast<OpenTreeFile*>(file);
  if (open && (unsealed || !nodes_.path_of(id))) {
    FilePtr writer = tree_file != nullptr && tree_file->file->writable() ? tree_file->file : some_file(*open, true);
    if (!writer) writer = some_file(*open, false);
    if (!writer) return base::unexpected(ESTALE);
    const auto left_out = [&] {
      const std::lock_guard state(open->shared->mutex);
      return open->shared->left_out;
    };
    const ExportSet left_out_before = left_out();
    auto done = writer->set_attributes(attributes);
    if (!done) return base::Unexpected{done.error()};
    if (sets_size) open->shared->cut_at(attributes.size);
    if (new_mtime) {
      const std::lock_guard state(open->shared->mutex);
      open->shared->mtime = attributes.mtime;
    }
    // A change of attributes is committed when it returns; a replica that missed it must be known to have.
    if (const auto path = nodes_.path_of(id); path && left_out() != left_out_before) {
      auto committed = writer->commit(*path, replica::File::Durability::flush);
      if (!committed) return base::Unexpected{committed.error()};
    }
    struct stat stat = to_stat(*done, node->inode);
    apply_unsealed(open, stat);
    return stat;
  }
  if (!nodes_.path_of(id)) return set_gone(node, attributes);
  auto changed = change(
      id,
      [&](ExportIndex) {
        auto operation = std::make_shared<io::Operation>(io::Kind::set_attributes);
        operation->attributes = attributes;
        return operation;
      },
      sets_size ? ledger::Why::missed_write : ledger::Why::metadata);
  if (changed && sets_size && open) open->shared->cut_at(attributes.size);
  return changed;
}

io::HandlePtr Tree::some_handle(NodeId id, ExportIndex& index) {
  Node* node = NodeTable::from_id(id, nodes_);
  const OpenStatePtr open = open_of(node);
  if (!open) return nullptr;
  const FilePtr file = some_file(*open, false);
  const ExportSet usable = file ? file->usable() : ExportSet{};
  if (usable.empty()) return nullptr;
  index = *usable.begin();
  return file->handle_of(index);
}

base::Result<void> Tree::on_handles(NodeId id, const Make& make) {
  Node* node = NodeTable::from_id(id, nodes_);
  const OpenStatePtr open = open_of(node);
  if (!open) return base::unexpected(ESTALE);
  FilePtr file = some_file(*open, true);
  if (!file) file = some_file(*open, false);
  if (!file) return base::unexpected(ESTALE);
  nas::Answers answers = array_.metadata(file->usable(), [&](ExportIndex index) {
    auto operation = make(index);
    operation->path.clear();
    operation->file = file->handle_of(index);
    return operation;
  });
  for (const nas::Answer& answer : answers) {
    if (!answer.ok()) return base::unexpected(base::told(answer.error));
  }
  return {};
}

base::Result<std::string> Tree::read_by_handle(NodeId id, io::Kind kind, const std::string& name) {
  ExportIndex index = 0;
  io::HandlePtr handle = some_handle(id, index);
  if (!handle) return base::unexpected(ESTALE);
  nas::Answers answers = array_.metadata(ExportSet::of(index), [&](ExportIndex) {
    auto operation = std::make_shared<io::Operation>(kind);
    operation->file = handle;
    operation->name = name;
    return operation;
  });
  nas::Answer& answer = answers.list.front();
  if (!answer.ok()) return base::unexpected(base::told(answer.error));
  return std::move(answer.operation->text);
}

base::Result<std::string> Tree::get_xattr(NodeId id, const std::string& name, const Caller&) {
  auto path = nodes_.path_of(id);
  if (!path) return read_by_handle(id, io::Kind::get_xattr, name);
  Node* node = NodeTable::from_id(id, nodes_);
  auto location =
      find_node(id, *path, S_ISDIR(node->type) ? ExportSet{} : nodes_.where(id), false, names_replicas(name), nullptr);
  if (!location) return base::Unexpected{location.error()};
  if (location->verdict.finding == replica::Finding::absent) return base::unexpected(ENOENT);
  if (names_replicas(name)) return describe_replicas(*location);
  int error = EIO;
  for (const ExportIndex index : location->verdict.good) {
    nas::Answers answers = array_.metadata(ExportSet::of(index), [&](ExportIndex) {
      auto operation = make_operation(io::Kind::get_xattr, *path);
      operation->name = name;
      return operation;
    });
    nas::Answer& answer = answers.list.front();
    if (answer.ok()) return std::move(answer.operation->text);
    error = answer.error;
    if (base::classify(error) == base::ErrorClass::file) break;
  }
  return base::unexpected(base::told(error));
}

std::string Tree::describe_replicas(const replica::Location& location) const {
  const replica::Verdict& verdict = location.verdict;
  const topology::Topology& topology = *location.topology;
  const bool directory = S_ISDIR(location.elected().stx_mode);
  const bool enough = topology.racks_of(verdict.good) >= topology.racks_to_hold(location.rules);
  std::string text = !verdict.stale.empty() ? "disagree\n" : enough ? "agree\n" : "degraded\n";
  const ExportSet home = placement::choose(location.order, topology, location.rules.replicas, topology.placeable());
  for (const ExportIndex index : location.order) {
    const char* state = nullptr;
    if (location.evidence.blamed.contains(index) && location.evidence.present.contains(index)) {
      state = "blamed";
    } else if (verdict.good.contains(index)) {
      state = "good";
    } else if (location.evidence.present.contains(index)) {
      state = "stale";
    } else if (location.not_reached.contains(index)) {
      state = "absent";
    } else if (!enough && home.contains(index)) {
      state = "missing";
    }
    if (state == nullptr) continue;
    const struct statx* stat = location.stat_of(index);
    text +=
        fmt::format("{} {} {}", topology.exports[index].name, topology.racks[topology.exports[index].rack].name, state);
    if (stat != nullptr) {
      text +=
          fmt::format(" {} {}.{:09}", directory ? 0 : stat->stx_size, stat->stx_mtime.tv_sec, stat->stx_mtime.tv_nsec);
    }
    text += '\n';
  }
  return text;
}

base::Result<std::string> Tree::list_xattr(NodeId id, const Caller& caller) {
  auto path = nodes_.path_of(id);
  if (!path) {
    auto names = read_by_handle(id, io::Kind::list_xattr, {});
    return names ? base::Result<std::string>(shown_to(caller, *names)) : names;
  }
  auto location = find_node(id, *path, nodes_.where(id), false, false, nullptr);
  if (!location) return base::Unexpected{location.error()};
  if (location->verdict.finding == replica::Finding::absent) return base::unexpected(ENOENT);
  int error = EIO;
  for (const ExportIndex index : location->verdict.good) {
    nas::Answers answers =
        array_.metadata(ExportSet::of(index), [&](ExportIndex) { return make_operation(io::Kind::list_xattr, *path); });
    nas::Answer& answer = answers.list.front();
    if (answer.ok()) return shown_to(caller, answer.operation->text);
    error = answer.error;
    if (base::classify(error) == base::ErrorClass::file) break;
  }
  return base::unexpected(base::told(error));
}

base::Result<void> Tree::set_xattr(NodeId id, const std::string& name, std::string_view value, int flags,
                                   const Caller& caller) {
  if (name.starts_with("user.rainfs.") || name.starts_with("trusted.rainfs.")) return base::unexpected(EPERM);
  const Make make = [&](ExportIndex) {
    auto operation = make_operation(io::Kind::set_xattr, {}, &caller);
    operation->name = name;
    operation->text = value;
    operation->flags = flags;
    return operation;
  };
  if (!nodes_.path_of(id)) return on_handles(id, make);
  auto done = change(id, make, ledger::Why::metadata);
  if (!done) return base::Unexpected{done.error()};
  return {};
}

base::Result<void> Tree::remove_xattr(NodeId id, const std::string& name, const Caller& caller) {
  if (name.starts_with("user.rainfs.")) return base::unexpected(EPERM);
  const Make make = [&](ExportIndex) {
    auto operation = make_operation(io::Kind::remove_xattr, {}, &caller);
    operation->name = name;
    return operation;
  };
  if (!nodes_.path_of(id)) return on_handles(id, make);
  auto done = change(id, make, ledger::Why::metadata);
  if (!done) return base::Unexpected{done.error()};
  return {};
}

}  // namespace rainfs::tree
