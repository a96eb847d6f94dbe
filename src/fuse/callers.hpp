// SPDX-License-Identifier: Apache-2.0
// Who asks: the credentials of a request's process, with its supplementary groups, which FUSE does not send.
// Any thread may call. Bounded: a fixed number of places, the older entry yields.
#pragma once

#include <array>
#include <chrono>
#include <mutex>

#include "rainfs/io/operation.hpp"

namespace rainfs::fuse {

class Callers {
 public:
  // Groups come from /proc and are believed for a second: a process that changes them seldom does more often. Root
  // needs none. Where the process is gone already it is given no groups.
  io::CredentialsPtr credentials(uid_t uid, gid_t gid, pid_t pid, mode_t umask);

 private:
  struct Known {
    uid_t uid = 0;
    gid_t gid = 0;
    pid_t pid = -1;
    mode_t umask = 0;
    std::chrono::steady_clock::time_point until{};
    io::CredentialsPtr credentials;
  };
  static constexpr std::size_t places = 512;
  static constexpr std::size_t locks = 16;
  static constexpr std::chrono::seconds believed_for{1};
  std::array<std::mutex, locks> mutexes_;  // mutexes_[place % locks] guards known_[place]
  std::array<Known, places> known_;
};

}  // namespace rainfs::fuse
