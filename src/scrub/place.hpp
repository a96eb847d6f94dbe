// SPDX-License-Identifier: Apache-2.0
// Puts one replica into its place, in the bracket that makes it safe beside running nodes: announced, blamed
// as being copied, built aside, renamed into place, source checked, believed. Any thread.
#pragma once

#include <map>

#include "session.hpp"

namespace rainfs::scrub {

// What the ledger says about one path and export, instance by instance.
struct Blame {
  std::vector<ledger::Instance> instances;
  unsigned whys = 0;  // a bit for each ledger::Why
  bool unreadable = false;

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
  std::string link_to;  // another name of the file that is good on the target: linked instead of copied
};

// EAGAIN: the source changed meanwhile, or the target was taken; whoever asks looks again. Other errors are of
// the export in the context's text. The target is blamed or as before if it fails.
base::Result<void> place(Session& session, const Placement& placement);

// Makes a replica that has the right contents equal in everything else: owner, mode, xattrs, times.
base::Result<void> adjust(Session& session, const Placement& placement);

// Confirms an equal replica: believed again if its source is still there, unchanged and unblamed.
base::Result<void> confirm(Session& session, const Placement& placement, const std::vector<ledger::Instance>& instances);

// Still there, unchanged since the stat, and not blamed.
bool source_holds(Session& session, const Placement& placement);

// Two stats tell of the same state of the same file.
bool same_state(const struct statx& a, const struct statx& b);

}  // namespace rainfs::scrub
