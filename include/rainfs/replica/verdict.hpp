// SPDX-License-Identifier: Apache-2.0
// What the answers of several exports about one path mean together. Pure functions, any thread: the one
// place where "which replica is right" and "is it proven that there is none" are decided.
#pragma once

#include <vector>

#include "rainfs/nas/array.hpp"
#include "rainfs/placement/placement.hpp"

namespace rainfs::replica {

using base::ExportIndex;
using base::ExportSet;

// What replicas must agree on to be taken for equal. Of directories mtime and size are each export's own
// business; of devices the device number counts.
struct Stamp {
  mode_t mode = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::uint64_t size = 0;
  std::int64_t mtime_ns = 0;
  dev_t device = 0;
  friend bool operator==(const Stamp&, const Stamp&) = default;
};
Stamp stamp_of(const struct statx& stat);

// The stamps of one path by export; an export that was never written has an empty one.
class Stamps {
 public:
  const Stamp& operator[](ExportIndex index) const {
    static const Stamp none;
    return index < list_.size() ? list_[index] : none;
  }
  Stamp& operator[](ExportIndex index) {
    if (index >= list_.size()) list_.resize(index + std::size_t{1});
    return list_[index];
  }

 private:
  std::vector<Stamp> list_;  // as long as it must be: arrays have far fewer exports than they may have
};

// Everything known about one path: filled from a fan-out of stats, and from the ledger if it was asked.
struct Evidence {
  Stamps stamps;
  ExportSet present;  // has something at the path
  ExportSet missing;  // answered that there is nothing
  bool ledger_asked = false;
  ExportSet blamed;            // with a fact about the path
  ExportSet gone;              // of those, the ones that missed the path's removal
  ExportSet holders_answered;  // holders that answered the ledger's question
};

enum class Finding : std::uint8_t {
  present,     // `elected` is current, and so are the others in `good`
  absent,      // proven that there is nothing
  unprovable,  // too few racks answered: EIO
  undecided,   // the ledger must be asked before this can be decided
};

struct Verdict {
  Finding finding = Finding::undecided;
  ExportIndex elected = 0;
  ExportSet good;       // agree with the elected and are not blamed
  ExportSet stale;      // hold something else, or are blamed, and are not to be used
  bool agreed = false;  // R good replicas in R racks, no election was needed
};

// `blamed_somewhere`: exports whose ledger is known to be non-empty; their word needs the ledger.
Verdict judge(const Evidence& evidence, const topology::Topology& topology, const topology::Rules& rules,
              const placement::Order& order, ExportSet blamed_somewhere);

}  // namespace rainfs::replica
