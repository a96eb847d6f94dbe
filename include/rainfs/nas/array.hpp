// SPDX-License-Identifier: Apache-2.0
// All exports of an array on this node, the fan-out of operations to them, and what the last poll of them
// said. Any thread may call; the topology is immutable and replaced as a whole.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "rainfs/base/function_ref.hpp"
#include "rainfs/base/striped_pointer.hpp"
#include "rainfs/nas/export.hpp"

namespace rainfs::nas {

using base::ExportIndex;
using base::ExportSet;

struct Deadlines {
  base::Duration metadata = std::chrono::seconds(5);
  base::Duration data = std::chrono::seconds(15);
  base::Duration probe = std::chrono::seconds(2);
};

// For how many further data deadlines an fsync or flush is waited for while its export answers probes.
inline constexpr unsigned most_sync_deadlines = 20;

// How often every node looks at all exports.
inline constexpr base::Duration poll_interval = std::chrono::seconds(1);

// What one export said to one operation of a fan-out.
struct Answer {
  ExportIndex index = 0;
  int error = 0;               // 0, the operation's errno, ETIMEDOUT (deadline missed), ENOTCONN (absent before)
  io::OperationPtr operation;  // null unless it was done
  bool ok() const { return error == 0; }
};

class Answers {
 public:
  std::vector<Answer> list;
  const Answer* of(ExportIndex index) const;
  Answer* of(ExportIndex index);
  ExportSet ok() const;      // succeeded
  ExportSet failed() const;  // error of the export's or this node's, not of the file
  ExportSet with_error(int error) const;
  // Answered about the file, with whatever result.
  ExportSet answered() const;
  auto begin() { return list.begin(); }
  auto end() { return list.end(); }
  auto begin() const { return list.begin(); }
  auto end() const { return list.end(); }
};

struct ArrayOptions {
  Deadlines deadlines;
  std::vector<std::string> local_paths;  // by ExportIndex, overriding the topology's; may be shorter
  std::string node_name;
  std::string rack;  // nearest rack, may be empty
  // Whether polls look for exports that were put back to an earlier moment as a whole; such a one is absent.
  bool tell_put_back = true;
};

class Array {
 public:
  Array(std::shared_ptr<const topology::Topology> topology, ArrayOptions options, EngineFactory& factory,
        base::Clock& clock);
  ~Array();

  std::shared_ptr<const topology::Topology> topology() const { return topology_.load(); }
  Export& at(ExportIndex index) { return *exports_[index]; }
  const Export& at(ExportIndex index) const { return *exports_[index]; }
  base::Clock& clock() { return clock_; }
  const ArrayOptions& options() const { return options_; }
  // Those in force: the options' until they are changed.
  Deadlines deadlines() const;
  void set_deadlines(const Deadlines& deadlines);

  ExportSet online() const;                   // data exports that may be asked
  ExportSet holders_online() const;           // those and witnesses
  ExportSet writable(ExportSet among) const;  // without those that are mounted read-only
  // Exports whose ledger the last poll found to be non-empty (about, not on, these exports).
  ExportSet blamed_somewhere() const { return ExportSet(blamed_somewhere_.load(std::memory_order_acquire)); }
  // This node recorded a fact: known before the next poll.
  void note_blame(ExportSet targets);
  // By when every node's poll must have seen that there are facts about these exports.
  base::TimePoint known_everywhere(ExportSet targets) const;
  // Counts the polls that found a scrub announced: a file that was opened at another count may have had replicas
  // replaced or added since.
  std::uint64_t scrub_polls() const { return scrub_polls_.load(std::memory_order_acquire); }
  bool scrub_announced() const { return scrub_announced_.load(std::memory_order_acquire); }
  // A repairer may be putting replicas back just now.
  bool repairs_under_way() const { return scrub_announced() || !blamed_somewhere().empty(); }
  bool intents_pending() const { return intents_pending_.load(std::memory_order_acquire); }

  // Submits make(index) to each export of the set and waits; operations without a file get the export's
  // root. An absent export answers ENOTCONN without being asked. Reports to the breakers.
  using Make = base::FunctionRef<io::OperationPtr(ExportIndex)>;
  Answers fan_out(ExportSet targets, Make make, base::Duration deadline);
  Answers metadata(ExportSet targets, Make make) {
    return fan_out(targets, make, metadata_deadline_.load(std::memory_order_relaxed));
  }
  Answers data(ExportSet targets, Make make) {
    return fan_out(targets, make, data_deadline_.load(std::memory_order_relaxed));
  }

  // One round of probing all exports: opens roots, checks identities, space, ledgers, scrub announcement.
  // Called by the monitor thread about once a second, and once before serving. Bounded by the probe
  // deadline; an export whose last probe still hangs is not probed again.
  void poll();
  // Has the exports that can be written remember that they were seen, once in ten minutes; to be called more often, by
  // one thread. By that polls tell an export that was put back to an earlier moment as a whole.
  void mark_seen();
  // Of an export that was put back, as the last poll found: the tick that others tell of it (sightings.hpp). 0: it was
  // not.
  std::int64_t put_back(ExportIndex index) const;
  // Starts and stops the thread that polls.
  void start_monitor();
  void stop_monitor();

 private:
  void wait_for_syncs(io::Batch& batch, const Answers& answers, base::Duration deadline);
  struct Probe;
  void probe_all(std::vector<std::unique_ptr<Probe>>& probes);
  void compare_sightings(const std::vector<Probe*>& asked);
  void judge(Probe& probe);
  bool enough_without(ExportIndex index) const;
  void add_exports(const topology::Topology& topology);
  void take_up_topology();

  base::Clock& clock_;
  const ArrayOptions options_;
  std::atomic<base::Duration> metadata_deadline_;
  std::atomic<base::Duration> data_deadline_;
  std::atomic<base::Duration> probe_deadline_;
  base::StripedPointer<const topology::Topology> topology_;
  EngineFactory& factory_;
  std::vector<std::unique_ptr<Export>> exports_;
  mutable std::mutex blame_mutex_;  // guards noted_since_poll_ and writing the next; a leaf lock
  ExportSet noted_since_poll_;      // by note_blame(), since the poll under way began
  std::atomic<std::uint64_t> blamed_somewhere_{0};
  std::array<std::atomic<std::int64_t>, base::max_exports> blamed_since_ns_{};  // 0: it is not
  std::atomic<bool> scrub_announced_{false};
  std::atomic<std::uint64_t> scrub_polls_{0};
  std::atomic<bool> intents_pending_{false};

  std::int64_t seen_tick_ = 0;  // with the next, of mark_seen()'s thread
  ExportSet seen_marked_;       // at that tick

  struct Monitor;
  std::unique_ptr<Monitor> monitor_;
};

// Names on an export.
inline constexpr const char* private_directory = ".rainfs";

// The coarse kind of what lies at a path: nothing of RainFS's own is ever served.
bool is_private_path(std::string_view path);

}  // namespace rainfs::nas
