// SPDX-License-Identifier: Apache-2.0
// The small file `.rainfs/nodes/<node>-<mount point>` that a mounted node leaves on every export, made anew every half
// minute: so that any node can tell who is there, how busy they are, and since when they miss an export. In the same
// rhythm it looks at what waits for repair, so that metrics can tell without I/O of their own.
//
// Owns one thread. Started and stopped by one thread. What it writes concerns nobody's data: an export that
// does not take it is no worse for it.
#pragma once

#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "rainfs/base/periodic.hpp"
#include "rainfs/nas/array.hpp"
#include "rainfs/status/report.hpp"

namespace rainfs::status {

inline constexpr const char* nodes_directory = ".rainfs/nodes";
inline constexpr base::Duration mark_interval = std::chrono::seconds(30);

inline constexpr std::size_t most_samples = 240;  // of throughput: two hours

// Bytes that programs have moved since the daemon began.
struct Traffic {
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;
};

class Heartbeat {
 public:
  // `traffic` is called by the heartbeat's thread.
  Heartbeat(nas::Array& array, std::string node, std::string mount_point, std::string version,
            std::function<Traffic()> traffic);
  ~Heartbeat();  // stops, and takes the files away where that is possible
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  void start();
  // One mark on all exports that are online.
  void mark();
  // Any thread.
  std::vector<Throughput> throughput() const;
  // What was found at the last beat, without the nodes' marks; not made yet if its time is 0.
  Report found() const;

 private:
  std::string text() const;
  void sample();
  void withdraw();

  nas::Array& array_;
  const std::string node_, name_, mount_point_, version_;
  const std::int64_t since_s_;
  std::uint64_t sequence_ = 0;
  const std::function<Traffic()> traffic_;
  mutable std::mutex mutex_;  // guards what follows
  Traffic counted_;
  base::TimePoint counted_at_;
  std::deque<Throughput> samples_;
  Report found_;
  std::optional<base::Periodic> marking_;  // last: it uses the others
};

}  // namespace rainfs::status
