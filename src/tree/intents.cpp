// SPDX-License-Identifier: Apache-2.0
// Renames that survive their node: what is about to be done is written down before the first replica is
// renamed, and taken away after the last. Who finds it still there finishes it, or drops it if nothing had
// been done.
//
// An intent counts where most of its holders have it: the others were away when it was taken back, or are now. It is
// acted on by identity only - inode, birth, and for files that nothing has touched them since - so that finishing it
// twice, or long afterwards, changes nothing that is not its own.
#include "intents.hpp"

#include <fmt/format.h>
#include <linux/fs.h>
#include <stdio.h>

#include <algorithm>

#include "rainfs/log/log.hpp"

namespace rainfs::tree {

namespace {

// Longer than a rename takes, if its node lives.
constexpr std::int64_t abandoned_after_ns = 15'000'000'000;
constexpr base::Duration look_again_after = std::chrono::seconds(1);
constexpr int most_attempts = 4;
constexpr base::Duration wait_pause = std::chrono::milliseconds(100);
constexpr base::Duration longest_finishing = std::chrono::seconds(5);  // after which a change goes on without

std::int64_t to_ns(const struct timespec& time) {
  return time.tv_sec * std::int64_t{1'000'000'000} + time.tv_nsec;
}

}  // namespace

base::Result<Intent> Tree::declare(Intent intent) {
  const auto topology = array_.topology();
  // As facts, it must outlive all racks but one that may go, or what is half done is not found any more.
  const topology::Rules& rules = topology->rules_for(intent.from);
  const unsigned racks = topology->racks_of(topology->fact_holders());
  const unsigned needed = std::min(rules.replicas, std::max(2U, racks) - 1);
  // Of so many most are left when R-1 racks are away.
  const unsigned wanted = std::min(2 * rules.replicas - 1, racks);
  ExportSet failed;
  intent.time = array_.clock().realtime();
  for (int attempt = 0; attempt < most_attempts; ++attempt) {
    intent.holders = {};
    for (const ExportIndex index : array_.holders_online() - failed) {
      if (topology->racks_of(intent.holders) >= wanted) break;
      if ((topology->rack_members(index) & intent.holders).empty() && !array_.at(index).read_only())
        intent.holders.insert(index);
    }
    if (intent.holders.empty()) break;
    if (topology->racks_of(intent.holders) < needed && rules.quorum != topology::Quorum::lenient) break;
    intent.name = fmt::format("{}-{}", node_name_, sequence_.fetch_add(1));
    {
      const std::lock_guard lock(intents_mutex_);
      active_intents_.insert(intent.name);
    }
    const std::string text = intent.format(*topology);
    const auto put = [&](ExportIndex) {
      auto operation = make_operation(io::Kind::make_file, fmt::format("{}/{}", intents_directory, intent.name));
      operation->text = text;
      operation->mode = 0600;
      return operation;
    };
    nas::Answers answers = array_.metadata(intent.holders, put);
    const ExportSet bare = answers.with_error(ENOENT);
    if (!bare.empty()) {
      array_.metadata(bare, [&](ExportIndex) {
        auto operation = make_operation(io::Kind::mkdir, intents_directory);
        operation->mode = 0700;
        return operation;
      });
      for (nas::Answer& again : array_.metadata(bare, put)) *answers.of(again.index) = std::move(again);
    }
    if (answers.ok() == intent.holders) return intent;
    failed |= intent.holders - answers.ok();
    if (!retract(intent)) break;
  }
  return base::unexpected(EIO, "a rename cannot be remembered");
}

void Tree::abandon(const Intent& intent) {
  const std::lock_guard lock(intents_mutex_);
  active_intents_.erase(intent.name);
}

bool Tree::retract(const Intent& intent) {
  const nas::Answers answers = array_.metadata(intent.holders, [&](ExportIndex) {
    return make_operation(io::Kind::unlink, fmt::format("{}/{}", intents_directory, intent.name));
  });
  abandon(intent);
  const ExportSet gone = answers.ok() | answers.with_error(ENOENT);
  return !gone.empty() && !intent.is_most(intent.holders - gone);
}

void Tree::finish_intents() {
  if (finishing_intents_.exchange(true)) return;  // one at a time, and not within itself
  const std::shared_ptr<void> over(nullptr, [&](void*) { finishing_intents_ = false; });
  const std::int64_t now = array_.clock().now().time_since_epoch().count();
  if (now < intents_looked_at_ns_ + look_again_after.count()) return;
  intents_looked_at_ns_ = now;
  std::size_t tried = 0;
  const replica::IntentList listed = replica::list_intents(array_);
  for (const auto& [name, holders] : listed.holders) {
    {
      const std::lock_guard lock(intents_mutex_);
      if (active_intents_.contains(name)) continue;
    }
    if (++tried > replica::most_intents) return;  // the others next time
    finish_intent(name, holders, listed.answered);
  }
}

void Tree::finish_intent(const std::string& name, ExportSet holders, ExportSet answered) {
  const auto topology = array_.topology();
  nas::Answers answers = array_.metadata(ExportSet::of(*holders.begin()), [&](ExportIndex) {
    auto operation = make_operation(io::Kind::read_file, fmt::format("{}/{}", intents_directory, name));
    operation->length = replica::largest_intent_bytes;
    return operation;
  });
  const nas::Answer& answer = answers.list.front();
  if (!answer.ok()) return;
  auto intent = Intent::parse(answer.operation->text, *topology);
  const struct statx_timestamp& written = answer.operation->stat.stx_mtime;
  const std::int64_t begun =
      intent ? to_ns(intent->time) : to_ns({static_cast<time_t>(written.tv_sec), static_cast<long>(written.tv_nsec)});
  if (to_ns(array_.clock().realtime()) - begun < abandoned_after_ns) return;
  if (!intent) {
    // Its node died while it wrote it: nothing had begun.
    Intent torn;
    torn.name = name;
    torn.holders = holders;
    retract(torn);
    return;
  }
  intent->name = name;
  const ExportSet silent = (intent->holders & topology->fact_holders()) - answered;
  const bool counts = intent->is_most(holders);
  if (!counts && intent->is_most(holders | silent)) return;  // they may have it
  intent->holders |= holders;
  if (counts && !(finish_rename_of(*intent) && remember_lost(*intent))) return;
  retract(*intent);
}

// Where another change came between, what is left of a name's file may be less than R replicas, and nobody knows.
bool Tree::remember_lost(const Intent& intent) {
  for (const auto& [path, part_of] :
       {std::pair(&intent.from, &Intent::Part::source), std::pair(&intent.to, &Intent::Part::target)}) {
    ExportSet had;
    for (const auto& [index, part] : intent.parts) {
      if (part.*part_of && (part.*part_of)->believed) had.insert(index);
    }
    ExportSet still, lost;
    for (const nas::Answer& answer : array_.metadata(had & array_.topology()->data_exports(), [&](ExportIndex) {
           return make_operation(io::Kind::stat, *path);
         })) {
      const bool same =
          answer.ok() && Sight::of(answer.operation->stat).is_same(*(intent.parts.at(answer.index).*part_of));
      if (answer.ok() && S_ISDIR(answer.operation->stat.stx_mode)) return true;
      (same ? still : lost).insert(answer.index);
    }
    if (still.empty() || lost.empty()) continue;
    still = still - ledger_.ask(*path).blamed;
    if (still.empty()) continue;
    if (!replica::record_shortfall(context_, *path, still, lost, {}, ledger::Why::missed_write)) return false;
  }
  return true;
}

// No export that can be asked has begun: then those that cannot are to be wrong, if they have. (What must be known of
// the names that were there before, remember_lost() sees to.) Only of files: a directory's contents may be nowhere
// else.
bool Tree::drop_unseen(const Intent& intent, const nas::Answers& old_name, const nas::Answers& new_name,
                       ExportSet unreachable) {
  for (const auto& [answers, part_of] :
       {std::pair(&old_name, &Intent::Part::source), std::pair(&new_name, &Intent::Part::target)}) {
    bool was_there = false, is_there = false;
    for (const nas::Answer& answer : *answers) {
      const std::optional<Sight>& sight = intent.parts.at(answer.index).*part_of;
      if (answer.ok() && S_ISDIR(answer.operation->stat.stx_mode)) return false;
      was_there |= sight.has_value();
      is_there |= answer.ok() && sight && sight->believed && Sight::of(answer.operation->stat).is_same(*sight);
    }
    if (was_there && !is_there) return false;
  }
  const auto replaces = [&](const nas::Answer& answer) { return intent.parts.at(answer.index).target.has_value(); };
  if (std::any_of(new_name.begin(), new_name.end(), replaces)) return true;
  const unsigned replicas = array_.topology()->rules_for(intent.to).replicas;
  return ledger_.record(intent.to, unreachable, ledger::Why::removed, replicas).has_value();
}

// True when nothing is left to be done.
bool Tree::finish_rename_of(const Intent& intent) {
  const ExportSet data = array_.topology()->data_exports();
  ExportSet parts, done, todo, leftovers;
  for (const auto& [index, part] : intent.parts) parts.insert(index);
  parts = parts & data;
  const auto look = [&](const std::string& path) {
    return array_.metadata(parts, [&](ExportIndex) { return make_operation(io::Kind::stat, path); });
  };
  const nas::Answers old_name = look(intent.from), new_name = look(intent.to);
  const auto is = [&](const nas::Answer& seen, const std::optional<Sight>& sight) {
    return seen.ok() && sight && Sight::of(seen.operation->stat).is_same(*sight);
  };
  const auto untouched = [&](const nas::Answer& seen, const std::optional<Sight>& sight) {
    if (!sight) return seen.error == ENOENT;
    if (!is(seen, sight)) return false;
    return S_ISDIR(seen.operation->stat.stx_mode) || Sight::of(seen.operation->stat).changed_ns == sight->changed_ns;
  };
  // Where its node could not rename, it went on to remove the overwritten file.
  const auto overwritten = [&](const nas::Answer& to, const Intent::Part& part) {
    return !intent.exchange && part.source && to.error == ENOENT;
  };
  ExportSet unreachable;
  for (const ExportIndex index : parts) {
    const Intent::Part& part = intent.parts.at(index);
    const nas::Answer &from = *old_name.of(index), &to = *new_name.of(index);
    if (base::classify(from.error) == base::ErrorClass::absent ||
        base::classify(to.error) == base::ErrorClass::absent) {
      unreachable.insert(index);
    } else if (is(to, part.source) || (intent.exchange && is(from, part.target))) {
      done.insert(index);
    } else if (untouched(from, part.source) && (untouched(to, part.target) || overwritten(to, part))) {
      (part.source || intent.exchange ? todo : leftovers).insert(index);
    }
  }
  if (done.empty()) {  // nothing had been done, as far as can be seen: it is dropped
    return unreachable.empty() || drop_unseen(intent, old_name, new_name, unreachable);
  }
  log::notice("rename-finished", "a rename of /{} to /{} that its node left half done is finished", intent.from,
              intent.to);
  const auto make = [&](ExportIndex index) {
    const Intent::Part& part = intent.parts.at(index);
    auto operation = make_operation(io::Kind::rename, part.source ? intent.from : intent.to);
    operation->path2 = part.source ? intent.to : intent.from;
    const bool replaces = part.target && (intent.exchange || new_name.of(index)->ok());
    operation->flags = intent.exchange && part.source && part.target ? RENAME_EXCHANGE
                       : replaces                                    ? 0
                                                                     : RENAME_NOREPLACE;
    return operation;
  };
  nas::Answers renamed = array_.metadata(todo, make);
  for (const ExportIndex index : renamed.with_error(ENOENT)) {
    if (!ensure_directory(index, base::parent_of(intent.parts.at(index).source ? intent.to : intent.from))) {
      continue;
    }
    *renamed.of(index) = std::move(array_.metadata(ExportSet::of(index), make).list.front());
  }
  done |= renamed.ok();
  const ExportSet missed = unreachable | (todo - done) | (data - array_.online());
  // Facts first: the new name always exists.
  if (!remember_finished(intent, done, missed)) return false;
  if (intent.directory) return true;
  const unsigned replicas = array_.topology()->rules_for(intent.to).replicas;
  if (!leftovers.empty()) array_.clock().sleep(replica::one_moment);
  // Long after the rename, and by whoever came across it, the scrubber too: aside, and only what its node saw there.
  ExportSet left;
  for (const ExportIndex index : leftovers) {
    if (!move_aside(index, intent.to, intent.parts.at(index).target->inode)) left.insert(index);
  }
  if (!left.empty() && !ledger_.record(intent.to, left, ledger::Why::renamed_to, replicas)) return false;
  if (intent.exchange) return true;
  // A repairer that did not know of the rename may have copied what was still under the old name.
  std::optional<replica::Stamp> moved;
  for (const ExportIndex index : parts) {
    const nas::Answer &from = *old_name.of(index), &to = *new_name.of(index);
    const std::optional<Sight>& source = intent.parts.at(index).source;
    if (is(to, source))
      moved = replica::stamp_of(to.operation->stat);
    else if (is(from, source))
      moved = replica::stamp_of(from.operation->stat);
    if (moved && source->believed) break;
  }
  ExportSet kept;
  for (const nas::Answer& copy :
       array_.metadata(data - parts, [&](ExportIndex) { return make_operation(io::Kind::stat, intent.from); })) {
    if (!moved || !copy.ok() || !(replica::stamp_of(copy.operation->stat) == *moved)) continue;
    if (!move_aside(copy.index, intent.from)) kept.insert(copy.index);
  }
  return kept.empty() || ledger_.record(intent.from, kept, ledger::Why::renamed_from, replicas).has_value();
}

bool Tree::remember_finished(const Intent& intent, ExportSet done, ExportSet missed) {
  const unsigned replicas = array_.topology()->rules_for(intent.from).replicas;
  // Where its node could not look, and something is or may be: whatever it is, it has missed the rename.
  const auto unseen = [&](const std::string& path, ExportSet where) {
    const nas::Answers looked =
        array_.metadata(where - done, [&](ExportIndex) { return make_operation(io::Kind::stat, path); });
    return (where - done) - looked.with_error(ENOENT);
  };
  const ExportSet unseen_from = unseen(intent.from, intent.unseen_from);
  const ExportSet unseen_to = unseen(intent.to, intent.unseen_to);
  // What lies under a name now is what its node meant to put there; who was blamed about the name before is still.
  const auto remember = [&](const std::string& path, std::optional<Sight> Intent::Part::*came, ExportSet unseen) {
    ExportSet holding, believed;
    bool directory = false;
    for (const nas::Answer& answer :
         array_.metadata(done, [&](ExportIndex) { return make_operation(io::Kind::stat, path); })) {
      const std::optional<Sight>& sight = intent.parts.at(answer.index).*came;
      if (!answer.ok() || !sight || !Sight::of(answer.operation->stat).is_same(*sight)) continue;
      holding.insert(answer.index);
      if (sight->believed) believed.insert(answer.index);
      directory = S_ISDIR(answer.operation->stat.stx_mode);
    }
    const ExportSet good = believed - ledger_.ask(path).blamed;
    const ExportSet stale = holding - good;
    if (!good.empty()) return remember_renamed(path, directory, good, missed | unseen | stale).has_value();
    if (!missed.empty()) return false;  // what counts may be there: when it is back
    return stale.empty() || ledger_.record(path, stale, ledger::Why::renamed_to, replicas).has_value();
  };
  if (intent.exchange) {
    return remember(intent.to, &Intent::Part::source, unseen_to) &&
           remember(intent.from, &Intent::Part::target, unseen_from);
  }
  const ledger::Scope scope = intent.directory ? ledger::Scope::subtree : ledger::Scope::entry;
  const ExportSet left_behind = missed | unseen_from;
  if (!left_behind.empty() && !ledger_.record(intent.from, left_behind, ledger::Why::renamed_from, replicas, scope))
    return false;
  return remember(intent.to, &Intent::Part::source, unseen_to);
}

// Whether a rename of a path, or of what lies above or beneath it, is under way on another node, or was left half done.
Tree::HalfRenamed Tree::half_renamed(const std::string& path) {
  const base::TimePoint now = array_.clock().now();
  bool stale = false;
  {
    const std::lock_guard lock(intents_mutex_);
    stale = now >= known_intents_until_;
  }
  base::Result<std::vector<Intent>> read(std::vector<Intent>{});
  if (stale) read = replica::read_intents(array_);
  if (!read) return HalfRenamed::yes;  // nobody knows of which
  const std::lock_guard lock(intents_mutex_);
  if (stale) {
    known_intents_ = std::move(*read);
    known_intents_until_ = now + wait_pause;
    std::erase_if(given_up_, [&](const std::string& name) {
      return std::none_of(known_intents_.begin(), known_intents_.end(),
                          [&](const Intent& intent) { return intent.name == name; });
    });
  }
  HalfRenamed half = HalfRenamed::no;
  for (const Intent& intent : known_intents_) {
    if (!intent.concerns(path) || active_intents_.contains(intent.name)) continue;
    if (!given_up_.contains(intent.name)) return HalfRenamed::yes;
    half = HalfRenamed::for_good;
  }
  return half;
}

// The same by a look of its own: the last poll may be older than the rename.
Tree::HalfRenamed Tree::half_renamed_now(const std::string& path) {
  {
    const std::lock_guard lock(intents_mutex_);
    known_intents_until_ = {};
  }
  return half_renamed(path);
}

// What a rename has left half done is told by what lies under its names, and any other change would change that: so
// they wait until it is finished, which is soon once it counts as abandoned. False where it cannot be finished: nobody
// waits for it again.
bool Tree::wait_for_renames(const std::string& path) {
  return !array_.intents_pending() || wait_for_known_renames(path);
}

bool Tree::wait_for_known_renames(const std::string& path) {
  const base::TimePoint give_up =
      array_.clock().now() + std::chrono::nanoseconds(abandoned_after_ns) + longest_finishing;
  for (;;) {
    const HalfRenamed half = half_renamed(path);
    if (half != HalfRenamed::yes) return half == HalfRenamed::no;
    if (array_.clock().now() >= give_up) break;
    array_.clock().sleep(wait_pause);
    finish_intents();
  }
  const std::lock_guard lock(intents_mutex_);
  for (const Intent& intent : known_intents_) {
    if (intent.concerns(path)) given_up_.insert(intent.name);
  }
  return false;
}

// Where the replicas are not what they should be, the name may be half renamed, and the last poll may not have known.
base::Result<replica::Location> Tree::find_to_change(const std::string& path,
                                                     base::FunctionRef<base::Result<replica::Location>()> find) {
  auto location = find();
  if (!location) return location;
  const replica::Evidence& evidence = location->evidence;
  const bool present = location->verdict.finding == replica::Finding::present;
  const bool everywhere = present && S_ISDIR(location->elected().stx_mode);  // where it should be
  const bool as_it_should =
      present ? location->verdict.agreed && !(everywhere && !evidence.missing.empty()) : evidence.present.empty();
  if (as_it_should || half_renamed_now(path) != HalfRenamed::yes) return location;
  if (!wait_for_known_renames(path)) return location;
  return find();
}

}  // namespace rainfs::tree
