// SPDX-License-Identifier: Apache-2.0
// Finding out what is wrong with a path, and the healing of directories and of what is gone. Files are in
// heal_file.cpp.
#include "heal.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "heal_internal.hpp"
#include "rainfs/log/log.hpp"

namespace rainfs::scrub {

namespace {
constexpr int most_attempts = 6;  // of healing what keeps changing
constexpr base::Duration retry_pause = std::chrono::milliseconds(150);
}  // namespace

// All that answer agree, and they are too few: most likely that is all there is to it.
static bool merely_too_few(const replica::Location& found) {
  const replica::Evidence& evidence = found.evidence;
  if (!found.not_reached.empty() || evidence.present.empty() || found.verdict.good != evidence.present) return false;
  const struct statx& stat = *found.stat_of(*evidence.present.begin());
  return !S_ISDIR(stat.stx_mode) && stat.stx_nlink == 1;
}

base::Result<replica::Location> Healer::look(const std::string& path, const HealOptions& options, bool* unasked) {
  nas::Array& array = session_.array;
  replica::Location found;
  found.topology = array.topology();
  found.rules = found.topology->rules_for(path);
  found.order = placement::order(path, *found.topology);
  const ExportSet all = found.topology->data_exports();
  found.asked = all;
  found.answers = array.metadata(all, [&](ExportIndex) {
    auto stat = new_operation(Kind::stat, path);
    stat->flags = AT_STATX_FORCE_SYNC;
    return stat;
  });
  for (const nas::Answer& answer : found.answers) {
    if (answer.ok()) {
      found.evidence.present.insert(answer.index);
      found.evidence.stamps[answer.index] = replica::stamp_of(answer.operation->stat);
    } else if (answer.error == ENOENT || answer.error == ENOTDIR) {
      found.evidence.missing.insert(answer.index);
    } else {
      found.not_reached.insert(answer.index);
      session_.unanswered = true;
    }
  }
  const auto judge = [&] {
    found.verdict = replica::judge(found.evidence, *found.topology, found.rules, found.order, array.blamed_somewhere());
  };
  judge();
  const bool all_holders = array.holders_online() == found.topology->fact_holders();
  if (unasked != nullptr && !options.facts && all_holders && found.verdict.finding == replica::Finding::undecided &&
      merely_too_few(found)) {
    *unasked = true;
    found.evidence.ledger_asked = true;
    found.evidence.holders_answered = found.topology->fact_holders();
    judge();
  } else if (found.verdict.finding == replica::Finding::undecided || options.facts) {
    const ledger::Testimony testimony = session_.context.ledger.ask(path);
    found.evidence.ledger_asked = true;
    found.evidence.blamed = testimony.blamed;
    found.evidence.holders_answered = testimony.answered;
    judge();
  }
  heed_other_names(found, options);
  // What is known to be old by another name is not made more of while what is right may come back.
  if (found.verdict.finding == replica::Finding::present && found.evidence.ledger_asked && !found.not_reached.empty()) {
    const ExportSet behind = replica::behind_by_other_names(session_.context, found);
    if (!behind.empty() && (found.evidence.present - found.evidence.blamed - behind).empty())
      found.verdict.finding = replica::Finding::unprovable;
  }
  // With every export at hand there is nothing that could still speak for it.
  const bool nobody = (found.evidence.present - found.evidence.blamed).empty();
  if (found.verdict.finding == replica::Finding::unprovable && found.not_reached.empty() && nobody) {
    found.verdict.finding = replica::Finding::absent;
  }
  return found;
}

void Healer::read_blames(Work& work) {
  for (const ExportIndex index : work.found.evidence.blamed) {
    work.blames[index] = read_blame(session_, work.path, index);
    work.blames[index].whys |= doubted(work.found, work.options, index);
  }
}

Healed Healer::leave(const std::string& path, const std::string& text) {
  session_.found(Finding::left, path, text);
  return Healed::left;
}

Healed Healer::heal(const std::string& path, const HealOptions& options) {
  Healed result = Healed::clean;
  HealOptions alone = options;
  alone.placer = nullptr;
  alone.holds = nullptr;
  for (int attempt = 0; attempt < most_attempts; ++attempt) {
    if (session_.stopped()) return Healed::left;
    const Step step = once(path, attempt == 0 ? options : alone, result);
    if (step == Step::done) return result;
    if (step == Step::again) session_.array.clock().sleep(retry_pause * attempt);
  }
  session_.found(Finding::in_use, path, "it keeps changing");
  return Healed::left;
}

// Directories are on all exports: where no fact speaks, what most of them say is right.
void Healer::prefer_most(replica::Location& found) const {
  const replica::Evidence& evidence = found.evidence;
  if (found.verdict.finding != replica::Finding::present || !S_ISDIR(found.elected().stx_mode) ||
      !evidence.blamed.empty())
    return;
  const auto votes = [&](ExportIndex index) {
    unsigned count = 0;
    for (const ExportIndex other : evidence.present) count += evidence.stamps[other] == evidence.stamps[index];
    return count;
  };
  for (const ExportIndex index : found.order) {
    if (evidence.present.contains(index) && S_ISDIR(evidence.stamps[index].mode) &&
        votes(index) > votes(found.verdict.elected)) {
      found.verdict.elected = index;
    }
  }
}

Healer::Step Healer::once(const std::string& path, const HealOptions& options, Healed& result) {
  if (session_.being_renamed(path)) {
    result = leave(path, "a rename of it is not finished");
    return Step::done;
  }
  bool unasked = false;
  auto found = look(path, options, options.placer != nullptr ? &unasked : nullptr);
  if (!found) {
    result = leave(path, found.error().message());
    return Step::done;
  }
  Work work{path, options, std::move(*found)};
  work.unasked = unasked;
  read_blames(work);
  prefer_most(work.found);
  work.source = work.found.verdict.elected;
  work.wanted = std::min(std::max(1U, work.found.rules.replicas), work.found.topology->rack_count());
  switch (work.found.verdict.finding) {
    case replica::Finding::absent:
      return absent(work, result);
    case replica::Finding::present:
      return S_ISDIR(work.found.elected().stx_mode) ? directory(work, result) : file(work, result);
    default:
      result = leave(path, "too few racks answer to tell which version is right; not reached: " +
                               session_.names_of(work.found.not_reached));
      return Step::done;
  }
}

// Proven to be gone: what is left of it goes aside, and what was remembered about it is forgotten.
Healer::Step Healer::absent(Work& work, Healed& result) {
  const replica::Evidence& evidence = work.found.evidence;
  const topology::Topology& topology = work.topology();
  const bool denied =
      topology.complete_racks(evidence.missing - evidence.blamed) >= topology.racks_to_deny(work.found.rules);
  ExportSet stay;
  for (const ExportIndex index : evidence.present) {
    const Blame& blame = work.blames[index];
    // Facts that say it was removed, or that the directory above was: else the good version is what is missing. Where
    // nothing but facts speaks against it they must not be those of an operation that failed.
    const bool removed = denied ? blame.has(ledger::Why::removed) || blame.has(ledger::Why::renamed_from) : blame.gone;
    const bool superseded = blame.instances.empty() || removed;
    if (!superseded) stay.insert(index);
  }
  if (!stay.empty()) {
    if (session_.options.resolve == Resolve::newest && work.found.not_reached.empty() && !session_.options.dry_run) {
      ExportIndex newest = *stay.begin();
      for (const ExportIndex index : stay) {
        if (evidence.stamps[index].mtime_ns > evidence.stamps[newest].mtime_ns) newest = index;
      }
      session_.clear_facts(work.blames[newest].instances);
      session_.found(Finding::conflict, work.path,
                     "the newest version at hand, on " + session_.name_of(newest) + ", is taken for good");
      return Step::again;
    }
    result = leave(work.path, "only copies that missed a change are left, on " + session_.names_of(stay) +
                                  "; --resolve newest takes the newest of them for good");
    return Step::done;
  }
  if (session_.options.dry_run) {
    if (!evidence.present.empty()) {
      session_.found(Finding::repaired, work.path,
                     "would be moved to the trash on " + session_.names_of(evidence.present));
      result = Healed::repaired;
    }
    return Step::done;
  }
  if (!session_.lease->wait_until_seen()) return Step::done;
  for (const ExportIndex index : evidence.present) {
    auto moved = replica::move_aside(session_.context, index, work.path, replica::Aside::trash,
                                     work.found.stat_of(index)->stx_ino);
    if (!moved && moved.error().code == ESTALE) return Step::again;
    if (!moved && moved.error().code != ENOENT) {
      result = leave(work.path, "export " + session_.name_of(index) + ": " + moved.error().message());
      return Step::done;
    }
    session_.touched(index, replica::parent_of(work.path));
  }
  if (!evidence.present.empty()) {
    session_.found(Finding::repaired, work.path,
                   "removed: its leftover on " + session_.names_of(evidence.present) + " is in the trash");
    result = Healed::repaired;
  }
  // Only if nobody has made it anew in the meantime: then the facts are about that.
  auto now = look(work.path, work.options);
  if (!now || !now->evidence.present.empty()) return Step::again;
  for (auto& [index, blame] : work.blames) {
    if (now->evidence.missing.contains(index)) session_.clear_facts(blame.instances);
  }
  return Step::done;
}

Healer::Step Healer::directory(Work& work, Healed& result) {
  const replica::Evidence& evidence = work.found.evidence;
  const struct statx& elected = work.found.elected();
  const auto failed = [&](ExportIndex index, const base::Error& error) {
    if (base::classify(error.code) == base::ErrorClass::file && error.code == ENOENT) return Step::again;
    result = leave(work.path, "export " + session_.name_of(index) + ": " + error.message());
    return Step::done;
  };
  ++session_.counters.directories;
  ExportSet good;
  ExportSet repaired;
  // Being made this moment: the others will have it without our help.
  const struct statx_timestamp& born = (elected.stx_mask & STATX_BTIME) != 0 ? elected.stx_btime : elected.stx_ctime;
  const bool young = age_of(session_, born) < least_age_s;
  for (const ExportIndex index : evidence.present | evidence.missing) {
    const struct statx* stat = work.found.stat_of(index);
    const bool blamed = evidence.blamed.contains(index);
    if (index == work.source) {
      good.insert(index);
      continue;
    }
    if (stat == nullptr || !S_ISDIR(stat->stx_mode)) {
      if (young && !blamed) continue;
      repaired.insert(index);
      if (session_.options.dry_run) continue;
      if (stat != nullptr) {
        if (!session_.lease->wait_until_seen()) return Step::done;
        auto moved = replica::move_aside(session_.context, index, work.path,
                                         blamed ? replica::Aside::trash : replica::Aside::conflicts, stat->stx_ino);
        if (!moved) return failed(index, moved.error());
        if (!blamed)
          session_.found(Finding::conflict, work.path,
                         "a directory elsewhere, but not on export " + session_.name_of(index) + ": put in " + *moved);
      }
      auto made = replica::ensure_directory(session_.context, index, work.path);
      if (!made) return failed(index, made.error());
      good.insert(index);
      continue;
    }
    bool equal = replica::stamp_of(*stat) == replica::stamp_of(elected);
    if (equal) {
      auto different =
          replica::copy_xattrs(session_.context, {work.source, work.path, nullptr}, {index, work.path, nullptr}, true);
      if (!different) return failed(index, different.error());
      equal = !*different;
    }
    if (equal) {
      good.insert(index);
      continue;
    }
    if (!blamed &&
        std::min(age_of(session_, stat->stx_ctime), age_of(session_, elected.stx_ctime)) < work.grace_s(session_)) {
      session_.found(Finding::in_use, work.path, "its attributes differ, but it was changed a moment ago");
      result = Healed::left;
      continue;
    }
    repaired.insert(index);
    if (session_.options.dry_run) continue;
    auto adjusted = adjust(session_, {work.path, work.source, elected, index});
    if (!adjusted) return failed(index, adjusted.error());
    good.insert(index);
  }
  if (!repaired.empty()) {
    session_.found(
        Finding::repaired, work.path,
        (session_.options.dry_run ? "directory would be made or set right on " : "directory made or set right on ") +
            session_.names_of(repaired));
    if (result == Healed::clean) result = Healed::repaired;
  }
  if (work.blames.empty() || session_.options.dry_run) return Step::done;
  auto now = look(work.path, work.options);
  if (!now || now->verdict.finding != replica::Finding::present) return Step::again;
  for (auto& [index, blame] : work.blames) {
    if (good.contains(index) && now->evidence.stamps[index] == now->evidence.stamps[work.source]) {
      session_.clear_facts(blame.instances);
    }
  }
  return Step::done;
}

std::int64_t age_of(Session& session, const struct statx_timestamp& time) {
  return session.array.clock().realtime().tv_sec - time.tv_sec;
}

}  // namespace rainfs::scrub
