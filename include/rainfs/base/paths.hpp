// SPDX-License-Identifier: Apache-2.0
// Paths as text, compared by whole names. Pure; any thread may call.
#pragma once

#include <string>
#include <string_view>

namespace rainfs::base {

// "a/b" of "a/b/c", and "" of what lies in the root.
inline std::string parent_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash));
}

// Whether a path is a directory or lies beneath it. Nothing lies within "": whoever means a root by that says so
// itself.
inline bool is_within(std::string_view path, std::string_view directory) {
  return path.starts_with(directory) && (path.size() == directory.size() || path[directory.size()] == '/');
}

}  // namespace rainfs::base
