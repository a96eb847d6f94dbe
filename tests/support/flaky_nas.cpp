// SPDX-License-Identifier: Apache-2.0
// A NAS that misbehaves on command: a passthrough FUSE file system, good enough to be an export, with rules
// given at run time (see flaky_rules.hpp).
//
//   flaky_nas DIRECTORY MOUNTPOINT --control SOCKET
//
// It caches no names and no attributes, as a NAS that others write to as well. It runs in the foreground, as
// root, until it is unmounted or told SIGTERM. Locks are the kernel's: all users of one mount see each other.
// There is no O_TMPFILE.
#define FUSE_USE_VERSION 312
#include <dirent.h>
#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "flaky_nodes.hpp"
#include "flaky_rules.hpp"

namespace {

using flaky::Action;
using flaky::Decision;
using flaky::Descriptor;

constexpr std::size_t largest_read = 1 << 20;

flaky::Rules& rules() {
  static flaky::Rules instance;
  return instance;
}

flaky::Nodes& nodes() {
  static flaky::Nodes instance;
  return instance;
}

std::string mount_point;

struct OpenFile {
  int fd = -1;
  DIR* directory = nullptr;  // of opened directories
  off_t offset = 0;          // where `directory` stands
};

OpenFile* handle(const fuse_file_info* info) { return reinterpret_cast<OpenFile*>(info->fh); }
void remember(fuse_file_info* info, OpenFile* file) { info->fh = reinterpret_cast<std::uint64_t>(file); }

int result_of(long value) { return value < 0 ? -errno : static_cast<int>(value); }

// Does what the rules leave of an operation. `work` gives a result or a negative errno.
template <typename Work>
int obey(const char* operation, const std::string& path, Work work, const std::string& other = "") {
  const Decision decision = rules().decide(operation, path, other);
  if (decision.action == Action::fail) return -static_cast<int>(decision.argument);
  const int result = work();
  return decision.action == Action::late_error && result >= 0 ? -static_cast<int>(decision.argument) : result;
}

// The same for operations whose answer is a success or an errno.
template <typename Work>
void answer(fuse_req_t request, const char* operation, const std::string& path, Work work, const std::string& other = "") {
  fuse_reply_err(request, -std::min(0, obey(operation, path, work, other)));
}

// What is made belongs to the caller and has the caller's umask, unless a default ACL or a setgid directory
// above says otherwise: then the directory below decides.
class AsCaller {
 public:
  explicit AsCaller(fuse_req_t request) : caller_(fuse_req_ctx(request)) {
    thread_local const bool own_umask = ::unshare(CLONE_FS) == 0;
    if (own_umask) ::umask(caller_->umask);
  }
  ~AsCaller() { ::umask(0); }
  AsCaller(const AsCaller&) = delete;
  AsCaller& operator=(const AsCaller&) = delete;

  int give(int parent, const char* name, mode_t mode) const {
    if (caller_->uid == 0 && caller_->gid == 0) return 0;
    struct stat made {};
    struct stat above {};
    if (::fstatat(parent, name, &made, AT_SYMLINK_NOFOLLOW) != 0 || ::fstatat(parent, "", &above, AT_EMPTY_PATH) != 0) {
      return -errno;
    }
    const gid_t group = (above.st_mode & S_ISGID) != 0 ? static_cast<gid_t>(-1) : caller_->gid;
    if (::fchownat(parent, name, caller_->uid, group, AT_SYMLINK_NOFOLLOW) != 0) return -errno;
    // chown took set-id bits of what was made executable.
    if ((mode & (S_ISUID | S_ISGID)) != 0 && S_ISREG(made.st_mode)) {
      return result_of(::fchmodat(parent, name, made.st_mode & 07777, 0));
    }
    return 0;
  }

 private:
  const fuse_ctx* caller_;
};

int entry_of(fuse_ino_t parent, const char* name, fuse_entry_param& entry) {
  entry = {};
  entry.generation = 1;
  return -nodes().look_up(parent, name, entry.ino, entry.attr);
}

void nas_lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  fuse_entry_param entry{};
  const int result = obey("lookup", nodes().path(parent, name), [&] { return entry_of(parent, name, entry); });
  if (result < 0) {
    fuse_reply_err(request, -result);
  } else {
    fuse_reply_entry(request, &entry);
  }
}

void nas_forget(fuse_req_t request, fuse_ino_t node, std::uint64_t lookups) {
  nodes().forget(node, lookups);
  fuse_reply_none(request);
}

void nas_getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info*) {
  struct stat found {};
  const int result = obey("getattr", nodes().path(node), [&] {
    const Descriptor object = nodes().open(node, O_PATH);
    return object.valid() ? result_of(::fstatat(object.get(), "", &found, AT_EMPTY_PATH)) : -errno;
  });
  if (result < 0) {
    fuse_reply_err(request, -result);
  } else {
    fuse_reply_attr(request, &found, 0);
  }
}

timespec time_to_set(const timespec& given, int to_set, int set, int now) {
  if ((to_set & now) != 0) return {0, UTIME_NOW};
  return (to_set & set) != 0 ? given : timespec{0, UTIME_OMIT};
}

int change(const Descriptor& object, const std::string& path, const struct stat& wanted, int to_set, const fuse_file_info* info) {
  int result = 0;
  if ((to_set & FUSE_SET_ATTR_MODE) != 0) {
    result = obey("chmod", path, [&] { return result_of(::chmod(object.path().c_str(), wanted.st_mode)); });
  }
  if (result >= 0 && (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) != 0) {
    const uid_t uid = (to_set & FUSE_SET_ATTR_UID) != 0 ? wanted.st_uid : static_cast<uid_t>(-1);
    const gid_t gid = (to_set & FUSE_SET_ATTR_GID) != 0 ? wanted.st_gid : static_cast<gid_t>(-1);
    result = obey("chown", path, [&] { return result_of(::fchownat(object.get(), "", uid, gid, AT_EMPTY_PATH)); });
  }
  if (result >= 0 && (to_set & FUSE_SET_ATTR_SIZE) != 0) {
    result = obey("truncate", path, [&] {
      return result_of(info != nullptr ? ::ftruncate(handle(info)->fd, wanted.st_size)
                                       : ::truncate(object.path().c_str(), wanted.st_size));
    });
  }
  if (result >= 0 && (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) != 0) {
    const timespec times[2] = {
        time_to_set(wanted.st_atim, to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW),
        time_to_set(wanted.st_mtim, to_set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW)};
    result = obey("utimens", path, [&] { return result_of(::utimensat(AT_FDCWD, object.path().c_str(), times, 0)); });
  }
  return result;
}

void nas_setattr(fuse_req_t request, fuse_ino_t node, struct stat* wanted, int to_set, fuse_file_info* info) {
  const Descriptor object = nodes().open(node, O_PATH);
  int result = object.valid() ? change(object, nodes().path(node), *wanted, to_set, info) : -errno;
  struct stat found {};
  if (result >= 0) result = result_of(::fstatat(object.get(), "", &found, AT_EMPTY_PATH));
  if (result < 0) {
    fuse_reply_err(request, -result);
  } else {
    fuse_reply_attr(request, &found, 0);
  }
}

void nas_readlink(fuse_req_t request, fuse_ino_t node) {
  char target[PATH_MAX + 1] = {};
  const int result = obey("readlink", nodes().path(node), [&] {
    const Descriptor object = nodes().open(node, O_PATH | O_NOFOLLOW);
    return object.valid() ? result_of(::readlinkat(object.get(), "", target, PATH_MAX)) : -errno;
  });
  if (result < 0) {
    fuse_reply_err(request, -result);
  } else {
    fuse_reply_readlink(request, target);
  }
}

// mknod, mkdir, symlink and link: `make` does it in the parent's descriptor.
template <typename Make>
void make_entry(fuse_req_t request, const char* operation, fuse_ino_t parent, const char* name, mode_t mode, bool give, Make make) {
  fuse_entry_param entry{};
  const int result = obey(operation, nodes().path(parent, name), [&] {
    const Descriptor directory = nodes().open(parent, O_RDONLY | O_DIRECTORY);
    if (!directory.valid()) return -errno;
    const AsCaller caller(request);
    if (make(directory.get()) != 0) return -errno;
    if (const int given = give ? caller.give(directory.get(), name, mode) : 0; given != 0) return given;
    return entry_of(parent, name, entry);
  });
  if (result < 0) {
    fuse_reply_err(request, -result);
  } else {
    fuse_reply_entry(request, &entry);
  }
}

void nas_mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  make_entry(request, "mknod", parent, name, mode, true, [&](int fd) { return ::mknodat(fd, name, mode, device); });
}

void nas_mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode) {
  make_entry(request, "mkdir", parent, name, mode, true, [&](int fd) { return ::mkdirat(fd, name, mode); });
}

void nas_symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) {
  make_entry(request, "symlink", parent, name, 0, true, [&](int fd) { return ::symlinkat(target, fd, name); });
}

void nas_link(fuse_req_t request, fuse_ino_t node, fuse_ino_t parent, const char* name) {
  make_entry(request, "link", parent, name, 0, false, [&](int fd) {
    const Descriptor object = nodes().open(node, O_PATH);
    return object.valid() ? ::linkat(object.get(), "", fd, name, AT_EMPTY_PATH) : -1;
  });
}

void remove_entry(fuse_req_t request, const char* operation, fuse_ino_t parent, const char* name, int flags) {
  answer(request, operation, nodes().path(parent, name), [&] {
    const Descriptor directory = nodes().open(parent, O_PATH);
    return directory.valid() ? result_of(::unlinkat(directory.get(), name, flags)) : -errno;
  });
}

void nas_unlink(fuse_req_t request, fuse_ino_t parent, const char* name) { remove_entry(request, "unlink", parent, name, 0); }

void nas_rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) {
  remove_entry(request, "rmdir", parent, name, AT_REMOVEDIR);
}

void nas_rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
                unsigned flags) {
  answer(request, "rename", nodes().path(parent, name), [&] {
    const Descriptor from = nodes().open(parent, O_PATH);
    const Descriptor to = nodes().open(new_parent, O_PATH);
    if (!from.valid() || !to.valid()) return -errno;
    return result_of(::renameat2(from.get(), name, to.get(), new_name, flags));
  }, nodes().path(new_parent, new_name));
}

// O_DIRECT would ask for aligned buffers, O_APPEND ignore the offset that the kernel has chosen already.
int open_flags(int flags) { return (flags & ~(O_DIRECT | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW)) | O_CLOEXEC; }

void nas_open(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
  const int result = obey("open", nodes().path(node), [&] {
    Descriptor object = nodes().open(node, open_flags(info->flags));
    if (!object.valid()) return -errno;
    remember(info, new OpenFile{object.take()});
    return 0;
  });
  if (result < 0) {
    fuse_reply_err(request, -result);
  } else {
    fuse_reply_open(request, info);
  }
}

int create_or_open(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
  const Descriptor directory = nodes().open(parent, O_RDONLY | O_DIRECTORY);
  if (!directory.valid()) return -errno;
  const AsCaller caller(request);
  const int flags = open_flags(info->flags) | O_NOFOLLOW;
  Descriptor made(::openat(directory.get(), name, flags | O_CREAT | O_EXCL, mode));
  if (made.valid()) {
    if (const int given = caller.give(directory.get(), name, mode); given != 0) return given;
    remember(info, new OpenFile{made.take()});
    return 0;
  }
  // Without O_EXCL the kernel may have lost a race: then the file is another's and stays so.
  if (errno != EEXIST || (info->flags & O_EXCL) != 0) return -errno;
  Descriptor found(::openat(directory.get(), name, flags));
  if (!found.valid()) return -errno;
  remember(info, new OpenFile{found.take()});
  return 0;
}

void nas_create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
  fuse_entry_param entry{};
  const int result = obey("create", nodes().path(parent, name), [&] {
    if (const int made = create_or_open(request, parent, name, mode, info); made != 0) return made;
    return entry_of(parent, name, entry);
  });
  if (result < 0) {
    if (OpenFile* const file = handle(info); file != nullptr) {
      ::close(file->fd);
      delete file;
    }
    fuse_reply_err(request, -result);
  } else {
    fuse_reply_create(request, &entry, info);
  }
}

void nas_read(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info* info) {
  const Decision decision = rules().decide("read", nodes().path(node));
  if (decision.action == Action::short_io) size = std::min(size, static_cast<std::size_t>(decision.argument));
  std::vector<char> buffer(std::min(size, largest_read));
  const ssize_t count = decision.action == Action::fail ? 0 : ::pread(handle(info)->fd, buffer.data(), buffer.size(), offset);
  if (count < 0 || decision.action == Action::fail || decision.action == Action::late_error) {
    fuse_reply_err(request, count < 0 ? errno : static_cast<int>(decision.argument));
    return;
  }
  if (count > 0 && decision.action == Action::corrupt) buffer[count / 2] = static_cast<char>(~buffer[count / 2]);
  fuse_reply_buf(request, buffer.data(), static_cast<std::size_t>(count));
}

void nas_write(fuse_req_t request, fuse_ino_t node, const char* buffer, std::size_t size, off_t offset, fuse_file_info* info) {
  const Decision decision = rules().decide("write", nodes().path(node));
  if (decision.action == Action::fail) {
    fuse_reply_err(request, static_cast<int>(decision.argument));
    return;
  }
  if (decision.action == Action::drop) {
    fuse_reply_write(request, size);
    return;
  }
  const bool cut = decision.action == Action::short_io || decision.action == Action::torn;
  const std::size_t wanted = cut ? std::min(size, static_cast<std::size_t>(decision.argument)) : size;
  std::vector<char> changed;
  if (decision.action == Action::corrupt && wanted > 0) {
    changed.assign(buffer, buffer + wanted);
    changed[wanted / 2] = static_cast<char>(~changed[wanted / 2]);
    buffer = changed.data();
  }
  const ssize_t count = ::pwrite(handle(info)->fd, buffer, wanted, offset);
  if (count < 0 || decision.action == Action::late_error) {
    fuse_reply_err(request, count < 0 ? errno : static_cast<int>(decision.argument));
  } else {
    fuse_reply_write(request, decision.action == Action::torn ? size : static_cast<std::size_t>(count));
  }
}

void nas_statfs(fuse_req_t request, fuse_ino_t node) {
  struct statvfs found {};
  const int result = obey("statfs", nodes().path(node), [&] {
    const Descriptor object = nodes().open(flaky::Nodes::root_id, O_PATH);
    return object.valid() ? result_of(::fstatvfs(object.get(), &found)) : -errno;
  });
  if (result < 0) {
    fuse_reply_err(request, -result);
  } else {
    fuse_reply_statfs(request, &found);
  }
}

void nas_flush(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
  answer(request, "flush", nodes().path(node), [&] { return result_of(::close(::dup(handle(info)->fd))); });
}

void nas_release(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
  OpenFile* const file = handle(info);
  answer(request, file->directory != nullptr ? "releasedir" : "release", nodes().path(node), [&] {
    return result_of(file->directory != nullptr ? ::closedir(file->directory) : ::close(file->fd));
  });
  delete file;
}

void nas_fsync(fuse_req_t request, fuse_ino_t node, int data_only, fuse_file_info* info) {
  OpenFile* const file = handle(info);
  answer(request, file->directory != nullptr ? "fsyncdir" : "fsync", nodes().path(node),
         [&] { return result_of(data_only != 0 ? ::fdatasync(file->fd) : ::fsync(file->fd)); });
}

// Extended attributes by a path that leads to the object itself. `call` gives a size or -1.
template <typename Call>
void attribute(fuse_req_t request, const char* operation, fuse_ino_t node, std::size_t size, bool reads, Call call) {
  std::vector<char> buffer(std::max<std::size_t>(size, 1));
  const int result = obey(operation, nodes().path(node), [&] {
    const Descriptor object = nodes().open(node, O_PATH);
    return object.valid() ? result_of(call(object.path().c_str(), buffer.data())) : -errno;
  });
  if (result < 0 || !reads) {
    fuse_reply_err(request, -std::min(0, result));
  } else if (size == 0) {
    fuse_reply_xattr(request, static_cast<std::size_t>(result));
  } else {
    fuse_reply_buf(request, buffer.data(), static_cast<std::size_t>(result));
  }
}

void nas_setxattr(fuse_req_t request, fuse_ino_t node, const char* name, const char* value, std::size_t size, int flags) {
  attribute(request, "setxattr", node, 0, false,
            [&](const char* path, char*) { return ::setxattr(path, name, value, size, flags); });
}

void nas_getxattr(fuse_req_t request, fuse_ino_t node, const char* name, std::size_t size) {
  attribute(request, "getxattr", node, size, true,
            [&](const char* path, char* buffer) { return ::getxattr(path, name, buffer, size); });
}

void nas_listxattr(fuse_req_t request, fuse_ino_t node, std::size_t size) {
  attribute(request, "listxattr", node, size, true,
            [&](const char* path, char* buffer) { return ::listxattr(path, buffer, size); });
}

void nas_removexattr(fuse_req_t request, fuse_ino_t node, const char* name) {
  attribute(request, "removexattr", node, 0, false, [&](const char* path, char*) { return ::removexattr(path, name); });
}

void nas_opendir(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
  const int result = obey("opendir", nodes().path(node), [&] {
    Descriptor object = nodes().open(node, O_RDONLY | O_DIRECTORY);
    DIR* const directory = object.valid() ? ::fdopendir(object.get()) : nullptr;
    if (directory == nullptr) return -errno;
    remember(info, new OpenFile{object.take(), directory, 0});
    return 0;
  });
  if (result < 0) {
    fuse_reply_err(request, -result);
  } else {
    fuse_reply_open(request, info);
  }
}

int fill_entries(fuse_req_t request, OpenFile& open, off_t offset, std::vector<char>& buffer) {
  if (offset == 0) {
    ::rewinddir(open.directory);
  } else if (offset != open.offset) {
    ::seekdir(open.directory, offset);
  }
  std::size_t used = 0;
  while (true) {
    const off_t before = ::telldir(open.directory);
    errno = 0;
    const dirent* const entry = ::readdir(open.directory);
    if (entry == nullptr) return errno != 0 ? -errno : static_cast<int>(used);
    struct stat hint {};
    hint.st_ino = entry->d_ino;
    hint.st_mode = static_cast<mode_t>(entry->d_type) << 12;
    const std::size_t needed =
        fuse_add_direntry(request, buffer.data() + used, buffer.size() - used, entry->d_name, &hint, entry->d_off);
    if (needed > buffer.size() - used) {
      ::seekdir(open.directory, before);
      open.offset = before;
      return static_cast<int>(used);
    }
    used += needed;
    open.offset = entry->d_off;
  }
}

void nas_readdir(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info* info) {
  std::vector<char> buffer(size);
  const int result = obey("readdir", nodes().path(node), [&] { return fill_entries(request, *handle(info), offset, buffer); });
  if (result < 0) {
    fuse_reply_err(request, -result);
  } else {
    fuse_reply_buf(request, buffer.data(), static_cast<std::size_t>(result));
  }
}

void nas_fallocate(fuse_req_t request, fuse_ino_t node, int mode, off_t offset, off_t length, fuse_file_info* info) {
  answer(request, "fallocate", nodes().path(node),
         [&] { return result_of(::fallocate(handle(info)->fd, mode, offset, length)); });
}

void nas_lseek(fuse_req_t request, fuse_ino_t node, off_t offset, int whence, fuse_file_info* info) {
  off_t found = 0;
  const int result = obey("lseek", nodes().path(node), [&] {
    found = ::lseek(handle(info)->fd, offset, whence);
    return found < 0 ? -errno : 0;
  });
  if (result < 0) {
    fuse_reply_err(request, -result);
  } else {
    fuse_reply_lseek(request, found);
  }
}

void nas_copy_file_range(fuse_req_t request, fuse_ino_t node, off_t offset, fuse_file_info* info, fuse_ino_t to_node,
                         off_t to_offset, fuse_file_info* to_info, std::size_t size, int flags) {
  const int result = obey("copy_file_range", nodes().path(node), [&] {
    return result_of(::copy_file_range(handle(info)->fd, &offset, handle(to_info)->fd, &to_offset,
                                       std::min<std::size_t>(size, INT_MAX / 2), static_cast<unsigned>(flags)));
  }, nodes().path(to_node));
  if (result < 0) {
    fuse_reply_err(request, -result);
  } else {
    fuse_reply_write(request, static_cast<std::size_t>(result));
  }
}

void nas_init(void*, fuse_conn_info* connection) {
  connection->want |= connection->capable & (FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK);
}

fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops table{};
  table.init = nas_init;
  table.lookup = nas_lookup;
  table.forget = nas_forget;
  table.getattr = nas_getattr;
  table.readlink = nas_readlink;
  table.mknod = nas_mknod;
  table.mkdir = nas_mkdir;
  table.symlink = nas_symlink;
  table.unlink = nas_unlink;
  table.rmdir = nas_rmdir;
  table.rename = nas_rename;
  table.link = nas_link;
  table.setattr = nas_setattr;
  table.open = nas_open;
  table.create = nas_create;
  table.read = nas_read;
  table.write = nas_write;
  table.statfs = nas_statfs;
  table.flush = nas_flush;
  table.release = nas_release;
  table.fsync = nas_fsync;
  table.setxattr = nas_setxattr;
  table.getxattr = nas_getxattr;
  table.listxattr = nas_listxattr;
  table.removexattr = nas_removexattr;
  table.opendir = nas_opendir;
  table.readdir = nas_readdir;
  table.releasedir = nas_release;
  table.fsyncdir = nas_fsync;
  table.fallocate = nas_fallocate;
  table.lseek = nas_lseek;
  table.copy_file_range = nas_copy_file_range;
  return table;
}

// Operations may hang in any number of threads, so an orderly end cannot wait for them.
void end_now(int) {
  ::umount2(mount_point.c_str(), MNT_DETACH);
  ::_exit(0);
}

int serve(fuse_session* session) {
  if (fuse_session_mount(session, mount_point.c_str()) != 0) return 1;
  struct sigaction end {};
  end.sa_handler = end_now;
  ::sigaction(SIGTERM, &end, nullptr);
  ::sigaction(SIGINT, &end, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  fuse_loop_config* const config = fuse_loop_cfg_create();
  fuse_loop_cfg_set_max_threads(config, 1000);  // hung operations hold one each
  fuse_loop_cfg_set_idle_threads(config, 20);
  fuse_session_loop_mt(session, config);
  ::_exit(0);  // unmounted, or the connection was aborted: threads may still hang
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 || std::strcmp(argv[3], "--control") != 0) {
    std::fputs("usage: flaky_nas DIRECTORY MOUNTPOINT --control SOCKET\n", stderr);
    return 2;
  }
  mount_point = argv[2];
  const int root = ::open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0 || !nodes().start(root) || !rules().serve(argv[4])) {
    std::fprintf(stderr, "flaky_nas: %s or %s: %s\n", argv[1], argv[4], std::strerror(errno));
    return 1;
  }
  ::umask(0);
  std::vector<std::string> words = {"flaky_nas", "-oallow_other,default_permissions,dev,suid,fsname=flaky_nas"};
  std::vector<char*> pointers;
  for (auto& word : words) pointers.push_back(word.data());
  fuse_args arguments = FUSE_ARGS_INIT(static_cast<int>(pointers.size()), pointers.data());
  const fuse_lowlevel_ops table = operations();
  fuse_session* const session = fuse_session_new(&arguments, &table, sizeof table, nullptr);
  return session == nullptr ? 1 : serve(session);
}
