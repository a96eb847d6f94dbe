// SPDX-License-Identifier: Apache-2.0
// Shared by build.cpp and place.cpp only.
#pragma once

#include "place.hpp"

namespace rainfs::scrub {

// Puts the export into an error of one of its operations.
base::Unexpected at_export(Session& session, ExportIndex index, base::Error error);

io::Attributes owner_of(const struct statx& stat);
io::Attributes mode_of(const struct statx& stat);  // none for links
io::Attributes times_of(const struct statx& stat);

}  // namespace rainfs::scrub
