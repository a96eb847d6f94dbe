// SPDX-License-Identifier: Apache-2.0
// Making something new: files, directories, links of all kinds.
#include <algorithm>
#include <utility>

#include "rainfs/log/log.hpp"
#include "rainfs/replica/upkeep.hpp"
#include "tree_internal.hpp"

namespace rainfs::tree {

namespace {

constexpr int most_rounds = 16;  // of stepping over exports that fail; an array has few racks

ExportSet without_full(nas::Array& array, ExportSet set) {
  ExportSet out;
  for (const ExportIndex index : set) {
    if (!array.at(index).full()) out.insert(index);
  }
  return out;
}

ExportIndex first_in_order(const placement::Order& order, ExportSet set) {
  for (const ExportIndex index : order) {
    if (set.contains(index)) return index;
  }
  return *set.begin();
}

}  // namespace

struct timespec Tree::seal_time() const {
  struct timespec now = array_.clock().realtime();
  const auto granularity = static_cast<long>(array_.topology()->time_granularity_ns);
  if (granularity > 1) now.tv_nsec -= now.tv_nsec % granularity;
  return now;
}

base::Result<void> Tree::ensure_directory(ExportIndex index, const std::string& path) {
  return replica::ensure_directory(context_, index, path);
}

// One round on some exports. Gives those to step over; an error ends the whole operation.
base::Result<ExportSet> Tree::place_on(const std::string& path, ExportSet targets, const Make& make, Placed& placed,
                                       bool deciding) {
  nas::Answers answers = array_.metadata(targets, make);
  const ExportSet no_parent = answers.with_error(ENOENT);
  // It may have been renamed there, and nowhere else yet.
  if (!no_parent.empty() && std::exchange(placed.look_for_renames, false) &&
      half_renamed_now(path) == HalfRenamed::yes) {
    placed.where |= answers.ok();
    return base::unexpected(ESTALE);
  }
  for (const ExportIndex index : no_parent) {
    auto ensured = ensure_directory(index, base::parent_of(path));
    if (!ensured) {
      if (base::classify(ensured.error().code) == base::ErrorClass::file)
        answers.of(index)->error = ensured.error().code;
      continue;
    }
    nas::Answers again = array_.metadata(ExportSet::of(index), make);
    *answers.of(index) = std::move(again.list.front());
  }
  ExportSet step_over;
  int file_error = 0;
  for (nas::Answer& answer : answers) {
    if (answer.ok()) {
      placed.where.insert(answer.index);
      placed.replicas.push_back(std::move(answer));
      continue;
    }
    step_over.insert(answer.index);
    switch (base::classify(answer.error)) {
      case base::ErrorClass::absent:
        // Nobody knows whether it did it: what it may hold is not to be believed.
        if (answer.operation || answer.error == ETIMEDOUT) {
          placed.left_out.insert(answer.index);
          placed.unknown.insert(answer.index);
          if (answer.error == ETIMEDOUT) placed.hanging.insert(answer.index);
        }
        break;
      case base::ErrorClass::no_space:
        break;
      default:
        if (answer.error == EEXIST && !deciding) placed.left_out.insert(answer.index);
        file_error = answer.error;
    }
  }
  if (file_error == EEXIST) {
    // A leftover that is known not to count does not make the name taken; another's file does.
    auto location = find(path, {}, false, true, nullptr);
    if (!location) return base::Unexpected{location.error()};
    ExportSet others = location->evidence.present - ledger_.ask(path).blamed - placed.where;
    others = others - ours(path, placed, others & placed.unknown);
    if (!others.empty()) return base::unexpected(EEXIST);
    return step_over;
  }
  if (file_error != 0) return base::unexpected(file_error);
  return step_over;
}

// True if nothing of it remains, may still happen, or would be believed: then it has not been made, as its error says.
bool Tree::undo(const std::string& path, const Placed& placed, bool directory, int error) {
  const auto remove = [&](ExportSet set) {
    const nas::Answers answers = array_.metadata(
        set, [&](ExportIndex) { return make_operation(directory ? io::Kind::rmdir : io::Kind::unlink, path); });
    return answers.ok() | answers.with_error(ENOENT);
  };
  // Where nobody knows whether it was made, only what is ours goes.
  ExportSet reached;
  const ExportSet mine = ours(path, placed, placed.unknown, &reached);
  const ExportSet removed = remove(placed.where | mine);
  const ExportSet left = ((placed.where | mine) - removed) | (placed.unknown - reached) | placed.hanging;
  if (left.empty()) return true;
  // (Where another's file has the name it is not to be blamed for ours.)
  if (directory || error == EEXIST) return false;
  return ledger_.record(path, left, ledger::Why::removed, placed.rules.replicas).has_value();
}

// Those exports of a set that hold what this operation made there: no two have the same time.
ExportSet Tree::ours(const std::string& path, const Placed& placed, ExportSet among, ExportSet* reached) {
  ExportSet set;
  const nas::Answers answers =
      array_.metadata(among, [&](ExportIndex) { return make_operation(io::Kind::stat, path); });
  if (reached != nullptr) *reached = answers.answered();
  for (const nas::Answer& answer : answers) {
    if (!answer.ok()) continue;
    const struct statx_timestamp& theirs = answer.operation->stat.stx_mtime;
    if (theirs.tv_sec == placed.mtime.tv_sec && theirs.tv_nsec == placed.mtime.tv_nsec) set.insert(answer.index);
  }
  return set;
}

// Another node that sees other exports than we do may have made the same name where we do not look: that nobody has
// needs as much proof now as it did before.
base::Result<void> Tree::made_alone(const std::string& path, bool everywhere, const Placed& placed) {
  const auto topology = array_.topology();
  const nas::Answers answers = array_.metadata(topology->data_exports() - placed.where,
                                               [&](ExportIndex) { return make_operation(io::Kind::stat, path); });
  const ledger::Testimony testimony = ledger_.ask(path);
  const ExportSet blamed = testimony.blamed;
  const ExportSet others = answers.ok() - blamed;
  if (!everywhere && !(others - ours(path, placed, others & placed.unknown)).empty()) return base::unexpected(EEXIST);
  const ExportSet lacking = answers.with_error(ENOENT) | answers.with_error(ENOTDIR) | answers.ok();
  if (placed.rules.quorum == topology::Quorum::lenient) return {};
  const bool heard = topology->ledger_heard(placed.rules, testimony.answered);
  if (heard && topology->complete_racks((lacking - blamed) | placed.where) >= topology->racks_to_deny(placed.rules))
    return {};
  return base::unexpected(EIO, "too few racks answer to tell whether another node has made it");
}

base::Result<Tree::Placed> Tree::place(const std::string& path, bool everywhere, const Make& make) {
  (void)wait_for_renames(path);
  auto placed = place_once(path, everywhere, make, true);
  if (placed || placed.error().code != ESTALE) return placed;
  (void)wait_for_known_renames(path);
  return place_once(path, everywhere, make, false);
}

// ESTALE: what it would lie in is being renamed, and nothing was made.
base::Result<Tree::Placed> Tree::place_once(const std::string& path, bool everywhere, const Make& make,
                                            bool look_for_renames) {
  const auto topology = array_.topology();
  const placement::Order order = placement::order(path, *topology);
  Placed placed;
  placed.look_for_renames = look_for_renames;
  placed.rules = topology->rules_for(path);
  placed.mtime = make(0)->attributes.mtime;
  const auto undone = [&](const base::Error& error) -> base::Unexpected {
    return undo(path, placed, everywhere, error.code) ? base::Unexpected{error}
                                                      : base::unexpected(EIO, "it may have been made all the same");
  };
  const ExportSet data = topology->data_exports();
  const unsigned wanted = topology->racks_to_hold(placed.rules);
  const ExportSet online = array_.online();
  ExportSet usable = array_.writable(online & (everywhere ? data : topology->placeable()));
  if (online.empty()) return base::unexpected(EIO, "no export can be reached");
  if (usable.empty()) return base::unexpected(EROFS);
  // What is put on an export that is blamed about this name would not be believed.
  if (!(usable & array_.blamed_somewhere()).empty()) usable = usable - ledger_.ask(path).blamed;
  ExportSet roomy = everywhere ? usable : without_full(array_, usable);
  bool pressed = false;  // full exports are tried when the others do not suffice
  const auto choose = [&]() -> ExportSet {
    if (everywhere) return roomy - placed.where;
    const unsigned more = wanted - std::min(wanted, topology->racks_of(placed.where));
    ExportSet chosen = placement::choose(order, *topology, more, roomy, placed.where);
    if (topology->racks_of(chosen | placed.where) < wanted && !pressed) {
      pressed = true;
      roomy |= usable;
      chosen = placement::choose(order, *topology, more, roomy, placed.where);
    }
    return chosen;
  };

  int last_error = EIO;
  for (int round = 0; round < most_rounds; ++round) {
    ExportSet targets = choose();
    if (targets.empty()) break;
    const bool deciding = placed.where.empty();
    if (deciding) targets = ExportSet::of(first_in_order(order, targets));
    auto failed = place_on(path, targets, make, placed, deciding);
    if (!failed) {
      const bool tolerable = everywhere && topology->racks_of(placed.where) >= wanted && failed.error().code != EEXIST;
      if (tolerable) break;
      return undone(failed.error());
    }
    for (const ExportIndex index : *failed) {
      if (array_.at(index).full()) last_error = ENOSPC;
    }
    roomy = roomy - *failed;
    usable = usable - *failed;
    if (!everywhere && topology->racks_of(placed.where) >= wanted) break;
  }
  if (placed.where.empty()) return undone(base::Error(last_error));
  if (topology->racks_of(placed.where) < std::min(placed.rules.min_replicas, wanted)) {
    return undone(base::Error(last_error, "fewer than min_replicas copies"));
  }
  if (online != data || array_.online() != data) {
    if (auto alone = made_alone(path, everywhere, placed); !alone) return undone(alone.error());
  }
  auto recorded =
      replica::record_shortfall(context_, path, placed.where, placed.left_out, {}, ledger::Why::being_copied);
  if (!recorded) return undone(recorded.error());
  if (auto known = replica::remember_directories(context_, path, placed.where); !known) return undone(known.error());
  std::sort(placed.replicas.begin(), placed.replicas.end(),
            [](const nas::Answer& a, const nas::Answer& b) { return a.index < b.index; });
  return placed;
}

base::Result<NodeTable::Found> Tree::found_of(const Placed& placed, const std::string& path) const {
  NodeTable::Found found;
  found.where = placed.where;
  for (const nas::Answer& answer : placed.replicas) {
    found.identities.push_back(identity_of(answer.index, answer.operation->stat));
    found.type = answer.operation->stat.stx_mode & S_IFMT;
  }
  found.inode = S_ISDIR(found.type) ? directory_inode(path)
                                    : file_inode(found.identities.front().index, found.identities.front().inode);
  return found;
}

struct stat Tree::stat_of(const Placed& placed, const Node* node) {
  struct statx stat = placed.replicas.front().operation->stat;
  for (const nas::Answer& answer : placed.replicas) replica::take_newer_times(stat, answer.operation->stat);
  return to_stat(stat, node->inode);
}

base::Result<Entry> Tree::make_entry(NodeId parent, std::string_view name, bool everywhere, const Make& make) {
  if (options_.read_only) return base::unexpected(EROFS);
  if (is_private(parent, name)) return base::unexpected(EPERM);
  const auto path = nodes_.path_of(parent, name);
  if (!path) return base::unexpected(ENOENT);
  DirectoryChange change(nodes_, parent);
  auto placed = place(*path, everywhere, make);
  if (!placed) return base::Unexpected{placed.error()};
  change.only(placed->where);
  auto found = found_of(*placed, *path);
  Node* node = nodes_.bind(parent, name, *found);
  Entry entry;
  entry.node = nodes_.id_of(node);
  entry.attributes = stat_of(*placed, node);
  return entry;
}

base::Result<Entry> Tree::make_directory(NodeId parent, std::string_view name, mode_t mode, const Caller& caller) {
  const auto path = nodes_.path_of(parent, name);
  if (!path) return base::unexpected(ENOENT);
  const struct timespec now = seal_time();
  return make_entry(parent, name, true, [&](ExportIndex) {
    auto operation = make_operation(io::Kind::mkdir, *path, &caller);
    operation->mode = mode;
    operation->attributes.valid = io::Attributes::mtime_set;
    operation->attributes.mtime = now;
    return operation;
  });
}

base::Result<Entry> Tree::make_node(NodeId parent, std::string_view name, mode_t mode, dev_t device,
                                    const Caller& caller) {
  const auto path = nodes_.path_of(parent, name);
  if (!path) return base::unexpected(ENOENT);
  const struct timespec now = seal_time();
  return make_entry(parent, name, false, [&](ExportIndex) {
    auto operation = make_operation(io::Kind::mknod, *path, &caller);
    operation->mode = mode;
    operation->device = device;
    operation->attributes.valid = io::Attributes::mtime_set;
    operation->attributes.mtime = now;
    return operation;
  });
}

base::Result<Entry> Tree::make_symlink(NodeId parent, std::string_view name, const std::string& target,
                                       const Caller& caller) {
  const auto path = nodes_.path_of(parent, name);
  if (!path) return base::unexpected(ENOENT);
  const struct timespec now = seal_time();
  return make_entry(parent, name, false, [&](ExportIndex) {
    auto operation = make_operation(io::Kind::symlink, *path, &caller);
    operation->text = target;
    operation->attributes.valid = io::Attributes::mtime_set;
    operation->attributes.mtime = now;
    return operation;
  });
}

base::Result<Created> Tree::create(NodeId parent, std::string_view name, int flags, mode_t mode, const Caller& caller) {
  if (options_.read_only) return base::unexpected(EROFS);
  if (is_private(parent, name)) return base::unexpected(EPERM);
  const auto path = nodes_.path_of(parent, name);
  if (!path) return base::unexpected(ENOENT);
  const struct timespec now = seal_time();
  DirectoryChange change(nodes_, parent);
  auto placed = place(*path, false, [&](ExportIndex) {
    auto operation = make_operation(io::Kind::open, *path, &caller);
    operation->flags = (flags & O_ACCMODE) | O_CREAT | O_EXCL | O_NOFOLLOW;
    operation->mode = mode;
    operation->attributes.valid = io::Attributes::mtime_set;
    operation->attributes.mtime = now;
    return operation;
  });
  if (!placed && placed.error().code == EEXIST && (flags & O_EXCL) == 0) {
    // Another node was faster: what it made is opened.
    auto entry = lookup(parent, name, caller);
    if (!entry) return base::Unexpected{entry.error()};
    auto opened = open(entry->node, flags & ~(O_CREAT | O_EXCL), false, caller);
    if (!opened) {
      forget(entry->node, 1);
      return base::Unexpected{opened.error()};
    }
    return Created{*entry, std::move(*opened)};
  }
  if (!placed) return base::Unexpected{placed.error()};
  change.only(placed->where);
  auto found = found_of(*placed, *path);
  Node* node = nodes_.bind(parent, name, *found);
  Created created;
  created.entry.node = nodes_.id_of(node);
  created.entry.attributes = stat_of(*placed, node);
  OpenStatePtr open = open_state(created.entry.node);
  std::vector<replica::File::Replica> replicas;
  for (nas::Answer& answer : placed->replicas) {
    replicas.push_back({answer.index, std::move(answer.operation->handle), answer.operation->stat.stx_ino});
  }
  {
    const std::lock_guard lock(open->shared->mutex);
    open->shared->left_out |= placed->left_out;
  }
  auto file = replica::File::adopt(context_, std::move(replicas), flags, open->shared, placed->rules);
  auto wrapped = wrap(created.entry.node, open, std::move(file), flags);
  wrapped->credentials = caller.credentials;
  choose_way(created.opened, *wrapped);
  created.opened.file = std::move(wrapped);
  return created;
}

base::Result<Created> Tree::create_unnamed(NodeId parent, int flags, mode_t mode, const Caller& caller) {
  if (options_.read_only) return base::unexpected(EROFS);
  auto path = path_or_gone(parent);
  if (!path) return base::Unexpected{path.error()};
  // It has no name to place it by: spread by a number of its own.
  const auto topology = array_.topology();
  const topology::Rules rules = topology->rules_for(*path);
  const std::string salt = *path + "/#" + node_name_ + std::to_string(sequence_.fetch_add(1));
  const ExportSet usable = without_full(array_, array_.writable(array_.online() & topology->placeable()));
  const ExportSet chosen = placement::choose(placement::order(salt, *topology), *topology, rules.replicas, usable);
  for (const ExportIndex index : chosen) {
    auto ensured = ensure_directory(index, *path);
    if (!ensured) return base::Unexpected{ensured.error()};
  }
  const struct timespec now = seal_time();
  nas::Answers answers = array_.metadata(chosen, [&](ExportIndex) {
    auto operation = make_operation(io::Kind::open_tmpfile, *path, &caller);
    operation->flags = flags & (O_ACCMODE | O_EXCL);
    operation->mode = mode;
    operation->attributes.valid = io::Attributes::mtime_set;
    operation->attributes.mtime = now;
    return operation;
  });
  Placed placed;
  placed.rules = rules;
  for (nas::Answer& answer : answers) {
    if (!answer.ok()) return base::unexpected(base::told(answer.error));  // descriptors close, nothing has a name
    placed.where.insert(answer.index);
    placed.replicas.push_back(std::move(answer));
  }
  if (placed.where.empty()) return base::unexpected(EIO);
  auto found = found_of(placed, *path);
  Node* node = nodes_.bind_unnamed(*found);
  Created created;
  created.entry.node = nodes_.id_of(node);
  created.entry.attributes = stat_of(placed, node);
  OpenStatePtr open = open_state(created.entry.node);
  std::vector<replica::File::Replica> replicas;
  for (nas::Answer& answer : placed.replicas) {
    replicas.push_back({answer.index, std::move(answer.operation->handle), answer.operation->stat.stx_ino});
  }
  auto file = replica::File::adopt(context_, std::move(replicas), flags, open->shared, rules);
  auto wrapped = wrap(created.entry.node, open, std::move(file), flags);
  wrapped->credentials = caller.credentials;
  choose_way(created.opened, *wrapped);
  created.opened.file = std::move(wrapped);
  return created;
}

}  // namespace rainfs::tree
