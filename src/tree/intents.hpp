// SPDX-License-Identifier: Apache-2.0
// Shared by the tree's source files that declare and finish renames.
#pragma once

#include "rainfs/replica/intent.hpp"
#include "tree_internal.hpp"

namespace rainfs::tree {

using replica::Intent;
using replica::intents_directory;
using replica::Sight;

}  // namespace rainfs::tree
