// SPDX-License-Identifier: Apache-2.0
#include "rainfs/base/buffer.hpp"

#include <sys/mman.h>

#include <new>

namespace rainfs::base {

std::shared_ptr<Buffer> Buffer::allocate(std::size_t size_bytes) {
  // Mapped, not malloc'ed: a large buffer that is dropped goes back to the system at once.
  const std::size_t rounded = (size_bytes + 4095) / 4096 * 4096;
  void* memory = ::mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return std::shared_ptr<Buffer>(new Buffer(static_cast<std::byte*>(memory), size_bytes));
}

Buffer::~Buffer() {
  ::munmap(data_, (size_ + 4095) / 4096 * 4096);
}

}  // namespace rainfs::base
