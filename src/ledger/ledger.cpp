// SPDX-License-Identifier: Apache-2.0
#include "rainfs/ledger/ledger.hpp"

#include <fmt/format.h>

#include <map>
#include <utility>

#include "rainfs/log/log.hpp"

namespace rainfs::ledger {

namespace {

io::OperationPtr make(io::Kind kind, std::string path) {
  auto operation = std::make_shared<io::Operation>(kind);
  operation->path = std::move(path);
  return operation;
}

// An instance's name says so much that asking need not read it. No node's name has a plus.
constexpr std::string_view gone_prefix = "gone+";

constexpr std::size_t most_remembered = 4096;  // subjects of this node's facts; some 300 bytes each

std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

// Prefixes of a path that end before a slash, the path itself last: "a/b" gives "", "a", "a/b".
std::vector<std::string_view> self_and_ancestors(std::string_view path) {
  std::vector<std::string_view> all{std::string_view{}};
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] == '/') all.push_back(path.substr(0, i));
  }
  if (!path.empty()) all.push_back(path);
  return all;
}

}  // namespace

Ledger::Ledger(nas::Array& array, std::string node) : array_(array), node_(std::move(node)) {}

base::Result<std::vector<Instance>> Ledger::record(std::string_view path, ExportSet targets, Why why,
                                                   unsigned racks, Scope scope, bool durable) {
  const auto topology = array_.topology();
  std::vector<Instance> recorded;
  for (const ExportIndex target : targets) {
    // One reachable holder in each of `racks` racks other than the target's.
    const ExportSet others = topology->fact_holders() - topology->rack_members(target);
    const unsigned wanted = std::min(racks, topology->racks_of(others));
    const Fact fact{std::string(path), target, scope, why, node_, array_.clock().realtime()};
    const std::string directory = fact_directory(*topology, target, scope, path);
    const bool gone = scope == Scope::entry && (why == Why::removed || why == Why::renamed_from);
    const std::string file =
        fmt::format("{}/{}{}-{}", directory, gone ? gone_prefix : "", node_, sequence_.fetch_add(1));
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
        auto operation = make(io::Kind::make_file, file);
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
        const std::string shard = parent_of(directory);
        for (const std::string& parent : {parent_of(shard), shard, directory}) {
          array_.metadata(missing, [&](ExportIndex) {
            auto operation = make(io::Kind::mkdir, parent);
            operation->mode = 0700;
            return operation;
          });
        }
        for (nas::Answer& again : array_.metadata(missing, put)) *answers.of(again.index) = std::move(again);
      }
      holding |= answers.ok();
      for (const ExportIndex holder : answers.ok()) recorded.push_back({holder, file});
    }
    if (topology->racks_of(holding) < wanted || (wanted == 0 && racks > 0)) {
      log::error("fact-not-recorded", "cannot remember that {} is not to be believed about /{}: {} of {} racks took it",
                 topology->exports[target].name, path, topology->racks_of(holding), wanted);
      return base::unexpected(EIO, "cannot record a fact");
    }
    recorded_.add();
  }
  array_.note_blame(targets);
  return recorded;
}

// Gives what was recorded last about the subject before.
Ledger::Record Ledger::remember_last(const std::string& subject, const Record& record) {
  const std::lock_guard lock(last_mutex_);
  const auto [it, first] = last_.try_emplace(subject, record);
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
    const Record before = remember_last(fmt::format("{} {}", parent_of(path), name_of(why)), {path, holders});
    if (before.path.empty() || before.path == path) continue;
    array_.metadata(before.holders & holders, [&](ExportIndex) { return make(io::Kind::unlink, before.path); });
    std::vector<Instance> elsewhere;  // where the directory may be empty then
    for (const ExportIndex holder : before.holders - holders) elsewhere.push_back({holder, before.path});
    clear(elsewhere);
  }
}

void Ledger::withdraw(const std::vector<Instance>& instances) { clear(instances); }

Testimony Ledger::ask(std::string_view path) {
  const auto topology = array_.topology();
  Testimony testimony;
  const ExportSet holders = array_.holders_online();
  // First which ledgers exist at all: usually none, or one.
  nas::Answers listings = array_.metadata(holders, [](ExportIndex) {
    return make(io::Kind::read_directory, ".rainfs/ledger");
  });
  testimony.answered = listings.ok();

  struct Question {
    ExportIndex holder;
    ExportIndex target;
    std::string directory;
  };
  std::vector<Question> questions;
  for (const nas::Answer& answer : listings) {
    if (!answer.ok()) continue;
    for (const io::DirectoryEntry& entry : answer.operation->entries) {
      for (std::size_t i = 0; i < topology->exports.size(); ++i) {
        if (topology->exports[i].name != entry.name) continue;
        const auto target = static_cast<ExportIndex>(i);
        questions.push_back({answer.index, target, fact_directory(*topology, target, Scope::entry, path)});
        for (const std::string_view ancestor : self_and_ancestors(path)) {
          questions.push_back({answer.index, target, fact_directory(*topology, target, Scope::subtree, ancestor)});
        }
      }
    }
  }
  // A holder is asked its questions one round at a time, all holders in parallel.
  std::array<std::size_t, base::max_exports> next{};
  while (true) {
    std::array<const Question*, base::max_exports> round{};
    ExportSet asked;
    for (const ExportIndex holder : testimony.answered) {
      std::size_t& i = next[holder];
      while (i < questions.size() && (questions[i].holder != holder || testimony.blamed.contains(questions[i].target))) ++i;
      if (i == questions.size()) continue;
      round[holder] = &questions[i++];
      asked.insert(holder);
    }
    if (asked.empty()) break;
    nas::Answers answers = array_.metadata(asked, [&](ExportIndex holder) {
      return make(io::Kind::read_directory, round[holder]->directory);
    });
    for (const nas::Answer& answer : answers) {
      if (answer.ok()) {
        // An emptied directory whose removal was interrupted is no fact.
        const std::vector<io::DirectoryEntry>& instances = answer.operation->entries;
        const ExportIndex target = round[answer.index]->target;
        if (!instances.empty()) testimony.blamed.insert(target);
        for (const io::DirectoryEntry& instance : instances) {
          if (instance.name.starts_with(gone_prefix)) testimony.gone.insert(target);
        }
      } else if (answer.error != ENOENT && answer.error != ENOTDIR) {
        testimony.answered.erase(answer.index);
      }
    }
  }
  return testimony;
}

ExportSet Ledger::blamed_now() {
  const auto topology = array_.topology();
  ExportSet blamed;
  for (const nas::Answer& answer : array_.metadata(array_.holders_online(), [](ExportIndex) {
         return make(io::Kind::read_directory, ".rainfs/ledger");
       })) {
    if (!answer.ok()) continue;
    for (const io::DirectoryEntry& entry : answer.operation->entries) {
      for (std::size_t i = 0; i < topology->exports.size(); ++i) {
        if (topology->exports[i].name == entry.name) blamed.insert(static_cast<ExportIndex>(i));
      }
    }
  }
  array_.note_blame(blamed);
  return blamed;
}

std::vector<Instance> Ledger::list(std::string_view path, ExportIndex target, Scope scope) {
  const auto topology = array_.topology();
  const std::string directory = fact_directory(*topology, target, scope, path);
  nas::Answers answers = array_.metadata(array_.holders_online(), [&](ExportIndex) {
    return make(io::Kind::read_directory, directory);
  });
  std::vector<Instance> instances;
  for (const nas::Answer& answer : answers) {
    if (!answer.ok()) continue;
    for (const io::DirectoryEntry& entry : answer.operation->entries) {
      instances.push_back({answer.index, directory + "/" + entry.name});
    }
  }
  return instances;
}

void Ledger::clear(const std::vector<Instance>& instances) {
  for (const Instance& instance : instances) {
    const ExportSet holder = ExportSet::of(instance.holder);
    array_.metadata(holder, [&](ExportIndex) { return make(io::Kind::unlink, instance.path); });
    std::string directory = parent_of(instance.path);
    // The hash's directory, its shard, the export's: each goes only if it is empty.
    for (int level = 0; level < 3; ++level) {
      const nas::Answers answers =
          array_.metadata(holder, [&](ExportIndex) { return make(io::Kind::rmdir, directory); });
      if (!answers.list.front().ok()) break;
      directory = parent_of(directory);
    }
  }
}

}  // namespace rainfs::ledger
