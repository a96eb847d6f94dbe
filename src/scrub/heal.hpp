// SPDX-License-Identifier: Apache-2.0
// Brings what lies at one path to what it should be on every export that can be reached. Any thread; several
// may heal different paths at once.
#pragma once

#include <array>

#include "catalogue.hpp"
#include "placer.hpp"

namespace rainfs::scrub {

// Files of several names, seen on the way: they are healed as groups, after everything else.
class Links {
 public:
  void note(ExportIndex index, std::uint64_t inode, const std::string& path);
  void needs_repair(const std::string& path);
  // All groups in which a name needs repair: their names, sorted.
  std::vector<std::vector<std::string>> broken() const;
  bool overflowed() const { return overflowed_; }
  bool any_broken() const;
  // A name that was healed as one of its group, in this run.
  void healed(const std::string& path);
  bool healed_together(const std::string& path) const;
  void keep_healed(const Links& other);

  static constexpr std::size_t most_names = 500'000;

 private:
  mutable std::mutex mutex_;  // guards all
  std::map<std::pair<ExportIndex, std::uint64_t>, std::vector<std::string>> names_;
  std::size_t count_ = 0;
  std::unordered_set<std::string> broken_;
  std::unordered_set<std::string> healed_;
  bool overflowed_ = false;
};

// The file that lies under a name on one export, where facts about another name of it say what it has missed.
struct Doubt {
  std::uint64_t inode = 0;
  unsigned whys = 0;  // bits of Blame
};
using Doubts = std::multimap<ExportIndex, Doubt>;

struct HealOptions {
  bool facts = false;         // there is a fact about it: the ledger is asked whatever the replicas say
  bool defer_scarce = false;  // only what is endangered is repaired; the rest is returned as deferred
  ExportSet subtree;          // exports blamed for a directory above, whose equal replicas are believed
  bool compare = false;       // ... only after comparing their contents
  Links* links = nullptr;     // where names of linked files are noted; null: they are healed one by one
  bool committed = false;     // what it is to be was committed: a fact about another name of the file says so
  std::vector<std::pair<ExportIndex, CatalogueEntry>> catalogued;  // what was there at the last deep pass
  const std::vector<std::string>* group = nullptr;                 // other names of the file, healed before this one
  const Doubts* doubts = nullptr;                                  // ... and what is known from facts about any of them
  Placer* placer = nullptr;     // puts new replicas into place later, where nothing else is to be done for a file
  std::shared_ptr<void> holds;  // ... and holds this until then
};

enum class Healed : std::uint8_t {
  clean,
  repaired,
  left,      // reported
  deferred,  // as options.defer_scarce says
  linked,    // options.links knows that it needs repair
  placing,   // options.placer has it
};

class Healer {
 public:
  explicit Healer(Session& session) : session_(session) {}
  Healed heal(const std::string& path, const HealOptions& options = {});
  // What lies where, and what that means; the ledger is asked where it matters or options.facts says so. Not where
  // `unasked` is given and replicas are merely too few: it is set then, and that nobody is blamed has still to be
  // asked.
  base::Result<replica::Location> look(const std::string& path, const HealOptions& options, bool* unasked = nullptr);

 private:
  struct Work;
  enum class Step : std::uint8_t { done, again, again_asking };  // asking: by itself and at once
  Step once(const std::string& path, const HealOptions& options, Healed& result);
  Step absent(Work& work, Healed& result);
  Step directory(Work& work, Healed& result);
  Step file(Work& work, Healed& result);
  bool repair_needed(Work& work) const;
  bool in_flight(const Work& work) const;
  void prefer_catalogued(Work& work);
  bool disputed_link(Work& work, Healed& result);
  bool believed_as_they_are(const Work& work) const;
  bool unequal_xattrs(const Work& work) const;
  Step in_place(Work& work, Healed& result);
  Step make_missing(Work& work, Healed& result);
  bool place_later(Work& work, ExportSet targets);
  Placement placement_for(Work& work, ExportIndex target) const;
  Step put_aside_rest(Work& work, Healed& result);
  Step clear_rest(Work& work);
  bool group_link(Work& work, ExportIndex target, std::string& link_to) const;
  void prefer_most(replica::Location& found) const;
  void heed_other_names(replica::Location& found, const HealOptions& options) const;
  void read_blames(Work& work);
  Healed leave(const std::string& path, const std::string& text);

  Session& session_;
};

}  // namespace rainfs::scrub
