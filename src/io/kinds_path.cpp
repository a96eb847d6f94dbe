// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstring>

#include "kinds.hpp"
#include "resolve.hpp"

namespace rainfs::io {

namespace {

using base::UniqueFd;

// A listing that never ends (a damaged directory) must not eat the node's memory.
constexpr std::size_t most_directory_entries = 16'000'000;
constexpr std::size_t directory_buffer_bytes = 32 * 1024;
constexpr std::size_t first_read_bytes = 4096;

int stat_at(int directory, const char* leaf, int flags, struct statx& out) {
  const int all = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (flags & AT_STATX_SYNC_TYPE);
  return retried([&] { return ::statx(directory, leaf, all, stat_mask, &out); });
}

// A call that acts on what lies at the end of a path.
template <typename Call>
int at_end(const Parent& parent, Call call) {
  return parent.told(retried([&] { return call(parent.directory(), parent.leaf()); }));
}

int stat_parent(const Parent& parent, Operation& op) {
  return parent.told(stat_at(parent.directory(), parent.leaf(), op.kind == Kind::stat ? op.flags : 0, op.stat));
}

// The seal of what is new: its times as asked, set by its creator, who owns it.
int seal_new(int directory, const char* leaf, const Operation& op) {
  const auto asked = [&](std::uint32_t bit) { return (op.attributes.valid & bit) != 0; };
  if (!asked(Attributes::atime_set) && !asked(Attributes::mtime_set)) return 0;
  struct timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
  if (asked(Attributes::atime_set)) times[0] = op.attributes.atime;
  if (asked(Attributes::mtime_set)) times[1] = op.attributes.mtime;
  const int flags = leaf[0] == '\0' ? AT_EMPTY_PATH : AT_SYMLINK_NOFOLLOW;
  return retried([&] { return ::utimensat(directory, leaf, times, flags); });
}

int seal_and_stat(const Parent& parent, Operation& op) {
  if (const int error = seal_new(parent.directory(), parent.leaf(), op); error != 0) return parent.told(error);
  return stat_parent(parent, op);
}

bool has_nul(const std::string& text) {
  return text.find('\0') != std::string::npos;
}

// Makes the handle of an opened file: its attributes come with it.
int hand_over(UniqueFd fd, Operation& op, Attempt& attempt) {
  if (const int error = stat_descriptor(fd.get(), 0, op.stat); error != 0) return error;
  op.handle = std::make_shared<Handle>(attempt.owner, fd.get());
  fd.release();
  return 0;
}

// A second description of what a handle refers to, with flags of its own.
int reopen(int fd, int flags, mode_t mode) {
  const int all = (flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW)) | O_CLOEXEC | O_NOCTTY;
  int opened = -1;
  int error = retried([&] { return opened = ::openat(fd, ".", all, mode); });
  if (error == ENOTDIR && (flags & O_DIRECTORY) == 0) {
    error = retried([&] { return opened = ::open(ProcPath(fd).c_str(), all, mode); });
  }
  return error == 0 ? opened : -error;
}

// Path or, with an empty path, the handle itself: opened anew in both cases.
int open_target(const Operation& op, int flags, mode_t mode) {
  if (op.path.empty()) return reopen(number_of(op), flags, mode);
  return open_beneath(number_of(op), op.path, flags, mode);
}

int write_all(int fd, const std::string& text) {
  std::size_t written = 0;
  while (written < text.size()) {
    ssize_t now = 0;
    const int error = retried([&] { return now = ::write(fd, text.data() + written, text.size() - written); });
    if (error != 0) return error;
    if (now == 0) return EIO;
    written += static_cast<std::size_t>(now);
  }
  return 0;
}

// Makes a new name durable: the directory it stands in is synchronised.
int sync_directory(const Parent& parent) {
  const int fd = reopen(parent.directory(), O_RDONLY | O_DIRECTORY, 0);
  if (fd < 0) return -fd;
  const UniqueFd owned(fd);
  return retried([&] { return ::fsync(fd); });
}

void take_entries(const char* buffer, std::size_t size, std::vector<DirectoryEntry>& entries) {
  for (std::size_t at = 0; at < size;) {
    struct dirent64 record;  // its name is as long as d_reclen says: only the head is copied
    std::memcpy(&record, buffer + at, offsetof(struct dirent64, d_name));
    const char* name = buffer + at + offsetof(struct dirent64, d_name);
    at += record.d_reclen;
    if (std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0) continue;
    entries.push_back({name, record.d_ino, record.d_type});
  }
}

}  // namespace

ProcPath::ProcPath(int fd) {
  std::snprintf(text_, sizeof text_, "/proc/self/fd/%d", fd);
}

int stat_descriptor(int fd, int flags, struct statx& out) {
  const int all = AT_EMPTY_PATH | AT_NO_AUTOMOUNT | (flags & AT_STATX_SYNC_TYPE);
  return retried([&] { return ::statx(fd, "", all, stat_mask, &out); });
}

int do_open_root(Operation& op, Attempt& attempt) {
  int opened = -1;
  const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  int error = retried([&] { return opened = ::open(op.text.c_str(), flags); });
  if (error != 0) return error;
  UniqueFd fd(opened);
  error = retried([&] { return ::fstatfs(opened, &op.filesystem); });
  return error != 0 ? error : hand_over(std::move(fd), op, attempt);
}

int do_stat(Operation& op, Attempt&) {
  if (op.path.empty()) return stat_descriptor(number_of(op), op.flags, op.stat);
  Parent parent;
  if (const int error = parent.find(*op.file, op.path); error != 0) return -error;
  return stat_parent(parent, op);
}

int do_open(Operation& op, Attempt& attempt) {
  const int fd = open_target(op, op.flags, op.mode);
  if (fd < 0) return -fd;
  attempt.changed = (op.flags & (O_CREAT | O_TRUNC)) != 0;
  UniqueFd opened(fd);
  if ((op.flags & O_CREAT) != 0) {
    if (const int error = seal_new(fd, "", op); error != 0) return error;
  }
  return hand_over(std::move(opened), op, attempt);
}

int do_open_tmpfile(Operation& op, Attempt& attempt) {
  const int fd = open_target(op, op.flags | O_TMPFILE, op.mode);
  if (fd < 0) return -fd;
  attempt.changed = true;
  UniqueFd opened(fd);
  if (const int error = seal_new(fd, "", op); error != 0) return error;
  return hand_over(std::move(opened), op, attempt);
}

int do_mkdir(Operation& op, Attempt& attempt) {
  Parent parent;
  if (const int error = parent.find(*op.file, op.path); error != 0) return -error;
  const int error =
      at_end(parent, [&](int directory, const char* leaf) { return ::mkdirat(directory, leaf, op.mode & 07777); });
  if (error != 0) return error;
  attempt.changed = true;
  return seal_and_stat(parent, op);
}

int do_mknod(Operation& op, Attempt& attempt) {
  Parent parent;
  if (const int error = parent.find(*op.file, op.path); error != 0) return -error;
  const int error =
      at_end(parent, [&](int directory, const char* leaf) { return ::mknodat(directory, leaf, op.mode, op.device); });
  if (error != 0) return error;
  attempt.changed = true;
  return seal_and_stat(parent, op);
}

int do_symlink(Operation& op, Attempt& attempt) {
  if (has_nul(op.text)) return EINVAL;
  Parent parent;
  if (const int error = parent.find(*op.file, op.path); error != 0) return -error;
  const int error =
      at_end(parent, [&](int directory, const char* leaf) { return ::symlinkat(op.text.c_str(), directory, leaf); });
  if (error != 0) return error;
  attempt.changed = true;
  return seal_and_stat(parent, op);
}

int do_link(Operation& op, Attempt& attempt) {
  Parent to;
  if (const int error = to.find(*op.file, op.path2); error != 0) return -error;
  int error = 0;
  if (op.path.empty()) {
    if (!op.other) return EINVAL;
    // Through /proc: linkat with AT_EMPTY_PATH wants a capability that users' file system ids do not have.
    const ProcPath from(op.other->number());
    error = at_end(to, [&](int directory, const char* leaf) {
      return ::linkat(AT_FDCWD, from.c_str(), directory, leaf, AT_SYMLINK_FOLLOW);
    });
  } else {
    Parent from;
    if (const int found = from.find(*op.file, op.path); found != 0) return -found;
    error = at_end(to, [&](int directory, const char* leaf) {
      return ::linkat(from.directory(), from.leaf(), directory, leaf, 0);
    });
  }
  if (error != 0) return error;
  attempt.changed = true;
  return stat_parent(to, op);
}

int do_rename(Operation& op, Attempt&) {
  Parent from, to;
  if (const int error = from.find(*op.file, op.path); error != 0) return -error;
  if (const int error = to.find(*op.file, op.path2); error != 0) return -error;
  const auto flags = static_cast<unsigned>(op.flags);
  return at_end(to, [&](int directory, const char* leaf) {
    return ::renameat2(from.directory(), from.leaf(), directory, leaf, flags);
  });
}

int do_unlink(Operation& op, Attempt&) {
  Parent parent;
  if (const int error = parent.find(*op.file, op.path); error != 0) return -error;
  return at_end(parent, [&](int directory, const char* leaf) { return ::unlinkat(directory, leaf, 0); });
}

int do_rmdir(Operation& op, Attempt&) {
  Parent parent;
  if (const int error = parent.find(*op.file, op.path); error != 0) return -error;
  return at_end(parent, [&](int directory, const char* leaf) { return ::unlinkat(directory, leaf, AT_REMOVEDIR); });
}

int do_readlink(Operation& op, Attempt&) {
  Parent parent;
  int directory = number_of(op);
  const char* leaf = "";
  if (!op.path.empty()) {
    if (const int error = parent.find(*op.file, op.path); error != 0) return -error;
    directory = parent.directory();
    leaf = parent.leaf();
  }
  char target[PATH_MAX + 1];
  ssize_t size = 0;
  const int error = retried([&] { return size = ::readlinkat(directory, leaf, target, sizeof target); });
  if (error != 0) return parent.told(error);
  if (static_cast<std::size_t>(size) == sizeof target) return ENAMETOOLONG;
  op.text.assign(target, static_cast<std::size_t>(size));
  return 0;
}

int do_read_directory(Operation& op, Attempt&) {
  // A description of its own, also of an open handle: that one's position belongs to nobody.
  const int fd = open_target(op, O_RDONLY | O_DIRECTORY, 0);
  if (fd < 0) return -fd;
  const UniqueFd owned(fd);
  op.entries.clear();
  alignas(struct dirent64) char buffer[directory_buffer_bytes];
  for (;;) {
    long size = 0;
    const int error = retried([&] { return size = ::syscall(SYS_getdents64, fd, buffer, sizeof buffer); });
    if (error != 0) return error;
    if (size == 0) return 0;
    take_entries(buffer, static_cast<std::size_t>(size), op.entries);
    if (op.entries.size() > most_directory_entries) return EOVERFLOW;
  }
}

int do_make_file(Operation& op, Attempt& attempt) {
  Parent parent;
  const bool durable = op.flags == 1;
  if (durable) {
    if (const int error = parent.find_last(number_of(op), op.path); error != 0) return -error;
  }
  const int opened = open_beneath(number_of(op), op.path, O_WRONLY | O_CREAT | O_EXCL, op.mode);
  if (opened < 0) return -opened;
  attempt.changed = true;
  UniqueFd fd(opened);
  int error = write_all(opened, op.text);
  if (error == 0 && durable) error = retried([&] { return ::fsync(opened); });
  if (error == 0) error = stat_descriptor(opened, 0, op.stat);
  if (error == 0) {
    const auto closed = fd.close();  // where NFS tells of late write errors
    if (!closed) error = closed.error().code;
  }
  if (error == 0 && durable) error = sync_directory(parent);
  if (error == 0) return 0;
  // Whole or not at all.
  if (durable || parent.find_last(number_of(op), op.path) == 0) ::unlinkat(parent.directory(), parent.leaf(), 0);
  return error;
}

int do_read_file(Operation& op, Attempt&) {
  // Without O_NONBLOCK a FIFO in the file's place would hold the thread for ever.
  const int fd = open_beneath(number_of(op), op.path, O_RDONLY | O_NONBLOCK, 0);
  if (fd < 0) return -fd;
  const UniqueFd owned(fd);
  if (const int error = stat_descriptor(fd, 0, op.stat); error != 0) return error;
  if (S_ISDIR(op.stat.stx_mode)) return EISDIR;
  if (!S_ISREG(op.stat.stx_mode)) return EINVAL;
  const std::size_t most = std::min(op.length, op.text.max_size() / 4);
  op.text.clear();
  std::size_t size = 0;
  for (std::size_t room = std::max<std::size_t>(op.stat.stx_size, first_read_bytes - 1) + 1;; room *= 2) {
    op.text.resize(std::min(room, most + 1));  // one more than allowed tells "too big"
    for (ssize_t now = 1; now > 0 && size < op.text.size(); size += static_cast<std::size_t>(now)) {
      const int error = retried([&] { return now = ::read(fd, op.text.data() + size, op.text.size() - size); });
      if (error != 0) return error;
    }
    if (size > most) return op.text.clear(), EFBIG;
    if (size < op.text.size()) break;
  }
  op.text.resize(size);
  return 0;
}

}  // namespace rainfs::io
