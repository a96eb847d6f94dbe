// SPDX-License-Identifier: Apache-2.0
#include "drain.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "rainfs/base/paths.hpp"
#include "rainfs/log/log.hpp"
#include "walk.hpp"

namespace rainfs::scrub {

namespace {

constexpr std::size_t most_entries_kept = 100'000;
constexpr std::size_t most_subtrees = 100'000;
constexpr std::size_t largest_fact_bytes = 64 * 1024;
constexpr std::uint64_t paired_within = 256;  // instance numbers between the two facts of one rename

// All names that the holders list in a directory.
std::set<std::string> names_in(Session& session, const std::string& directory) {
  std::set<std::string> names;
  nas::Answers answers = session.array.metadata(
      session.array.holders_online(), [&](ExportIndex) { return new_operation(Kind::read_directory, directory); });
  for (const nas::Answer& answer : answers) {
    if (!answer.ok()) continue;
    for (const io::DirectoryEntry& entry : answer.operation->entries) names.insert(entry.name);
  }
  return names;
}

// "NODE-NUMBER" of an instance's name.
bool split_instance(const std::string& name, std::string& node, std::uint64_t& number) {
  const std::size_t dash = name.rfind('-');
  if (dash == std::string::npos) return false;
  node = name.substr(0, dash);
  const auto [end, error] = std::from_chars(name.data() + dash + 1, name.data() + name.size(), number);
  return error == std::errc{} && end == name.data() + name.size();
}

bool earlier(const struct timespec& a, const struct timespec& b) {
  return a.tv_sec != b.tv_sec ? a.tv_sec < b.tv_sec : a.tv_nsec < b.tv_nsec;
}

bool beneath(const std::string& path, const std::string& directory) {
  return path != directory && base::is_within(path, directory);
}

ExportSet blamed_exports(Session& session) {
  ExportSet set;
  const auto topology = session.array.topology();
  for (const std::string& name : names_in(session, ".rainfs/ledger")) {
    if (const auto target = topology->export_named(name)) set.insert(*target);
  }
  return set;
}

}  // namespace

void Drain::read(ExportIndex target, const std::string& directory, const Take& take) {
  const auto topology = session_.array.topology();
  nas::Answers answers = session_.array.metadata(
      session_.array.holders_online(), [&](ExportIndex) { return new_operation(Kind::read_directory, directory); });
  std::set<std::string> seen;
  for (const nas::Answer& answer : answers) {
    if (!answer.ok()) continue;
    for (const io::DirectoryEntry& entry : answer.operation->entries) {
      if (!seen.insert(entry.name).second) continue;
      auto file = new_operation(Kind::read_file, directory + "/" + entry.name);
      file->length = largest_fact_bytes;
      const replica::Done done = perform_on(session_.array, answer.index, file);
      if (!done.ok()) continue;
      auto fact = ledger::parse_fact(done.operation->text, *topology);
      if (!fact || fact->target != target) {
        session_.found(
            Finding::left, directory + "/" + entry.name,
            "a damaged fact on export " + session_.name_of(answer.index) + ": what it is about cannot be told");
        continue;
      }
      take(*fact, entry.name);
      if (fact->scope == ledger::Scope::entry && !ledger::about_child(entry.name))
        return;  // all of this directory are about the same path
    }
  }
}

void Drain::for_each(ExportIndex target, const Take& take) {
  const std::string top = ".rainfs/ledger/" + session_.name_of(target);
  for (const std::string& shard : names_in(session_, top)) {
    for (const std::string& hash : names_in(session_, top + "/" + shard)) {
      if (session_.stopped()) return;
      read(target, top + "/" + shard + "/" + hash, take);
    }
  }
}

Drain::About Drain::collect(ExportIndex target) {
  About about;
  for_each(target, [&](const ledger::Fact& fact, const std::string& instance) {
    ++about.count;
    if (fact.scope == ledger::Scope::subtree) {
      if (about.subtrees.size() < most_subtrees) about.subtrees.push_back({fact, instance});
    } else if (about.entries.size() < most_entries_kept) {
      about.entries.push_back(fact.path);
    } else {
      about.more_entries = true;
    }
  });
  return about;
}

// Nobody asks a retired export any more.
void Drain::forget(ExportIndex target) {
  if (session_.options.dry_run) return;
  for_each(target, [&](const ledger::Fact& fact, const std::string&) {
    session_.clear_facts(session_.context.ledger.list(fact.path, target, fact.scope));
  });
}

bool Drain::rename_on(ExportIndex target, const std::string& from, const std::string& to) {
  const auto is_directory = [&](const std::string& path) {
    const replica::Done stat = perform_on(session_.array, target, new_operation(Kind::stat, path));
    return stat.ok() && S_ISDIR(stat.operation->stat.stx_mode);
  };
  if (!is_directory(from) || is_directory(to)) return false;
  if (session_.options.dry_run) {
    session_.found(Finding::repaired, to, "would be renamed from /" + from + " on export " + session_.name_of(target));
    return false;
  }
  if (!session_.lease->wait_until_seen()) return false;
  auto parent = replica::ensure_directory(session_.context, target, replica::parent_of(to));
  auto move = new_operation(Kind::rename, from);
  move->path2 = to;
  if (!parent) {
    // Its new place was renamed too, later on: the next rename takes it from where it can be put meanwhile.
    return false;
  }
  if (!perform_on(session_.array, target, move).ok()) return false;
  session_.touched(target, replica::parent_of(from));
  session_.touched(target, replica::parent_of(to));
  session_.found(Finding::repaired, to, "renamed from /" + from + " on export " + session_.name_of(target));
  return true;
}

// The renames of directories that the export missed are done again, in their order. Whether each was meant
// for this very tree does not matter: what lies at a new name is compared with the others' before it counts.
void Drain::replay(ExportIndex target, About& about) {
  struct Pair {
    const SubtreeFact* from;
    const SubtreeFact* to;
  };
  std::vector<Pair> pairs;
  for (const SubtreeFact& to : about.subtrees) {
    if (to.fact.why != ledger::Why::renamed_to) continue;
    std::string node;
    std::uint64_t number = 0;
    if (!split_instance(to.instance, node, number)) continue;
    const SubtreeFact* best = nullptr;
    std::uint64_t best_number = 0;
    for (const SubtreeFact& from : about.subtrees) {
      std::string from_node;
      std::uint64_t from_number = 0;
      if (from.fact.why != ledger::Why::renamed_from || !split_instance(from.instance, from_node, from_number))
        continue;
      if (from_node != node || from_number >= number || number - from_number > paired_within) continue;
      if (best == nullptr || from_number > best_number) {
        best = &from;
        best_number = from_number;
      }
    }
    if (best != nullptr) pairs.push_back({best, &to});
  }
  std::sort(pairs.begin(), pairs.end(),
            [](const Pair& a, const Pair& b) { return earlier(a.to->fact.time, b.to->fact.time); });
  // A name in the middle of a chain may lie in a directory that is gone: then the chain is done in one step.
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const std::string from = pairs[i].from->fact.path;
    if (rename_on(target, from, pairs[i].to->fact.path)) continue;
    std::string last = pairs[i].to->fact.path;
    for (std::size_t k = i + 1; k < pairs.size(); ++k) {
      if (pairs[k].from->fact.path == last) last = pairs[k].to->fact.path;
    }
    if (last != pairs[i].to->fact.path) rename_on(target, from, last);
  }
}

void Drain::reconcile(ExportIndex target, const About& about) {
  std::set<std::string> tops;
  for (const SubtreeFact& subtree : about.subtrees) tops.insert(subtree.fact.path);
  for (const std::string& top : tops) {
    const std::vector<ledger::Instance> instances = session_.context.ledger.list(top, target, ledger::Scope::subtree);
    // A change that it missed under an old name shows under the new one: contents are compared then.
    bool compare = about.more_entries;
    for (const SubtreeFact& subtree : about.subtrees) {
      for (const std::string& entry : about.entries) compare |= beneath(entry, subtree.fact.path);
    }
    HealOptions options;
    options.facts = true;
    options.subtree = ExportSet::of(target);
    options.compare = compare;
    options.links = &links_;
    std::atomic<std::uint64_t> open{0};
    walk(session_, top, {}, [&](const Walked& walked) {
      pool_.add([this, options, &open, path = walked.path] {
        const Healed healed = healer_.heal(path, options);
        if (healed == Healed::left || healed == Healed::linked) ++open;
      });
    });
    pool_.wait_until_idle();
    if (session_.stopped() || session_.options.dry_run) return;
    if (open == 0) session_.clear_facts(instances);
  }
}

void Drain::heal_entries(ExportIndex target) {
  HealOptions options;
  options.facts = true;
  options.links = &links_;
  options.placer = &placer_;
  for_each(target, [&](const ledger::Fact& fact, const std::string&) {
    if (fact.scope != ledger::Scope::entry || !of_this_shard(session_, fact.path)) return;
    ++session_.counters.facts;
    pool_.add([this, options, path = fact.path] { healer_.heal(path, options); });
  });
  pool_.wait_until_idle();
  placer_.flush(pool_);
}

void sweep_ledger(Session& session, ExportIndex target) {
  const std::string top = ".rainfs/ledger/" + session.name_of(target);
  const auto remove = [&](const std::string& directory) {
    session.array.metadata(session.array.holders_online(),
                           [&](ExportIndex) { return new_operation(Kind::rmdir, directory); });
  };
  for (const std::string& shard : names_in(session, top)) {
    const std::string above = top + "/" + shard;
    for (const std::string& hash : names_in(session, above)) remove(above + "/" + hash);
    remove(above);
  }
  remove(top);
}

void sweep_ledger(Session& session) {
  if (session.options.dry_run) return;
  for (const ExportIndex target : blamed_exports(session)) sweep_ledger(session, target);
}

void Drain::run() {
  session_.counters.pass = Pass::ledger;
  const auto topology = session_.array.topology();
  for (const ExportIndex target : blamed_exports(session_)) {
    if (session_.stopped()) return;
    if (topology->exports[target].state == topology::State::retired) {
      forget(target);
      if (!session_.options.dry_run) sweep_ledger(session_, target);
      continue;
    }
    const bool here = session_.array.at(target).online();
    About about = collect(target);
    if (!here) {
      session_.found(
          Finding::left, "",
          fmt::format("export {} is absent: {} facts about it remain", session_.name_of(target), about.count));
      // What it missed can have its replicas elsewhere, where there are racks enough.
      if (topology->racks_of(session_.array.online() & topology->placeable()) < topology->defaults.replicas) continue;
    } else if (!about.subtrees.empty() && session_.options.shard == 0) {
      replay(target, about);
      reconcile(target, about);
    }
    about = {};
    heal_entries(target);
    if (!session_.options.dry_run && !session_.stopped()) sweep_ledger(session_, target);
  }
  session_.restore_times();
}

}  // namespace rainfs::scrub
