// SPDX-License-Identifier: Apache-2.0
#include "passthrough.hpp"

#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "kernel.hpp"
#include "rainfs/log/log.hpp"

namespace rainfs::fuse {

std::int32_t Passthrough::register_backing(int descriptor) {
  kernel::BackingMap map{descriptor, 0, 0};
  const int id = ::ioctl(device_, kernel::backing_open, &map);
  if (id > 0) return id;
  const int error = errno;
  // The kernel lacks it or forbids it: ask no more. Anything else (ELOOP: the export is itself stacked) is
  // this export's.
  if (error == ENOTTY || error == EOPNOTSUPP || error == EPERM) forbidden_ = true;
  static std::atomic<bool> told{false};
  if (!told.exchange(true)) {
    log::notice("passthrough-refused", "the kernel does not read and write this file directly ({}); RainFS does it",
                ::strerrordesc_np(error));
  }
  return 0;
}

Passthrough::Answer Passthrough::opened(tree::NodeId node, int descriptor) {
  if (!agreed_) return {};
  const std::lock_guard lock(mutex_);
  Use& use = uses_[node];
  if (use.direct > 0) {
    if (descriptor < 0) return {true, 0};
    ++use.direct;
    return {false, use.backing_id};
  }
  if (use.ordinary == 0 && descriptor >= 0 && !forbidden_) {
    use.backing_id = register_backing(descriptor);
    if (use.backing_id > 0) {
      use.direct = 1;
      return {false, use.backing_id};
    }
  }
  ++use.ordinary;
  return {};
}

void Passthrough::closed(tree::NodeId node, bool passthrough) noexcept {
  if (!agreed_) return;
  const std::lock_guard lock(mutex_);
  const auto it = uses_.find(node);
  if (it == uses_.end()) return;
  Use& use = it->second;
  if (passthrough) {
    if (use.direct > 0 && --use.direct == 0) {
      std::uint32_t id = static_cast<std::uint32_t>(use.backing_id);
      ::ioctl(device_, kernel::backing_close, &id);
      use.backing_id = 0;
    }
  } else if (use.ordinary > 0) {
    --use.ordinary;
  }
  if (use.direct == 0 && use.ordinary == 0) uses_.erase(it);
}

}  // namespace rainfs::fuse
