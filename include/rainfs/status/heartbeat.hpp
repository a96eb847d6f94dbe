// SPDX-License-Identifier: Apache-2.0
// The small file `.rainfs/nodes/<node>` that a mounted node leaves on every export, made anew every half
// minute: so that any node can tell who is there, and since when they miss an export.
//
// Owns one thread. Started and stopped by one thread. What it writes concerns nobody's data: an export that
// does not take it is no worse for it.
#pragma once

#include <optional>
#include <string>

#include "rainfs/base/periodic.hpp"
#include "rainfs/nas/array.hpp"

namespace rainfs::status {

inline constexpr const char* nodes_directory = ".rainfs/nodes";
inline constexpr base::Duration mark_interval = std::chrono::seconds(30);

class Heartbeat {
 public:
  Heartbeat(nas::Array& array, std::string node, std::string mount_point, std::string version);
  ~Heartbeat();  // stops, and takes the files away where that is possible
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  void start();
  // One mark on all exports that are online.
  void mark();

 private:
  std::string text() const;
  void withdraw();

  nas::Array& array_;
  const std::string node_, mount_point_, version_;
  const std::int64_t since_s_;
  std::uint64_t sequence_ = 0;
  std::optional<base::Periodic> marking_;
};

}  // namespace rainfs::status
