// SPDX-License-Identifier: Apache-2.0
// What a rename is about to do, as the exports remember it while it is under way: `.rainfs/intents/<name>` on
// exports of R racks. Values, their text, and reading them; who declares and finishes them is the tree. Any thread.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "rainfs/ledger/ledger.hpp"
#include "rainfs/replica/verdict.hpp"

namespace rainfs::replica {

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
  ExportSet unseen_from, unseen_to;  // where it is not known what lies under a name, though they are not away
  struct Part {
    std::optional<Sight> source, target;
  };
  std::map<ExportIndex, Part> parts;

  // Whether a path is one of its names, or lies beneath one, or above.
  bool concerns(std::string_view path) const;
  // Whether these are more than half of its holders.
  bool is_most(ExportSet some) const { return 2 * (some & holders).size() > holders.size(); }
  std::string format(const topology::Topology& topology) const;
  static base::Result<Intent> parse(std::string_view text, const topology::Topology& topology);
};

inline constexpr const char* intents_directory = ".rainfs/intents";
inline constexpr std::size_t most_intents = 10'000;  // looked at in one go
inline constexpr std::size_t largest_intent_bytes = 256 * 1024;

// Names of the intents there are now, with the exports that hold each, and those that have told which they hold: of the
// others nobody knows.
struct IntentList {
  std::map<std::string, ExportSet> holders;
  ExportSet answered;
};
IntentList list_intents(nas::Array& array);
// Of renames that are under way or were left half done; EIO where one is listed that no export gives. Where none is
// pending (nas::Array::intents_pending) there is nothing to ask for.
base::Result<std::vector<Intent>> read_intents(nas::Array& array);
// Whether a path, or what it lies in, is being exchanged with another name, or was left half exchanged. Both names
// exist throughout, though there may be fewer than R replicas of either, and no facts yet: such a name is not to be
// denied.
bool being_exchanged(nas::Array& array, std::string_view path);
// Of the names in a directory those that are. EIO where the directory itself is being exchanged.
base::Result<std::set<std::string>> names_being_exchanged(nas::Array& array, std::string_view directory);

}  // namespace rainfs::replica
