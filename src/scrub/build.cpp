// SPDX-License-Identifier: Apache-2.0
// Making a replica aside, under a temporary name on its export.
#include <sys/sysmacros.h>

#include "copy.hpp"
#include "place_internal.hpp"

namespace rainfs::scrub {

namespace {

// Of local disks one sync of the whole file system makes many small files durable at the price of one.
constexpr std::uint64_t small_bytes = 1 << 20;

base::Result<void> set_attributes(Session& session, ExportIndex index, const io::HandlePtr& file,
                                  const std::string& path, const io::Attributes& attributes) {
  if (attributes.valid == 0) return {};
  auto operation = new_operation(Kind::set_attributes, path);
  operation->file = file;
  operation->attributes = attributes;
  operation->flags = 1;
  const replica::Done done = perform_on(session.array, index, operation);
  if (!done.ok()) return at_export(session, index, base::Error(done.error, "setting attributes"));
  return {};
}

base::Result<void> build_file(Session& session, Building& built) {
  const Placement& placement = built.placement;
  auto source = open_replica(session, placement.source, placement.path);
  if (!source && source.error().code == ENOENT) return base::unexpected(EAGAIN, "the source is gone");
  if (!source) return at_export(session, placement.source, source.error());
  if (!same_state(source->stat, placement.source_stat)) return base::unexpected(EAGAIN, "the source changed");
  auto create = new_operation(Kind::open, built.path);
  create->flags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW;
  create->mode = (source->stat.stx_mode & 0777) | S_IRUSR | S_IWUSR;  // (nobody else comes there)
  const replica::Done created = perform_on(session.array, placement.target, create);
  if (!created.ok()) return at_export(session, placement.target, base::Error(created.error, "creating"));
  built.made(created.operation->stat);
  const OpenReplica target{placement.target, created.operation->handle, created.operation->stat};
  auto copied = copy_contents(session, *source, target);
  if (!copied) return copied;

  const auto set = [&](const io::Attributes& attributes) {
    return set_attributes(session, placement.target, target.file, {}, attributes);
  };
  // A new owner takes capabilities and the setuid bit away, and an ACL changes the mode: in this order.
  if (target.stat.stx_uid != source->stat.stx_uid || target.stat.stx_gid != source->stat.stx_gid) {
    if (auto done = set(owner_of(source->stat)); !done) return done;
  }
  auto attributed =
      replica::copy_xattrs(session.context, {placement.source, {}, source->file}, {placement.target, {}, target.file});
  if (!attributed) return at_export(session, placement.target, attributed.error());
  io::Attributes rest = times_of(source->stat);
  if (*attributed || target.stat.stx_mode != source->stat.stx_mode) {
    rest.valid |= io::Attributes::mode_set;
    rest.mode = source->stat.stx_mode & 07777;
  }
  if (auto done = set(rest); !done) return done;
  if (target.file->engine().completes_inline() && source->stat.stx_size < small_bytes) {
    built.unsynced = true;
    return {};
  }
  auto sync = new_operation(Kind::fsync, "");
  sync->file = target.file;
  const replica::Done synced = perform_data_on(session.array, placement.target, sync);
  if (!synced.ok()) return at_export(session, placement.target, base::Error(synced.error, "fsync"));
  return {};
}

base::Result<void> build_special(Session& session, Building& built) {
  const Placement& placement = built.placement;
  const struct statx& stat = placement.source_stat;
  auto make = new_operation(S_ISLNK(stat.stx_mode) ? Kind::symlink : Kind::mknod, built.path);
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
  built.made(made.operation->stat);
  for (const io::Attributes& attributes : {owner_of(stat), mode_of(stat), times_of(stat)}) {
    if (auto done = set_attributes(session, placement.target, nullptr, built.path, attributes); !done) return done;
  }
  return {};
}

base::Result<void> build_link(Session& session, Building& built) {
  const Placement& placement = built.placement;
  auto link = new_operation(Kind::link, placement.link_to);
  link->path2 = built.path;
  const replica::Done linked = perform_on(session.array, placement.target, link);
  if (!linked.ok()) return at_export(session, placement.target, base::Error(linked.error, "linking"));
  built.made(linked.operation->stat);
  return {};
}

}  // namespace

base::Unexpected at_export(Session& session, ExportIndex index, base::Error error) {
  error.context = "export " + session.name_of(index) + (error.context.empty() ? "" : ": " + error.context);
  return base::unexpected(std::move(error));
}

io::Attributes owner_of(const struct statx& stat) {
  io::Attributes attributes;
  attributes.valid = io::Attributes::uid_set | io::Attributes::gid_set;
  attributes.uid = stat.stx_uid;
  attributes.gid = stat.stx_gid;
  return attributes;
}

io::Attributes mode_of(const struct statx& stat) {
  io::Attributes attributes;
  if (!S_ISLNK(stat.stx_mode)) attributes.valid = io::Attributes::mode_set;
  attributes.mode = stat.stx_mode & 07777;
  return attributes;
}

io::Attributes times_of(const struct statx& stat) {
  io::Attributes attributes;
  attributes.valid = io::Attributes::atime_set | io::Attributes::mtime_set;
  attributes.atime = {stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec};
  attributes.mtime = {stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec};
  return attributes;
}

Building::Building(Session& session, Placement placement_in)
    : placement(std::move(placement_in)), path(session.temporary()), session_(session) {}

Building::~Building() {
  if (exists_) perform_on(session_.array, placement.target, new_operation(Kind::unlink, path));
}

void Building::made(const struct statx& stat) {
  exists_ = true;
  inode = stat.stx_ino;
}

base::Result<std::unique_ptr<Building>> build(Session& session, const Placement& placement) {
  auto built = std::make_unique<Building>(session, placement);
  // Those recorded later on are about what the copy may lack.
  if (placement.blamed)
    built->superseded = session.context.ledger.list(placement.path, placement.target, ledger::Scope::entry);
  const bool file = S_ISREG(placement.source_stat.stx_mode);
  auto done = !placement.link_to.empty() ? build_link(session, *built)
              : file                     ? build_file(session, *built)
                                         : build_special(session, *built);
  if (!done) return base::Unexpected{done.error()};
  return built;
}

}  // namespace rainfs::scrub
