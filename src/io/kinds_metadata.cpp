// SPDX-License-Identifier: Apache-2.0
#include <sys/xattr.h>
#include <unistd.h>

#include "kinds.hpp"
#include "resolve.hpp"

namespace rainfs::io {

namespace {

// The object an operation is about: the handle's, or the path's through a descriptor that no swapped link
// can divert. Calls that take no such descriptor go through its name under /proc.
class Object {
 public:
  int find(const Operation& op) {
    if (op.path.empty()) {
      fd_ = number_of(op);
      return 0;
    }
    const int fd = open_beneath(number_of(op), op.path, itself, 0);
    if (fd < 0) return -fd;
    owned_.reset(fd);
    fd_ = fd;
    return 0;
  }
  int fd() const { return fd_; }
  bool by_path() const { return static_cast<bool>(owned_); }
  ProcPath name() const { return ProcPath(fd_); }

 private:
  base::UniqueFd owned_;
  int fd_ = -1;
};

int set_size(const Object& object, off_t size) {
  if (!object.by_path()) return retried([&] { return ::ftruncate(object.fd(), size); });
  return retried([&] { return ::truncate(object.name().c_str(), size); });
}

int set_owner(const Object& object, const Attributes& wanted) {
  const uid_t uid = (wanted.valid & Attributes::uid_set) != 0 ? wanted.uid : static_cast<uid_t>(-1);
  const gid_t gid = (wanted.valid & Attributes::gid_set) != 0 ? wanted.gid : static_cast<gid_t>(-1);
  return retried([&] { return ::fchownat(object.fd(), "", uid, gid, AT_EMPTY_PATH); });
}

int set_mode(const Object& object, mode_t mode) {
  struct statx now {};
  const int error = ::statx(object.fd(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &now);
  if (error != 0) return errno;
  if (S_ISLNK(now.stx_mode)) return EOPNOTSUPP;  // some file systems would change a link's own mode
  return retried([&] { return ::chmod(object.name().c_str(), mode & 07777); });
}

int set_times(const Object& object, const Attributes& wanted) {
  struct timespec times[2] = {{0, UTIME_OMIT}, {0, UTIME_OMIT}};
  if ((wanted.valid & Attributes::atime_set) != 0) times[0] = wanted.atime;
  if ((wanted.valid & Attributes::mtime_set) != 0) times[1] = wanted.mtime;
  return retried([&] { return ::utimensat(object.fd(), "", times, AT_EMPTY_PATH); });
}

// What fits is read into a small buffer; what does not, into one of the size no attribute exceeds.
template <typename Read>
int read_text(std::string& text, Read read) {
  constexpr std::size_t usual_bytes = 1024;
  constexpr std::size_t most_bytes = 65536;  // XATTR_SIZE_MAX, XATTR_LIST_MAX
  for (const std::size_t room : {usual_bytes, most_bytes}) {
    text.resize(room);
    const ssize_t size = read(text.data(), room);
    if (size >= 0) {
      text.resize(static_cast<std::size_t>(size));
      return 0;
    }
    if (errno != ERANGE || room == most_bytes) break;
  }
  const int error = errno;
  text.clear();
  return error;
}

bool bad_name(const Operation& op) {
  return op.name.find('\0') != std::string::npos;
}

}  // namespace

// chown clears the setuid bit and a new size the times: what is asked for is set after what would undo it.
int do_set_attributes(Operation& op, Attempt& attempt) {
  Object object;
  if (const int error = object.find(op); error != 0) return error;
  const Attributes& wanted = op.attributes;
  const auto asked = [&](std::uint32_t bits) { return (wanted.valid & bits) != 0; };
  int error = 0;
  if (asked(Attributes::size_set)) error = set_size(object, wanted.size);
  if (error == 0 && asked(Attributes::uid_set | Attributes::gid_set)) error = set_owner(object, wanted);
  if (error == 0 && asked(Attributes::mode_set)) error = set_mode(object, wanted.mode);
  if (error == 0 && asked(Attributes::atime_set | Attributes::mtime_set)) error = set_times(object, wanted);
  if (error != 0) return error;
  attempt.changed = true;
  return op.flags == 1 ? 0 : stat_descriptor(object.fd(), 0, op.stat);
}

int do_get_xattr(Operation& op, Attempt&) {
  if (bad_name(op)) return EINVAL;
  Object object;
  if (const int error = object.find(op); error != 0) return error;
  return read_text(op.text, [&](char* to, std::size_t room) {
    if (!object.by_path()) return ::fgetxattr(object.fd(), op.name.c_str(), to, room);
    return ::getxattr(object.name().c_str(), op.name.c_str(), to, room);
  });
}

int do_set_xattr(Operation& op, Attempt&) {
  if (bad_name(op)) return EINVAL;
  Object object;
  if (const int error = object.find(op); error != 0) return error;
  const char* name = op.name.c_str();
  return retried([&] {
    if (!object.by_path()) return ::fsetxattr(object.fd(), name, op.text.data(), op.text.size(), op.flags);
    return ::setxattr(object.name().c_str(), name, op.text.data(), op.text.size(), op.flags);
  });
}

int do_list_xattr(Operation& op, Attempt&) {
  Object object;
  if (const int error = object.find(op); error != 0) return error;
  return read_text(op.text, [&](char* to, std::size_t room) {
    if (!object.by_path()) return ::flistxattr(object.fd(), to, room);
    return ::listxattr(object.name().c_str(), to, room);
  });
}

int do_remove_xattr(Operation& op, Attempt&) {
  if (bad_name(op)) return EINVAL;
  Object object;
  if (const int error = object.find(op); error != 0) return error;
  return retried([&] {
    if (!object.by_path()) return ::fremovexattr(object.fd(), op.name.c_str());
    return ::removexattr(object.name().c_str(), op.name.c_str());
  });
}

}  // namespace rainfs::io
