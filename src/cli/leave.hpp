// SPDX-License-Identifier: Apache-2.0
// What retire and drain have in common.
#pragma once

#include "change.hpp"

namespace rainfs::cli {

// Refuses, with a reason, an export that is none or was retired, and what would leave fewer racks than replicas.
base::Result<std::size_t> may_leave(const ArrayAtHand& array, const std::string& name, bool force);

// Clears what a finished rebuild has made superfluous.
void rebuilt(topology::Topology& topology);

}  // namespace rainfs::cli
