// SPDX-License-Identifier: Apache-2.0
#include "reply_pipe.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "rainfs/fuse/options.hpp"

namespace rainfs::fuse {

namespace {

constexpr std::size_t page_bytes = 4096;

// A pipe holds whole pages: those of a reply, and one for its header.
base::UniqueFd make_pipe(std::size_t bytes, base::UniqueFd& entrance) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return {};
  base::UniqueFd exit(ends[0]);
  entrance.reset(ends[1]);
  if (::fcntl(ends[1], F_SETPIPE_SZ, static_cast<int>(bytes)) < static_cast<int>(bytes)) return {};
  return exit;
}

bool can_be_had(std::size_t bytes) {
  base::UniqueFd entrance;
  return static_cast<bool>(make_pipe(bytes, entrance));
}

// A power of two: 2 MiB, or the 1 MiB that a process without CAP_SYS_RESOURCE may have (/proc/sys/fs/pipe-max-size).
std::size_t room_bytes() {
  static const std::size_t room = can_be_had(2 * largest_transfer) ? 2 * largest_transfer : largest_transfer;
  return room;
}

}  // namespace

std::size_t ReplyPipe::most_bytes() {
  return std::min(largest_transfer, room_bytes() - page_bytes);
}

std::unique_ptr<ReplyPipe> ReplyPipe::make() {
  base::UniqueFd entrance;
  base::UniqueFd exit = make_pipe(room_bytes(), entrance);
  if (!exit) return nullptr;
  return std::unique_ptr<ReplyPipe>(new ReplyPipe(std::move(exit), std::move(entrance)));
}

bool ReplyPipe::put(const void* bytes, std::size_t size) noexcept {
  return ::write(entrance_.get(), bytes, size) == static_cast<ssize_t>(size);
}

bool ReplyPipe::take(void* bytes, std::size_t size) noexcept {
  std::size_t taken = 0;
  while (taken < size) {
    const ssize_t now = ::read(exit_.get(), static_cast<char*>(bytes) + taken, size - taken);
    if (now < 0 && errno == EINTR) continue;
    if (now <= 0) return false;
    taken += static_cast<std::size_t>(now);
  }
  return true;
}

ssize_t ReplyPipe::send(int device, std::size_t size) noexcept {
  ssize_t sent = 0;
  do {
    sent = ::splice(exit_.get(), nullptr, device, nullptr, size, 0);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

}  // namespace rainfs::fuse
