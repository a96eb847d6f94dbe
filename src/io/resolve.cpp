// SPDX-License-Identifier: Apache-2.0
#include "resolve.hpp"

#include <limits.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace rainfs::io {

namespace {

// A rename elsewhere on the file system may make the kernel give up on a walk with EAGAIN: how often the
// walk is begun again.
constexpr int most_walks = 16;

// What openat2, unlike open, would refuse or what has no meaning here (O_ASYNC, flags of exec).
constexpr int known_flags = O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_NONBLOCK | O_DSYNC | O_SYNC |
                            O_DIRECT | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_PATH | O_TMPFILE;

bool is_beneath(const std::string& path) {
  if (path.empty() || path.front() == '/') return false;
  if (std::memchr(path.data(), '\0', path.size()) != nullptr) return false;
  for (std::size_t at = path.find(".."); at != std::string::npos; at = path.find("..", at + 1)) {
    const bool begins = at == 0 || path[at - 1] == '/';
    const bool ends = at + 2 == path.size() || path[at + 2] == '/';
    if (begins && ends) return false;
  }
  return true;
}

int open_once(int directory, const char* path, int flags, mode_t mode) {
  struct open_how how {};
  how.flags = static_cast<unsigned>(flags & known_flags) | O_CLOEXEC;
  if ((flags & O_PATH) == 0) how.flags |= O_NOCTTY;
  const bool makes = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  how.mode = makes ? mode & 07777 : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  for (int walk = 1;; ++walk) {
    const long fd = ::syscall(SYS_openat2, directory, path, &how, sizeof how);
    if (fd >= 0) return static_cast<int>(fd);
    const bool again = errno == EINTR || (errno == EAGAIN && (flags & O_NONBLOCK) == 0 && walk < most_walks);
    if (!again) return -errno;
  }
}

// The error of a walk that met a symbolic link is that of one through any other non-directory.
int as_directory_error(int error) {
  return error == -ELOOP || error == -EXDEV ? -ENOTDIR : error;
}

int open_directory(int directory, std::string_view path) {
  char text[PATH_MAX];
  std::memcpy(text, path.data(), path.size());
  text[path.size()] = '\0';
  return as_directory_error(open_once(directory, text, O_PATH | O_DIRECTORY, 0));
}

// Goes down from `directory` until the rest of the path is short enough for one call.
int descend(int& directory, base::UniqueFd& owned, std::string_view& path) {
  while (path.size() >= PATH_MAX) {
    const std::size_t cut = path.rfind('/', PATH_MAX - 1);
    if (cut == std::string_view::npos || cut == 0) return -ENAMETOOLONG;
    const int fd = open_directory(directory, path.substr(0, cut));
    if (fd < 0) return fd;
    owned.reset(fd);
    directory = fd;
    path.remove_prefix(cut + 1);
  }
  return 0;
}

}  // namespace

int Parent::find(const Handle& root, const std::string& path) {
  if (!root.inert_links() || path.size() >= PATH_MAX) return find_last(root.number(), path);
  if (!is_beneath(path) || path.back() == '/') return -EINVAL;
  directory_ = root.number();
  leaf_ = path.c_str();
  walks_yet_ = true;
  return 0;
}

int Parent::find_last(int root, const std::string& path) {
  if (!is_beneath(path)) return -EINVAL;
  const std::size_t slash = path.rfind('/');
  leaf_ = path.c_str() + (slash == std::string::npos ? 0 : slash + 1);
  directory_ = root;
  if (*leaf_ == '\0') return -EINVAL;
  if (slash == std::string::npos) return 0;
  std::string_view rest(path.data(), slash);
  if (const int error = descend(directory_, owned_, rest); error != 0) return error;
  if (rest.empty()) return 0;
  const int fd = open_directory(directory_, rest);
  if (fd < 0) return fd;
  owned_.reset(fd);
  directory_ = fd;
  return 0;
}

int inert_root(int directory) noexcept {
  base::UniqueFd tree(::open_tree(directory, "", AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!tree) return -1;
  struct mount_attr attributes {};
  attributes.attr_set = MOUNT_ATTR_NOSYMFOLLOW;
  if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) != 0) return -1;
  // Not the tree's own descriptor, by which only paths can be walked: a root is also synchronised (and syncfs tells of
  // what failed since its descriptor was opened).
  return ::openat(tree.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int open_beneath(int root, const std::string& path, int flags, mode_t mode) {
  if (!is_beneath(path)) return -EINVAL;
  base::UniqueFd owned;
  std::string_view rest = path;
  int directory = root;
  if (const int error = descend(directory, owned, rest); error != 0) return error;
  const int fd = open_once(directory, rest.data(), flags, mode);  // rest ends where path does, with its NUL
  if (fd != -ELOOP && fd != -EXDEV) return fd;
  if ((flags & itself) == itself || (flags & O_DIRECTORY) != 0) return -ENOTDIR;
  // A link: on the way or the last component? In two steps it shows.
  Parent parent;
  const int error = parent.find_last(root, path);
  return error != 0 ? error : open_once(parent.directory(), parent.leaf(), flags, mode);
}

}  // namespace rainfs::io
