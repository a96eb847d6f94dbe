// SPDX-License-Identifier: Apache-2.0
// What a rename is about to do, as the exports remember it while it is under way: `.rainfs/intents/<name>` on
// exports of R racks. Values and their text; what is done with them is in intents.cpp. Any thread.
#pragma once

#include <map>
#include <optional>

#include "tree_internal.hpp"

namespace rainfs::tree {

// One object on one export, told from another that may have its name or number later.
struct Sight {
  std::uint64_t inode = 0;
  std::int64_t birth_ns = 0;
  std::int64_t changed_ns = 0;  // ctime: of a file, that nobody has touched it since
  bool believed = true;         // of those that counted under the name it had

  static Sight of(const struct statx& stat);
  bool is_same(const Sight& other) const { return inode == other.inode && birth_ns == other.birth_ns; }
};

struct Intent {
  std::string name;  // of its file
  std::string from, to;
  bool exchange = false;
  bool directory = false;  // what lies under the old name
  struct timespec time {};
  ExportSet holders;
  struct Part {
    std::optional<Sight> source, target;
  };
  std::map<ExportIndex, Part> parts;

  std::string format(const topology::Topology& topology) const;
  static base::Result<Intent> parse(std::string_view text, const topology::Topology& topology);
};

inline constexpr const char* intents_directory = ".rainfs/intents";

}  // namespace rainfs::tree
