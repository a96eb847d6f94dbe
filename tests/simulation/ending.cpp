// SPDX-License-Identifier: Apache-2.0
// When all exports are back: everything acknowledged is there, on every node, whichever racks are lost next.
#include <fmt/format.h>
#include <stdio.h>

#include <algorithm>
#include <cstring>

#include "rainfs/placement/placement.hpp"
#include "scenario_internal.hpp"

namespace rainfs::simulation {

namespace {
constexpr base::Duration until_noticed = std::chrono::seconds(5);
constexpr base::Duration until_meddlers_are_done = std::chrono::seconds(30);
}  // namespace

std::string Scenario::seen_by(Computer& computer, const std::string& path, Task since, int& error) {
  std::string bytes;
  error = computer.read(path, bytes);
  world_.tell(fmt::format("{} reads {}: {} {}", computer.name(), path, error == 0 ? "ok" : ::strerrorname_np(error),
                          bytes.substr(0, 8)));
  if (const auto wrong = oracle_.judge_read(path, since, error, bytes))
    fail(fmt::format("in the end {} finds: {}", computer.name(), *wrong));
  return error == 0 ? bytes : ::strerrorname_np(error);
}

void Scenario::check_names(Computer& computer) {
  const Task since = oracle_.begin();
  for (const std::string& path : files) {
    std::string first;
    for (const auto& other : computers_) {
      int error = 0;
      const std::string seen = seen_by(*other, path, since, error);
      if (error != 0 && error != ENOENT && error != EISDIR && !only_blamed(path)) {
        fail(fmt::format("in the end {} gets {} for {}, although every export is well", other->name(),
                         ::strerrorname_np(error), path));
      }
      if (other == computers_.front()) first = seen;
      if (seen != first)
        fail(fmt::format("in the end {} and {} see different contents of {}", computers_.front()->name(), other->name(),
                         path));
    }
  }
  for (const std::string& path : {std::string{}, directories[0], directories[1]}) {
    std::vector<std::string> names;
    const int error = computer.list(path, names);
    const std::vector<std::string> all =
        path.empty() ? std::vector<std::string>{"f0", "f1", "f2", "d0", "d1"} : children_of(path);
    const bool repairable = behind_as_a_whole(path) ||
                            std::any_of(all.begin(), all.end(), [&](const auto& name) { return only_blamed(name); });
    if (error != 0 && error != ENOENT && error != ENOTDIR && !repairable)
      fail(fmt::format("in the end /{} cannot be listed: {}", path, ::strerrorname_np(error)));
    if (error != 0) continue;
    for (const std::string& name : all) {
      const std::string leaf = path.empty() ? name : name.substr(path.size() + 1);
      const bool seen = std::find(names.begin(), names.end(), leaf) != names.end();
      if (const auto wrong = oracle_.judge_seen(name, since, seen, "the last listing")) fail(*wrong);
    }
  }
}

// A rename that was interrupted leaves one of the two names in the end, not both.
void Scenario::check_moved(Computer& computer) {
  std::map<Version, std::string> known;
  for (const std::string& path : files) {
    std::string bytes;
    if (linked_.contains(path) || computer.read(path, bytes) != 0) continue;
    const Version version = recognise(bytes).whole;
    if (version == absent) continue;
    const auto [before, first] = known.emplace(version, path);
    if (!first)
      fail(fmt::format("version {} is both /{} and /{}: a rename is half done", version, before->second, path));
  }
}

void Scenario::check_losses(Computer& computer) {
  const Task since = oracle_.begin();
  std::map<std::string, std::string> whole;  // names with R good replicas, and what is in them
  for (const std::string& path : files) {
    int error = 0;
    const auto agree = [&](const std::string& name) {
      std::string description;
      return computer.replicas(name, description) == 0 && description.starts_with("agree");
    };
    const std::size_t slash = path.find('/');
    if (agree(path) && !blamed_by_another_name(path) && (slash == std::string::npos || agree(path.substr(0, slash))))
      whole[path] = seen_by(computer, path, since, error);
  }
  const unsigned racks = topology_->rack_count();
  for (unsigned lost = 1; lost < 1u << racks; ++lost) {
    if (static_cast<unsigned>(__builtin_popcount(lost)) != replicas_ - 1) continue;
    world_.tell(fmt::format("racks {:b} are lost", lost));
    const auto set = [&](Condition condition) {
      for (std::size_t i = 0; i < exports_.size(); ++i) {
        if (topology_->exports[i].witness || ((lost >> topology_->exports[i].rack) & 1) == 0) continue;
        exports_.set(exports_.at(i), condition);
      }
    };
    set(Condition::failing);
    world_.sleep(until_noticed);
    for (const std::string& path : files) {
      int error = 0;
      const std::string seen = seen_by(computer, path, since, error);
      const auto known = whole.find(path);
      if (known != whole.end() && known->second != seen) {
        fail(
            fmt::format("with {} racks lost {} is no longer what it was: {}", replicas_ - 1, path, seen.substr(0, 40)));
      }
    }
    set(Condition::fine);
    world_.sleep(until_noticed);
    if (outcome_.violation) return;
  }
}

// Replicas are gone without a trace: no fact tells of them, and only the announcement of what a scrubber is about to
// do.
void Scenario::check_lost_disk() {
  if (topology_->rack_count() <= replicas_) return;  // the word of one rack that has forgotten is enough to deny then
  auto& random = world_.random();
  const auto disk = static_cast<base::ExportIndex>(random.below(exports_.size()));
  bool lost = false;
  for (const std::string& path : files) {
    const auto holders = holders_of(path);
    const bool linked = linked_.contains(path) || std::any_of(pairs_.begin(), pairs_.end(), [&](const auto& pair) {
                          return pair.first == path || pair.second == path;
                        });
    if (linked || holders.size() < 2 || std::find(holders.begin(), holders.end(), disk) == holders.end()) continue;
    simulated::Export& exp = exports_.at(disk);
    if (exp.storage.find(path)->is_directory()) continue;
    // (What lies elsewhere than at home is denied where all of home has forgotten it: Limits in docs/protocol.md.)
    const base::ExportSet home =
        placement::choose(placement::order(path, *topology_), *topology_, replicas_, topology_->placeable());
    if (!std::all_of(holders.begin(), holders.end(), [&](base::ExportIndex holder) { return home.contains(holder); }))
      continue;
    const std::size_t slash = path.rfind('/');
    const simulated::InodePtr parent =
        slash == std::string::npos ? exp.storage.root() : exp.storage.find(path.substr(0, slash));
    parent->entries.erase(slash == std::string::npos ? path : path.substr(slash + 1));
    lost = true;
  }
  if (!lost) return;
  world_.tell(fmt::format("{} has lost its files", exports_.at(disk).name));
  for (std::size_t i = 0; i < exports_.size(); ++i) exports_.at(i).sluggish = random.chance(500);
  disk_lost_ = true;
  scrub::Options options;
  options.jobs = static_cast<unsigned>(1 + random.below(3));
  options.grace = std::chrono::seconds(2);
  Repairer& repairer = start_scrub(options);
  if (random.chance(400))
    repairer.machine().killed_at_change = static_cast<unsigned>(1 + random.below(4));  // between placing and believing
  world_.sleep_until([&] { return repairer.over || !repairer.machine().alive; }, std::chrono::seconds(1));
  world_.sleep(until_meddlers_are_done);
  disk_lost_ = false;
  for (std::size_t i = 0; i < exports_.size(); ++i) exports_.at(i).sluggish = false;
  settle();
  check_names(*computers_.back());
  if (outcome_.violation || !scrub_until_clean(scrub::Resolve::report)) return;
  check_repaired();
  if (!outcome_.violation) check_names(*computers_.back());
}

void Scenario::check_mount_points() {
  for (std::size_t i = 0; i < exports_.size(); ++i) {
    for (const auto& [name, inode] : exports_.at(i).mount_point.root()->entries) {
      if (name != ".rainfs" || inode->entries.size() > 2)
        fail(fmt::format("{} was written where {} is not mounted", name, exports_.at(i).name));
    }
  }
}

void Scenario::check_ending() {
  settle();
  boot(computers_.size());  // one that has seen nothing of it all
  world_.sleep(until_noticed);
  check_names(*computers_.back());
  // (what was away may be all that is left, where R = K and there is no witness)
  if (!outcome_.violation && !one_rack_only_) check_losses(*computers_.back());
  if (!outcome_.violation && scrub_until_clean(scrub::Resolve::report)) {
    check_repaired();
    if (!outcome_.violation) check_moved(*computers_.back());
    if (!outcome_.violation) check_names(*computers_.back());
    if (!outcome_.violation) check_losses(*computers_.back());
    if (!outcome_.violation) check_lost_disk();
  }
  check_mount_points();
}

}  // namespace rainfs::simulation
