// SPDX-License-Identifier: Apache-2.0
// The flaky NAS's names and attributes: lookup, make, remove, rename, stat and its changes, xattrs.
#include "flaky_operations.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <climits>
#include <vector>

namespace flaky {
namespace {

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

int change(const Descriptor& object, const std::string& path, const struct stat& wanted, int to_set,
           const fuse_file_info* info) {
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
    const timespec times[2] = {time_to_set(wanted.st_atim, to_set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW),
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
void make_entry(fuse_req_t request, const char* operation, fuse_ino_t parent, const char* name, mode_t mode, bool give,
                Make make) {
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

void nas_unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
  remove_entry(request, "unlink", parent, name, 0);
}

void nas_rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) {
  remove_entry(request, "rmdir", parent, name, AT_REMOVEDIR);
}

void nas_rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
                unsigned flags) {
  answer(
      request, "rename", nodes().path(parent, name),
      [&] {
        const Descriptor from = nodes().open(parent, O_PATH);
        const Descriptor to = nodes().open(new_parent, O_PATH);
        if (!from.valid() || !to.valid()) return -errno;
        return result_of(::renameat2(from.get(), name, to.get(), new_name, flags));
      },
      nodes().path(new_parent, new_name));
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

void nas_setxattr(fuse_req_t request, fuse_ino_t node, const char* name, const char* value, std::size_t size,
                  int flags) {
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

}  // namespace

void add_name_operations(fuse_lowlevel_ops& table) {
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
  table.statfs = nas_statfs;
  table.setxattr = nas_setxattr;
  table.getxattr = nas_getxattr;
  table.listxattr = nas_listxattr;
  table.removexattr = nas_removexattr;
}

}  // namespace flaky
