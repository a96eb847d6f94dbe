// SPDX-License-Identifier: Apache-2.0
// The ledger pass: everything that facts speak about is healed, until no fact is left that can be done
// without. Its work is in proportion to the facts, not to the files. One thread, and the pool's.
#pragma once

#include "heal.hpp"
#include "pool.hpp"

namespace rainfs::scrub {

class Drain {
 public:
  Drain(Session& session, Pool& pool, Links& links)
      : session_(session), pool_(pool), healer_(session), placer_(session), links_(links) {}
  void run();

 private:
  struct SubtreeFact {
    ledger::Fact fact;
    std::string instance;  // its name
  };
  struct About {
    std::vector<SubtreeFact> subtrees;
    std::vector<std::string> entries;  // paths, the first of them
    bool more_entries = false;
    std::uint64_t count = 0;
  };
  using Take = std::function<void(const ledger::Fact&, const std::string& instance)>;
  void for_each(ExportIndex target, const Take& take);
  void read(ExportIndex target, const std::string& directory, const Take& take);
  About collect(ExportIndex target);
  void forget(ExportIndex target);
  void replay(ExportIndex target, About& about);
  bool rename_on(ExportIndex target, const std::string& from, const std::string& to);
  void reconcile(ExportIndex target, const About& about);
  void heal_entries(ExportIndex target);

  Session& session_;
  Pool& pool_;
  Healer healer_;
  Placer placer_;
  Links& links_;
};

// Removes what emptied directories there are in the ledger about an export: while they are there, every node asks it.
// Those that hold something stay.
void sweep_ledger(Session& session, ExportIndex target);
// ... about any export.
void sweep_ledger(Session& session);

}  // namespace rainfs::scrub
