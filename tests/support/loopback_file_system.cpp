// SPDX-License-Identifier: Apache-2.0
#include "loopback_file_system.hpp"

#include <dirent.h>
#include <sys/file.h>
#include <sys/sysmacros.h>

#include <chrono>
#include <thread>

namespace rainfs::test {

namespace {

struct File final : tree::OpenFile {
  io::HandlePtr handle;
  tree::NodeId node = 0;
};
struct Directory final : tree::OpenDirectory {
  tree::NodeId node = 0;
  std::vector<io::DirectoryEntry> entries;
};

const io::HandlePtr& handle_of(tree::OpenFile& file) {
  return static_cast<File&>(file).handle;
}

struct stat to_stat(const struct statx& from) {
  struct stat to {};
  to.st_dev = makedev(from.stx_dev_major, from.stx_dev_minor);
  to.st_ino = from.stx_ino;
  to.st_mode = from.stx_mode;
  to.st_nlink = from.stx_nlink;
  to.st_uid = from.stx_uid;
  to.st_gid = from.stx_gid;
  to.st_rdev = makedev(from.stx_rdev_major, from.stx_rdev_minor);
  to.st_size = static_cast<off_t>(from.stx_size);
  to.st_blksize = static_cast<blksize_t>(from.stx_blksize);
  to.st_blocks = static_cast<blkcnt_t>(from.stx_blocks);
  to.st_atim = {from.stx_atime.tv_sec, from.stx_atime.tv_nsec};
  to.st_mtim = {from.stx_mtime.tv_sec, from.stx_mtime.tv_nsec};
  to.st_ctim = {from.stx_ctime.tv_sec, from.stx_ctime.tv_nsec};
  return to;
}

template <typename Try>
base::Result<void> until_granted(const Try& attempt, bool wait, const std::atomic<bool>& interrupted) {
  for (;;) {
    base::Result<void> result = attempt();
    if (result || !wait || result.error().code != EAGAIN) return result;
    if (interrupted) return base::unexpected(EINTR);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

}  // namespace

std::unique_ptr<LoopbackFileSystem> LoopbackFileSystem::open_root(const std::string& directory) {
  std::unique_ptr<LoopbackFileSystem> made(new LoopbackFileSystem);
  return made->connect(directory) ? std::move(made) : nullptr;
}

base::Result<void> LoopbackFileSystem::connect(const std::string& directory) {
  engine_ = io::make_direct_engine();
  io::Operation open(io::Kind::open_root);
  open.text = directory;
  if (auto done = run(open); !done) return done;
  root_ = open.handle;
  nodes_.begin({makedev(open.stat.stx_dev_major, open.stat.stx_dev_minor), open.stat.stx_ino});
  return {};
}

base::Result<void> LoopbackFileSystem::run(io::Operation& operation) const {
  io::perform(operation, *engine_);
  if (operation.error != 0) return base::unexpected(operation.error);
  return {};
}

base::Result<void> LoopbackFileSystem::run_on(tree::NodeId node, io::Operation& operation,
                                              const tree::Caller* caller) const {
  auto place = nodes_.place_of(node);
  if (!place) return base::unexpected(ESTALE);
  if (!place->path && !place->open) return base::unexpected(ENOENT);
  operation.file = place->path ? root_ : place->open;
  operation.path = std::move(place->path).value_or("");
  if (caller != nullptr) operation.credentials = caller->credentials;
  return run(operation);
}

base::Result<void> LoopbackFileSystem::run_beneath(tree::NodeId parent, std::string_view name, io::Operation& operation,
                                                   const tree::Caller& caller) const {
  auto path = nodes_.path_in(parent, name);
  if (!path) return base::unexpected(ENOENT);
  operation.path = std::move(*path);
  operation.file = root_;
  operation.credentials = caller.credentials;
  return run(operation);
}

tree::Entry LoopbackFileSystem::counted(const std::string& path, const struct statx& stat, const io::HandlePtr& open,
                                        bool nameless) {
  tree::Entry entry;
  entry.attributes = to_stat(stat);
  entry.node = nodes_.count({entry.attributes.st_dev, stat.stx_ino},
                            nameless ? std::nullopt : std::optional<std::string>(path), open);
  return entry;
}

base::Result<tree::Entry> LoopbackFileSystem::lookup(tree::NodeId parent, std::string_view name,
                                                     const tree::Caller& caller) {
  io::Operation stat(io::Kind::stat);
  tree::Caller daemon = caller;  // the kernel has checked; a lookup needs no right on the file
  daemon.credentials = nullptr;
  if (auto done = run_beneath(parent, name, stat, daemon); !done) return base::unexpected(done.error());
  return counted(stat.path, stat.stat, nullptr, false);
}

void LoopbackFileSystem::forget(tree::NodeId node, std::uint64_t count) {
  nodes_.forget(node, count);
}

base::Result<struct stat> LoopbackFileSystem::get_attributes(tree::NodeId node) {
  io::Operation stat(io::Kind::stat);
  if (auto done = run_on(node, stat); !done) return base::unexpected(done.error());
  return to_stat(stat.stat);
}

base::Result<void> LoopbackFileSystem::clear_privileges(const io::HandlePtr& file) const {
  io::Operation stat(io::Kind::stat);
  stat.file = file;
  if (auto done = run(stat); !done) return done;
  mode_t mode = stat.stat.stx_mode;
  if (!S_ISREG(mode)) return {};
  mode &= ~static_cast<mode_t>(S_ISUID);
  if ((mode & S_IXGRP) != 0) mode &= ~static_cast<mode_t>(S_ISGID);
  if (mode == stat.stat.stx_mode) return {};
  io::Operation change(io::Kind::set_attributes);
  change.file = file;
  change.attributes.valid = io::Attributes::mode_set;
  change.attributes.mode = mode & 07777;
  return run(change);
}

base::Result<struct stat> LoopbackFileSystem::set_attributes(tree::NodeId node, const io::Attributes& attributes,
                                                             tree::OpenFile* file, bool kill_privileges,
                                                             const tree::Caller& caller) {
  io::Operation change(io::Kind::set_attributes);
  change.attributes = attributes;
  base::Result<void> done;
  if (attributes.valid != 0 && file != nullptr) {
    change.file = handle_of(*file);
    change.credentials = caller.credentials;
    done = run(change);
  } else if (attributes.valid != 0) {
    done = run_on(node, change, &caller);
  }
  if (!done) return base::unexpected(done.error());
  if (kill_privileges) {
    io::Operation open(io::Kind::open);
    open.flags = O_RDONLY | O_NONBLOCK;
    if (file != nullptr) {
      done = clear_privileges(handle_of(*file));
    } else if (done = run_on(node, open); done) {
      done = clear_privileges(open.handle);
    }
    if (!done) return base::unexpected(done.error());
  }
  return get_attributes(node);
}

base::Result<std::string> LoopbackFileSystem::read_link(tree::NodeId node) {
  io::Operation read(io::Kind::readlink);
  if (auto done = run_on(node, read); !done) return base::unexpected(done.error());
  return read.text;
}

base::Result<tree::Entry> LoopbackFileSystem::make(tree::NodeId parent, std::string_view name, io::Operation& operation,
                                                   const tree::Caller& caller) {
  if (auto done = run_beneath(parent, name, operation, caller); !done) return base::unexpected(done.error());
  return counted(operation.path, operation.stat, nullptr, false);
}

base::Result<tree::Entry> LoopbackFileSystem::make_directory(tree::NodeId parent, std::string_view name, mode_t mode,
                                                             const tree::Caller& caller) {
  io::Operation operation(io::Kind::mkdir);
  operation.mode = mode;
  return make(parent, name, operation, caller);
}

base::Result<tree::Entry> LoopbackFileSystem::make_node(tree::NodeId parent, std::string_view name, mode_t mode,
                                                        dev_t device, const tree::Caller& caller) {
  io::Operation operation(io::Kind::mknod);
  operation.mode = mode;
  operation.device = device;
  return make(parent, name, operation, caller);
}

base::Result<tree::Entry> LoopbackFileSystem::make_symlink(tree::NodeId parent, std::string_view name,
                                                           const std::string& target, const tree::Caller& caller) {
  io::Operation operation(io::Kind::symlink);
  operation.text = target;
  return make(parent, name, operation, caller);
}

base::Result<tree::Entry> LoopbackFileSystem::link(tree::NodeId node, tree::NodeId new_parent,
                                                   std::string_view new_name, const tree::Caller& caller) {
  io::Operation operation(io::Kind::link);
  auto existing = nodes_.place_of(node);
  auto path = nodes_.path_in(new_parent, new_name);
  if (!existing || !path) return base::unexpected(ENOENT);
  operation.file = root_;
  operation.path = std::move(existing->path).value_or("");
  operation.other = std::move(existing->open);
  operation.path2 = std::move(*path);
  // A file without a name can only be linked by who may read by inode: the daemon.
  if (!operation.other) operation.credentials = caller.credentials;
  if (auto done = run(operation); !done) return base::unexpected(done.error());
  return counted(operation.path2, operation.stat, nullptr, false);
}

base::Result<void> LoopbackFileSystem::unlink(tree::NodeId parent, std::string_view name, const tree::Caller& caller) {
  io::Operation operation(io::Kind::unlink);
  auto done = run_beneath(parent, name, operation, caller);
  if (done) nodes_.removed(operation.path);
  return done;
}

base::Result<void> LoopbackFileSystem::remove_directory(tree::NodeId parent, std::string_view name,
                                                        const tree::Caller& caller) {
  io::Operation operation(io::Kind::rmdir);
  auto done = run_beneath(parent, name, operation, caller);
  if (done) nodes_.removed(operation.path);
  return done;
}

base::Result<void> LoopbackFileSystem::rename(tree::NodeId parent, std::string_view name, tree::NodeId new_parent,
                                              std::string_view new_name, unsigned flags, const tree::Caller& caller) {
  io::Operation operation(io::Kind::rename);
  operation.flags = static_cast<int>(flags);
  auto new_path = nodes_.path_in(new_parent, new_name);
  if (!new_path) return base::unexpected(ENOENT);
  operation.path2 = std::move(*new_path);
  auto done = run_beneath(parent, name, operation, caller);
  if (!done) return done;
  if ((flags & RENAME_EXCHANGE) != 0) {
    const std::string aside = operation.path + "/\n";  // a path nobody has
    nodes_.renamed(operation.path, aside);
    nodes_.renamed(operation.path2, operation.path);
    nodes_.renamed(aside, operation.path2);
  } else {
    nodes_.removed(operation.path2);
    nodes_.renamed(operation.path, operation.path2);
  }
  return done;
}

base::Result<tree::Opened> LoopbackFileSystem::open(tree::NodeId node, int flags, bool kill_privileges,
                                                    const tree::Caller& caller) {
  io::Operation open(io::Kind::open);
  open.flags = flags & ~(O_DIRECT | O_APPEND | O_CREAT | O_EXCL);
  if (auto done = run_on(node, open, &caller); !done) return base::unexpected(done.error());
  if (kill_privileges) {
    if (auto done = clear_privileges(open.handle); !done) return base::unexpected(done.error());
  }
  auto file = std::make_unique<File>();
  file->handle = open.handle;
  file->node = node;
  nodes_.opened(node, open.handle);
  tree::Opened opened;
  opened.file = std::move(file);
  opened.keep_cache = true;
  opened.direct_io = (flags & O_DIRECT) != 0 || (direct_writes && (flags & O_ACCMODE) == O_WRONLY);
  if (offer_passthrough) opened.passthrough_fd = open.handle->number();
  return opened;
}

tree::Created LoopbackFileSystem::created(io::Operation& operation, bool nameless) {
  auto file = std::make_unique<File>();
  file->handle = operation.handle;
  tree::Created made;
  made.entry = counted(operation.path, operation.stat, operation.handle, nameless);
  file->node = made.entry.node;
  made.opened.file = std::move(file);
  made.opened.direct_io = direct_writes && (operation.flags & O_ACCMODE) == O_WRONLY;
  if (offer_passthrough) made.opened.passthrough_fd = operation.handle->number();
  return made;
}

base::Result<tree::Created> LoopbackFileSystem::create(tree::NodeId parent, std::string_view name, int flags,
                                                       mode_t mode, const tree::Caller& caller) {
  io::Operation open(io::Kind::open);
  open.flags = (flags & ~(O_DIRECT | O_APPEND)) | O_CREAT;
  open.mode = mode & 07777;
  if (auto done = run_beneath(parent, name, open, caller); !done) return base::unexpected(done.error());
  return created(open, false);
}

base::Result<tree::Created> LoopbackFileSystem::create_unnamed(tree::NodeId parent, int flags, mode_t mode,
                                                               const tree::Caller& caller) {
  io::Operation open(io::Kind::open_tmpfile);
  open.flags = flags & ~(O_DIRECT | O_APPEND | O_CREAT | O_TMPFILE);
  open.mode = mode & 07777;
  if (auto done = run_on(parent, open, &caller); !done) return base::unexpected(done.error());
  return created(open, true);
}

base::Result<std::size_t> LoopbackFileSystem::read(tree::OpenFile& file, off_t offset, std::size_t length,
                                                   const std::shared_ptr<base::Buffer>& buffer) {
  io::Operation read(io::Kind::read);
  read.file = handle_of(file);
  read.offset = offset;
  read.length = length;
  read.buffer = buffer;
  if (auto done = run(read); !done) return base::unexpected(done.error());
  return static_cast<std::size_t>(read.value);
}

base::Result<std::size_t> LoopbackFileSystem::write(tree::OpenFile& file, off_t offset, std::size_t length,
                                                    const std::shared_ptr<base::Buffer>& buffer,
                                                    std::size_t buffer_offset, tree::WriteMode mode) {
  io::Operation write(io::Kind::write);
  write.file = handle_of(file);
  write.offset = offset;
  write.length = length;
  write.buffer = buffer;
  write.buffer_offset = buffer_offset;
  if (auto done = run(write); !done) return base::unexpected(done.error());
  if (mode.kill_privileges) {
    if (auto done = clear_privileges(write.file); !done) return base::unexpected(done.error());
  }
  return static_cast<std::size_t>(write.value);
}

base::Result<void> LoopbackFileSystem::flush(tree::OpenFile& file, std::uint64_t) {
  io::Operation unlock(io::Kind::lock);
  unlock.file = handle_of(file);
  unlock.flags = F_UNLCK;
  return run(unlock);
}

base::Result<void> LoopbackFileSystem::sync(tree::OpenFile& file, bool data_only) {
  io::Operation sync(io::Kind::fsync);
  sync.file = handle_of(file);
  sync.flags = data_only ? 1 : 0;
  return run(sync);
}

void LoopbackFileSystem::release(std::unique_ptr<tree::OpenFile> file, std::optional<std::uint64_t>) {
  file.reset();
}

base::Result<void> LoopbackFileSystem::allocate(tree::OpenFile& file, int mode, off_t offset, off_t length) {
  io::Operation allocate(io::Kind::allocate);
  allocate.file = handle_of(file);
  allocate.flags = mode;
  allocate.offset = offset;
  allocate.length = static_cast<std::size_t>(length);
  return run(allocate);
}

base::Result<off_t> LoopbackFileSystem::seek(tree::OpenFile& file, off_t offset, int whence) {
  io::Operation seek(io::Kind::seek);
  seek.file = handle_of(file);
  seek.offset = offset;
  seek.flags = whence;
  if (auto done = run(seek); !done) return base::unexpected(done.error());
  return seek.value;
}

base::Result<std::size_t> LoopbackFileSystem::copy_range(tree::OpenFile& from, off_t from_offset, tree::OpenFile& to,
                                                         off_t to_offset, std::size_t length) {
  io::Operation copy(io::Kind::copy_range);
  copy.file = handle_of(from);
  copy.other = handle_of(to);
  copy.offset = from_offset;
  copy.offset2 = to_offset;
  copy.length = length;
  if (auto done = run(copy); !done) return base::unexpected(done.error());
  return static_cast<std::size_t>(copy.value);
}

base::Result<std::unique_ptr<tree::OpenDirectory>> LoopbackFileSystem::open_directory(tree::NodeId node,
                                                                                      const tree::Caller&) {
  auto directory = std::make_unique<Directory>();
  directory->node = node;
  return std::unique_ptr<tree::OpenDirectory>(std::move(directory));
}

base::Result<void> LoopbackFileSystem::read_directory(tree::OpenDirectory& open, std::uint64_t offset,
                                                      const std::function<bool(const tree::ListedEntry&)>& take) {
  auto& directory = static_cast<Directory&>(open);
  if (offset == 0) {
    io::Operation read(io::Kind::read_directory);
    if (auto done = run_on(directory.node, read); !done) return done;
    directory.entries = std::move(read.entries);
    directory.entries.insert(directory.entries.begin(), {{".", 1, DT_DIR}, {"..", 1, DT_DIR}});
  }
  for (std::uint64_t i = offset; i < directory.entries.size(); ++i) {
    const io::DirectoryEntry& entry = directory.entries[i];
    if (!take({entry.name, entry.inode, entry.type, i + 1})) break;
  }
  return {};
}

base::Result<void> LoopbackFileSystem::sync_directory(tree::NodeId) {
  return {};
}

base::Result<struct statvfs> LoopbackFileSystem::file_system_statistics() {
  io::Operation statistics(io::Kind::statfs);
  statistics.file = root_;
  if (auto done = run(statistics); !done) return base::unexpected(done.error());
  const struct statfs& from = statistics.filesystem;
  struct statvfs to {};
  to.f_bsize = static_cast<unsigned long>(from.f_bsize);
  to.f_frsize = static_cast<unsigned long>(from.f_frsize);
  to.f_blocks = from.f_blocks;
  to.f_bfree = from.f_bfree;
  to.f_bavail = from.f_bavail;
  to.f_files = from.f_files;
  to.f_ffree = from.f_ffree;
  to.f_namemax = static_cast<unsigned long>(from.f_namelen);
  return to;
}

base::Result<std::string> LoopbackFileSystem::get_xattr(tree::NodeId node, const std::string& name,
                                                        const tree::Caller& caller) {
  io::Operation get(io::Kind::get_xattr);
  get.name = name;
  if (auto done = run_on(node, get, &caller); !done) return base::unexpected(done.error());
  return get.text;
}

base::Result<std::string> LoopbackFileSystem::list_xattr(tree::NodeId node, const tree::Caller& caller) {
  io::Operation list(io::Kind::list_xattr);
  if (auto done = run_on(node, list, &caller); !done) return base::unexpected(done.error());
  return list.text;
}

base::Result<void> LoopbackFileSystem::set_xattr(tree::NodeId node, const std::string& name, std::string_view value,
                                                 int flags, const tree::Caller& caller) {
  io::Operation set(io::Kind::set_xattr);
  set.name = name;
  set.text = value;
  set.flags = flags;
  return run_on(node, set, &caller);
}

base::Result<void> LoopbackFileSystem::remove_xattr(tree::NodeId node, const std::string& name,
                                                    const tree::Caller& caller) {
  io::Operation remove(io::Kind::remove_xattr);
  remove.name = name;
  return run_on(node, remove, &caller);
}

base::Result<tree::Lock> LoopbackFileSystem::test_lock(tree::OpenFile& file, std::uint64_t, const tree::Lock& lock) {
  io::Operation test(io::Kind::test_lock);
  test.file = handle_of(file);
  test.flags = lock.type;
  test.offset = lock.start;
  test.length = static_cast<std::size_t>(lock.length);
  if (auto done = run(test); !done) return base::unexpected(done.error());
  return tree::Lock{static_cast<int>(test.value), test.offset, static_cast<off_t>(test.length), 0};
}

base::Result<void> LoopbackFileSystem::set_lock(tree::OpenFile& file, std::uint64_t, const tree::Lock& lock, bool wait,
                                                const std::atomic<bool>& interrupted) {
  return until_granted(
      [&] {
        io::Operation set(io::Kind::lock);
        set.file = handle_of(file);
        set.flags = lock.type;
        set.offset = lock.start;
        set.length = static_cast<std::size_t>(lock.length);
        return run(set);
      },
      wait, interrupted);
}

base::Result<void> LoopbackFileSystem::set_flock(tree::OpenFile& file, std::uint64_t, int operation, bool wait,
                                                 const std::atomic<bool>& interrupted) {
  return until_granted(
      [&] {
        io::Operation set(io::Kind::flock);
        set.file = handle_of(file);
        set.flags = operation;
        return run(set);
      },
      wait, interrupted);
}

}  // namespace rainfs::test
