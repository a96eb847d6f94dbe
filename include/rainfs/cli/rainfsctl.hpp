// SPDX-License-Identifier: Apache-2.0
// The administrator's command as a function, so that tests call it without a process.
#pragma once

#include <iosfwd>

namespace rainfs::cli {

// Results go to `out`, complaints to `err`. Returns the exit status: 0 done, 1 failed, 2 wrong usage.
// Blocking, single-threaded, without state of its own; never throws.
int rainfsctl_main(int argc, char** argv, std::ostream& out, std::ostream& err);

}  // namespace rainfs::cli
