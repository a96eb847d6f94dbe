// SPDX-License-Identifier: Apache-2.0
// One export as this node sees it: its root, whether it may be used, how fast it answers.
//
// Owns the export's engine, its root handle and its circuit breaker. Any thread may ask and report; probing
// is the monitor's alone. Never blocks, and never writes to a root whose identity was not read and matched.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "rainfs/base/clock.hpp"
#include "rainfs/base/striped_pointer.hpp"
#include "rainfs/io/engines.hpp"
#include "rainfs/metrics/metrics.hpp"
#include "rainfs/topology/topology.hpp"

namespace rainfs::nas {

// Makes the engine that may block on an export, and wraps a root that was found to be on a local disk; the
// simulated world gives its own.
class EngineFactory {
 public:
  virtual ~EngineFactory() = default;
  virtual std::unique_ptr<io::Engine> make_engine(const std::string& export_name) = 0;
  // The root to work with, given the one that was opened and what statfs said of it: the same, or one whose
  // engine is faster.
  virtual io::HandlePtr adopt(const io::HandlePtr& root, const struct statfs& filesystem) = 0;
};
// io_uring or threads for what may hang, the calling thread for local disk file systems.
std::unique_ptr<EngineFactory> make_system_engines();

struct Space {
  std::uint64_t total_bytes = 0;
  std::uint64_t available_bytes = 0;
  std::uint64_t files = 0;
  std::uint64_t files_free = 0;
};

// Operations that take comparable times.
enum class Work : std::uint8_t { metadata, read, write, sync };
inline constexpr std::size_t work_kinds = 4;
Work work_of(io::Kind kind);

// What this node's operations on one export came to since it was mounted.
struct ExportMeters {
  std::array<metrics::Histogram, work_kinds> latency;  // of what was answered, with whatever result
  std::array<metrics::Counter, work_kinds> errors;     // of the export, not of the file; missed deadlines too
  metrics::Counter missed_deadlines;
  metrics::Counter absences;  // times the breaker opened
  metrics::Counter read_bytes;
  metrics::Counter written_bytes;
};

class Export {
 public:
  Export(const topology::Export& info, base::ExportIndex index, std::string local_path, EngineFactory& factory,
         base::Clock& clock);

  base::ExportIndex index() const { return index_; }
  const std::string& name() const { return name_; }
  const std::string& local_path() const { return local_path_; }
  io::Engine& engine() { return *engine_; }

  // The root to work beneath; null while the export is absent.
  io::HandlePtr root() const { return root_.load(); }
  bool online() const { return online_.load(std::memory_order_acquire); }
  bool read_only() const { return read_only_.load(std::memory_order_relaxed); }

  // What an operation's end says about the export: opens the breaker on a missed deadline and on errors
  // that mean the whole export is gone.
  void missed_deadline();
  // It answers probes but has missed deadlines again and again: its data hang, say, and its names do not. Each time it
  // is to be left alone for longer, where others can do without it.
  bool on_probation() const;
  // `of_root`: of an operation beneath the root. What an open file answers is about that file alone: on NFS another
  // node has removed it (ESTALE), or it was opened beneath a mount that has been replaced since.
  void reported(int error, bool of_root);
  void answered(base::Duration latency);
  void count(const io::Operation& operation);  // a completed one
  void count_missed(io::Kind kind);
  const ExportMeters& meters() const { return meters_; }
  // Exponentially weighted mean of the answers' times.
  base::Duration latency() const { return base::Duration(latency_ns_.load(std::memory_order_relaxed)); }

  // Full for new replicas: below the reserve, or an ENOSPC less than a minute ago.
  bool full() const;
  void out_of_space();
  Space space() const;

  std::string absent_reason() const;     // empty when online
  struct timespec absent_since() const;  // the making of this object, if it was never online
  bool was_online() const { return was_online_.load(std::memory_order_relaxed); }

  // For the monitor.
  void found(io::HandlePtr root, const struct statfs& filesystem, std::uint32_t reserve_per_mille);
  void lost(std::string reason);
  std::uint64_t failures() const { return failures_.load(std::memory_order_relaxed); }

 private:
  const std::string name_;
  const base::ExportIndex index_;
  const std::string local_path_;
  base::Clock& clock_;
  std::unique_ptr<io::Engine> engine_;
  base::StripedPointer<io::Handle> root_;
  std::atomic<bool> online_{false};
  std::atomic<bool> was_online_{false};
  std::atomic<bool> read_only_{false};
  std::atomic<bool> below_reserve_{false};
  std::atomic<std::int64_t> full_until_ns_{0};
  std::atomic<std::int64_t> latency_ns_{0};
  std::atomic<std::uint64_t> failures_{0};
  std::atomic<std::int64_t> missed_at_ns_{0};   // 0: never
  std::atomic<std::int64_t> left_alone_ns_{0};  // after that
  ExportMeters meters_;
  mutable std::mutex mutex_;  // guards what follows; a leaf lock
  Space space_;
  std::string absent_reason_ = "not yet reached";
  struct timespec absent_since_ {};
};

}  // namespace rainfs::nas
