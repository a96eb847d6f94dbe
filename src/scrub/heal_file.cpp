// SPDX-License-Identifier: Apache-2.0
// Healing files, links and devices: R equal replicas in R racks, and nothing else.
#include <fmt/format.h>

#include <algorithm>

#include "copy.hpp"
#include "heal_internal.hpp"

namespace rainfs::scrub {

namespace {

// Facts after which a replica may still have the right contents.
constexpr unsigned about_attributes = Blame::bit(ledger::Why::metadata);
constexpr unsigned about_doubt = Blame::bit(ledger::Why::metadata) | Blame::bit(ledger::Why::unverified);

bool stopped_by(const base::Error& error) {
  return error.code == EAGAIN;
}

}  // namespace

// Whether anything is to be done; cheap where nothing is.
bool Healer::repair_needed(Work& work) const {
  const replica::Verdict& verdict = work.found.verdict;
  const replica::Evidence& evidence = work.found.evidence;
  const topology::Topology& topology = work.topology();
  if (!verdict.agreed || !evidence.blamed.empty()) return true;
  const ExportSet good = verdict.good;
  if (good.size() != work.wanted || topology.racks_of(good) != work.wanted) return true;
  if (!(good - topology.placeable()).empty()) return true;
  // (names of one file have different homes, and it stays in one place)
  if (session_.options.balance && work.found.elected().stx_nlink == 1) {
    ExportSet roomy;
    for (const ExportIndex index : work.online() & topology.placeable()) {
      if (!session_.array.at(index).full() || good.contains(index)) roomy.insert(index);
    }
    if (placement::choose(work.found.order, topology, work.wanted, roomy) != good) return true;
  }
  const struct statx& elected = work.found.elected();
  for (const ExportIndex index : good) {
    if (work.found.stat_of(index)->stx_nlink != elected.stx_nlink) return true;
  }
  for (const ExportIndex index : work.options.group != nullptr ? good : ExportSet{}) {
    std::string link_to;
    if (group_link(work, index, link_to) && !link_to.empty()) return true;
  }
  return unequal_xattrs(work);
}

// A writer may be at work: no fact speaks, or those there are say nothing about replicas that differ.
bool Healer::in_flight(const Work& work) const {
  if (work.options.committed) return false;
  bool unequal = false;
  std::int64_t mtime_age = INT64_MAX;
  std::int64_t change_age = INT64_MAX;
  const struct statx& elected = work.found.elected();
  for (const ExportIndex index : work.found.evidence.present - work.found.evidence.blamed) {
    const struct statx& stat = *work.found.stat_of(index);
    unequal |= replica::stamp_of(stat).mtime_ns != replica::stamp_of(elected).mtime_ns;  // not sealed
    mtime_age = std::min(mtime_age, age_of(session_, stat.stx_mtime));
    change_age = std::min(change_age, age_of(session_, stat.stx_ctime));
  }
  const std::int64_t grace = work.grace_s(session_);
  if (unequal && mtime_age < std::max(grace, unsealed_age_s)) return true;
  if (!work.found.evidence.blamed.empty()) return false;
  return std::min(mtime_age, change_age) < grace;
}

bool Healer::unequal_xattrs(const Work& work) const {
  if (S_ISLNK(work.found.elected().stx_mode)) return false;
  for (const ExportIndex index : work.found.verdict.good) {
    if (index == work.source) continue;
    auto different =
        replica::copy_xattrs(session_.context, {work.source, work.path, nullptr}, {index, work.path, nullptr}, true);
    if (!different || *different) return true;
  }
  return false;
}

// Of versions that no fact speaks about the newest is elected: it may be a writer's who crashed. A version
// whose contents the last deep pass has recorded has all that was committed, and is right whatever became of
// the other since. Not under lenient rules, which acknowledge without remembering; nor where R racks agree: that was
// acknowledged, and its writers need not have known of what an export that was away still has.
void Healer::prefer_catalogued(Work& work) {
  replica::Verdict& verdict = work.found.verdict;
  const replica::Evidence& evidence = work.found.evidence;
  if (work.options.catalogued.empty() || !evidence.blamed.empty() ||
      work.found.rules.quorum == topology::Quorum::lenient)
    return;
  const auto matches = [&](ExportIndex index) -> const CatalogueEntry* {
    for (const auto& [where, entry] : work.options.catalogued) {
      const replica::Stamp& stamp = evidence.stamps[index];
      if (where != index || !S_ISREG(stamp.mode) || stamp.size != entry.size || stamp.mtime_ns != entry.mtime_ns ||
          stamp.mode != entry.mode || stamp.uid != entry.uid || stamp.gid != entry.gid) {
        continue;
      }
      const auto xattrs = replica::xattr_digest(session_.context, {index, work.path, nullptr});
      if (xattrs && *xattrs == entry.xattrs) return &entry;
    }
    return nullptr;
  };
  if (!evidence.present.contains(verdict.elected)) return;
  const bool settled = verdict.good == evidence.present || work.topology().racks_of(verdict.good) >= work.wanted;
  if ((settled && !unequal_xattrs(work)) || matches(verdict.elected) != nullptr) return;
  for (const ExportIndex index : work.found.order) {
    if (!evidence.present.contains(index)) continue;
    const CatalogueEntry* entry = matches(index);
    if (entry == nullptr) continue;
    auto file = open_replica(session_, index, work.path);
    auto sum = file ? sum_of(session_, *file) : base::Result<Sum>(base::Unexpected{file.error()});
    if (!sum || !(*sum == entry->sum)) continue;
    const ExportIndex doubted = verdict.elected;
    verdict.elected = work.source = index;
    work.by_catalogue = true;
    verdict.good = {};
    for (const ExportIndex other : evidence.present) {
      if (evidence.stamps[other] == evidence.stamps[index]) verdict.good.insert(other);
    }
    verdict.stale = evidence.present - verdict.good;
    verdict.agreed = false;
    session_.found(Finding::damaged, work.path,
                   "the version on export " + session_.name_of(doubted) +
                       " is not the one that was verified last, that on " + session_.name_of(index) + " is");
    return;
  }
}

// Symbolic links that agree in everything else may lead elsewhere. What most replicas say is right; else nobody knows,
// and true is given: it is reported, and left.
bool Healer::disputed_link(Work& work, Healed& result) {
  replica::Verdict& verdict = work.found.verdict;
  if (!S_ISLNK(work.found.elected().stx_mode) || verdict.good.size() < 2) return false;
  std::map<std::string, ExportSet> leading;
  for (const ExportIndex index : verdict.good) {
    const replica::Done link = perform_on(session_.array, index, new_operation(Kind::readlink, work.path));
    if (link.ok()) leading[link.operation->text].insert(index);
  }
  if (leading.size() < 2) return false;
  const ExportSet differing = verdict.good;
  const auto most = std::max_element(leading.begin(), leading.end(),
                                     [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  ExportSet right;
  if (most->second.size() * 2 > differing.size()) {
    right = most->second;
  } else if (session_.options.resolve == Resolve::newest) {
    const auto changed = [&](ExportIndex index) {
      const struct statx_timestamp& time = work.found.stat_of(index)->stx_ctime;
      return std::pair(time.tv_sec, time.tv_nsec);
    };
    ExportIndex newest = *differing.begin();
    for (const ExportIndex index : differing) {
      if (changed(index) > changed(newest)) newest = index;
    }
    for (const auto& [target, where] : leading) {
      if (where.contains(newest)) right = where;
    }
  } else {
    const std::string where = session_.names_of(differing);
    session_.found(
        Finding::conflict, work.path,
        "a symbolic link that leads elsewhere on each of " + where + ", and nothing says which is right: all kept");
    if (session_.options.resolve != Resolve::keep)
      result = leave(work.path, "--resolve newest would take the one that was made last");
    return true;
  }
  verdict.good = right;
  verdict.stale = verdict.stale | (differing - right);
  verdict.agreed = false;
  verdict.elected = work.source = *right.begin();
  work.by_catalogue = true;
  return false;
}

Healer::Step Healer::file(Work& work, Healed& result) {
  prefer_catalogued(work);
  if (disputed_link(work, result)) return Step::done;
  // (the elected one may be the one that is no link any more, or the one that another name's facts are about)
  if (!work.options.group && work.options.links != nullptr) {
    for (const ExportIndex index : work.found.evidence.present - work.found.evidence.blamed) {
      const struct statx& stat = *work.found.stat_of(index);
      if (stat.stx_nlink > 1 && !S_ISDIR(stat.stx_mode)) work.options.links->note(index, stat.stx_ino, work.path);
    }
  }
  if (!repair_needed(work)) return Step::done;
  if (in_flight(work)) {
    session_.found(Finding::in_use, work.path, "it needs repair, but was changed a moment ago");
    result = Healed::left;
    return Step::done;
  }
  bool many_names = false;
  for (const ExportIndex index : work.found.evidence.present) many_names |= work.found.stat_of(index)->stx_nlink > 1;
  if (many_names && work.options.links != nullptr && !believed_as_they_are(work)) {
    work.options.links->needs_repair(work.path);
    result = Healed::linked;
    return Step::done;
  }
  const bool endangered = work.topology().racks_of(work.found.verdict.good) <= 1 && work.wanted > 1;
  const bool disputed = work.by_catalogue || (!work.found.verdict.stale.empty() && work.found.evidence.blamed.empty());
  if (work.options.defer_scarce && !endangered && !disputed) {
    result = Healed::deferred;
    return Step::done;
  }
  // Good ones first that lie well, one in each rack.
  const ExportSet usable = work.online() & work.topology().placeable();
  ExportSet roomy;
  for (const ExportIndex index : usable) {
    if (!session_.array.at(index).full() || work.found.verdict.good.contains(index)) roomy.insert(index);
  }
  work.home = placement::choose(work.found.order, work.topology(), work.wanted, roomy);
  const ExportSet candidates = work.found.verdict.good & usable;
  for (const ExportSet round : {candidates & work.home, work.balanced(session_) ? ExportSet{} : candidates}) {
    for (const ExportIndex index : work.found.order) {
      if (round.contains(index) && work.rack_free(index) && work.racks_kept() < work.wanted) work.kept.insert(index);
    }
  }
  for (const auto step : {&Healer::in_place, &Healer::make_missing, &Healer::put_aside_rest}) {
    if (const Step went = (this->*step)(work, result); went != Step::done) return went;
    if (result == Healed::left || result == Healed::placing) return Step::done;
  }
  if (!work.text.empty()) {
    work.text.resize(work.text.size() - 2);
    session_.found(Finding::repaired, work.path, (session_.options.dry_run ? "would be: " : "") + work.text);
    result = Healed::repaired;
  }
  return session_.options.dry_run ? Step::done : clear_rest(work);
}

// Replicas that are there and need no copying: equal but blamed, or different in their attributes only.
Healer::Step Healer::in_place(Work& work, Healed& result) {
  const replica::Evidence& evidence = work.found.evidence;
  const replica::Stamp& right = evidence.stamps[work.source];
  const ExportSet usable = evidence.present & work.topology().placeable();
  for (const ExportIndex index : work.found.order) {
    const bool kept = work.kept.contains(index);
    if (work.balanced(session_) && !work.home.contains(index)) continue;
    if (!usable.contains(index) || (!kept && (!work.rack_free(index) || work.racks_kept() >= work.wanted))) continue;
    if (index == work.source) {
      work.kept.insert(index);
      continue;
    }
    const replica::Stamp& stamp = evidence.stamps[index];
    if ((stamp.mode & S_IFMT) != (right.mode & S_IFMT) || stamp.size != right.size || stamp.device != right.device)
      continue;
    const auto known = work.blames.find(index);
    const Blame* blame = known != work.blames.end() ? &known->second : nullptr;
    const bool same_times = stamp.mtime_ns == right.mtime_ns;
    const unsigned mild = blame != nullptr && blame->only(about_doubt);
    // A replica that missed a write differs in its time: comparing would be as much work as copying.
    if (!same_times && blame != nullptr && !mild) continue;
    const bool believed =
        kept || (same_times && ((blame != nullptr && blame->only(about_attributes) && !blame->instances.empty()) ||
                                (work.options.subtree.contains(index) && !work.options.compare &&
                                 (blame == nullptr || blame->instances.empty()))));
    if (!believed && S_ISREG(right.mode)) {
      auto same = same_contents(session_, work.path, work.source, index);
      if (!same) {
        if (same.error().code == ENOENT) return Step::again;
        continue;  // it cannot be read: it is replaced
      }
      if (!*same) continue;
    } else if (S_ISLNK(right.mode) && !kept) {
      const replica::Done one = perform_on(session_.array, work.source, new_operation(Kind::readlink, work.path));
      const replica::Done other = perform_on(session_.array, index, new_operation(Kind::readlink, work.path));
      if (!one.ok() || !other.ok() || one.operation->text != other.operation->text) continue;
    }
    std::string link_to;
    if (group_link(work, index, link_to) && !link_to.empty()) {
      work.kept.erase(index);  // equal, but a file of its own
      continue;
    }
    bool equal = stamp == right;
    if (equal && !S_ISLNK(right.mode)) {
      auto different =
          replica::copy_xattrs(session_.context, {work.source, work.path, nullptr}, {index, work.path, nullptr}, true);
      equal = different && !*different;
    }
    if (!equal && session_.options.dry_run) {
      work.text += "attributes on " + session_.name_of(index) + "; ";
    } else if (!session_.options.dry_run && (!equal || blame != nullptr)) {
      if (work.unasked) return Step::again_asking;
      if (!session_.lease->wait_until_seen()) return Step::done;
      Placement placement = work.placement_on(index);
      if (!equal) {
        auto adjusted = adjust(session_, placement);
        if (!adjusted) {
          result = leave(work.path, adjusted.error().message());
          return Step::done;
        }
        work.text += "attributes on " + session_.name_of(index) + "; ";
      }
      if (blame != nullptr || !equal) {
        auto confirmed =
            confirm(session_, placement, blame != nullptr ? blame->instances : std::vector<ledger::Instance>{});
        if (!confirmed) return Step::again;
      }
    }
    work.kept.insert(index);
    work.done.insert(index);
  }
  return Step::done;
}

Healer::Step Healer::make_missing(Work& work, Healed& result) {
  const replica::Evidence& evidence = work.found.evidence;
  const topology::Topology& topology = work.topology();
  // An export that is away and not known to be stale may well hold a good replica.
  const unsigned spoken_for = topology.racks_of(work.found.verdict.good | evidence.blamed);
  ExportSet usable = work.online() & topology.placeable();
  // The other names of a file decide where it lies.
  ExportSet grouped;
  if (work.options.group != nullptr && !work.options.group->empty()) {
    for (const ExportIndex index : usable) {
      std::string link_to;
      if (group_link(work, index, link_to)) grouped.insert(index);
    }
    if (topology.racks_of(grouped) >= work.wanted) {
      usable = grouped;
      work.kept = work.kept & grouped;
      for (const ExportIndex index : grouped& work.kept) {
        std::string link_to;
        if (group_link(work, index, link_to) && !link_to.empty()) work.kept.erase(index);
      }
    }
  }
  ExportSet writable;
  for (const ExportIndex index : usable) {
    const nas::Export& exp = session_.array.at(index);
    if (!exp.read_only() && (!exp.full() || evidence.present.contains(index) || grouped.contains(index)))
      writable.insert(index);
  }
  std::string trouble;
  const auto too_few = [&] {
    ++session_.counters.few;
    if (topology.racks_of(work.found.verdict.good | work.kept) <= 1) ++session_.counters.single;
  };
  while (work.racks_kept() < work.wanted) {
    if (!(work.found.not_reached - evidence.blamed).empty() && spoken_for < work.wanted) {
      too_few();
      result =
          leave(work.path, "too few good replicas, and one may be on " + session_.names_of(work.found.not_reached));
      return Step::done;
    }
    // Where something of it lies already, before anywhere else.
    const unsigned more = work.wanted - work.racks_kept();
    ExportSet chosen = placement::choose(work.found.order, topology, more, writable & evidence.present, work.kept);
    if (chosen.empty() || work.balanced(session_))
      chosen = placement::choose(work.found.order, topology, more, writable, work.kept);
    if (chosen.empty()) {
      too_few();
      result = leave(work.path, fmt::format("{} of {} replicas; no room for more in other racks{}", work.racks_kept(),
                                            work.wanted, trouble.empty() ? "" : " (" + trouble + ")"));
      return Step::done;
    }
    if (place_later(work, chosen)) {
      result = Healed::placing;
      return Step::done;
    }
    if (work.unasked) return Step::again_asking;
    for (const ExportIndex target : chosen) {
      Placement placement = placement_for(work, target);
      if (placement.aside == replica::Aside::conflicts) {
        session_.found(Finding::conflict, work.path,
                       "the version on export " + session_.name_of(target) + " lost against that on " +
                           session_.name_of(work.source) + " and is in .rainfs/conflicts there");
      }
      group_link(work, target, placement.link_to);
      if (session_.options.dry_run) {
        work.text += "replica on " + session_.name_of(target) + "; ";
        work.kept.insert(target);
        continue;
      }
      base::Result<void> placed = base::unexpected(EIO);
      for (const ExportIndex source : work.found.verdict.good - ExportSet::of(target)) {
        placement.source = source;
        placement.source_stat = *work.found.stat_of(source);
        placed = place(session_, placement);
        if (placed || stopped_by(placed.error())) break;
      }
      if (!placed && stopped_by(placed.error())) return Step::again;
      if (!placed) {
        trouble = placed.error().message();
        writable.erase(target);
        continue;
      }
      work.text += "replica on " + session_.name_of(target) + "; ";
      work.kept.insert(target);
      work.done.insert(target);
    }
  }
  return Step::done;
}

// What lies there now is superseded if a fact says that it missed a change, or an equal one is made in its place.
Placement Healer::placement_for(Work& work, ExportIndex target) const {
  Placement placement = work.placement_on(target);
  const struct statx* there = work.found.stat_of(target);
  if (there == nullptr) return placement;
  placement.replaces = there->stx_ino;
  const auto blame = work.blames.find(target);
  const bool doubted = blame == work.blames.end() || blame->second.only(about_doubt);
  const bool superseded = !doubted || work.found.verdict.good.contains(target) || work.options.subtree.contains(target);
  placement.aside = superseded ? replica::Aside::trash : replica::Aside::conflicts;
  return placement;
}

// Where replicas on these exports are all that a file wants, they are built now and put in place together with others'.
bool Healer::place_later(Work& work, ExportSet targets) {
  const replica::Evidence& evidence = work.found.evidence;
  if (work.options.placer == nullptr || work.options.group != nullptr || session_.options.dry_run || !work.text.empty())
    return false;
  if (work.found.elected().stx_nlink != 1 || work.kept != work.found.verdict.good) return false;
  if (!(evidence.present - work.kept - targets).empty() || !(evidence.blamed - targets).empty()) return false;
  if (work.topology().racks_of(work.kept | targets) < work.wanted) return false;
  Placer::File file;
  for (const ExportIndex target : targets) {
    Placement placement = placement_for(work, target);
    if (placement.aside == replica::Aside::conflicts) return false;
    placement.blamed = evidence.blamed.contains(target);
    placement.unasked = work.unasked;
    auto built = build(session_, placement);
    if (!built) return false;
    file.replicas.push_back(std::move(*built));
    file.text += (file.text.empty() ? "" : "; ") + ("replica on " + session_.name_of(target));
  }
  file.holds = work.options.holds;
  file.again = [this, path = work.path, options = work.options] {
    HealOptions alone = options;
    alone.placer = nullptr;
    alone.holds = nullptr;
    alone.defer_scarce = false;
    heal(path, alone);
  };
  work.options.placer->add(std::move(file));
  return true;
}

// More than is wanted, or stale where no replica is to be: aside, now that R good ones are there.
Healer::Step Healer::put_aside_rest(Work& work, Healed& result) {
  const ExportSet rest = work.found.evidence.present - work.kept;
  if (rest.empty()) return Step::done;
  if (session_.options.dry_run) {
    work.text += "removal from " + session_.names_of(rest) + "; ";
    return Step::done;
  }
  if (!session_.lease->wait_until_seen()) return Step::done;
  auto now = look(work.path, work.options);
  if (!now) return Step::again;
  for (const ExportIndex index : work.kept - work.options.subtree) {
    if (!now->evidence.present.contains(index) ||
        !(now->evidence.stamps[index] == work.found.evidence.stamps[work.source])) {
      return Step::again;
    }
    if (!now->evidence.blamed.contains(index)) continue;
    // What is said of a directory above goes one export after the other: the rest stays until nothing is said of any.
    const bool above = work.found.evidence.blamed.contains(index) &&
                       session_.context.ledger.list(work.path, index, ledger::Scope::entry).empty();
    return above ? Step::done : Step::again;
  }
  for (const ExportIndex index : rest) {
    const bool blamed = work.blames.contains(index) && !work.blames[index].only(about_doubt);
    const bool good = work.found.verdict.good.contains(index);
    const bool below = work.options.subtree.contains(index);
    const replica::Aside where = blamed || good || below ? replica::Aside::trash : replica::Aside::conflicts;
    auto moved = replica::move_aside(session_.context, index, work.path, where, work.found.stat_of(index)->stx_ino);
    if (!moved && (moved.error().code == ENOENT || moved.error().code == ESTALE)) return Step::again;
    if (!moved) {
      result = leave(work.path, "export " + session_.name_of(index) + ": " + moved.error().message());
      return Step::done;
    }
    session_.touched(index, replica::parent_of(work.path));
    if (where == replica::Aside::conflicts) {
      session_.found(Finding::conflict, work.path,
                     "the version on export " + session_.name_of(index) + " is in " + *moved);
    }
    work.text += "removed from " + session_.name_of(index) + "; ";
  }
  return Step::done;
}

// Facts about exports that hold nothing now: with R good replicas their word can do no harm.
Healer::Step Healer::clear_rest(Work& work) {
  if (work.blames.empty() || work.racks_kept() < work.wanted) return Step::done;
  auto now = look(work.path, work.options);
  if (!now) return Step::again;
  for (auto& [index, blame] : work.blames) {
    if (work.kept.contains(index) || !now->evidence.missing.contains(index)) continue;
    const Placement placement = work.placement_on(index);
    if (!confirm(session_, placement, blame.instances)) return Step::again;
  }
  return Step::done;
}

}  // namespace rainfs::scrub
