// SPDX-License-Identifier: Apache-2.0
// Owns one file descriptor. Move-only; not synchronised. Never used for descriptors on exports that may
// hang: those are io::Handle, whose closing goes through the export's engine.
#pragma once

#include <utility>

#include "rainfs/base/result.hpp"

namespace rainfs::base {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept;
  // Closes and reports: NFS tells of late write errors here.
  Result<void> close();

 private:
  int fd_ = -1;
};

}  // namespace rainfs::base
