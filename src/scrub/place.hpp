// SPDX-License-Identifier: Apache-2.0
// Puts replicas into their places, in the bracket that makes it safe beside running nodes: built aside, announced,
// blamed as being copied, renamed into place, source checked, believed. Any thread. Several are taken through it
// together, step by step, which shares what a step costs; the steps of each one come in the same order as alone.
#pragma once

#include <map>
#include <memory>

#include "session.hpp"

namespace rainfs::scrub {

// What the ledger says about one path and export, instance by instance.
struct Blame {
  std::vector<ledger::Instance> instances;
  unsigned whys = 0;  // a bit for each ledger::Why
  bool unreadable = false;
  bool gone = false;  // one that says that the name was removed or renamed is known to have been acknowledged

  static constexpr unsigned bit(ledger::Why why) { return 1U << static_cast<unsigned>(why); }
  bool has(ledger::Why why) const { return (whys & bit(why)) != 0; }
  bool only(unsigned mask) const { return !unreadable && (whys & ~mask) == 0; }
};
Blame read_blame(Session& session, const std::string& path, ExportIndex target);

struct Placement {
  std::string path;
  ExportIndex source = 0;
  struct statx source_stat {};
  ExportIndex target = 0;
  std::uint64_t replaces = 0;  // inode of what lies at the target now; 0: nothing
  replica::Aside aside = replica::Aside::trash;
  std::string link_to;   // another name of the file that is good on the target: linked instead of copied
  bool blamed = true;    // there may be facts about the target, which the replica does away with
  bool unasked = false;  // that nobody is blamed has still to be asked
};

// A replica on its way. What was built aside goes with it, unless it was put in place.
class Building {
 public:
  Building(Session& session, Placement placement);
  ~Building();
  Building(const Building&) = delete;
  Building& operator=(const Building&) = delete;
  void made(const struct statx& stat);
  void gone() { exists_ = false; }

  const Placement placement;
  const std::string path;  // where it lies meanwhile
  std::uint64_t inode = 0;
  bool unsynced = false;                     // its contents are not durable yet
  std::vector<ledger::Instance> superseded;  // facts about the target from before it was copied
  std::vector<ledger::Instance> recorded;    // and our own
  base::Result<void> result;                 // how it ended

 private:
  Session& session_;
  bool exists_ = false;
};

// Makes a replica aside. Needs no announcement: nobody but the scrubber looks there. EAGAIN: the source changed
// meanwhile, and whoever asks looks again. Other errors are of the export in the context's text.
base::Result<std::unique_ptr<Building>> build(Session& session, const Placement& placement);

// Puts into place what was built. Each one's `result` says how it ended: EAGAIN as above, or because the target was
// taken, or somebody is blamed who was not asked about. The target is blamed or as before where it failed.
void put_in_place(Session& session, const std::vector<Building*>& replicas);

// Both, for one.
base::Result<void> place(Session& session, const Placement& placement);

// Makes a replica that has the right contents equal in everything else: owner, mode, xattrs, times.
base::Result<void> adjust(Session& session, const Placement& placement);

// Confirms an equal replica: believed again if its source is still there, unchanged and unblamed.
base::Result<void> confirm(Session& session, const Placement& placement,
                           const std::vector<ledger::Instance>& instances);

// Two stats tell of the same state of the same file.
bool same_state(const struct statx& a, const struct statx& b);

}  // namespace rainfs::scrub
