// SPDX-License-Identifier: Apache-2.0
// The flaky NAS's open files and directories: create, open, read, write, list, release.
#include "flaky_operations.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <vector>

namespace flaky {
namespace {

constexpr std::size_t largest_read = 1 << 20;

// O_DIRECT would ask for aligned buffers, O_APPEND ignore the offset that the kernel has chosen already.
int open_flags(int flags) {
  return (flags & ~(O_DIRECT | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW)) | O_CLOEXEC;
}

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
  const ssize_t count =
      decision.action == Action::fail ? 0 : ::pread(handle(info)->fd, buffer.data(), buffer.size(), offset);
  if (count < 0 || decision.action == Action::fail || decision.action == Action::late_error) {
    fuse_reply_err(request, count < 0 ? errno : static_cast<int>(decision.argument));
    return;
  }
  if (count > 0 && decision.action == Action::corrupt) buffer[count / 2] = static_cast<char>(~buffer[count / 2]);
  fuse_reply_buf(request, buffer.data(), static_cast<std::size_t>(count));
}

void nas_write(fuse_req_t request, fuse_ino_t node, const char* buffer, std::size_t size, off_t offset,
               fuse_file_info* info) {
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

void nas_flush(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
  answer(request, "flush", nodes().path(node), [&] { return result_of(::close(::dup(handle(info)->fd))); });
}

void nas_release(fuse_req_t request, fuse_ino_t node, fuse_file_info* info) {
  OpenFile* const file = handle(info);
  answer(request, file->directory != nullptr ? "releasedir" : "release", nodes().path(node),
         [&] { return result_of(file->directory != nullptr ? ::closedir(file->directory) : ::close(file->fd)); });
  delete file;
}

void nas_fsync(fuse_req_t request, fuse_ino_t node, int data_only, fuse_file_info* info) {
  OpenFile* const file = handle(info);
  answer(request, file->directory != nullptr ? "fsyncdir" : "fsync", nodes().path(node),
         [&] { return result_of(data_only != 0 ? ::fdatasync(file->fd) : ::fsync(file->fd)); });
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
  const int result =
      obey("readdir", nodes().path(node), [&] { return fill_entries(request, *handle(info), offset, buffer); });
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
  const int result = obey(
      "copy_file_range", nodes().path(node),
      [&] {
        return result_of(::copy_file_range(handle(info)->fd, &offset, handle(to_info)->fd, &to_offset,
                                           std::min<std::size_t>(size, INT_MAX / 2), static_cast<unsigned>(flags)));
      },
      nodes().path(to_node));
  if (result < 0) {
    fuse_reply_err(request, -result);
  } else {
    fuse_reply_write(request, static_cast<std::size_t>(result));
  }
}

}  // namespace

void add_file_operations(fuse_lowlevel_ops& table) {
  table.open = nas_open;
  table.create = nas_create;
  table.read = nas_read;
  table.write = nas_write;
  table.flush = nas_flush;
  table.release = nas_release;
  table.fsync = nas_fsync;
  table.opendir = nas_opendir;
  table.readdir = nas_readdir;
  table.releasedir = nas_release;
  table.fsyncdir = nas_fsync;
  table.fallocate = nas_fallocate;
  table.lseek = nas_lseek;
  table.copy_file_range = nas_copy_file_range;
}

}  // namespace flaky
