// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "kinds.hpp"

namespace rainfs::io {

namespace {

// How much of a range is copied in one operation where the kernel does not copy by itself.
constexpr std::size_t copy_buffer_bytes = 256 * 1024;
constexpr std::size_t most_copied_bytes = 8 * 1024 * 1024;
constexpr int most_interrupted_flushes = 16;

struct flock range_of(const Operation& op) {
  struct flock range {};
  range.l_type = static_cast<short>(op.flags);
  range.l_whence = SEEK_SET;
  range.l_start = op.offset;
  range.l_len = static_cast<off_t>(op.length);
  return range;
}

// Within one file overlapping ranges are EINVAL and stay so: a loop would copy what it has just written.
bool overlap(const Operation& op) {
  struct statx from {
  }, to{};
  if (stat_descriptor(op.file->number(), AT_STATX_DONT_SYNC, from) != 0) return true;
  if (stat_descriptor(op.other->number(), AT_STATX_DONT_SYNC, to) != 0) return true;
  if (!S_ISREG(from.stx_mode) || !S_ISREG(to.stx_mode)) return true;
  const bool same =
      from.stx_ino == to.stx_ino && from.stx_dev_major == to.stx_dev_major && from.stx_dev_minor == to.stx_dev_minor;
  const auto length = static_cast<off_t>(std::min<std::size_t>(op.length, std::numeric_limits<off_t>::max() / 2));
  return same && op.offset < op.offset2 + length && op.offset2 < op.offset + length;
}

int write_at(int fd, const char* data, std::size_t size, off_t offset, std::size_t& written) {
  while (written < size) {
    ssize_t now = 0;
    const auto at = offset + static_cast<off_t>(written);
    const int error = retried([&] { return now = ::pwrite(fd, data + written, size - written, at); });
    if (error != 0) return error;
    if (now == 0) return EIO;
    written += static_cast<std::size_t>(now);
  }
  return 0;
}

int copy_by_hand(Operation& op) {
  const std::size_t wanted = std::min(op.length, most_copied_bytes);
  std::vector<char> buffer(std::min(wanted, copy_buffer_bytes));
  std::size_t copied = 0;
  while (copied < wanted) {
    ssize_t got = 0;
    const auto room = std::min(buffer.size(), wanted - copied);
    const auto step = static_cast<off_t>(copied);
    int error = retried([&] { return got = ::pread(op.file->number(), buffer.data(), room, op.offset + step); });
    if (error == 0 && got == 0) break;
    std::size_t written = 0;
    if (error == 0) {
      error = write_at(op.other->number(), buffer.data(), static_cast<std::size_t>(got), op.offset2 + step, written);
    }
    copied += written;
    op.value = static_cast<std::int64_t>(copied);
    if (error != 0) return copied > 0 ? 0 : error;  // short: the next call meets the error by itself
  }
  op.value = static_cast<std::int64_t>(copied);
  return 0;
}

}  // namespace

bool buffer_fits(const Operation& op) {
  if (op.offset < 0 || op.length > static_cast<std::size_t>(std::numeric_limits<off_t>::max() - op.offset)) {
    return false;
  }
  if (op.length == 0) return true;
  return op.buffer && op.buffer_offset <= op.buffer->size() && op.length <= op.buffer->size() - op.buffer_offset;
}

int do_statfs(Operation& op) {
  return retried([&] { return ::fstatfs(number_of(op), &op.filesystem); });
}

int do_read(Operation& op) {
  if (!buffer_fits(op)) return EINVAL;
  std::size_t got = 0;
  while (got < op.length) {
    ssize_t now = 0;
    std::byte* to = op.buffer->data() + op.buffer_offset + got;
    const auto at = op.offset + static_cast<off_t>(got);
    const int error = retried([&] { return now = ::pread(number_of(op), to, op.length - got, at); });
    // With O_DIRECT a last partial block leaves an offset from which nothing can be read: it is the end.
    if (error == EINVAL && got > 0) break;
    if (error != 0) return error;
    if (now == 0) break;
    got += static_cast<std::size_t>(now);
  }
  op.value = static_cast<std::int64_t>(got);
  return 0;
}

int do_read_to_pipe(Operation& op) {
  std::size_t got = 0;
  while (got < op.length) {
    ssize_t now = 0;
    off_t at = op.offset + static_cast<off_t>(got);
    const int error = retried(
        [&] { return now = ::splice(number_of(op), &at, op.flags, nullptr, op.length - got, SPLICE_F_NONBLOCK); });
    if (error != 0) return error;
    if (now == 0) break;
    got += static_cast<std::size_t>(now);
  }
  op.value = static_cast<std::int64_t>(got);
  return 0;
}

int do_write(Operation& op) {
  if (!buffer_fits(op)) return EINVAL;
  std::size_t written = 0;
  const char* data = op.length == 0 ? nullptr : reinterpret_cast<const char*>(op.buffer->data()) + op.buffer_offset;
  const int error = write_at(number_of(op), data, op.length, op.offset, written);
  op.value = static_cast<std::int64_t>(written);
  return error;
}

int do_fsync(Operation& op) {
  return retried([&] { return (op.flags & 1) != 0 ? ::fdatasync(number_of(op)) : ::fsync(number_of(op)); });
}

int do_sync_file_system(Operation& op) {
  return retried([&] { return ::syncfs(number_of(op)); });
}

int do_flush(Operation& op) {
  for (int turn = 1;; ++turn) {
    int copy = -1;
    const int error = retried([&] { return copy = ::fcntl(number_of(op), F_DUPFD_CLOEXEC, 0); });
    if (error != 0) return error;
    if (::close(copy) == 0) return 0;
    // Interrupted, the duplicate is closed all the same; what it would have reported needs another one.
    if (errno != EINTR || turn >= most_interrupted_flushes) return errno;
  }
}

int do_allocate(Operation& op) {
  return retried([&] { return ::fallocate(number_of(op), op.flags, op.offset, static_cast<off_t>(op.length)); });
}

int do_seek(Operation& op) {
  if (op.flags != SEEK_DATA && op.flags != SEEK_HOLE) return EINVAL;
  const off_t at = ::lseek(number_of(op), op.offset, op.flags);
  if (at < 0) return errno;
  op.value = at;
  return 0;
}

int do_copy_range(Operation& op) {
  if (!op.other) return EINVAL;
  ssize_t copied = 0;
  const int error = retried([&] {
    loff_t from = op.offset, to = op.offset2;
    return copied = ::copy_file_range(op.file->number(), &from, op.other->number(), &to, op.length, 0);
  });
  op.value = error == 0 ? copied : 0;
  if (error != EXDEV && error != EINVAL && error != EOPNOTSUPP && error != ENOSYS) return error;
  return overlap(op) ? error : copy_by_hand(op);
}

int do_lock(Operation& op) {
  struct flock range = range_of(op);
  const int error = retried([&] { return ::fcntl(number_of(op), F_OFD_SETLK, &range); });
  return error == EACCES ? EAGAIN : error;
}

int do_test_lock(Operation& op) {
  struct flock range = range_of(op);
  if (const int error = retried([&] { return ::fcntl(number_of(op), F_OFD_GETLK, &range); }); error != 0) {
    return error;
  }
  op.value = range.l_type;
  if (range.l_type != F_UNLCK) {
    op.offset = range.l_start;
    op.length = static_cast<std::size_t>(range.l_len);
  }
  return 0;
}

int do_flock(Operation& op) {
  return retried([&] { return ::flock(number_of(op), op.flags | LOCK_NB); });
}

}  // namespace rainfs::io
