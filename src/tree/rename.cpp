// SPDX-License-Identifier: Apache-2.0
// Rename and exchange: operations on two names at once.
#include <linux/fs.h>
#include <stdio.h>

#include "intents.hpp"
#include "rainfs/log/log.hpp"

namespace rainfs::tree {

namespace {

bool outcome_unknown(const nas::Answers& answers) {
  for (const nas::Answer& answer : answers) {
    const bool tried = answer.operation || answer.error == ETIMEDOUT;
    if (tried && !answer.ok() && answer.error != EROFS && base::classify(answer.error) == base::ErrorClass::absent)
      return true;
  }
  return false;
}

// Where what lies under a name is taken along. A directory also where it is blamed itself: what is in it is believed
// or not by facts of its own, and the facts about the directory go with it.
ExportSet movable(const replica::Location& location) {
  const replica::Evidence& evidence = location.evidence;
  if (!S_ISDIR(location.elected().stx_mode)) return evidence.present - evidence.blamed;
  ExportSet set;
  for (const ExportIndex index : evidence.present) {
    if (S_ISDIR(evidence.stamps[index].mode)) set.insert(index);
  }
  return set;
}

}  // namespace

int first_refusal(const nas::Answers& answers) {
  for (const nas::Answer& answer : answers) {
    if (answer.ok() || base::classify(answer.error) != base::ErrorClass::file) continue;
    // (that nothing was there, or something was, says nothing for an export that may have done it all the same)
    const bool of_that_export = answer.error == ENOENT || answer.error == EEXIST;
    return of_that_export && outcome_unknown(answers) ? EIO : answer.error;
  }
  for (const nas::Answer& answer : answers) {
    if (!answer.ok() && base::classify(answer.error) == base::ErrorClass::no_space) return answer.error;
  }
  if (!answers.with_error(EROFS).empty() && answers.ok().empty()) return EROFS;
  return EIO;
}

// One rename on its way: what lies where under both names, and how far it has come.
struct Tree::Renaming {
  std::string from, to;
  unsigned flags = 0;
  const Caller* caller = nullptr;
  OpenStatePtr open;  // of the source, if it is open on this node
  replica::Location source, target;
  bool directory = false;
  ExportSet sources;  // exports where the source is to be renamed
  ExportSet targets;  // exports that hold something under the new name
  ExportSet done;
  bool perhaps = false;  // some export may have done it, though it said otherwise or nothing
  bool target_exists() const { return target.verdict.finding == replica::Finding::present; }
};

base::Result<void> Tree::rename(NodeId parent, std::string_view name, NodeId new_parent, std::string_view new_name,
                                unsigned flags, const Caller& caller) {
  if (options_.read_only) return base::unexpected(EROFS);
  if ((flags & ~static_cast<unsigned>(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) != 0 ||
      (flags & (RENAME_NOREPLACE | RENAME_EXCHANGE)) == (RENAME_NOREPLACE | RENAME_EXCHANGE) ||
      (flags & (RENAME_WHITEOUT | RENAME_EXCHANGE)) == (RENAME_WHITEOUT | RENAME_EXCHANGE)) {
    return base::unexpected(EINVAL);
  }
  if (is_private(parent, name)) return base::unexpected(ENOENT);
  if (is_private(new_parent, new_name)) return base::unexpected(EPERM);
  if (new_name.size() > 255) return base::unexpected(ENAMETOOLONG);
  const auto from = nodes_.path_of(parent, name);
  const auto to = nodes_.path_of(new_parent, new_name);
  if (!from || !to) return base::unexpected(ENOENT);
  const DirectoryChange change_here(nodes_, parent);
  const DirectoryChange change_there(nodes_, new_parent);
  ++renames_begun_;
  const std::shared_ptr<void> ended(nullptr, [&](void*) { ++renames_ended_; });
  Renaming renaming;
  renaming.from = *from;
  renaming.to = *to;
  renaming.flags = flags;
  renaming.caller = &caller;
  if (Node* node = nodes_.find(parent, name)) {
    renaming.open = open_of(node);
    nodes_.unpin(node);
  }
  if (!wait_for_renames(*from) || !wait_for_renames(*to))
    return base::unexpected(EIO, "an earlier rename of it is not finished");
  auto prepared = prepare_rename(renaming);
  if (!prepared) return prepared;
  if (renaming.from == renaming.to) return {};
  if (renaming.target_exists() && (flags & RENAME_EXCHANGE) == 0) hold_replaced(new_parent, new_name, renaming);
  auto carried = carry_facts(renaming);
  if (!carried) return carried;
  auto remembered = remember_absent(renaming);
  if (!remembered) return remembered;
  Intent intent = intent_of(renaming);
  // One export's rename is done or not, where no other has anything to do with it.
  const bool several = intent.parts.size() > 1 || !(intent.unseen_from | intent.unseen_to).empty();
  if (several) {
    auto declared = declare(std::move(intent));
    if (!declared) return base::Unexpected{declared.error()};
    intent = std::move(*declared);
  }
  auto renamed = (flags & RENAME_EXCHANGE) != 0 ? exchange(renaming) : rename_all(renaming);
  if (!renamed) {
    // Half done, it is finished later.
    const bool begun = !renaming.done.empty() || renaming.perhaps;
    if (several && begun) abandon(intent);
    if (several && !begun) (void)retract(intent);
    return renamed;
  }
  if (several && !retract(intent)) return base::unexpected(EIO, "the end of a rename cannot be remembered");
  if (renaming.target_exists() && (flags & RENAME_EXCHANGE) == 0) {
    nodes_.remember_gone(new_parent, new_name, to_stat(renaming.target.elected(), 0));
  }
  nodes_.rename(parent, name, new_parent, new_name, (flags & RENAME_EXCHANGE) != 0);
  // (Of what is renamed the ctime changes too.)
  for (Node* node : {nodes_.find(new_parent, new_name), nodes_.find(parent, name)}) {
    if (node == nullptr) continue;
    if (S_ISDIR(node->type)) nodes_.directory_changed(nodes_.id_of(node), any_export);
    nodes_.unpin(node);
  }
  return {};
}

void Tree::hold_replaced(NodeId parent, std::string_view name, const Renaming& renaming) {
  const struct statx& replaced = renaming.target.elected();
  if (!S_ISREG(replaced.stx_mode) || replaced.stx_size > HeldFiles::most_bytes) return;
  Node* node = nodes_.find(parent, name);
  if (node == nullptr) return;
  const std::shared_ptr<void> unpin(nullptr, [&](void*) { nodes_.unpin(node); });
  auto opened = open(nodes_.id_of(node), O_RDONLY, false, Caller{});
  if (!opened) return;
  static_cast<OpenTreeFile&>(*opened->file).file->hold_all(renaming.to);
  held_.add(std::move(opened->file), replaced.stx_size, array_.clock().now());
  release_all(held_.due(array_.clock().now()));
}

base::Result<void> Tree::prepare_rename(Renaming& renaming) {
  auto committed = commit_writers(renaming.open, renaming.from);
  if (!committed) return committed;
  auto source = find_to_change(renaming.from, [&] { return find(renaming.from, {}, false, true, nullptr); });
  if (!source) return base::Unexpected{source.error()};
  if (source->verdict.finding == replica::Finding::absent) return base::unexpected(ENOENT);
  trust_writers(renaming.open, *source);
  auto target = find_to_change(renaming.to, [&] { return find(renaming.to, {}, false, true, nullptr); });
  if (!target) return base::Unexpected{target.error()};
  renaming.source = std::move(*source);
  renaming.target = std::move(*target);
  // What agrees is believed without asking, but other exports may be blamed about its name.
  for (const auto& [location, path] :
       {std::pair(&renaming.source, &renaming.from), std::pair(&renaming.target, &renaming.to)}) {
    if (location->evidence.ledger_asked || array_.blamed_somewhere().empty()) continue;
    location->evidence.blamed = ledger_.ask(*path).blamed - location->verdict.good;
  }
  const bool exchange = (renaming.flags & RENAME_EXCHANGE) != 0;
  renaming.directory = S_ISDIR(renaming.source.elected().stx_mode);
  renaming.sources = movable(renaming.source);
  renaming.targets = renaming.target.evidence.present;
  if (!renaming.target_exists() && exchange) return base::unexpected(ENOENT);
  // What would be believed nowhere under its new name is not renamed: first the scrubber has to catch up.
  const auto believable = [](const replica::Location& came, const replica::Location& went) {
    return !(came.verdict.good - went.evidence.blamed).empty();
  };
  if (!believable(renaming.source, renaming.target) || (exchange && !believable(renaming.target, renaming.source))) {
    return base::unexpected(EIO, "the exports that have the file are blamed under its new name");
  }
  if (!renaming.target_exists()) return {};
  if ((renaming.flags & RENAME_NOREPLACE) != 0) return base::unexpected(EEXIST);
  if (exchange) return {};
  const struct statx& over = renaming.target.elected();
  const struct statx& moved = renaming.source.elected();
  if (renaming.directory && !S_ISDIR(over.stx_mode)) return base::unexpected(ENOTDIR);
  if (!renaming.directory && S_ISDIR(over.stx_mode)) return base::unexpected(EISDIR);
  if (renaming.directory) {
    auto empty = empty_in_union(renaming.to);
    if (!empty) return base::Unexpected{empty.error()};
    if (!*empty) return base::unexpected(ENOTEMPTY);
  } else {
    // Two names of one file: POSIX says that nothing happens.
    for (const ExportIndex index : renaming.sources& renaming.targets) {
      if (renaming.source.stat_of(index)->stx_ino == renaming.target.stat_of(index)->stx_ino && moved.stx_nlink > 1) {
        renaming.to = renaming.from;
        return {};
      }
    }
  }
  return {};
}

// What cannot be remembered is not begun: exports that are away keep what they have under both names.
base::Result<void> Tree::remember_absent(Renaming& renaming) {
  const ExportSet away = array_.topology()->data_exports() - array_.online();
  if (away.empty()) return {};
  const topology::Rules& rules = array_.topology()->rules_for(renaming.from);
  const bool exchange = (renaming.flags & RENAME_EXCHANGE) != 0;
  const bool other_directory = renaming.target_exists() && S_ISDIR(renaming.target.elected().stx_mode);
  const ledger::Scope scope =
      renaming.directory || (exchange && other_directory) ? ledger::Scope::subtree : ledger::Scope::entry;
  for (const auto& [path, why] :
       {std::pair(renaming.from, exchange ? ledger::Why::renamed_to : ledger::Why::renamed_from),
        std::pair(renaming.to, ledger::Why::renamed_to)}) {
    auto recorded = ledger_.record(path, away, why, rules.replicas, scope);
    if (!recorded && rules.quorum != topology::Quorum::lenient) return base::Unexpected{recorded.error()};
  }
  return {};
}

Intent Tree::intent_of(const Renaming& renaming) const {
  Intent intent;
  intent.from = renaming.from;
  intent.to = renaming.to;
  intent.exchange = (renaming.flags & RENAME_EXCHANGE) != 0;
  intent.directory = renaming.directory;
  const auto sight = [](const replica::Location& location, ExportIndex index) {
    Sight seen = Sight::of(*location.stat_of(index));
    seen.believed = location.verdict.good.contains(index);
    return seen;
  };
  // Also what did not count before: whoever finishes it must know that it does not count afterwards.
  const auto alike = [](const replica::Location& location, ExportIndex index) {
    return S_ISDIR(location.stat_of(index)->stx_mode) == S_ISDIR(location.elected().stx_mode);
  };
  for (const ExportIndex index : renaming.source.evidence.present) {
    if (alike(renaming.source, index)) intent.parts[index].source = sight(renaming.source, index);
  }
  for (const ExportIndex index : renaming.targets) intent.parts[index].target = sight(renaming.target, index);
  intent.unseen_from = renaming.source.not_reached;
  intent.unseen_to = renaming.target.not_reached;
  return intent;
}

// Where another node, taking this one for dead, was faster, it is done all the same.
void Tree::settle_renamed(const Renaming& renaming, nas::Answers& answers) {
  for (nas::Answer& answer : array_.metadata(
           answers.with_error(ENOENT), [&](ExportIndex) { return make_operation(io::Kind::stat, renaming.to); })) {
    const struct statx* source = renaming.source.stat_of(answer.index);
    if (!answer.ok() || source == nullptr) continue;
    if (Sight::of(answer.operation->stat).is_same(Sight::of(*source))) answers.of(answer.index)->error = 0;
  }
}

// Facts are about paths: those about what lies in a directory must hold under its new name too, before
// anything is seen there.
base::Result<void> Tree::carry_facts(const Renaming& renaming) {
  const bool other_directory = renaming.target_exists() && S_ISDIR(renaming.target.elected().stx_mode);
  const bool exchange = (renaming.flags & RENAME_EXCHANGE) != 0;
  if (!renaming.directory && !(exchange && other_directory)) return {};
  if (ledger_.blamed_now().empty()) return {};
  for (const auto& [from, to] : {std::pair(renaming.from, renaming.to), std::pair(renaming.to, renaming.from)}) {
    if (from == renaming.to && !exchange) continue;
    auto facts = ledger_.beneath(from);
    if (!facts) return base::Unexpected{facts.error()};
    for (const ledger::Fact& fact : *facts) {
      if (fact.path == from && exchange) continue;  // remember_renamed() sees to these
      auto recorded = ledger_.record(to + fact.path.substr(from.size()), ExportSet::of(fact.target), fact.why,
                                     array_.topology()->rules_for(to).replicas, fact.scope);
      if (!recorded) return base::Unexpected{recorded.error()};
    }
  }
  return {};
}

// A repairer may have put a replica back under the old name between our renames: it is told from a new file by
// its stamp. Of an exchange under either name, where what has come there looks different. One directory looks like the
// other: where it was missing and has come, it is blamed.
base::Result<void> Tree::look_once_more(const Renaming& renaming) {
  if ((renaming.flags & RENAME_WHITEOUT) != 0) return {};
  const bool exchange = (renaming.flags & RENAME_EXCHANGE) != 0;
  const topology::Rules& rules = array_.topology()->rules_for(renaming.from);
  const auto look = [&](const std::string& path, const replica::Location& went) -> base::Result<void> {
    const bool directory = S_ISDIR(went.elected().stx_mode);
    if (directory && exchange) return {};
    const ExportSet data = array_.topology()->data_exports();
    const replica::Stamp moved = replica::stamp_of(went.elected());
    ExportSet left;
    for (const nas::Answer& answer : array_.metadata(directory ? data & went.evidence.missing : data, [&](ExportIndex) {
           return make_operation(io::Kind::stat, path);
         })) {
      if (!answer.ok() || !(replica::stamp_of(answer.operation->stat) == moved)) continue;
      if (directory || !move_aside(answer.index, path)) left.insert(answer.index);
    }
    if (left.empty()) return {};
    auto recorded = ledger_.record(path, left, exchange ? ledger::Why::renamed_to : ledger::Why::renamed_from,
                                   rules.replicas, directory ? ledger::Scope::subtree : ledger::Scope::entry);
    return replica::as_required(rules, recorded);
  };
  if (!exchange) return look(renaming.from, renaming.source);
  if (replica::stamp_of(renaming.source.elected()) == replica::stamp_of(renaming.target.elected())) return {};
  auto looked = look(renaming.from, renaming.source);
  return looked ? look(renaming.to, renaming.target) : looked;
}

base::Result<void> Tree::rename_all(Renaming& renaming) {
  const bool repairs_before = array_.repairs_under_way();
  const auto topology = array_.topology();
  const ExportSet data = topology->data_exports();
  const auto make = [&](ExportIndex) {
    auto operation = make_operation(io::Kind::rename, renaming.from, renaming.caller);
    operation->path2 = renaming.to;
    operation->flags = static_cast<int>(renaming.flags & RENAME_WHITEOUT);
    return operation;
  };
  // Leftovers that do not count under the new name make way.
  for (const ExportIndex index : renaming.target_exists() ? ExportSet{} : renaming.targets)
    move_aside(index, renaming.to);
  nas::Answers answers;
  const auto rename_on = [&](ExportSet set) {
    nas::Answers round = array_.metadata(set, make);
    for (const ExportIndex index : round.with_error(ENOENT)) {
      if (!ensure_directory(index, base::parent_of(renaming.to))) continue;
      *round.of(index) = std::move(array_.metadata(ExportSet::of(index), make).list.front());
    }
    settle_renamed(renaming, round);
    for (const ExportIndex index : round.with_error(ENOTEMPTY) | round.with_error(EEXIST)) {
      if (!renaming.directory) continue;
      move_aside(index, renaming.to);  // it was proven empty: what is there does not count
      *round.of(index) = std::move(array_.metadata(ExportSet::of(index), make).list.front());
    }
    renaming.done |= round.ok();
    renaming.perhaps |= outcome_unknown(round);
    for (nas::Answer& answer : round) answers.list.push_back(std::move(answer));
  };
  // Where the new name is not believed only after one where it is: else it might be nowhere to be seen.
  const ExportSet doubted = renaming.sources & renaming.target.evidence.blamed;
  rename_on(renaming.sources - doubted);
  if (renaming.done.empty()) return base::unexpected(first_refusal(answers));
  if (!doubted.empty()) rename_on(doubted);
  // A directory is on every export: where R racks still had the old one, these would agree on it.
  if (renaming.directory && !enough_to_deny(renaming.from, renaming.done | renaming.source.evidence.missing)) {
    return base::unexpected(EIO, "too few racks renamed the directory");
  }
  if ((renaming.flags & RENAME_WHITEOUT) != 0) {
    const struct timespec now = seal_time();
    array_.metadata(renaming.done, [&](ExportIndex) {
      auto operation = make_operation(io::Kind::set_attributes, renaming.from);
      operation->attributes.valid = io::Attributes::mtime_set;
      operation->attributes.mtime = now;
      return operation;
    });
  }

  // What is left under the new name elsewhere is the overwritten file; a directory there is the new one's.
  const ExportSet overwritten = renaming.targets - renaming.done;
  if (renaming.directory) {
    array_.metadata(overwritten, [&](ExportIndex) {
      auto operation = make_operation(io::Kind::set_attributes, renaming.to);
      const struct statx& stat = renaming.source.elected();
      operation->attributes.valid = io::Attributes::mode_set | io::Attributes::uid_set | io::Attributes::gid_set;
      operation->attributes.mode = stat.stx_mode & 07777;
      operation->attributes.uid = stat.stx_uid;
      operation->attributes.gid = stat.stx_gid;
      return operation;
    });
  }
  // Also where the names could not be looked at: something may lie there.
  const ExportSet failed = renaming.sources - renaming.done;
  const ExportSet unknown_new = ((data - array_.online()) | renaming.target.not_reached) - renaming.done;
  // What an export holds of a directory's contents, it does not have under the new name unless it renamed it.
  const ExportSet without_contents =
      renaming.directory ? data - renaming.done - renaming.source.evidence.missing : ExportSet{};
  // With less than R replicas others will be denied one by one: the directory must not be denied with them.
  if (topology->racks_of(renaming.done) < topology->racks_to_hold(topology->rules_for(renaming.to))) {
    for (const ExportIndex index : array_.online() - renaming.done)
      (void)ensure_directory(index, base::parent_of(renaming.to));
  }
  // Facts about the new name come before what is left of the old file there goes: the name always exists.
  auto known = remember_new(renaming, failed | unknown_new | without_contents);
  if (!known) return known;
  ExportSet left_new;
  if (!renaming.directory && !overwritten.empty()) {
    array_.clock().sleep(replica::one_moment);
    nas::Answers gone =
        array_.metadata(overwritten, [&](ExportIndex) { return make_operation(io::Kind::unlink, renaming.to); });
    left_new = overwritten - gone.ok() - gone.with_error(ENOENT);
  }
  // And what is left under the old name is superseded.
  const ExportSet old_left = renaming.source.evidence.present - renaming.done;
  ExportSet kept;
  for (const ExportIndex index : old_left) {
    if (!move_aside(index, renaming.from)) kept.insert(index);
  }
  const ExportSet unknown = failed | kept | unknown_new | left_new | renaming.source.not_reached;
  const topology::Rules& rules = topology->rules_for(renaming.from);
  const ledger::Scope scope = renaming.directory ? ledger::Scope::subtree : ledger::Scope::entry;
  for (const auto& [path, targets, why] : {std::tuple(&renaming.from, unknown, ledger::Why::renamed_from),
                                           std::tuple(&renaming.to, left_new, ledger::Why::renamed_to)}) {
    if (targets.empty()) continue;
    auto recorded = ledger_.record(*path, targets, why, rules.replicas, scope);
    if (!recorded && rules.quorum != topology::Quorum::lenient) return base::Unexpected{recorded.error()};
  }
  return repairs_before || array_.repairs_under_way() ? look_once_more(renaming) : base::Result<void>{};
}

base::Result<void> Tree::remember_new(const Renaming& renaming, ExportSet unknown) {
  const topology::Rules& rules = array_.topology()->rules_for(renaming.to);
  if (auto above = replica::remember_directories(context_, renaming.to, renaming.done); !above) return above;
  if (renaming.directory) {
    if (unknown.empty()) return {};
    auto recorded =
        ledger_.record(renaming.to, unknown, ledger::Why::renamed_to, rules.replicas, ledger::Scope::subtree);
    return replica::as_required(rules, recorded);
  }
  // Renamed onto an export that is blamed about the new name: it will not be believed there.
  const ExportSet good = (renaming.done & renaming.source.verdict.good) - renaming.target.evidence.blamed;
  if (good.empty()) return base::unexpected(EIO);
  auto recorded = replica::record_shortfall(context_, renaming.to, good, unknown | (renaming.done - good), {},
                                            ledger::Why::renamed_to);
  return recorded ? base::Result<void>{} : base::Unexpected{recorded.error()};
}

base::Result<void> Tree::exchange(Renaming& renaming) {
  const bool repairs_before = array_.repairs_under_way();
  const ExportSet data = array_.topology()->data_exports();
  const ExportSet both = renaming.sources & renaming.targets;
  const ExportSet only_old = renaming.sources - both;
  const ExportSet only_new = movable(renaming.target) - both;
  const auto make = [&](ExportIndex index) {
    auto operation =
        make_operation(io::Kind::rename, only_new.contains(index) ? renaming.to : renaming.from, renaming.caller);
    operation->path2 = only_new.contains(index) ? renaming.from : renaming.to;
    // (Where the other name could not be looked at, something may be there.)
    const ExportSet unseen = only_new.contains(index) ? renaming.source.not_reached : renaming.target.not_reached;
    operation->flags = both.contains(index) ? RENAME_EXCHANGE : unseen.contains(index) ? RENAME_NOREPLACE : 0;
    return operation;
  };
  nas::Answers answers;
  const auto rename_on = [&](ExportSet set) {
    nas::Answers round = array_.metadata(set, make);
    for (const ExportIndex index : round.with_error(ENOENT)) {
      const std::string& to = only_new.contains(index) ? renaming.from : renaming.to;
      if (!ensure_directory(index, base::parent_of(to))) continue;
      *round.of(index) = std::move(array_.metadata(ExportSet::of(index), make).list.front());
    }
    renaming.done |= round.ok();
    renaming.perhaps |= outcome_unknown(round);
    for (nas::Answer& answer : round) answers.list.push_back(std::move(answer));
  };
  // As in rename_all: neither name may be left to exports that are not believed about it.
  const ExportSet doubted = (only_old & renaming.target.evidence.blamed) | (only_new & renaming.source.evidence.blamed);
  rename_on((both | only_old | only_new) - doubted);
  if (renaming.done.empty()) return base::unexpected(first_refusal(answers));
  if (!doubted.empty()) rename_on(doubted);
  const ExportSet missed = (both | only_old | only_new) - renaming.done;
  const ExportSet unknown =
      missed | renaming.source.not_reached | renaming.target.not_reached | (data - array_.online());
  // What lay under one name, not to be believed, lies under the other now.
  const auto remember = [&](const std::string& path, const replica::Location& came, const replica::Location& went) {
    const ExportSet good = (renaming.done & came.verdict.good) - went.evidence.blamed;
    const ExportSet stale = (renaming.done & came.evidence.present) | (went.evidence.present - renaming.done);
    return remember_renamed(path, S_ISDIR(came.elected().stx_mode), good, (unknown | stale) - good);
  };
  auto at_new = remember(renaming.to, renaming.source, renaming.target);
  auto at_old = at_new ? remember(renaming.from, renaming.target, renaming.source) : at_new;
  if (!at_old) return at_old;
  return repairs_before || array_.repairs_under_way() ? look_once_more(renaming) : at_old;
}

base::Result<void> Tree::remember_renamed(const std::string& path, bool directory, ExportSet good, ExportSet left_out) {
  if (good.empty()) return base::unexpected(EIO);
  if (auto above = replica::remember_directories(context_, path, good); !above) return above;
  if (!directory) {
    auto recorded = replica::record_shortfall(context_, path, good, left_out, {}, ledger::Why::renamed_to);
    return recorded ? base::Result<void>{} : base::Unexpected{recorded.error()};
  }
  if (left_out.empty()) return {};
  const topology::Rules& rules = array_.topology()->rules_for(path);
  auto recorded = ledger_.record(path, left_out, ledger::Why::renamed_to, rules.replicas, ledger::Scope::subtree);
  if (!recorded && rules.quorum != topology::Quorum::lenient) return base::Unexpected{recorded.error()};
  return {};
}

}  // namespace rainfs::tree
