// SPDX-License-Identifier: Apache-2.0
// Retention of what repair put aside.
#pragma once

#include "session.hpp"

namespace rainfs::scrub {

// Removes what is older than the options say, and the oldest while the trash takes more than its share of an
// export. One thread.
void expire_trash(Session& session);

// A tree on one export, for good. False if something of it stays.
bool remove_tree(nas::Array& array, ExportIndex index, const std::string& path);

}  // namespace rainfs::scrub
