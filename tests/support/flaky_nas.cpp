// SPDX-License-Identifier: Apache-2.0
// A NAS that misbehaves on command: a passthrough FUSE file system, good enough to be an export, with rules
// given at run time (see flaky_rules.hpp).
//
//   flaky_nas DIRECTORY MOUNTPOINT --control SOCKET
//
// It caches no names and no attributes, as a NAS that others write to as well. It runs in the foreground, as
// root, until it is unmounted or told SIGTERM. Locks are the kernel's: all users of one mount see each other.
#define FUSE_USE_VERSION 312
#include <dirent.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <linux/fs.h>
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

#include "flaky_rules.hpp"

namespace {

using flaky::Action;
using flaky::Decision;

flaky::Rules& rules() {
  static flaky::Rules instance;
  return instance;
}

int root_fd = -1;
std::string mount_point;

struct OpenFile {
  int fd;
  std::string path;  // as it was opened, for the rules
};

OpenFile* handle(const fuse_file_info* info) { return reinterpret_cast<OpenFile*>(info->fh); }

// Relative to the export's root.
const char* below(const char* path) { return path[1] == '\0' ? "." : path + 1; }

// l*xattr wants a path: this one leads there without following a last symbolic link.
std::string proc_path(const char* path) {
  return "/proc/self/fd/" + std::to_string(root_fd) + "/" + below(path);
}

int result_of(long value) { return value < 0 ? -errno : static_cast<int>(value); }

// Does what the rules leave of an operation. `work` gives a result or a negative errno.
template <typename Work>
int obey(const char* operation, const std::string& path, Work work, const std::string& other = "") {
  const Decision decision = rules().decide(operation, path, other);
  if (decision.action == Action::fail) return -static_cast<int>(decision.argument);
  const int result = work();
  return decision.action == Action::late_error && result >= 0 ? -static_cast<int>(decision.argument) : result;
}

// What is made belongs to the caller and has the caller's umask, unless a default ACL or a setgid directory
// above says otherwise: then the directory below decides.
class AsCaller {
 public:
  AsCaller() {
    thread_local const bool own_umask = ::unshare(CLONE_FS) == 0;
    if (own_umask) ::umask(fuse_get_context()->umask);
  }
  ~AsCaller() { ::umask(0); }

  int give(const char* path, mode_t mode) const {
    const fuse_context* caller = fuse_get_context();
    if (caller->uid == 0 && caller->gid == 0) return 0;
    struct stat made {};
    if (::fstatat(root_fd, below(path), &made, AT_SYMLINK_NOFOLLOW) != 0) return -errno;
    std::string parent(below(path));
    const auto slash = parent.rfind('/');
    parent = slash == std::string::npos ? "." : parent.substr(0, slash);
    struct stat above {};
    if (::fstatat(root_fd, parent.c_str(), &above, AT_SYMLINK_NOFOLLOW) != 0) return -errno;
    const gid_t group = (above.st_mode & S_ISGID) != 0 ? static_cast<gid_t>(-1) : caller->gid;
    if (::fchownat(root_fd, below(path), caller->uid, group, AT_SYMLINK_NOFOLLOW) != 0) return -errno;
    // chown took set-id bits of what was made executable.
    if ((mode & (S_ISUID | S_ISGID)) != 0 && !S_ISLNK(made.st_mode) && !S_ISDIR(made.st_mode)) {
      return result_of(::fchmodat(root_fd, below(path), made.st_mode & 07777, 0));
    }
    return 0;
  }
};

int nas_getattr(const char* path, struct stat* found, fuse_file_info* info) {
  const std::string name = info != nullptr ? handle(info)->path : path;
  return obey("getattr", name, [&] {
    return result_of(info != nullptr ? ::fstat(handle(info)->fd, found)
                                     : ::fstatat(root_fd, below(path), found, AT_SYMLINK_NOFOLLOW));
  });
}

int nas_readlink(const char* path, char* target, std::size_t size) {
  return obey("readlink", path, [&] {
    const ssize_t length = ::readlinkat(root_fd, below(path), target, size - 1);
    if (length < 0) return -errno;
    target[length] = '\0';
    return 0;
  });
}

int nas_mknod(const char* path, mode_t mode, dev_t device) {
  return obey("mknod", path, [&] {
    const AsCaller caller;
    if (::mknodat(root_fd, below(path), mode, device) != 0) return -errno;
    return caller.give(path, mode);
  });
}

int nas_mkdir(const char* path, mode_t mode) {
  return obey("mkdir", path, [&] {
    const AsCaller caller;
    if (::mkdirat(root_fd, below(path), mode) != 0) return -errno;
    return caller.give(path, mode);
  });
}

int nas_symlink(const char* target, const char* path) {
  return obey("symlink", path, [&] {
    const AsCaller caller;
    if (::symlinkat(target, root_fd, below(path)) != 0) return -errno;
    return caller.give(path, 0);
  });
}

int nas_unlink(const char* path) {
  return obey("unlink", path, [&] { return result_of(::unlinkat(root_fd, below(path), 0)); });
}

int nas_rmdir(const char* path) {
  return obey("rmdir", path, [&] { return result_of(::unlinkat(root_fd, below(path), AT_REMOVEDIR)); });
}

int nas_rename(const char* from, const char* to, unsigned flags) {
  return obey("rename", from, [&] { return result_of(::renameat2(root_fd, below(from), root_fd, below(to), flags)); }, to);
}

int nas_link(const char* from, const char* to) {
  return obey("link", from, [&] { return result_of(::linkat(root_fd, below(from), root_fd, below(to), 0)); }, to);
}

int nas_chmod(const char* path, mode_t mode, fuse_file_info* info) {
  return obey("chmod", info != nullptr ? handle(info)->path : path, [&] {
    return result_of(info != nullptr ? ::fchmod(handle(info)->fd, mode) : ::fchmodat(root_fd, below(path), mode, 0));
  });
}

int nas_chown(const char* path, uid_t uid, gid_t gid, fuse_file_info* info) {
  return obey("chown", info != nullptr ? handle(info)->path : path, [&] {
    return result_of(info != nullptr ? ::fchown(handle(info)->fd, uid, gid)
                                     : ::fchownat(root_fd, below(path), uid, gid, AT_SYMLINK_NOFOLLOW));
  });
}

int nas_truncate(const char* path, off_t size, fuse_file_info* info) {
  return obey("truncate", info != nullptr ? handle(info)->path : path, [&] {
    return result_of(info != nullptr ? ::ftruncate(handle(info)->fd, size) : ::truncate(proc_path(path).c_str(), size));
  });
}

int nas_utimens(const char* path, const timespec times[2], fuse_file_info* info) {
  return obey("utimens", info != nullptr ? handle(info)->path : path, [&] {
    return result_of(info != nullptr ? ::futimens(handle(info)->fd, times)
                                     : ::utimensat(root_fd, below(path), times, AT_SYMLINK_NOFOLLOW));
  });
}

// O_DIRECT would ask for aligned buffers, O_APPEND ignore the offset that the kernel has chosen already.
int open_flags(int flags) { return (flags & ~(O_DIRECT | O_APPEND | O_NOFOLLOW)) | O_CLOEXEC | O_NOFOLLOW; }

int nas_open(const char* path, fuse_file_info* info) {
  return obey("open", path, [&] {
    const int fd = ::openat(root_fd, below(path), open_flags(info->flags));
    if (fd < 0) return -errno;
    info->fh = reinterpret_cast<std::uint64_t>(new OpenFile{fd, path});
    return 0;
  });
}

int nas_create(const char* path, mode_t mode, fuse_file_info* info) {
  return obey("create", path, [&] {
    const AsCaller caller;
    // Without O_EXCL the kernel may have lost a race, then the file is another's and stays so.
    int fd = ::openat(root_fd, below(path), open_flags(info->flags) | O_CREAT | O_EXCL, mode);
    const bool made = fd >= 0;
    if (!made && errno == EEXIST && (info->flags & O_EXCL) == 0) {
      fd = ::openat(root_fd, below(path), open_flags(info->flags) & ~O_CREAT);
    }
    if (fd < 0) return -errno;
    if (const int given = made ? caller.give(path, mode) : 0; given != 0) {
      ::close(fd);
      return given;
    }
    info->fh = reinterpret_cast<std::uint64_t>(new OpenFile{fd, path});
    return 0;
  });
}

int nas_read(const char*, char* buffer, std::size_t size, off_t offset, fuse_file_info* info) {
  const Decision decision = rules().decide("read", handle(info)->path);
  if (decision.action == Action::fail) return -static_cast<int>(decision.argument);
  if (decision.action == Action::short_io) size = std::min(size, static_cast<std::size_t>(decision.argument));
  const int count = result_of(::pread(handle(info)->fd, buffer, size, offset));
  if (count > 0 && decision.action == Action::corrupt) buffer[count / 2] = static_cast<char>(~buffer[count / 2]);
  return decision.action == Action::late_error && count >= 0 ? -static_cast<int>(decision.argument) : count;
}

int nas_write(const char*, const char* buffer, std::size_t size, off_t offset, fuse_file_info* info) {
  const Decision decision = rules().decide("write", handle(info)->path);
  if (decision.action == Action::fail) return -static_cast<int>(decision.argument);
  if (decision.action == Action::drop) return static_cast<int>(size);
  const bool cut = decision.action == Action::short_io || decision.action == Action::torn;
  const std::size_t wanted = cut ? std::min(size, static_cast<std::size_t>(decision.argument)) : size;
  std::vector<char> changed;
  if (decision.action == Action::corrupt && wanted > 0) {
    changed.assign(buffer, buffer + wanted);
    changed[wanted / 2] = static_cast<char>(~changed[wanted / 2]);
    buffer = changed.data();
  }
  const int count = result_of(::pwrite(handle(info)->fd, buffer, wanted, offset));
  if (count < 0) return count;
  if (decision.action == Action::late_error) return -static_cast<int>(decision.argument);
  return decision.action == Action::torn ? static_cast<int>(size) : count;
}

int nas_statfs(const char* path, struct statvfs* found) {
  return obey("statfs", path, [&] { return result_of(::fstatvfs(root_fd, found)); });
}

int nas_flush(const char*, fuse_file_info* info) {
  return obey("flush", handle(info)->path, [&] { return result_of(::close(::dup(handle(info)->fd))); });
}

int nas_release(const char*, fuse_file_info* info) {
  OpenFile* const file = handle(info);
  return obey("release", file->path, [&] {
    const int result = result_of(::close(file->fd));
    delete file;
    return result;
  });
}

int nas_fsync(const char*, int data_only, fuse_file_info* info) {
  return obey("fsync", handle(info)->path, [&] {
    return result_of(data_only != 0 ? ::fdatasync(handle(info)->fd) : ::fsync(handle(info)->fd));
  });
}

int nas_setxattr(const char* path, const char* name, const char* value, std::size_t size, int flags) {
  return obey("setxattr", path, [&] { return result_of(::lsetxattr(proc_path(path).c_str(), name, value, size, flags)); });
}

int nas_getxattr(const char* path, const char* name, char* value, std::size_t size) {
  return obey("getxattr", path, [&] { return result_of(::lgetxattr(proc_path(path).c_str(), name, value, size)); });
}

int nas_listxattr(const char* path, char* list, std::size_t size) {
  return obey("listxattr", path, [&] { return result_of(::llistxattr(proc_path(path).c_str(), list, size)); });
}

int nas_removexattr(const char* path, const char* name) {
  return obey("removexattr", path, [&] { return result_of(::lremovexattr(proc_path(path).c_str(), name)); });
}

int nas_opendir(const char* path, fuse_file_info* info) {
  return obey("opendir", path, [&] {
    const int fd = ::openat(root_fd, below(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    info->fh = reinterpret_cast<std::uint64_t>(new OpenFile{fd, path});
    return 0;
  });
}

int nas_readdir(const char*, void* buffer, fuse_fill_dir_t fill, off_t, fuse_file_info* info, fuse_readdir_flags) {
  return obey("readdir", handle(info)->path, [&] {
    const int fd = ::openat(handle(info)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    DIR* const directory = ::fdopendir(fd);
    if (directory == nullptr) {
      ::close(fd);
      return -ENOMEM;
    }
    while (const dirent* entry = ::readdir(directory)) {
      struct stat hint {};
      hint.st_ino = entry->d_ino;
      hint.st_mode = static_cast<mode_t>(entry->d_type) << 12;
      if (fill(buffer, entry->d_name, &hint, 0, fuse_fill_dir_flags{}) != 0) break;
    }
    ::closedir(directory);
    return 0;
  });
}

int nas_fsyncdir(const char*, int, fuse_file_info* info) {
  return obey("fsyncdir", handle(info)->path, [&] { return result_of(::fsync(handle(info)->fd)); });
}

int nas_fallocate(const char*, int mode, off_t offset, off_t length, fuse_file_info* info) {
  return obey("fallocate", handle(info)->path, [&] { return result_of(::fallocate(handle(info)->fd, mode, offset, length)); });
}

off_t nas_lseek(const char*, off_t offset, int whence, fuse_file_info* info) {
  off_t found = 0;
  const int result = obey("lseek", handle(info)->path, [&] {
    found = ::lseek(handle(info)->fd, offset, whence);
    return found < 0 ? -errno : 0;
  });
  return result < 0 ? result : found;
}

ssize_t nas_copy_file_range(const char*, fuse_file_info* in, off_t in_offset, const char*, fuse_file_info* out,
                            off_t out_offset, std::size_t size, int flags) {
  return obey("copy_file_range", handle(in)->path, [&] {
    return result_of(::copy_file_range(handle(in)->fd, &in_offset, handle(out)->fd, &out_offset, std::min<std::size_t>(size, INT_MAX / 2), static_cast<unsigned>(flags)));
  }, handle(out)->path);
}

void* nas_init(fuse_conn_info* connection, fuse_config* config) {
  config->use_ino = 1;
  config->hard_remove = 1;  // the kernel below keeps removed files that are open; no .fuse_hidden
  config->nullpath_ok = 1;
  config->attr_timeout = config->entry_timeout = config->negative_timeout = 0;
  connection->want |= connection->capable & (FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK);
  return nullptr;
}

fuse_operations operations() {
  fuse_operations table{};
  table.init = nas_init;
  table.getattr = nas_getattr;
  table.readlink = nas_readlink;
  table.mknod = nas_mknod;
  table.mkdir = nas_mkdir;
  table.symlink = nas_symlink;
  table.unlink = nas_unlink;
  table.rmdir = nas_rmdir;
  table.rename = nas_rename;
  table.link = nas_link;
  table.chmod = nas_chmod;
  table.chown = nas_chown;
  table.truncate = nas_truncate;
  table.utimens = nas_utimens;
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
  table.fsyncdir = nas_fsyncdir;
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

int serve(fuse* file_system) {
  if (fuse_mount(file_system, mount_point.c_str()) != 0) return 1;
  struct sigaction end {};
  end.sa_handler = end_now;
  ::sigaction(SIGTERM, &end, nullptr);
  ::sigaction(SIGINT, &end, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  fuse_loop_config* const config = fuse_loop_cfg_create();
  fuse_loop_cfg_set_max_threads(config, 1000);  // hung operations hold one each
  fuse_loop_cfg_set_idle_threads(config, 20);
  fuse_loop_mt(file_system, config);
  ::_exit(0);  // unmounted, or the connection was aborted: threads may still hang
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 || std::strcmp(argv[3], "--control") != 0) {
    std::fputs("usage: flaky_nas DIRECTORY MOUNTPOINT --control SOCKET\n", stderr);
    return 2;
  }
  mount_point = argv[2];
  root_fd = ::open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root_fd < 0 || !rules().serve(argv[4])) {
    std::fprintf(stderr, "flaky_nas: %s or %s: %s\n", argv[1], argv[4], std::strerror(errno));
    return 1;
  }
  ::umask(0);
  std::vector<std::string> words = {"flaky_nas", "-oallow_other,default_permissions,dev,suid,fsname=flaky_nas"};
  std::vector<char*> pointers;
  for (auto& word : words) pointers.push_back(word.data());
  fuse_args arguments = FUSE_ARGS_INIT(static_cast<int>(pointers.size()), pointers.data());
  const fuse_operations table = operations();
  fuse* const file_system = fuse_new(&arguments, &table, sizeof table, nullptr);
  if (file_system == nullptr) return 1;
  return serve(file_system);
}
