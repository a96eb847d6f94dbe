// SPDX-License-Identifier: Apache-2.0
// The second half of every commit point: facts for what is missing to R. Any thread; blocks, bounded by
// the metadata deadline per round.
#pragma once

#include "rainfs/replica/locate.hpp"

namespace rainfs::replica {

// `good` exports hold the committed state of the path, `left_out` may hold another; `unverified` got every
// write but were unequal before. Blames left_out and unverified and, while good and blamed racks are fewer
// than R, further home racks. Nothing is recorded when all is well. Reads the ledger back: EIO, and the
// facts withdrawn, if a replica relied on is itself blamed; EIO if too few racks can remember (unless the
// rules are lenient).
base::Result<std::vector<ledger::Instance>> record_shortfall(Context& context, std::string_view path, ExportSet good,
                                                             ExportSet left_out, ExportSet unverified, ledger::Why why);

// Whether what was to be recorded is: lenient rules go on without.
base::Result<void> as_required(const topology::Rules& rules,
                               const base::Result<std::vector<ledger::Instance>>& recorded);

// For a name that was made on `good` exports: where these are fewer than R racks, those that may lack the directories
// above are known to. Else these, made by a node that died over it, would be denied with all that is in them. EIO as
// above.
base::Result<void> remember_directories(Context& context, std::string_view path, ExportSet good);

}  // namespace rainfs::replica
