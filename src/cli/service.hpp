// SPDX-License-Identifier: Apache-2.0
// What the daemon serves: a node's tree, counted, with the operator's files before it, and the orders that can be
// given to it while it runs. Made in one thread; the orders may come from any.
#pragma once

#include "rainfs/cli/rainfs.hpp"

namespace rainfs::cli {

// Opens the array and puts it all together.
base::Result<Service> make_service(const Setup& setup);

}  // namespace rainfs::cli
