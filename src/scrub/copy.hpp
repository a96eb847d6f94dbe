// SPDX-License-Identifier: Apache-2.0
// Contents of replicas: copying, comparing, hashing. Any thread; each call blocks, each of its steps bounded by
// the data deadline.
#pragma once

#include "catalogue.hpp"
#include "session.hpp"

namespace rainfs::scrub {

struct OpenReplica {
  ExportIndex index = 0;
  io::HandlePtr file;
  struct statx stat {};
};

base::Result<OpenReplica> open_replica(Session& session, ExportIndex index, const std::string& path);

// All data of `from` into the empty file `to`; holes stay holes. Then `to` has the source's size.
base::Result<void> copy_contents(Session& session, const OpenReplica& from, const OpenReplica& to);

// Whether two files of the same size hold the same bytes.
base::Result<bool> same_contents(Session& session, const OpenReplica& a, const OpenReplica& b);
base::Result<bool> same_contents(Session& session, const std::string& path, ExportIndex a, ExportIndex b);

// Checksum of all contents, holes read as zeros.
base::Result<Sum> sum_of(Session& session, const OpenReplica& file);

}  // namespace rainfs::scrub
