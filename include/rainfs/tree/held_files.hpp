// SPDX-License-Identifier: Apache-2.0
// Files that a rename has replaced a moment ago, kept open: the kernel may be between looking one up and opening it,
// and whoever replaces a file by renaming counts on readers finding the one or the other.
//
// Any thread may call; a leaf lock. Files are given back to be closed by the caller, as closing is I/O.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "rainfs/base/clock.hpp"
#include "rainfs/tree/file_system.hpp"

namespace rainfs::tree {

class HeldFiles {
 public:
  using Files = std::vector<std::unique_ptr<OpenFile>>;
  static constexpr std::uint64_t most_bytes = 64 << 20;  // their space is not free as long

  void add(std::unique_ptr<OpenFile> file, std::uint64_t bytes, base::TimePoint now);
  // What has been held for long enough, or is too much.
  Files due(base::TimePoint now);
  Files all();

 private:
  struct Held {
    std::unique_ptr<OpenFile> file;
    std::uint64_t bytes = 0;
    base::TimePoint since{};
  };
  void take_first(Files& files);

  std::mutex mutex_;  // guards what follows
  std::deque<Held> held_;
  std::uint64_t bytes_ = 0;
};

}  // namespace rainfs::tree
