// SPDX-License-Identifier: Apache-2.0
// The pass that reads everything: contents of replicas against each other and against the catalogue, which it
// writes anew. One thread, and the pool's.
#pragma once

#include <deque>

#include "heal.hpp"
#include "pool.hpp"
#include "resume.hpp"

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
    std::shared_ptr<void> holds;  // until it is catalogued
    bool given_up = false;        // the run was told to end meanwhile
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

  // An export's catalogue, of the last pass and of this one.
  struct Catalogue {
    ExportIndex index;
    std::unique_ptr<CatalogueReader> reader;
    std::unique_ptr<CatalogueWriter> writer;
  };
  void open_catalogues(const Resume& resume);
  void go_on(Catalogue& catalogue, const Resume& resume);
  void catalogue();
  void catalogue_until(std::size_t most, Resume& resume);
  // What lies outside of what is looked at now keeps its sums.
  CatalogueReader::Skipped keep(Catalogue& catalogue, Resume& resume);
  void commit(Resume& resume);

  Session& session_;
  Pool& pool_;
  Healer healer_;
  Links& links_;
  std::atomic<bool> links_broken_{false};
  std::vector<std::string> tops_;
  std::vector<Catalogue> catalogues_;
  std::deque<std::unique_ptr<File>> on_their_way_;
};

}  // namespace rainfs::scrub
