// SPDX-License-Identifier: Apache-2.0
// Facts: small records that say that one export's idea of one path is not to be believed. They lie on the
// other exports, under .rainfs/ledger/<export>/<xx>/<hash>/<instance>.
//
// Any thread may call; calls block, bounded by the metadata deadline. Recording never waits for other
// nodes: every instance has a unique name. Nothing here decides what a fact means for a file.
#pragma once

#include <atomic>
#include <deque>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "rainfs/nas/array.hpp"

namespace rainfs::ledger {

using base::ExportIndex;
using base::ExportSet;

enum class Scope : std::uint8_t { entry, subtree };
enum class Why : std::uint8_t {
  missed_write,
  removed,
  renamed_from,
  renamed_to,
  metadata,
  being_copied,
  unverified,
  may_lack,  // a directory: what lies there is right, but that nothing does says nothing
};
std::string_view name_of(Why why);
bool parse_why(std::string_view text, Why& out);

struct Fact {
  std::string path;
  ExportIndex target = 0;
  Scope scope = Scope::entry;
  Why why = Why::missed_write;
  std::string node;
  struct timespec time {};
};

// Paths are bytes: in texts what is not printable is written as %xx.
std::string percent_encode(std::string_view bytes);
bool percent_decode(std::string_view text, std::string& out);

// The text of a fact's file: one `key: value` per line, the path percent-encoded.
std::string format_fact(const Fact& fact, const topology::Topology& topology);
base::Result<Fact> parse_fact(std::string_view text, const topology::Topology& topology);

// ".rainfs/ledger/<export>/<xx>/<hash>": where the facts about a path and an export lie.
std::string fact_directory(const topology::Topology& topology, ExportIndex target, Scope scope, std::string_view path);

// What a repair records while it is at work on many files lies together, beside what is known of the directory above
// as a whole: the instance's name tells which child it is about. Who does not know of that takes it for the latter.
bool about_child(std::string_view instance);
bool about_child(std::string_view instance, std::string_view path);

// What the holders that could be asked say about one path and its ancestors.
struct Testimony {
  ExportSet blamed;    // exports with a fact about the path, or a subtree fact about it or an ancestor
  ExportSet answered;  // holders that answered completely
  ExportSet gone;  // of the blamed, those known to have missed the path's removal; by a fact that lies on racks enough
  ExportSet lacking;  // of the blamed, those of which no more is said than that they may lack the directory
};

// Where instances were recorded or found, to withdraw or clear exactly them.
struct Instance {
  ExportIndex holder = 0;
  std::string path;  // of the instance's file on the holder
};

class Ledger {
 public:
  // `node` must be unique among mounted daemons; it is part of instance names.
  Ledger(nas::Array& array, std::string node);

  // Records one fact for each target about one path, durably, on exports of `racks` racks other than the
  // target's own, or of all others if the array has fewer. EIO where fewer can be reached; what was recorded about that
  // target is taken back as far as it can be, but not under lenient rules, which remember what they can. Not `durable`:
  // it need not outlive a crash of its holders, as nothing is acknowledged on its account (a repair's own while it is
  // at work).
  base::Result<std::vector<Instance>> record(std::string_view path, ExportSet targets, Why why, unsigned racks,
                                             Scope scope = Scope::entry, bool durable = true);
  void withdraw(const std::vector<Instance>& instances);
  // What was recorded has been acknowledged: what this node recorded before for the same reason about the same path and
  // export says no more than that, and goes. So a file that is written again and again while an export is away leaves
  // one fact, not thousands. What is known of earlier records is bounded; one forgotten stays until it is repaired.
  void supersede(const std::vector<Instance>& recorded, Why why);

  // Asks every reachable holder.
  Testimony ask(std::string_view path);
  // The same of several paths, but only about some exports: what the paths share is asked once.
  std::vector<Testimony> ask(const std::vector<std::string>& paths, ExportSet about);

  // Every fact about a directory and what lies beneath it, each once. Reads the whole ledger: for what is done
  // while some facts are there, which is seldom. EIO where too few racks answer, or the ledger is too large.
  base::Result<std::vector<Fact>> beneath(std::string_view directory);

  // Exports about which there are facts, asked now; and who has answered.
  ExportSet blamed_now(ExportSet* answered = nullptr);

  // All instances about one path and export on the reachable holders, for repair.
  std::vector<Instance> list(std::string_view path, ExportIndex target, Scope scope);
  // Removes instances and the directories that are empty then; or leaves those that facts about many paths share, for
  // someone who records and clears many and removes them in the end. An export with such a directory is always checked.
  enum class Emptied : std::uint8_t { removed, left };
  void clear(const std::vector<Instance>& instances, Emptied emptied = Emptied::removed);

  // Facts recorded through this object, each counted once for all its holders.
  std::uint64_t recorded() const { return recorded_.value(); }

 private:
  struct Record {
    std::string path;  // of the instance, the same on all its holders
    ExportSet holders;
  };
  Record remember_last(const std::string& subject, const Record& record);

  nas::Array& array_;
  const std::string node_;
  std::atomic<std::uint64_t> sequence_{0};
  std::mutex last_mutex_;                         // guards the next two; a leaf lock
  std::unordered_map<std::string, Record> last_;  // by subject: the facts' directory and reason
  std::deque<std::string> last_order_;
  metrics::Counter recorded_;
};

}  // namespace rainfs::ledger
