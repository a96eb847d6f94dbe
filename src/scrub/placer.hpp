// SPDX-License-Identifier: Apache-2.0
// Collects files whose new replicas are built, and puts them into place many at a time. So a run copies while its
// announcement is still being waited for, and small files share what a step costs. Any thread.
#pragma once

#include <deque>
#include <functional>
#include <mutex>

#include "place.hpp"
#include "pool.hpp"

namespace rainfs::scrub {

class Placer {
 public:
  struct File {
    std::string text;  // for the report
    std::vector<std::unique_ptr<Building>> replicas;
    std::function<void()> again;  // heals it by itself: it changed, or could not be put in place
    std::shared_ptr<void> holds;  // let go when it is done
  };

  explicit Placer(Session& session) : session_(session) {}
  // Puts into place what has been collected, if that is enough, and the nodes know of the scrub or it has become too
  // much.
  void add(File file);
  // All the rest, with the pool's threads; called when they are idle.
  void flush(Pool& pool);

 private:
  std::deque<File> take();
  void finish(std::deque<File> files);

  static constexpr std::size_t group_files =
      2048;  // a group is synced twice, which may cost as much as making some hundred files
  static constexpr std::uint64_t group_bytes = 64 << 20;
  static constexpr std::size_t most_files = 32 * 1024;  // held while nodes do not know yet; about a kB each
  static constexpr std::uint64_t most_bytes = 1 << 30;

  Session& session_;
  std::mutex mutex_;  // guards what follows
  std::deque<File> files_;
  std::uint64_t bytes_ = 0;
};

}  // namespace rainfs::scrub
