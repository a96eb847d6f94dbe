// SPDX-License-Identifier: Apache-2.0
// One scrub per array: a file on every export that can be reached, kept fresh while the scrub runs, and the
// announcement that makes nodes remove and rename in two steps. Shards of one run each have a lease of their
// own. Any thread may ask; its own thread keeps it fresh.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "rainfs/nas/array.hpp"

namespace rainfs::scrub {

class Lease {
 public:
  // EBUSY, with a text that says who has it, while another scrub's is fresh.
  static base::Result<std::unique_ptr<Lease>> acquire(nas::Array& array, unsigned shard, unsigned shards);
  ~Lease();

  // Returns when every node must have seen the announcement; false if the lease was lost.
  bool wait_until_seen();
  // Whether that would return true at once.
  bool seen() const;
  bool lost() const { return lost_.load(); }
  const std::string& tag() const { return tag_; }  // unique; in the names of temporary files
  bool sharded() const { return shards_ > 1; }

 private:
  Lease(nas::Array& array, unsigned shard, unsigned shards);
  // Takes it on one export; the error's text says who has it.
  base::Result<void> take(base::ExportIndex index);
  base::Result<void> check_others(base::ExportIndex index);
  void announce();
  void beat();
  void keep();
  base::TimePoint seen_at() const;
  bool fresh() const;

  nas::Array& array_;
  const unsigned shards_;
  const std::string tag_, file_, text_;
  std::map<base::ExportIndex, std::uint64_t> held_;  // inode of the lease; the keeping thread's after acquire()
  std::atomic<bool> lost_{false};
  std::atomic<std::int64_t> announced_since_ns_{0};
  std::atomic<std::int64_t> beaten_ns_{0};
  std::mutex mutex_;  // guards stopping_
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

// The tags of all leases on the exports that can be reached.
std::set<std::string> lease_tags(nas::Array& array);

// Whether a scrub's lease is fresh on any export, by that export's own clock.
bool is_running(nas::Array& array);

}  // namespace rainfs::scrub
