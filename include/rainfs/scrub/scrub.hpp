// SPDX-License-Identifier: Apache-2.0
// The scrubber: brings every file of an array back to R good, equal replicas by working on the exports
// themselves, beside running writers.
//
// One Scrub is used by one thread, which starts others for the time of a run. It blocks; what it does on the
// exports is bounded by the array's deadlines. It never destroys anything: what it replaces or removes goes
// to `.rainfs/trash` or `.rainfs/conflicts` of the same export.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rainfs/replica/locate.hpp"

namespace rainfs::scrub {

// Bits of the exit status, as fsck(8) has them.
inline constexpr int status_repaired = 1;
inline constexpr int status_left = 4;
inline constexpr int status_failed = 8;
inline constexpr int status_usage = 16;

// What to do with versions that differ where nothing says which is right.
enum class Resolve : std::uint8_t { report, newest, keep };

struct Options {
  std::vector<std::string> paths;  // relative to the root; none: everything
  bool ledger_only = false;        // drain the facts, do not walk
  bool deep = false;               // read and compare contents
  bool dry_run = false;            // say what would be done
  bool balance = false;            // also move what lies well but not at home
  Resolve resolve = Resolve::report;
  base::Duration grace = std::chrono::minutes(5);
  unsigned jobs = 8;
  std::uint64_t rate_bytes = 0;  // per second, read and written; 0: as fast as it goes
  unsigned shard = 0, shards = 1;
  unsigned trash_days = 14;  // 0: not kept
  std::uint32_t trash_max_per_mille = 50;
};

enum class Pass : std::uint8_t { starting, ledger, metadata, links, deep, trash, done };
const char* name_of(Pass pass);

// Read by whoever shows progress, while it runs.
struct Counters {
  std::atomic<Pass> pass{Pass::starting};
  std::atomic<std::uint64_t> directories{0}, files{0}, facts{0};
  std::atomic<std::uint64_t> repaired{0}, left{0}, in_use{0}, conflicts{0}, damaged{0};
  std::atomic<std::uint64_t> few{0}, single{0};  // files that have fewer than R good replicas still, and one only
  std::atomic<std::uint64_t> bytes_copied{0}, bytes_read{0}, copies{0};
  std::atomic<std::uint64_t> expected_files{0};  // 0: not known
};

enum class Finding : std::uint8_t { repaired, left, in_use, conflict, damaged };
const char* name_of(Finding finding);
// What a run has looked at, once it has ended.
struct Coverage {
  bool complete =
      false;  // it looked at everything beneath its paths, with all exports at hand, and was not interrupted
  std::vector<std::string> paths;      // none: the whole array
  std::uint64_t topology_version = 0;  // when it began
  bool replicas_missing = false;       // that array was marked as one where files may lack replicas
};

// One line of the report. Called by several threads, one at a time; must not block for long.
using Reporter = std::function<void(Finding finding, const std::string& path, const std::string& text)>;

class Scrub {
 public:
  Scrub(replica::Context& context, Options options, Reporter reporter);
  ~Scrub();

  // One run: takes the lease (EBUSY, with a text that says who has it, if another scrubber runs), does all
  // passes, gives the lease back. The value is the exit status: bits as above.
  base::Result<int> run();
  // From a signal handler's thread: the run ends soon, in order.
  void stop();
  const Counters& counters() const;
  const Coverage& coverage() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The last result and the progress of a running scrub as the exports tell it, newest first; JSON text.
base::Result<std::string> last_result(nas::Array& array);
base::Result<std::string> running_progress(nas::Array& array);

}  // namespace rainfs::scrub
