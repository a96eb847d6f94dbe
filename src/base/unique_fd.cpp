// SPDX-License-Identifier: Apache-2.0
#include "rainfs/base/unique_fd.hpp"

#include <unistd.h>

namespace rainfs::base {

void UniqueFd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

Result<void> UniqueFd::close() {
  const int fd = release();
  // EINTR of close(2) on Linux leaves the descriptor closed; it must not be closed again.
  if (fd >= 0 && ::close(fd) != 0 && errno != EINTR) return unexpected(errno, "close");
  return {};
}

}  // namespace rainfs::base
