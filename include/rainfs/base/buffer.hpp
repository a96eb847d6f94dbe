// SPDX-License-Identifier: Apache-2.0
// Page-aligned memory shared between the request that filled it and I/O that may outlive the request: it
// stays until the last of them lets go. The reference count is thread-safe, the bytes are not.
#pragma once

#include <cstddef>
#include <memory>

namespace rainfs::base {

class Buffer {
 public:
  static std::shared_ptr<Buffer> allocate(std::size_t size_bytes);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }

 private:
  Buffer(std::byte* data, std::size_t size) : data_(data), size_(size) {}
  std::byte* data_;
  std::size_t size_;
};

}  // namespace rainfs::base
