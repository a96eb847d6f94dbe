// SPDX-License-Identifier: Apache-2.0
// A pipe through which the pages of a local file go into a reply to READ, copied once instead of twice. One thread.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>

#include "rainfs/base/unique_fd.hpp"

namespace rainfs::fuse {

class ReplyPipe {
 public:
  // Null where none can be had.
  static std::unique_ptr<ReplyPipe> make();
  // What one has room for beside the header.
  static std::size_t most_bytes();

  // Copies bytes in, where that cannot block.
  bool put(const void* bytes, std::size_t size) noexcept;
  // Takes bytes out that are in it.
  bool take(void* bytes, std::size_t size) noexcept;
  // Moves bytes that are in it; what splice(2) says.
  ssize_t send(int device, std::size_t size) noexcept;
  int entrance() const noexcept { return entrance_.get(); }

 private:
  ReplyPipe(base::UniqueFd exit, base::UniqueFd entrance) : exit_(std::move(exit)), entrance_(std::move(entrance)) {}
  base::UniqueFd exit_, entrance_;
};

}  // namespace rainfs::fuse
