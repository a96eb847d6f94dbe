// SPDX-License-Identifier: Apache-2.0
// Shared by the ledger's source files only.
#pragma once

#include "rainfs/ledger/ledger.hpp"

namespace rainfs::ledger {

// An instance's name says so much that asking need not read it. No node's name has a plus.
inline constexpr std::string_view gone_prefix = "gone+";
inline constexpr std::string_view lack_prefix = "lack+";

inline constexpr std::string_view child_prefix = "child+";  // a hash and a plus follow

// "child+<hash>+" of a path that has a directory above.
std::string child_mark(std::string_view path);

}  // namespace rainfs::ledger
