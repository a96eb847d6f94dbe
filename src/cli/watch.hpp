// SPDX-License-Identifier: Apache-2.0
// The background service of rainfs-scrub --watch: repairs what facts speak about within seconds of an export's
// return, and runs the passes on schedule. On several nodes one does the work at a time: it has the lease.
#pragma once

#include <atomic>
#include <ctime>
#include <functional>
#include <mutex>

#include "rainfs/config/config.hpp"
#include "rainfs/scrub/scrub.hpp"

namespace rainfs::cli {

class Watch {
 public:
  using Ended = std::function<void(const scrub::Scrub& scrub, int status)>;  // told of each run
  Watch(replica::Context& context, scrub::Options options, config::Scrub schedule, scrub::Reporter reporter,
        Ended ended)
      : context_(context),
        reporter_(std::move(reporter)),
        ended_(std::move(ended)),
        options_(std::move(options)),
        schedule_(schedule) {}
  void run();  // until stop()
  // Both from any thread. What is running is not changed.
  void stop();
  void change(const scrub::Options& options, const config::Scrub& schedule);

 private:
  std::pair<scrub::Options, config::Scrub> wanted();
  void drain_when_due();
  void scrub_when_due();
  enum class Outcome { not_begun, something_left, all_repaired };  // not begun: another node does it, say
  Outcome scrub(const scrub::Options& options);

  replica::Context& context_;
  const scrub::Reporter reporter_;
  const Ended ended_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;  // guards what follows
  scrub::Options options_;
  config::Scrub schedule_;
  scrub::Scrub* running_ = nullptr;
  base::ExportSet online_before_;
  base::TimePoint next_drain_{}, next_pass_{};
  base::Duration pause_ = std::chrono::seconds(2);
  std::time_t looked_at_ = 0;
};

// The latest time not after `now` at which the schedule has a scrub begin; 0 if it has none. Local time.
std::time_t scheduled_before(const config::ScrubTime& at, std::time_t now);

}  // namespace rainfs::cli
