// SPDX-License-Identifier: Apache-2.0
// What a scrub that found or made everything whole does away with: the marks by which the array remembers that files
// may have fewer replicas than they should (after create, add, replicas, retire). Blocking, one thread.
#pragma once

#include "rainfs/base/result.hpp"
#include "rainfs/scrub/scrub.hpp"

namespace rainfs::cli {

// Clears the marks over what the run has looked at, if it left nothing and nobody has changed the array since it began.
base::Result<void> settle(const std::string& array, const scrub::Scrub& scrub, int status);

}  // namespace rainfs::cli
