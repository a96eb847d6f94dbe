// SPDX-License-Identifier: Apache-2.0
// What every repair does, by a node in passing or by the scrubber: putting aside what is superseded, making a
// directory that an export lacks. Any thread; blocks, bounded by the metadata deadline per step. Never
// destroys anything.
#pragma once

#include <string>

#include "rainfs/base/paths.hpp"
#include "rainfs/replica/locate.hpp"

namespace rainfs::replica {

enum class Aside : std::uint8_t {
  trash,      // superseded: it was removed, renamed or overwritten
  conflicts,  // it lost against another version
};

// Moves what lies at `path` on one export to `.rainfs/trash|conflicts/<date>/<slot>/contents`, with its path in
// the file `path` beside it. Gives the slot's path. Where `inode` is not 0 and something else has taken the
// name since, that stays and the error is ESTALE. ENOENT where there is nothing.
base::Result<std::string> move_aside(Context& context, ExportIndex index, const std::string& path,
                                     Aside where = Aside::trash, std::uint64_t inode = 0);

// Makes a directory, and those above it, on an export that lacks it, with the attributes the others have and
// without a trace in its parent's times. ENOENT if there is no such directory, ENOTDIR if it is none.
base::Result<void> ensure_directory(Context& context, ExportIndex index, const std::string& path);

// Gives `to` exactly the extended attributes (ACLs and capabilities too) that `from` has; says whether
// anything was different. Empty paths mean the operation's open file.
struct Attributed {
  ExportIndex index = 0;
  std::string path;
  io::HandlePtr file;  // instead of the path
};
base::Result<bool> copy_xattrs(Context& context, const Attributed& from, const Attributed& to,
                               bool only_compare = false);

// Equal for equal extended attributes.
base::Result<std::uint64_t> xattr_digest(Context& context, const Attributed& what);

// Operations on one export, for those who have nothing to fan out.
struct Done {
  int error = 0;
  io::OperationPtr operation;  // null unless it was done
  bool ok() const { return error == 0; }
};
Done perform_on(nas::Array& array, ExportIndex index, io::OperationPtr operation);       // metadata deadline
Done perform_data_on(nas::Array& array, ExportIndex index, io::OperationPtr operation);  // data deadline

using base::parent_of;
using io::new_operation;

}  // namespace rainfs::replica
