// SPDX-License-Identifier: Apache-2.0
// The names of one file: which belong together, and what is known of a file by its other names.
#include <algorithm>

#include "heal_internal.hpp"

namespace rainfs::scrub {

void Links::note(ExportIndex index, std::uint64_t inode, const std::string& path) {
  const std::lock_guard lock(mutex_);
  if (count_ >= most_names) {
    overflowed_ = true;
    return;
  }
  names_[{index, inode}].push_back(path);
  ++count_;
}

void Links::needs_repair(const std::string& path) {
  const std::lock_guard lock(mutex_);
  if (broken_.size() >= most_names) {
    overflowed_ = true;
    return;
  }
  broken_.insert(path);
}

bool Links::any_broken() const {
  const std::lock_guard lock(mutex_);
  return !broken_.empty();
}

void Links::healed(const std::string& path) {
  const std::lock_guard lock(mutex_);
  healed_.insert(path);
}

bool Links::healed_together(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  return healed_.contains(path);
}

void Links::keep_healed(const Links& other) {
  const std::scoped_lock lock(mutex_, other.mutex_);
  healed_ = other.healed_;
}

std::vector<std::vector<std::string>> Links::broken() const {
  const std::lock_guard lock(mutex_);
  // Names that share an inode on any export belong together.
  std::unordered_map<std::string, std::size_t> group_of;
  std::vector<std::vector<std::string>> groups;
  std::vector<std::size_t> merged_into;
  const auto root = [&](std::size_t group) {
    while (merged_into[group] != group) group = merged_into[group];
    return group;
  };
  for (const auto& [identity, names] : names_) {
    std::size_t group = groups.size();
    groups.emplace_back();
    merged_into.push_back(group);
    for (const std::string& name : names) {
      const auto [it, first] = group_of.try_emplace(name, group);
      if (!first) merged_into[root(it->second)] = root(group);
    }
  }
  for (const auto& [name, group] : group_of) groups[root(group)].push_back(name);
  for (const std::string& name : broken_) {
    if (!group_of.contains(name)) groups.push_back({name});
  }
  std::vector<std::vector<std::string>> out;
  for (std::vector<std::string>& names : groups) {
    const bool any = std::any_of(names.begin(), names.end(), [&](const std::string& n) { return broken_.contains(n); });
    if (!any) continue;
    std::sort(names.begin(), names.end());
    out.push_back(std::move(names));
  }
  return out;
}

unsigned doubted(const replica::Location& found, const HealOptions& options, ExportIndex index) {
  const struct statx* stat = found.stat_of(index);
  if (options.doubts == nullptr || stat == nullptr) return 0;
  unsigned whys = 0;
  const auto [begin, end] = options.doubts->equal_range(index);
  for (auto it = begin; it != end; ++it) {
    if (it->second.inode == stat->stx_ino) whys |= it->second.whys;
  }
  return whys;
}

// Facts are about names. What one export missed under one name of a file, it misses under the others: where replicas
// differ, it is not the one to follow, however young it looks.
void Healer::heed_other_names(replica::Location& found, const HealOptions& options) const {
  ExportSet behind;
  for (const ExportIndex index : found.evidence.present - found.evidence.blamed) {
    if (doubted(found, options, index) != 0) behind.insert(index);
  }
  const ExportSet credible = found.evidence.present - found.evidence.blamed - behind;
  if (behind.empty() || credible.empty()) return;
  const replica::Evidence before = found.evidence;
  found.evidence.blamed |= behind;
  const auto judge = [&] {
    found.verdict =
        replica::judge(found.evidence, *found.topology, found.rules, found.order, session_.array.blamed_somewhere());
  };
  judge();
  for (const ExportIndex index : behind) {
    if (before.stamps[index] == before.stamps[found.verdict.elected]) found.evidence.blamed.erase(index);
  }
  judge();
}

// Beneath a renamed directory the names of linked files are believed one by one where nothing is to be done. Names in
// the trash count as links too: that their numbers differ means nothing once the names were healed together.
bool Healer::believed_as_they_are(const Work& work) const {
  if (work.options.subtree.empty()) return false;
  const replica::Evidence& evidence = work.found.evidence;
  const struct statx& elected = work.found.elected();
  const bool linked = work.options.links->healed_together(work.path);
  for (const ExportIndex index : evidence.present) {
    const auto blame = work.blames.find(index);
    if (blame != work.blames.end() && !blame->second.instances.empty()) return false;
    if (!(evidence.stamps[index] == evidence.stamps[work.source])) return false;
    if (!linked && work.found.stat_of(index)->stx_nlink != elected.stx_nlink) return false;
  }
  return evidence.present.size() == work.wanted && work.topology().racks_of(evidence.present) == work.wanted;
}

// In a group of names: whether `target` already has the file under another name, and which.
bool Healer::group_link(Work& work, ExportIndex target, std::string& link_to) const {
  if (work.options.group == nullptr) return false;
  const struct statx* own = work.found.stat_of(target);
  for (const std::string& name : *work.options.group) {
    const replica::Done there = perform_on(session_.array, target, new_operation(Kind::stat, name));
    if (!there.ok()) continue;
    if (own != nullptr && own->stx_ino == there.operation->stat.stx_ino) return true;  // linked already
    const replica::Stamp stamp = replica::stamp_of(there.operation->stat);
    if (!(stamp == work.found.evidence.stamps[work.source])) continue;
    link_to = name;
    return true;
  }
  return false;
}

}  // namespace rainfs::scrub
