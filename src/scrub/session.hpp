// SPDX-License-Identifier: Apache-2.0
// What all parts of one run share. Any thread of the run.
#pragma once

#include <algorithm>
#include <mutex>
#include <unordered_set>

#include "lease.hpp"
#include "rainfs/replica/upkeep.hpp"
#include "rainfs/scrub/scrub.hpp"

namespace rainfs::scrub {

using base::ExportIndex;
using base::ExportSet;
using io::Kind;
using replica::new_operation;
using replica::perform_data_on;
using replica::perform_on;

// Keeps the sum of all threads' bytes at a rate.
class RateLimit {
 public:
  RateLimit(base::Clock& clock, std::uint64_t bytes_per_second) : clock_(clock), rate_(bytes_per_second) {}
  // Waits until so many bytes may be moved.
  void take(std::uint64_t bytes);
  // The most that should be moved at once, of what is possible: a part of a second's worth.
  std::size_t portion(std::size_t most) const {
    return rate_ == 0 ? most
                      : static_cast<std::size_t>(
                            std::clamp<std::uint64_t>(rate_ / 8, std::min<std::size_t>(64 << 10, most), most));
  }

 private:
  base::Clock& clock_;
  const std::uint64_t rate_;
  std::mutex mutex_;  // guards next_
  base::TimePoint next_{};
};

class Session {
 public:
  Session(replica::Context& context_in, const Options& options_in, Reporter reporter);

  replica::Context& context;
  nas::Array& array;
  const Options options;
  Counters counters;
  RateLimit rate;
  std::unique_ptr<Lease> lease;  // none in a dry run
  std::atomic<bool> stopping{false};
  std::atomic<bool> unanswered{false};  // an export that was there did not answer a question about the tree

  bool stopped() const { return stopping.load() || (lease && lease->lost()); }
  void found(Finding finding, const std::string& path, const std::string& text);
  // A rename of it is under way or was left half done: what lies where is not what it seems until a node has finished
  // it.
  bool being_renamed(const std::string& path) const;
  // Name of a new temporary file on any export.
  std::string temporary();
  const std::string& name_of(ExportIndex index) const { return array.at(index).name(); }
  std::string names_of(ExportSet set) const;

  // Clears facts, but leaves the ledger's directories that they shared with others until sweep_ledger().
  void clear_facts(const std::vector<ledger::Instance>& instances);

  // A directory of an export whose times repair has changed: they are set right in a while, all at once.
  void touched(ExportIndex index, const std::string& directory);
  void restore_times();

 private:
  Reporter reporter_;
  std::mutex report_mutex_;
  std::mutex touched_mutex_;                 // guards touched_
  std::unordered_set<std::string> touched_;  // export number as a character, then the path
  std::atomic<std::uint64_t> sequence_{0};
};

}  // namespace rainfs::scrub
