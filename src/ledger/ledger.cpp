// SPDX-License-Identifier: Apache-2.0
#include "rainfs/ledger/ledger.hpp"
#include "rainfs/base/paths.hpp"

#include <fmt/format.h>

#include <charconv>
#include <map>
#include <set>
#include <utility>

#include "rainfs/log/log.hpp"
#include "shape.hpp"

namespace rainfs::ledger {

namespace {

constexpr std::size_t most_remembered = 4096;  // subjects of this node's facts; some 300 bytes each

// An instance's place in the order in which this node recorded its facts: its name ends in it.
std::uint64_t number_of(const std::string& path) {
  const char* const end = path.data() + path.size();
  std::uint64_t number = 0;
  std::from_chars(path.data() + path.rfind('-') + 1, end, number);
  return number;
}

// And as many of those above it as are missing.
void make_directory(nas::Array& array, ExportSet holders, const std::string& path, unsigned above) {
  const auto make_it = [&](ExportSet set) {
    return array.metadata(set, [&](ExportIndex) {
      auto operation = io::new_operation(io::Kind::mkdir, path);
      operation->mode = 0700;
      return operation;
    });
  };
  const ExportSet lacking = make_it(holders).with_error(ENOENT);
  if (lacking.empty() || above == 0) return;
  make_directory(array, lacking, base::parent_of(path), above - 1);
  make_it(lacking);
}

}  // namespace

Ledger::Ledger(nas::Array& array, std::string node) : array_(array), node_(std::move(node)) {}

base::Result<std::vector<Instance>> Ledger::record(std::string_view path, ExportSet targets, Why why, unsigned racks,
                                                   Scope scope, bool durable) {
  const auto topology = array_.topology();
  std::vector<Instance> recorded;
  for (const ExportIndex target : targets) {
    // One reachable holder in each of `racks` racks other than the target's.
    const ExportSet others = topology->fact_holders() - topology->rack_members(target);
    const unsigned wanted = std::min(racks, topology->racks_of(others));
    const Fact fact{std::string(path), target, scope, why, node_, array_.clock().realtime()};
    const bool together = !durable && scope == Scope::entry && !path.empty();
    const std::string directory = together ? fact_directory(*topology, target, Scope::subtree, base::parent_of(path))
                                           : fact_directory(*topology, target, scope, path);
    const bool gone = scope == Scope::entry && (why == Why::removed || why == Why::renamed_from);
    const std::string prefix = together ? child_mark(path)
                                        : std::string(gone                   ? gone_prefix
                                                      : why == Why::may_lack ? lack_prefix
                                                                             : "");
    const std::string file = fmt::format("{}/{}{}-{}", directory, prefix, node_, sequence_.fetch_add(1));
    const std::string text = format_fact(fact, *topology);

    ExportSet untried = others;
    ExportSet holding;
    while (topology->racks_of(holding) < wanted) {
      ExportSet round;
      for (const ExportIndex holder : untried) {
        const bool new_rack = (topology->rack_members(holder) & (round | holding)).empty();
        if (new_rack && topology->racks_of(round | holding) < wanted && array_.at(holder).online()) {
          round.insert(holder);
        }
      }
      if (round.empty()) break;
      untried = untried - round;
      const auto put = [&](ExportIndex) {
        auto operation = io::new_operation(io::Kind::make_file, file);
        operation->text = text;
        operation->flags = durable ? 1 : 0;
        operation->mode = 0600;
        return operation;
      };
      nas::Answers answers = array_.metadata(round, put);
      // A repairer may remove the emptied directories between making them and using them.
      for (int attempt = 0; attempt < 4; ++attempt) {
        const ExportSet missing = answers.with_error(ENOENT);
        if (missing.empty()) break;
        make_directory(array_, missing, directory, 2);
        for (nas::Answer& again : array_.metadata(missing, put)) *answers.of(again.index) = std::move(again);
      }
      holding |= answers.ok();
    }
    std::vector<Instance> instances;
    for (const ExportIndex holder : holding) instances.push_back({holder, file});
    if (topology->racks_of(holding) < wanted || (wanted == 0 && racks > 0)) {
      log::error("fact-not-recorded", "cannot remember that {} is not to be believed about /{}: {} of {} racks took it",
                 topology->exports[target].name, path, topology->racks_of(holding), wanted);
      // What is acknowledged later may rely on the target without having heard of it.
      if (topology->rules_for(path).quorum != topology::Quorum::lenient) withdraw(instances);
      return base::unexpected(EIO, "cannot record a fact");
    }
    recorded.insert(recorded.end(), instances.begin(), instances.end());
    recorded_.add();
  }
  array_.note_blame(targets);
  return recorded;
}

// Gives the earlier one of two records about a subject: nothing where there is one only.
Ledger::Record Ledger::remember_last(const std::string& subject, const Record& record) {
  const std::lock_guard lock(last_mutex_);
  const auto [it, first] = last_.try_emplace(subject, record);
  // A repairer may have listed the earlier one only, so of two that are recorded side by side the later one stays.
  if (!first && number_of(it->second.path) > number_of(record.path)) return record;
  if (!first) return std::exchange(it->second, record);
  last_order_.push_back(subject);
  if (last_order_.size() > most_remembered) {
    last_.erase(last_order_.front());
    last_order_.pop_front();
  }
  return {};
}

void Ledger::supersede(const std::vector<Instance>& recorded, Why why) {
  std::map<std::string, ExportSet> records;
  for (const Instance& instance : recorded) records[instance.path].insert(instance.holder);
  for (const auto& [path, holders] : records) {
    const Record earlier = remember_last(fmt::format("{} {}", base::parent_of(path), name_of(why)), {path, holders});
    if (earlier.path.empty()) continue;
    array_.metadata(earlier.holders & holders,
                    [&](ExportIndex) { return io::new_operation(io::Kind::unlink, earlier.path); });
    std::vector<Instance> elsewhere;  // where the directory may be empty then
    for (const ExportIndex holder : earlier.holders - holders) elsewhere.push_back({holder, earlier.path});
    clear(elsewhere);
  }
}

void Ledger::withdraw(const std::vector<Instance>& instances) {
  clear(instances);
}

ExportSet Ledger::blamed_now(ExportSet* answered) {
  const auto topology = array_.topology();
  ExportSet blamed;
  const nas::Answers answers = array_.metadata(array_.holders_online(), [](ExportIndex) {
    return io::new_operation(io::Kind::read_directory, ".rainfs/ledger");
  });
  if (answered != nullptr) *answered = answers.ok();
  for (const nas::Answer& answer : answers) {
    if (!answer.ok()) continue;
    for (const io::DirectoryEntry& entry : answer.operation->entries) {
      if (const auto target = topology->export_named(entry.name)) blamed.insert(*target);
    }
  }
  array_.note_blame(blamed);
  return blamed;
}

std::vector<Instance> Ledger::list(std::string_view path, ExportIndex target, Scope scope) {
  const auto topology = array_.topology();
  std::vector<Instance> instances;
  const auto add = [&](const std::string& directory, auto wanted) {
    for (const nas::Answer& answer : array_.metadata(array_.holders_online(), [&](ExportIndex) {
           return io::new_operation(io::Kind::read_directory, directory);
         })) {
      if (!answer.ok()) continue;
      for (const io::DirectoryEntry& entry : answer.operation->entries) {
        if (wanted(entry.name)) instances.push_back({answer.index, directory + "/" + entry.name});
      }
    }
  };
  add(fact_directory(*topology, target, scope, path), [](const std::string& name) { return !about_child(name); });
  if (scope == Scope::entry && !path.empty()) {
    add(fact_directory(*topology, target, Scope::subtree, base::parent_of(path)),
        [mark = child_mark(path)](const std::string& name) { return name.starts_with(mark); });
  }
  return instances;
}

void Ledger::clear(const std::vector<Instance>& instances, Emptied emptied) {
  const int levels = emptied == Emptied::removed ? 3 : 1;
  std::set<std::pair<ExportIndex, std::string>> directories;
  for (const Instance& instance : instances) {
    array_.metadata(ExportSet::of(instance.holder),
                    [&](ExportIndex) { return io::new_operation(io::Kind::unlink, instance.path); });
    directories.emplace(instance.holder, base::parent_of(instance.path));
  }
  // The facts' directory, its shard, the export's: each goes only if it is empty.
  for (const auto& [holder, path] : directories) {
    std::string directory = path;
    for (int level = 0; level < levels; ++level) {
      const nas::Answers answers = array_.metadata(
          ExportSet::of(holder), [&](ExportIndex) { return io::new_operation(io::Kind::rmdir, directory); });
      if (!answers.list.front().ok()) break;
      directory = base::parent_of(directory);
    }
  }
}

}  // namespace rainfs::ledger
