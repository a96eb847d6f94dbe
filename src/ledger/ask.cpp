// SPDX-License-Identifier: Apache-2.0
// Asking the ledger: a listing of each holder, which usually is empty, and questions about what it shows.
#include <algorithm>
#include <map>
#include <set>

#include "rainfs/ledger/ledger.hpp"
#include "shape.hpp"

namespace rainfs::ledger {

namespace {

// What holders say in answer to one question: which of them know a fact.
struct Said {
  ExportSet blaming, failed;
  std::map<std::string, ExportSet> gone;        // holders of each instance that says so
  bool lack_only = true;                        // no instance says more
  std::set<std::string, std::less<>> children;  // marks of those that are blamed by themselves
};

Said question(nas::Array& array, ExportSet holders, const std::string& directory) {
  Said said;
  const nas::Answers answers =
      array.metadata(holders, [&](ExportIndex) { return io::new_operation(io::Kind::read_directory, directory); });
  for (const nas::Answer& answer : answers) {
    if (answer.ok()) {
      // (an emptied directory whose removal was interrupted is no fact)
      for (const io::DirectoryEntry& instance : answer.operation->entries) {
        if (about_child(instance.name)) {
          said.children.insert(instance.name.substr(0, instance.name.rfind('+') + 1));
          continue;
        }
        said.blaming.insert(answer.index);
        said.lack_only &= instance.name.starts_with(lack_prefix);
        if (instance.name.starts_with(gone_prefix)) said.gone[instance.name].insert(answer.index);
      }
    } else if (answer.error != ENOENT && answer.error != ENOTDIR) {
      said.failed.insert(answer.index);
    }
  }
  return said;
}

// Prefixes of a path that end before a slash: "a/b" gives "" and "a".
std::vector<std::string_view> ancestors(std::string_view path) {
  std::vector<std::string_view> all;
  if (!path.empty()) all.emplace_back();
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] == '/') all.push_back(path.substr(0, i));
  }
  return all;
}

}  // namespace

Testimony Ledger::ask(std::string_view path) {
  ExportSet all;
  for (std::size_t i = 0; i < array_.topology()->exports.size(); ++i) all.insert(static_cast<ExportIndex>(i));
  return ask(std::vector<std::string>{std::string(path)}, all).front();
}

std::vector<Testimony> Ledger::ask(const std::vector<std::string>& paths, ExportSet about) {
  const auto topology = array_.topology();
  const nas::Answers listings = array_.metadata(array_.holders_online(), [](ExportIndex) {
    return io::new_operation(io::Kind::read_directory, ".rainfs/ledger");
  });
  std::map<ExportIndex, ExportSet> holders_of;  // of facts about an export: usually none about any
  for (const nas::Answer& answer : listings) {
    if (!answer.ok()) continue;
    for (const io::DirectoryEntry& entry : answer.operation->entries) {
      const auto target = topology->export_named(entry.name);
      if (target && about.contains(*target)) holders_of[*target].insert(answer.index);
    }
  }
  std::map<std::string, Said> known;  // what was said of the directories above
  const auto of_directory = [&](ExportSet holders, const std::string& directory) -> const Said& {
    auto there = known.find(directory);
    if (there == known.end()) there = known.emplace(directory, question(array_, holders, directory)).first;
    return there->second;
  };
  std::vector<Testimony> testimonies;
  testimonies.reserve(paths.size());
  for (const std::string& path : paths) {
    Testimony& testimony = testimonies.emplace_back();
    testimony.answered = listings.ok();
    for (const auto& [target, holders] : holders_of) {
      const auto take = [&, who = target](const Said& said) {
        if (!said.blaming.empty()) testimony.blamed.insert(who);
        for (const auto& [instance, on] : said.gone) {
          if (topology->remembered(topology->rules_for(path), who, on)) testimony.gone.insert(who);
        }
        testimony.answered = testimony.answered - said.failed;
        return !said.blaming.empty();
      };
      const Said itself = question(array_, holders, fact_directory(*topology, target, Scope::entry, path));
      if (take(itself) && !itself.lack_only) continue;
      if (take(question(array_, holders, fact_directory(*topology, target, Scope::subtree, path)))) continue;
      const std::vector<std::string_view> above = ancestors(path);
      if (!above.empty()) {
        const Said& beside = of_directory(holders, fact_directory(*topology, target, Scope::subtree, above.back()));
        if (!beside.children.empty() && beside.children.contains(child_mark(path))) {
          testimony.blamed.insert(target);
          testimony.answered = testimony.answered - beside.failed;
          continue;
        }
      }
      const bool behind_above = std::any_of(above.begin(), above.end(), [&](std::string_view ancestor) {
        return take(of_directory(holders, fact_directory(*topology, target, Scope::subtree, ancestor)));
      });
      if (!behind_above && !itself.blaming.empty()) testimony.lacking.insert(target);
    }
  }
  return testimonies;
}

}  // namespace rainfs::ledger
