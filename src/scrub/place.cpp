// SPDX-License-Identifier: Apache-2.0
#include "place.hpp"

#include <fmt/format.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "copy.hpp"
#include "rainfs/log/log.hpp"

namespace rainfs::scrub {

namespace {

constexpr std::size_t most_instances_read = 256;  // of one path and export: writers withdraw their older ones
constexpr std::size_t largest_fact_bytes = 64 * 1024;

// Puts the export into an error of one of its operations.
base::Unexpected at_export(Session& session, ExportIndex index, base::Error error) {
  error.context = "export " + session.name_of(index) + (error.context.empty() ? "" : ": " + error.context);
  return base::unexpected(std::move(error));
}

io::Attributes ownership_of(const struct statx& stat) {
  io::Attributes attributes;
  attributes.valid = io::Attributes::uid_set | io::Attributes::gid_set;
  if (!S_ISLNK(stat.stx_mode)) attributes.valid |= io::Attributes::mode_set;
  attributes.mode = stat.stx_mode & 07777;
  attributes.uid = stat.stx_uid;
  attributes.gid = stat.stx_gid;
  return attributes;
}

io::Attributes times_of(const struct statx& stat) {
  io::Attributes attributes;
  attributes.valid = io::Attributes::atime_set | io::Attributes::mtime_set;
  attributes.atime = {stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec};
  attributes.mtime = {stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec};
  return attributes;
}

// A temporary file on the target while it is built; removed unless it was renamed away.
class Built {
 public:
  Built(Session& session, ExportIndex index) : session_(session), index_(index), path_(session.temporary()) {}
  ~Built() {
    if (exists_) perform_on(session_.array, index_, new_operation(Kind::unlink, path_));
  }
  Built(const Built&) = delete;
  Built& operator=(const Built&) = delete;
  const std::string& path() const { return path_; }
  void made() { exists_ = true; }
  void gone() { exists_ = false; }
  std::uint64_t inode = 0;

 private:
  Session& session_;
  ExportIndex index_;
  std::string path_;
  bool exists_ = false;
};

base::Result<void> build_file(Session& session, const Placement& placement, Built& built) {
  auto source = open_replica(session, placement.source, placement.path);
  if (!source && source.error().code == ENOENT) return base::unexpected(EAGAIN, "the source is gone");
  if (!source) return at_export(session, placement.source, source.error());
  if (!same_state(source->stat, placement.source_stat)) return base::unexpected(EAGAIN, "the source changed");
  auto create = new_operation(Kind::open, built.path());
  create->flags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW;
  create->mode = 0600;
  const replica::Done created = perform_on(session.array, placement.target, create);
  if (!created.ok()) return at_export(session, placement.target, base::Error(created.error, "creating"));
  built.made();
  built.inode = created.operation->stat.stx_ino;
  const OpenReplica target{placement.target, created.operation->handle, created.operation->stat};
  auto copied = copy_contents(session, *source, target);
  if (!copied) return copied;

  const auto set = [&](const io::Attributes& attributes) -> base::Result<void> {
    auto operation = new_operation(Kind::set_attributes, "");
    operation->file = target.file;
    operation->attributes = attributes;
    const replica::Done done = perform_on(session.array, placement.target, operation);
    if (!done.ok()) return at_export(session, placement.target, base::Error(done.error, "setting attributes"));
    return {};
  };
  if (auto done = set(ownership_of(source->stat)); !done) return done;
  auto attributed = replica::copy_xattrs(session.context, {placement.source, {}, source->file},
                                         {placement.target, {}, target.file});
  if (!attributed) return at_export(session, placement.target, attributed.error());
  // An ACL has changed the mode, and a new owner taken the setuid bit: as the source has it now.
  if (*attributed) {
    if (auto done = set(ownership_of(source->stat)); !done) return done;
  }
  if (auto done = set(times_of(source->stat)); !done) return done;
  auto sync = new_operation(Kind::fsync, "");
  sync->file = target.file;
  const replica::Done synced = perform_data_on(session.array, placement.target, sync);
  if (!synced.ok()) return at_export(session, placement.target, base::Error(synced.error, "fsync"));
  return {};
}

base::Result<void> build_special(Session& session, const Placement& placement, Built& built) {
  const struct statx& stat = placement.source_stat;
  auto make = new_operation(S_ISLNK(stat.stx_mode) ? Kind::symlink : Kind::mknod, built.path());
  if (S_ISLNK(stat.stx_mode)) {
    const replica::Done link =
        perform_on(session.array, placement.source, new_operation(Kind::readlink, placement.path));
    if (!link.ok()) return at_export(session, placement.source, base::Error(link.error, "reading the link"));
    make->text = link.operation->text;
  } else {
    make->mode = stat.stx_mode;
    make->device = makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
  }
  const replica::Done made = perform_on(session.array, placement.target, make);
  if (!made.ok()) return at_export(session, placement.target, base::Error(made.error, "creating"));
  built.made();
  built.inode = made.operation->stat.stx_ino;
  for (const io::Attributes& attributes : {ownership_of(stat), times_of(stat)}) {
    auto set = new_operation(Kind::set_attributes, built.path());
    set->attributes = attributes;
    const replica::Done done = perform_on(session.array, placement.target, set);
    if (!done.ok()) return at_export(session, placement.target, base::Error(done.error, "setting attributes"));
  }
  return {};
}

base::Result<void> build(Session& session, const Placement& placement, Built& built) {
  if (!placement.link_to.empty()) {
    auto link = new_operation(Kind::link, placement.link_to);
    link->path2 = built.path();
    const replica::Done linked = perform_on(session.array, placement.target, link);
    if (!linked.ok()) return at_export(session, placement.target, base::Error(linked.error, "linking"));
    built.made();
    built.inode = linked.operation->stat.stx_ino;
    return {};
  }
  return S_ISREG(placement.source_stat.stx_mode) ? build_file(session, placement, built)
                                                 : build_special(session, placement, built);
}

// Under its name, if that is free. NFS knows no RENAME_NOREPLACE: there a link does it.
base::Result<void> put_in_place(Session& session, const Placement& placement, Built& built) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto move = new_operation(Kind::rename, built.path());
    move->path2 = placement.path;
    move->flags = RENAME_NOREPLACE;
    int error = perform_on(session.array, placement.target, move).error;
    if (error == 0) {
      built.gone();
      // Renaming one name of a file to another name of it does nothing, and leaves both.
      if (!placement.link_to.empty()) perform_on(session.array, placement.target, new_operation(Kind::unlink, built.path()));
      return {};
    }
    if (error == EINVAL || error == EOPNOTSUPP || error == ENOSYS) {
      auto link = new_operation(Kind::link, built.path());
      link->path2 = placement.path;
      error = perform_on(session.array, placement.target, link).error;
      if (error == 0) return {};  // the temporary name goes with `built`
    }
    if (error == EEXIST) return base::unexpected(EAGAIN, "the name was taken meanwhile");
    if (error != ENOENT || attempt > 0) return at_export(session, placement.target, base::Error(error, "renaming into place"));
    auto parent = replica::ensure_directory(session.context, placement.target, replica::parent_of(placement.path));
    if (!parent) return at_export(session, placement.target, parent.error());
  }
  return base::unexpected(EAGAIN);
}

base::Result<void> sync_parent(Session& session, ExportIndex index, const std::string& path) {
  auto open = new_operation(Kind::open, replica::parent_of(path));
  open->flags = O_RDONLY | O_DIRECTORY;
  const replica::Done opened = perform_on(session.array, index, open);
  if (!opened.ok()) return at_export(session, index, base::Error(opened.error, "opening the directory"));
  auto sync = new_operation(Kind::fsync, "");
  sync->file = opened.operation->handle;
  const replica::Done synced = perform_data_on(session.array, index, sync);
  if (!synced.ok() && synced.error != EINVAL) return at_export(session, index, base::Error(synced.error, "fsync"));
  return {};
}

// A replica that must not stay: only if it is the one that was put there.
void take_away(Session& session, const Placement& placement, std::uint64_t inode) {
  const std::string aside = session.temporary();
  auto move = new_operation(Kind::rename, placement.path);
  move->path2 = aside;
  if (!perform_on(session.array, placement.target, move).ok()) return;
  const replica::Done there = perform_on(session.array, placement.target, new_operation(Kind::stat, aside));
  if (there.ok() && there.operation->stat.stx_ino != inode) {
    auto back = new_operation(Kind::link, aside);
    back->path2 = placement.path;
    perform_on(session.array, placement.target, back);
  }
  perform_on(session.array, placement.target, new_operation(Kind::unlink, aside));
}

base::Result<std::vector<ledger::Instance>> blame(Session& session, const Placement& placement) {
  const auto topology = session.array.topology();
  const ExportSet others = topology->fact_holders() - topology->rack_members(placement.target);
  if (others.empty()) return std::vector<ledger::Instance>{};  // an array of one rack has no memory but itself
  return session.context.ledger.record(placement.path, ExportSet::of(placement.target), ledger::Why::being_copied,
                                       std::max(1U, topology->rules_for(placement.path).replicas), ledger::Scope::entry,
                                       false);
}

}  // namespace

bool same_state(const struct statx& a, const struct statx& b) {
  return a.stx_ino == b.stx_ino && replica::stamp_of(a) == replica::stamp_of(b) &&
         a.stx_ctime.tv_sec == b.stx_ctime.tv_sec && a.stx_ctime.tv_nsec == b.stx_ctime.tv_nsec;
}

Blame read_blame(Session& session, const std::string& path, ExportIndex target) {
  Blame blame;
  blame.instances = session.context.ledger.list(path, target, ledger::Scope::entry);
  const auto topology = session.array.topology();
  std::size_t read = 0;
  for (const ledger::Instance& instance : blame.instances) {
    if (++read > most_instances_read) {
      blame.unreadable = true;
      break;
    }
    auto operation = new_operation(Kind::read_file, instance.path);
    operation->length = largest_fact_bytes;
    const replica::Done done = perform_on(session.array, instance.holder, operation);
    if (done.error == ENOENT) continue;
    auto fact = done.ok() ? ledger::parse_fact(done.operation->text, *topology)
                          : base::Result<ledger::Fact>(base::unexpected(done.error));
    if (!fact) {
      blame.unreadable = true;
      continue;
    }
    blame.whys |= Blame::bit(fact->why);
  }
  return blame;
}

bool source_holds(Session& session, const Placement& placement) {
  auto stat = new_operation(Kind::stat, placement.path);
  stat->flags = AT_STATX_FORCE_SYNC;
  const replica::Done now = perform_on(session.array, placement.source, stat);
  if (!now.ok() || !same_state(now.operation->stat, placement.source_stat)) return false;
  if (session.being_renamed(placement.path)) return false;
  return !session.context.ledger.ask(placement.path).blamed.contains(placement.source);
}

base::Result<void> place(Session& session, const Placement& placement) {
  if (!session.lease->wait_until_seen()) return base::unexpected(EINTR, "the lease was lost");
  replica::Context& context = session.context;
  auto recorded = blame(session, placement);
  if (!recorded) return base::Unexpected{recorded.error()};
  const std::vector<ledger::Instance> instances =
      context.ledger.list(placement.path, placement.target, ledger::Scope::entry);
  Built built(session, placement.target);
  auto done = build(session, placement, built);
  if (done && !source_holds(session, placement)) done = base::unexpected(EAGAIN, "the source changed");
  if (!done) {
    context.ledger.withdraw(*recorded);  // nothing has changed on the target
    return done;
  }
  if (placement.replaces != 0) {
    auto aside = replica::move_aside(context, placement.target, placement.path, placement.aside, placement.replaces);
    if (!aside && aside.error().code != ENOENT) {
      context.ledger.withdraw(*recorded);
      if (aside.error().code == ESTALE) return base::unexpected(EAGAIN);
      return at_export(session, placement.target, aside.error());
    }
  }
  done = put_in_place(session, placement, built);
  if (!done) return done;
  session.touched(placement.target, replica::parent_of(placement.path));
  done = sync_parent(session, placement.target, placement.path);
  if (!done) return done;  // it stays, and stays blamed
  if (!source_holds(session, placement)) {
    take_away(session, placement, built.inode);
    return base::unexpected(EAGAIN, "the source changed");
  }
  context.ledger.clear(instances);
  ++session.counters.copies;
  return {};
}

base::Result<void> confirm(Session& session, const Placement& placement,
                           const std::vector<ledger::Instance>& instances) {
  if (!source_holds(session, placement)) return base::unexpected(EAGAIN, "the source changed");
  session.context.ledger.clear(instances);
  return {};
}

base::Result<void> adjust(Session& session, const Placement& placement) {
  const auto set = [&](const io::Attributes& attributes) -> base::Result<void> {
    auto operation = new_operation(Kind::set_attributes, placement.path);
    operation->attributes = attributes;
    const replica::Done done = perform_on(session.array, placement.target, operation);
    if (!done.ok()) return at_export(session, placement.target, base::Error(done.error, "setting attributes"));
    return {};
  };
  if (auto done = set(ownership_of(placement.source_stat)); !done) return done;
  if (!S_ISLNK(placement.source_stat.stx_mode)) {
    auto attributed = replica::copy_xattrs(session.context, {placement.source, placement.path, nullptr},
                                           {placement.target, placement.path, nullptr});
    if (!attributed) return at_export(session, placement.target, attributed.error());
    if (*attributed) {
      if (auto done = set(ownership_of(placement.source_stat)); !done) return done;
    }
  }
  return S_ISDIR(placement.source_stat.stx_mode) ? base::Result<void>{} : set(times_of(placement.source_stat));
}

}  // namespace rainfs::scrub
