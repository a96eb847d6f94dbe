// SPDX-License-Identifier: Apache-2.0
// The pass that reads everything: contents of replicas against each other and against the catalogue, which it
// writes anew. One thread, and the pool's.
#pragma once

#include <deque>

#include "heal.hpp"
#include "pool.hpp"

namespace rainfs::scrub {

class Deep {
 public:
  Deep(Session& session, Pool& pool, Links& links) : session_(session), pool_(pool), healer_(session), links_(links) {}
  // True if a file of several names was repaired: they have to be linked again.
  bool run();

 private:
  using Sums = std::vector<std::pair<ExportIndex, CatalogueEntry>>;
  // A file on its way: made in the order of the walk, finished in any, catalogued in the order of the walk.
  struct File {
    std::string path;
    Sums before, now;
    std::atomic<bool> done{false};
  };
  struct Reading;
  CatalogueEntry describe(const std::string& path, const Sum& sum, const Reading& reading, ExportIndex index);
  void check(File& file);
  base::Result<Sum> read_one(const File& file, const Reading& reading, ExportIndex index);
  bool read(File& file, Reading& reading);
  static bool has(const Reading& reading, const Sum& sum);
  const CatalogueEntry* recorded_for(const File& file, const Reading& reading) const;
  bool accept_unrecorded(File& file, const Reading& reading);
  // Which sum is right; nothing if that cannot be told.
  std::optional<Sum> judge(const File& file, const Reading& reading, std::string& how) const;
  void repair(File& file, const Reading& reading, const Sum& right, const std::string& how);
  bool resolve(File& file, const Reading& reading);

  Session& session_;
  Pool& pool_;
  Healer healer_;
  Links& links_;
  std::atomic<bool> links_broken_{false};
};

}  // namespace rainfs::scrub
