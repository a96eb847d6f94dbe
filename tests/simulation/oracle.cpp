// SPDX-License-Identifier: Apache-2.0
#include "oracle.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace rainfs::simulation {

namespace {
constexpr std::uint64_t open_end = std::numeric_limits<std::uint64_t>::max();
}

std::string text_of(const Versions& versions) {
  return fmt::format("{}", fmt::join(versions, " or "));
}

Task Oracle::begin() {
  return ++time_;
}

void Oracle::expect(Task task, const std::vector<Effect>& effects) {
  for (const Effect& effect : effects) changes_[effect.path].push_back({task, effect, task, open_end});
}

void Oracle::acknowledged(Task task, const std::vector<Effect>& effects) {
  failed(task);
  ++time_;
  for (const Effect& effect : effects) changes_[effect.path].push_back({task, effect, task, time_, true});
}

void Oracle::failed(Task task) {
  for (auto& [path, changes] : changes_)
    std::erase_if(changes, [&](const Change& change) { return change.task == task; });
}

void Oracle::unknown(Task task) {
  ++time_;
  for (auto& [path, changes] : changes_) {
    for (Change& change : changes) {
      if (change.task != task) continue;
      change.unknown = true;
      change.unknown_since = time_;
    }
  }
}

void Oracle::settle(const std::function<bool(Task)>& settled) {
  for (auto& [path, changes] : changes_) {
    for (Change& change : changes) {
      if (change.unknown && change.ended == open_end && settled(change.task)) change.ended = ++time_;
    }
  }
}

bool Oracle::superseded(const Change& change, const std::vector<Change>& all, std::uint64_t before) const {
  return std::any_of(all.begin(), all.end(), [&](const Change& other) {
    return other.acknowledged && other.began > change.ended && other.ended < before;
  });
}

Versions Oracle::possible(const std::string& path, Task since) const {
  const auto found = changes_.find(path);
  if (found == changes_.end()) return {absent};
  Versions versions;
  bool first = true;  // nothing was there in the beginning
  for (const Change& change : found->second) {
    if (change.acknowledged && change.ended < since) first = false;
    if (!superseded(change, found->second, since))
      versions.insert(change.effect.versions.begin(), change.effect.versions.end());
  }
  if (first) versions.insert(absent);
  return versions;
}

bool Oracle::pieces_possible(const std::string& path, Task since) const {
  const auto found = changes_.find(path);
  if (found == changes_.end()) return false;
  return std::any_of(found->second.begin(), found->second.end(), [&](const Change& change) {
    if (superseded(change, found->second, since)) return false;
    return change.effect.pieces || (change.effect.written && (!change.acknowledged || change.ended >= since));
  });
}

bool Oracle::possibly(const std::string& path, Task since, bool is_absent) const {
  const Versions versions = possible(path, since);
  return is_absent ? versions.contains(absent) : versions.size() > (versions.contains(absent) ? 1 : 0);
}

bool Oracle::moved_since(const std::string& path, Task since) const {
  const auto found = changes_.find(path);
  return found != changes_.end() && std::any_of(found->second.begin(), found->second.end(), [&](const Change& change) {
           return change.ended >= since && !change.effect.written;
         });
}

bool Oracle::exchanged_meanwhile(const std::string& path, Task since) const {
  const auto found = changes_.find(path);
  return found != changes_.end() && std::any_of(found->second.begin(), found->second.end(), [&](const Change& change) {
           return change.effect.apart && (change.unknown ? change.unknown_since : change.ended) >= since;
         });
}

bool Oracle::possible_anywhere(const std::string& bytes, Task since) const {
  const Contents contents = recognise(bytes);
  return std::all_of(contents.pieces.begin(), contents.pieces.end(), [&](Version piece) {
    return piece == absent || std::any_of(changes_.begin(), changes_.end(), [&](const auto& name) {
             return possible(name.first, since).contains(piece);
           });
  });
}

std::optional<std::string> Oracle::judge_read(const std::string& path, Task since, int error,
                                              const std::string& bytes) const {
  const Versions versions = possible(path, since);
  if (error == ENOENT) {
    if (versions.contains(absent) || exchanged_meanwhile(path, since)) return std::nullopt;
    return fmt::format("/{} is said not to exist, but it must have version {}", path, text_of(versions));
  }
  if (error == EISDIR) {
    if (versions.contains(directory)) return std::nullopt;
    return fmt::format("/{} is said to be a directory, but it must have version {}", path, text_of(versions));
  }
  if (error != 0) return std::nullopt;
  const Contents contents = recognise(bytes);
  if (contents.whole != absent && versions.contains(contents.whole)) return std::nullopt;
  if (contents.whole != absent) {
    return fmt::format("/{} has version {}, but it must have {}", path, contents.whole, text_of(versions));
  }
  const bool known = std::all_of(contents.pieces.begin(), contents.pieces.end(),
                                 [&](Version piece) { return piece == absent || versions.contains(piece); });
  if (known && pieces_possible(path, since)) return std::nullopt;
  return fmt::format("/{} has {} bytes with pieces of version {}, but it must have {}", path, bytes.size(),
                     fmt::join(contents.pieces, " and "), text_of(versions));
}

std::vector<std::string> Oracle::walked_to(const std::string& path, Task since) const {
  std::vector<std::string> paths;
  const std::size_t slash = path.find('/');
  const auto found = changes_.find(path.substr(0, slash));
  if (slash == std::string::npos || found == changes_.end()) return paths;
  for (const Change& change : found->second) {
    if (!change.effect.moved_to.empty() && change.ended >= since)
      paths.push_back(change.effect.moved_to + path.substr(slash));
  }
  return paths;
}

std::optional<std::string> Oracle::judge_seen(const std::string& path, Task since, bool seen, const char* by) const {
  if (possibly(path, since, !seen) || (!seen && exchanged_meanwhile(path, since))) return std::nullopt;
  for (const std::string& other : walked_to(path, since)) {
    if (possibly(other, since, !seen)) return std::nullopt;
  }
  return fmt::format("/{} is {} by {}, but it must have version {}", path, seen ? "seen" : "not seen", by,
                     text_of(possible(path, since)));
}

std::optional<std::string> Oracle::judge_winner(const std::string& path, Task task) const {
  const auto found = changes_.find(path);
  if (found == changes_.end()) return std::nullopt;
  const std::vector<Change>& all = found->second;
  for (const Change& other : all) {
    if (!other.acknowledged || !other.effect.exclusive || other.task == task || other.ended < task) continue;
    const bool removed = std::any_of(all.begin(), all.end(), [&](const Change& change) {
      return change.effect.versions.contains(absent) && change.ended >= std::min(other.began, task);
    });
    if (!removed) return fmt::format("/{} was created exclusively by two nodes at once", path);
  }
  return std::nullopt;
}

}  // namespace rainfs::simulation
