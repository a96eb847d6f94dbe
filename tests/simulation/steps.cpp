// SPDX-License-Identifier: Apache-2.0
// What programs do, and what may come of it.
#include <fmt/format.h>
#include <stdio.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "scenario_internal.hpp"

namespace rainfs::simulation {

namespace {
constexpr int looks_at_replaced = 6;
constexpr std::int64_t quiet_ns = 70'000'000'000;  // after it no fault has any more effect on what can be proven
}  // namespace

// One operation from its beginning to its judgement. If its node is killed meanwhile, its outcome is unknown.
struct Scenario::Doing {
  Doing(Scenario& scenario_in, Computer& computer_in, std::string what_in, std::set<std::string> locks_in,
        const std::string& about_in = {})
      : scenario(scenario_in),
        computer(computer_in),
        what(std::move(what_in)),
        locks(std::move(locks_in)),
        about(locks) {
    if (!about_in.empty()) about.insert(about_in);
    for (const std::string& name : std::set<std::string>(about)) about.insert(name.substr(0, name.find('/')));
    scenario.locked_.insert(locks.begin(), locks.end());
    std::erase_if(scenario.pairs_,
                  [&](const auto& pair) { return locks.contains(pair.first) || locks.contains(pair.second); });
    Exports& exports = scenario.exports_;
    const Faults& faults = exports.faults;
    quiet = !exports.disturbed() && computer.sees_all() &&
            faults.error + faults.late_error + faults.torn + faults.slow == 0 &&
            (exports.last_fault_ns() < 0 || scenario.world_.now_ns() - exports.last_fault_ns() > quiet_ns);
    faults_before = exports.faults_injected();
    task = scenario.oracle_.begin();
    scenario.world_.task() = task;
    scenario.world_.tell(fmt::format("{} #{}: {}", computer.name(), task, what));
  }
  using Faults = simulated::Faults;
  ~Doing() {
    if (!over) scenario.oracle_.unknown(task);
    for (const std::string& name : locks) scenario.locked_.extract(name);
    scenario.world_.task() = 0;
    scenario.settle();
  }
  void expect(std::vector<Effect> effects_in) {
    effects = std::move(effects_in);
    scenario.oracle_.expect(task, effects);
  }
  // How it ended; true if with success.
  bool ended(int error) {
    const char* text = error == 0 ? "ok" : ::strerrorname_np(error);
    scenario.world_.tell(fmt::format("{} #{}: {}: {}", computer.name(), task, what, text));
    over = true;
    if (error == 0) {
      ++scenario.outcome_.succeeded;
      return true;
    }
    const bool export_error = error == EIO || error == ENOSPC || error == EROFS;
    if (!export_error) {
      scenario.oracle_.failed(task);
      return false;
    }
    ++scenario.outcome_.unprovable;
    scenario.oracle_.unknown(task);
    bool repairable = false;
    for (const std::string& name : about) repairable |= scenario.only_blamed(name);
    if (quiet && faults_before == scenario.exports_.faults_injected() && !repairable) {
      wrong(fmt::format("{} although every export is well", text));
    }
    return false;
  }
  void wrong(const std::string& why) { scenario.fail(fmt::format("{} #{}: {}: {}", computer.name(), task, what, why)); }
  void judge(const std::optional<std::string>& verdict) {
    if (verdict) wrong(*verdict);
  }
  void not_allowed(int error) {
    if (error != EIO && error != ENOSPC && error != EROFS)
      wrong(fmt::format("{} is no answer to this", ::strerrorname_np(error)));
  }

  Scenario& scenario;
  Computer& computer;
  std::string what;
  std::set<std::string> locks;
  std::set<std::string> about;  // names it looks at
  Task task = 0;
  bool quiet = false;
  bool over = false;
  std::uint64_t faults_before = 0;
  std::vector<Effect> effects;
};

void Scenario::read(Computer& computer, const std::string& path) {
  Doing doing(*this, computer, "read " + path, {}, path);
  std::string bytes;
  const int error = computer.read(path, bytes);
  // An open file stays the same file when it is renamed, and may then be written to under its other name (POSIX): what
  // was renamed away while it was being read may have any contents that a name can have at that time, and no others.
  const auto verdict = oracle_.judge_read(path, doing.task, error, bytes);
  if (verdict &&
      (error != 0 || !oracle_.moved_since(path, doing.task) || !oracle_.possible_anywhere(bytes, doing.task)))
    doing.wrong(*verdict);
  if (!doing.ended(error) && error != ENOENT && error != EISDIR) doing.not_allowed(error);
}

void Scenario::stat(Computer& computer, const std::string& path) {
  Doing doing(*this, computer, "stat " + path, {}, path);
  struct stat attributes {};
  const int error = computer.stat(path, attributes);
  if (error == 0 || error == ENOENT) doing.judge(oracle_.judge_seen(path, doing.task, error == 0, "stat"));
  if (!doing.ended(error) && error != ENOENT) doing.not_allowed(error);
}

void Scenario::list(Computer& computer, const std::string& path) {
  Doing doing(*this, computer, "list /" + path, {}, path);
  std::vector<std::string> names;
  const int error = computer.list(path, names);
  if (error == ENOENT && !path.empty()) doing.judge(oracle_.judge_seen(path, doing.task, false, "a listing of it"));
  if (error == 0) {
    const std::vector<std::string> all =
        path.empty() ? std::vector<std::string>{"f0", "f1", "f2", "d0", "d1"} : children_of(path);
    for (const std::string& name : all) {
      const std::string leaf = path.empty() ? name : name.substr(path.size() + 1);
      const bool seen = std::find(names.begin(), names.end(), leaf) != names.end();
      doing.judge(oracle_.judge_seen(name, doing.task, seen, "a listing"));
    }
  }
  if (!doing.ended(error) && error != ENOENT) doing.not_allowed(error);
}

void Scenario::write(Computer& computer, const std::string& path, Computer::How how) {
  const Version version = ++last_version_;
  const bool exclusive = how == Computer::How::exclusive;
  Doing doing(*this, computer, fmt::format("{} {} as version {}", exclusive ? "create" : "write", path, version),
              {path});
  const std::vector<Effect> effects = {{path, {version}, true, false, exclusive}};
  // What may be another name of the file shows it as well, from the first byte on.
  const auto through_links = [&] {
    std::vector<Effect> others;
    for (const std::string& other : linked_) {
      if (other != path && linked_.contains(path)) others.push_back({other, {version}, true});
    }
    return others;
  };
  std::vector<Effect> expected = through_links();
  expected.insert(expected.begin(), effects.begin(), effects.end());
  doing.expect(std::move(expected));
  const int error = computer.write(path, version, how, world_.random().chance(300));
  if (exclusive && error == EEXIST) doing.judge(oracle_.judge_seen(path, doing.task, true, "an exclusive creation"));
  if (error == ENOENT) doing.judge(oracle_.judge_read(path, doing.task, ENOENT, {}));
  if (exclusive && error == 0) {
    doing.judge(oracle_.judge_seen(path, doing.task, false, "an exclusive creation"));
    doing.judge(oracle_.judge_winner(path, doing.task));
  }
  if (doing.ended(error)) {
    oracle_.acknowledged(doing.task, effects);
  } else if (error != ENOENT && (error != EEXIST || !exclusive)) {
    doing.not_allowed(error);
  }
  const Task task = oracle_.begin();
  oracle_.expect(task, through_links());
  oracle_.unknown(task);
}

void Scenario::race(Computer& computer, const std::string& path) {
  // Another node's client tries at the same moment; the lock on the name is shared by both.
  for (const auto& other : computers_) {
    if (other.get() == &computer || !other->machine().alive || !other->mounted()) continue;
    Computer* rival = other.get();
    world_.start(
        rival->name() + " rival", [rival] { return rival->machine().alive; },
        [this, rival, path] { write(*rival, path, Computer::How::exclusive); });
    break;
  }
  write(computer, path, Computer::How::exclusive);
}

int Scenario::remove(Computer& computer, const std::string& path) {
  Doing doing(*this, computer, "remove " + path, {path});
  const bool may_exist = oracle_.possibly(path, doing.task, false);
  const bool may_lack = oracle_.possibly(path, doing.task, true);
  doing.expect({{path, {absent}}});
  const int error = computer.remove(path, false);
  if (error == 0 && !may_exist) doing.wrong("removed what was not there");
  if (error == ENOENT && !may_lack) doing.wrong("it is said not to exist");
  if (doing.ended(error)) {
    oracle_.acknowledged(doing.task, {{path, {absent}}});
  } else if (error != ENOENT) {
    doing.not_allowed(error);
  }
  return error;
}

void Scenario::make_directory(Computer& computer, const std::string& path) {
  Doing doing(*this, computer, "mkdir " + path, {path});
  const bool may_exist = oracle_.possibly(path, doing.task, false);
  const bool may_lack = oracle_.possibly(path, doing.task, true);
  doing.expect({{path, {directory}}});
  const int error = computer.make_directory(path);
  if (error == 0 && !may_lack) doing.wrong("made a directory that was there already");
  if (error == EEXIST && !may_exist) doing.wrong("it is said to exist");
  if (doing.ended(error)) {
    oracle_.acknowledged(doing.task, {{path, {directory}}});
  } else if (error != EEXIST) {
    doing.not_allowed(error);
  }
}

void Scenario::remove_directory(Computer& computer, const std::string& path) {
  const auto children = children_of(path);
  Doing doing(*this, computer, "rmdir " + path, {path, children[0], children[1]});
  const bool may_exist = oracle_.possibly(path, doing.task, false);
  const bool may_lack = oracle_.possibly(path, doing.task, true);
  std::string must_exist;
  bool some_may_exist = false;
  for (const std::string& child : children) {
    if (!oracle_.possibly(child, doing.task, true)) must_exist = child;
    some_may_exist |= oracle_.possibly(child, doing.task, false);
  }
  doing.expect({{path, {absent}}});
  const int error = computer.remove(path, true);
  if (error == 0 && !may_exist) doing.wrong("removed what was not there");
  if (error == 0 && !must_exist.empty()) doing.wrong(must_exist + " was in it");
  if (error == ENOENT && !may_lack) doing.wrong("it is said not to exist");
  if (error == ENOTEMPTY && !some_may_exist) doing.wrong("nothing can be in it");
  if (doing.ended(error)) {
    oracle_.acknowledged(doing.task, {{path, {absent}}, {children[0], {absent}}, {children[1], {absent}}});
  } else if (error != ENOENT && error != ENOTEMPTY) {
    doing.not_allowed(error);
  }
}

std::vector<Effect> Scenario::moved(const std::string& from, const std::string& to, Task since, bool exchange) const {
  Effect there{to, oracle_.possible(from, since), false, oracle_.pieces_possible(from, since)};
  Effect here{from, {absent}};
  if (exchange) here = {from, oracle_.possible(to, since), false, oracle_.pieces_possible(to, since)};
  return {std::move(there), std::move(here)};
}

void Scenario::rename(Computer& computer, const std::string& from, const std::string& to, unsigned flags) {
  if (linked_.contains(from) && linked_.contains(to)) return;  // perhaps two names of one file: then nothing happens
  const bool exchange = (flags & RENAME_EXCHANGE) != 0;
  Doing doing(*this, computer, fmt::format("{} {} {}", exchange ? "exchange" : "rename", from, to), {from, to});
  const bool from_may_exist = oracle_.possibly(from, doing.task, false);
  const bool to_may_exist = oracle_.possibly(to, doing.task, false);
  const bool some_may_lack = oracle_.possibly(from, doing.task, true) ||
                             (exchange && oracle_.possibly(to, doing.task, true)) || to.find('/') != std::string::npos;
  std::vector<Effect> effects = moved(from, to, doing.task, exchange);
  if (linked_.contains(from) || (exchange && linked_.contains(to))) linked_.insert({from, to});
  const auto holding_both = [&] {
    const std::vector<base::ExportIndex> there = holders_of(to);
    for (const base::ExportIndex index : holders_of(from)) {
      if (std::find(there.begin(), there.end(), index) != there.end()) return true;
    }
    return false;
  };
  const bool apart = exchange && !holding_both();
  for (Effect& effect : effects) {
    if (effect.path == to || exchange) effect.versions.erase(absent);
    effect.apart = apart;
  }
  doing.expect(effects);
  if (cut_renames_ && world_.random().chance(200)) {
    computer.machine().killed_at_change = static_cast<unsigned>(1 + world_.random().below(3));
  }
  watch_replaced(computer, to);
  const int error = computer.rename(from, to, flags);
  if (error == 0 && !from_may_exist) doing.wrong("renamed what was not there");
  if (error == ENOENT && !some_may_lack) doing.wrong("it is said not to exist");
  if (error == EEXIST && !to_may_exist) doing.wrong("the new name is said to exist");
  if (doing.ended(error)) {
    oracle_.acknowledged(doing.task, effects);
  } else if (error != ENOENT && (error != EEXIST || (flags & RENAME_NOREPLACE) == 0)) {
    doing.not_allowed(error);
  }
}

// Another node looks at a name again and again while it is being replaced: it always exists.
void Scenario::watch_replaced(Computer& computer, const std::string& path) {
  for (const auto& other : computers_) {
    Computer* watcher = other.get();
    if (watcher == &computer || !watcher->machine().alive || !watcher->mounted() || !world_.random().chance(500))
      continue;
    world_.start(
        watcher->name() + " watcher", [watcher] { return watcher->machine().alive; },
        [this, watcher, path] {
          ++watching_;
          const std::shared_ptr<void> done(nullptr, [this](void*) { --watching_; });
          for (int i = 0; i < looks_at_replaced && !outcome_.violation; ++i) stat(*watcher, path);
        });
    return;
  }
}

void Scenario::rename_directory(Computer& computer, const std::string& from, const std::string& to) {
  const auto old_children = children_of(from), new_children = children_of(to);
  Doing doing(*this, computer, fmt::format("rename directory {} {}", from, to),
              {from, to, old_children[0], old_children[1], new_children[0], new_children[1]});
  const bool from_may_lack = oracle_.possibly(from, doing.task, true);
  const bool from_may_exist = oracle_.possibly(from, doing.task, false);
  const bool to_may_exist = oracle_.possibly(to, doing.task, false);
  std::vector<Effect> effects = {{to, {directory}}, {from, {absent}, false, false, false, to}};
  for (std::size_t i = 0; i < old_children.size(); ++i) {
    if (linked_.contains(old_children[i])) linked_.insert(new_children[i]);
    for (Effect& effect : moved(old_children[i], new_children[i], doing.task, false))
      effects.push_back(std::move(effect));
  }
  doing.expect(effects);
  const int error = computer.rename(from, to, 0);
  if (error == 0 && !from_may_exist) doing.wrong("renamed what was not there");
  if (error == ENOENT && !from_may_lack) doing.wrong("it is said not to exist");
  if (error == ENOTEMPTY && !to_may_exist) doing.wrong("the new name is said to exist");
  if (doing.ended(error)) {
    oracle_.acknowledged(doing.task, effects);
  } else if (error != ENOENT && error != ENOTEMPTY) {
    doing.not_allowed(error);
  }
}

void Scenario::move_by_link(Computer& computer, const std::string& from, const std::string& to) {
  // As programs do that must not overwrite: both names lead to one file until the old one is removed.
  bool linked = false;
  {
    Doing doing(*this, computer, fmt::format("link {} {}", from, to), {from, to});
    const bool to_may_exist = oracle_.possibly(to, doing.task, false);
    std::vector<Effect> effects = {moved(from, to, doing.task, false)[0]};
    effects[0].versions.erase(absent);
    const bool some_may_lack = oracle_.possibly(from, doing.task, true) || to.find('/') != std::string::npos;
    doing.expect(effects);
    // (others link at the same time: only what was added here goes again)
    const std::array<bool, 2> added = {linked_.insert(from).second,
                                       linked_.insert(to).second};  // if it is killed meanwhile
    const int error = computer.link(from, to);
    if (error == ENOENT && !some_may_lack) doing.wrong("it is said not to exist");
    if (error == EEXIST && !to_may_exist) doing.wrong("the new name is said to exist");
    linked = doing.ended(error);
    if (error != EIO && error != ENOSPC && error != EROFS) {
      if (added[0]) linked_.erase(from);
      if (added[1]) linked_.erase(to);
    }
    if (linked) {
      oracle_.acknowledged(doing.task, effects);
    } else if (error != ENOENT && error != EEXIST) {
      doing.not_allowed(error);
    }
  }
  if (!linked) return;
  if (world_.random().chance(400)) {  // both names stay
    linked_.insert({from, to});
    pairs_.emplace_back(from, to);
    return;
  }
  const std::array<bool, 2> added = {linked_.insert(from).second, linked_.insert(to).second};
  if (remove(computer, from) != 0) return;
  if (!added[0]) return;  // what else leads to the file leads to it under its new name
  linked_.erase(from);
  if (added[1]) linked_.erase(to);
}

void Scenario::change_attributes(Computer& computer, const std::string& path) {
  static constexpr std::array names = {"chmod", "chown", "utimens", "setfattr"};
  const auto what = static_cast<Computer::Attribute>(world_.random().below(names.size()));
  const auto value = static_cast<unsigned>(world_.random().below(1'000'000));
  Doing doing(*this, computer, fmt::format("{} {}", names[static_cast<unsigned>(what)], path), {path});
  const int error = computer.change_attribute(path, what, value);
  if (error == ENOENT) doing.judge(oracle_.judge_read(path, doing.task, ENOENT, {}));
  if (!doing.ended(error) && error != ENOENT) doing.not_allowed(error);
}

void Scenario::step(Computer& computer) {
  auto& random = world_.random();
  const std::string path = random.pick(files);
  const std::string other = random.pick(files);
  const std::string& folder = random.pick(directories);
  const std::string& other_folder = directories[folder == directories[0] ? 1 : 0];
  const auto kind = random.below(100);
  if (kind < 28) return read(computer, path);
  if (kind < 33) return stat(computer, random.chance(500) ? path : folder);
  if (kind < 38) return list(computer, random.chance(500) ? "" : folder);
  // Changes of one name do not overlap: what they would leave is nobody's promise.
  const auto is_locked = [&](const std::string& name) { return locked_.contains(name); };
  const bool folder_locked = is_locked(folder) || is_locked(folder + "/a") || is_locked(folder + "/b");
  const bool other_folder_locked =
      is_locked(other_folder) || is_locked(other_folder + "/a") || is_locked(other_folder + "/b");
  const bool folder_changes = kind >= 88;
  if (folder_changes && (folder_locked || other_folder_locked)) return;
  if (!folder_changes && (is_locked(path) || is_locked(other))) return;
  for (const std::string& name : {path, other}) {
    if (!folder_changes && name.find('/') != std::string::npos && is_locked(name.substr(0, 2))) return;
  }
  if (kind < 56) return write(computer, path, Computer::How::overwrite);
  if (kind < 61) return write(computer, path, Computer::How::resized);
  if (kind < 65) return write(computer, path, Computer::How::exclusive);
  if (kind < 70) return race(computer, path);
  if (kind < 76) return static_cast<void>(remove(computer, path));
  if (kind < 84 && path != other) {
    const unsigned flags = random.chance(200) ? RENAME_EXCHANGE : random.chance(200) ? RENAME_NOREPLACE : 0;
    return rename(computer, path, other, flags);
  }
  if (kind < 86 && path != other) return move_by_link(computer, path, other);
  if (kind < 88) return change_attributes(computer, path);
  if (kind < 95) return make_directory(computer, folder);
  if (kind < 97) return remove_directory(computer, folder);
  return rename_directory(computer, folder, other_folder);
}

}  // namespace rainfs::simulation
