// SPDX-License-Identifier: Apache-2.0
// Texts for JSON. Pure functions, any thread.
#pragma once

#include <string>
#include <string_view>

namespace rainfs::scrub {

bool is_utf8(std::string_view text);

// A JSON string. What is no UTF-8 shows as U+FFFD, a byte each.
std::string json_text(std::string_view text);

// The members of an object that tell a path: "path", and where that is not all of it, because a name is no UTF-8,
// "path_bytes" too: the path's bytes, those that are not printable ASCII, and spaces and %, as %xx.
std::string json_path(std::string_view path);

}  // namespace rainfs::scrub
