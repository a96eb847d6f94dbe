// SPDX-License-Identifier: Apache-2.0
// The checksums of what an export holds: `.rainfs/scrub/catalogue.xxh128`, which `xxhsum -c` run in the export's
// root verifies by itself, and beside it what files the sums were taken of. In the order of the walk, so that a
// pass reads the old and writes the new one side by side in little memory. One thread.
#pragma once

#include <optional>

#include "session.hpp"

namespace rainfs::scrub {

struct Sum {
  std::uint64_t high = 0, low = 0;  // XXH3-128
  friend bool operator==(const Sum&, const Sum&) = default;
};
std::string format_sum(const Sum& sum);
std::optional<Sum> parse_sum(std::string_view text);

struct CatalogueEntry {
  std::string path;
  Sum sum;
  std::uint64_t size = 0;
  std::int64_t mtime_ns = 0;
  std::uint32_t mode = 0, uid = 0, gid = 0;
  std::uint64_t xattrs = 0;  // digest of the extended attributes
};

// One line of the catalogue. Names with line ends are escaped (xxhsum before 0.8.2 does not understand those).
std::string format_line(const CatalogueEntry& entry);

// What a deep pass has written so far, by the tag in its files' names.
using Tag = std::string;

// Reads an export's catalogue forwards, or that of a deep pass that did not end.
class CatalogueReader {
 public:
  CatalogueReader(Session& session, ExportIndex index, const Tag& unfinished = {});
  bool exists() const { return streams_[0].file && streams_[1].file; }
  // The entry of this path, if there is one; paths must be asked for in the order of the walk. What is passed over
  // on the way is given to `skipped`.
  using Skipped = std::function<void(const CatalogueEntry&)>;
  std::optional<CatalogueEntry> find(const std::string& path, const Skipped& skipped = {});
  void skip_rest(const Skipped& skipped);
  // Gives the next entries to `take` as long as their paths are as asked for.
  void take_while(const std::function<bool(const std::string& path)>& wanted, const Skipped& take);

 private:
  bool next();
  bool line(int which, std::string& out);

  Session& session_;
  const ExportIndex index_;
  struct Stream {
    io::HandlePtr file;
    std::uint64_t offset = 0;
    std::string text;
    std::size_t at = 0;
  };
  Stream streams_[2];  // sums and stamps, line by line of each other
  std::optional<CatalogueEntry> current_;
};

// Writes an export's new catalogue, which takes the old one's place at commit(). What was written before that stays,
// for a pass that goes on, until remove_unfinished().
class CatalogueWriter {
 public:
  CatalogueWriter(Session& session, ExportIndex index, const Tag& tag);
  void add(const CatalogueEntry& entry);
  bool sync();  // all that was added is durable
  bool commit();
  void discard();

 private:
  void flush();
  Session& session_;
  const ExportIndex index_;
  struct Stream {
    std::string temporary;
    io::HandlePtr file;
    std::uint64_t offset = 0;
    std::string text;
  };
  Stream streams_[2];
  bool failed_ = false;
};

// Removes what passes that did not end have left on an export, but that of this tag.
void remove_unfinished(Session& session, ExportIndex index, const Tag& but = {});

// The order in which the walk comes to names that are no directories: of directories first, then of names.
bool catalogued_before(std::string_view a, std::string_view b);

}  // namespace rainfs::scrub
