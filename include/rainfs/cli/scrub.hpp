// SPDX-License-Identifier: Apache-2.0
// The `rainfs-scrub` command as a function. To be called once, by the process's only thread.
#pragma once

#include <iosfwd>

namespace rainfs::cli {

// Findings and the summary go to `out`, complaints and progress to `err`. Returns the exit status, as fsck:
// 0 clean, 1 repaired, 4 something left, 8 it could not be run, 16 wrong usage; sums of these. Never throws.
int scrub_main(int argc, char** argv, std::ostream& out, std::ostream& err);

}  // namespace rainfs::cli
