// SPDX-License-Identifier: Apache-2.0
// What may be seen under each name, given what was acknowledged, what failed in an unknown way, and what is
// under way.
//
// A change is in effect somewhere between its beginning and its end. One that was acknowledged supersedes all
// that had ended before it began; one of unknown outcome (EIO, or its node was killed) may show or not show
// until another supersedes it, and its end is when nothing of it can still happen.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "computer.hpp"

namespace rainfs::simulation {

using Task = std::uint64_t;
using Versions = std::set<Version>;

struct Effect {
  std::string path;
  Versions versions;
  bool written = false;    // half done until it is acknowledged
  bool pieces = false;     // takes over something that may be half done
  bool exclusive = false;  // an exclusive creation
  std::string moved_to;    // of a directory: its name from then on
  bool apart = false;      // an exchange of names of which no export has both
};

class Oracle {
 public:
  Task begin();  // of an operation; also numbers it
  void expect(Task task, const std::vector<Effect>& effects);
  void acknowledged(Task task, const std::vector<Effect>& effects);
  void failed(Task task);   // without effect
  void unknown(Task task);  // may show from now on, and may still happen
  // Of the unknown ones, those of which nothing can happen any more.
  void settle(const std::function<bool(Task)>& settled);

  // What may be seen by an operation that began with `since` and ends now.
  Versions possible(const std::string& path, Task since) const;
  bool pieces_possible(const std::string& path, Task since) const;
  bool possibly(const std::string& path, Task since, bool is_absent) const;

  // Whether something was or may have been taken away from the name since.
  bool moved_since(const std::string& path, Task since) const;

  // Whether all pieces of contents are of versions that some name may have.
  bool possible_anywhere(const std::string& bytes, Task since) const;

  // Whether the name was being exchanged, meanwhile, with one that lies on other exports: it may be missed.
  bool exchanged_meanwhile(const std::string& path, Task since) const;

  // Each gives what is wrong, or nothing.
  std::optional<std::string> judge_read(const std::string& path, Task since, int error, const std::string& bytes) const;
  std::optional<std::string> judge_seen(const std::string& path, Task since, bool seen, const char* by) const;
  // Two exclusive creations of one name that both succeeded, with nothing in between that removed it.
  std::optional<std::string> judge_winner(const std::string& path, Task task) const;

 private:
  struct Change {
    Task task;
    Effect effect;
    std::uint64_t began, ended;
    bool acknowledged = false;
    bool unknown = false;
    std::uint64_t unknown_since = 0;
  };
  // What a path may have become while it was walked: its directory stays the same one when it is renamed (POSIX).
  std::vector<std::string> walked_to(const std::string& path, Task since) const;
  bool superseded(const Change& change, const std::vector<Change>& all, std::uint64_t before) const;

  std::uint64_t time_ = 1;
  std::map<std::string, std::vector<Change>> changes_;
};

std::string text_of(const Versions& versions);

}  // namespace rainfs::simulation
