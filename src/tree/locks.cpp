// SPDX-License-Identifier: Apache-2.0
#include "tree_internal.hpp"
namespace rainfs::tree {
class LockState {};
base::Result<Lock> Tree::test_lock(OpenFile&, std::uint64_t, const Lock&) { return base::unexpected(ENOLCK); }
base::Result<void> Tree::set_lock(OpenFile&, std::uint64_t, const Lock&, bool, const std::atomic<bool>&) { return base::unexpected(ENOLCK); }
base::Result<void> Tree::set_flock(OpenFile&, std::uint64_t, int, bool, const std::atomic<bool>&) { return base::unexpected(ENOLCK); }
}
