// SPDX-License-Identifier: Apache-2.0
// Work that may get stuck in the kernel for good (an export or a mount that hangs), done in a process of its own:
// whoever waits for it can leave, and end, when it has waited long enough.
#pragma once

#include <functional>
#include <string>

#include "rainfs/base/clock.hpp"
#include "rainfs/base/result.hpp"

namespace rainfs::cli {

// Runs `work` in a process that nobody has to wait for, and returns what it returned: a text of at most 64 MiB, or
// an error of which the message survives. ETIMEDOUT after `bound`. To be called while the process has one
// thread; the child has none of the caller's standard streams, so that it holds nobody's pipe open.
base::Result<std::string> do_apart(const std::function<base::Result<std::string>()>& work, base::Duration bound);

}  // namespace rainfs::cli
