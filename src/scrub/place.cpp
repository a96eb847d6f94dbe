// SPDX-License-Identifier: Apache-2.0
#include "place.hpp"

#include <stdio.h>

#include <set>

#include "place_internal.hpp"
#include "rainfs/log/log.hpp"

namespace rainfs::scrub {

namespace {

constexpr std::size_t most_instances_read = 256;  // of one path and export: writers withdraw their older ones
constexpr std::size_t largest_fact_bytes = 64 * 1024;

// Under its name, if that is free. NFS knows no RENAME_NOREPLACE: there a link does it.
base::Result<void> name(Session& session, Building& built) {
  const Placement& placement = built.placement;
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto move = new_operation(Kind::rename, built.path);
    move->path2 = placement.path;
    move->flags = RENAME_NOREPLACE;
    int error = perform_on(session.array, placement.target, move).error;
    if (error == 0) {
      built.gone();
      // Renaming one name of a file to another name of it does nothing, and leaves both.
      if (!placement.link_to.empty())
        perform_on(session.array, placement.target, new_operation(Kind::unlink, built.path));
      return {};
    }
    if (error == EINVAL || error == EOPNOTSUPP || error == ENOSYS) {
      auto link = new_operation(Kind::link, built.path);
      link->path2 = placement.path;
      error = perform_on(session.array, placement.target, link).error;
      if (error == 0) return {};  // the temporary name goes with `built`
    }
    if (error == EEXIST) return base::unexpected(EAGAIN, "the name was taken meanwhile");
    if (error != ENOENT || attempt > 0)
      return at_export(session, placement.target, base::Error(error, "renaming into place"));
    auto parent = replica::ensure_directory(session.context, placement.target, replica::parent_of(placement.path));
    if (!parent) return at_export(session, placement.target, parent.error());
  }
  return base::unexpected(EAGAIN);
}

base::Result<void> sync_directory(Session& session, ExportIndex index, const std::string& path) {
  auto open = new_operation(Kind::open, path);
  open->flags = O_RDONLY | O_DIRECTORY;
  const replica::Done opened = perform_on(session.array, index, open);
  if (!opened.ok()) return at_export(session, index, base::Error(opened.error, "opening the directory"));
  auto sync = new_operation(Kind::fsync, "");
  sync->file = opened.operation->handle;
  const replica::Done synced = perform_data_on(session.array, index, sync);
  if (!synced.ok() && synced.error != EINVAL) return at_export(session, index, base::Error(synced.error, "fsync"));
  return {};
}

// All that was done on a local disk so far.
base::Result<void> sync_file_system(Session& session, ExportIndex index) {
  const replica::Done synced = perform_data_on(session.array, index, new_operation(Kind::sync_file_system, ""));
  return synced.ok() ? base::Result<void>{} : at_export(session, index, base::Error(synced.error, "syncing"));
}

// A replica that must not stay: aside, if it is the one that was put there and nobody has changed it since. What has
// been written to it may be nowhere else by now: it stays blamed.
void take_away(Session& session, const Building& built) {
  const Placement& placement = built.placement;
  const replica::Done there = perform_on(session.array, placement.target, new_operation(Kind::stat, placement.path));
  if (!there.ok() || there.operation->stat.stx_ino != built.inode) return;
  if (!(replica::stamp_of(there.operation->stat) == replica::stamp_of(placement.source_stat))) return;
  (void)replica::move_aside(session.context, placement.target, placement.path, replica::Aside::trash, built.inode);
}

bool source_unchanged(Session& session, const Placement& placement) {
  auto stat = new_operation(Kind::stat, placement.path);
  stat->flags = AT_STATX_FORCE_SYNC;
  const replica::Done now = perform_on(session.array, placement.source, stat);
  return now.ok() && same_state(now.operation->stat, placement.source_stat) && !session.being_renamed(placement.path);
}

// Several replicas, taken together through one step after the other: each does its part for those that have not failed.
class Bracket {
 public:
  Bracket(Session& session, const std::vector<Building*>& all) : session_(session), all_(all) {}

  // Contents, before there is a name by which they could be taken for a file.
  void sync_contents() {
    ExportSet targets;
    for (const Building* built : all_) {
      if (built->unsynced) targets.insert(built->placement.target);
    }
    for (const ExportIndex target : targets) {
      const base::Result<void> synced = sync_file_system(session_, target);
      if (synced) continue;
      for (Building* built : all_) {
        if (built->unsynced && built->placement.target == target) built->result = synced;
      }
    }
  }

  void announce() {
    if (session_.lease->wait_until_seen()) return;
    for (Building* built : all_) built->result = base::unexpected(EINTR, "the lease was lost");
  }

  // Nobody at all is blamed about those of which that was taken for granted.
  void ask() {
    std::vector<Building*> unasked;
    for (Building* built : going()) {
      if (built->placement.unasked) unasked.push_back(built);
    }
    if (unasked.empty()) return;
    const auto topology = session_.array.topology();
    const std::vector<ledger::Testimony> testimonies =
        session_.context.ledger.ask(paths_of(unasked), topology->data_exports());
    for (std::size_t i = 0; i < unasked.size(); ++i) {
      const bool all_answered = (topology->fact_holders() - testimonies[i].answered).empty();
      if (!testimonies[i].blamed.empty() || !all_answered)
        unasked[i]->result = base::unexpected(EAGAIN, "the ledger knows of it");
    }
  }

  void record() {
    const auto topology = session_.array.topology();
    for (Building* built : going()) {
      const Placement& placement = built->placement;
      const ExportSet others = topology->fact_holders() - topology->rack_members(placement.target);
      if (others.empty()) continue;  // an array of one rack has no memory but itself
      auto recorded = session_.context.ledger.record(
          placement.path, ExportSet::of(placement.target), ledger::Why::being_copied,
          std::max(1U, topology->rules_for(placement.path).replicas), ledger::Scope::entry, false);
      if (recorded) {
        built->recorded = std::move(*recorded);
      } else {
        built->result = base::Unexpected{recorded.error()};
      }
    }
  }

  // What is there now goes aside, if it is certain that what comes is better.
  void replace() {
    std::vector<Building*> replacing;
    for (Building* built : going()) {
      if (built->placement.replaces != 0) replacing.push_back(built);
    }
    check_sources(replacing);
    for (Building* built : replacing) {
      const Placement& placement = built->placement;
      if (built->result) {
        auto aside = replica::move_aside(session_.context, placement.target, placement.path, placement.aside,
                                         placement.replaces);
        if (aside || aside.error().code == ENOENT) continue;
        built->result = aside.error().code == ESTALE ? base::unexpected(EAGAIN)
                                                     : at_export(session_, placement.target, aside.error());
      }
      session_.context.ledger.withdraw(built->recorded);  // nothing has changed on the target
    }
  }

  void rename() {
    for (Building* built : going()) {
      built->result = name(session_, *built);
      if (built->result) session_.touched(built->placement.target, replica::parent_of(built->placement.path));
    }
  }

  // What fails now stays where it is, and stays blamed.
  void sync_directories() {
    std::map<ExportIndex, std::set<std::string>> directories;
    for (const Building* built : going())
      directories[built->placement.target].insert(replica::parent_of(built->placement.path));
    std::map<std::pair<ExportIndex, std::string>, base::Result<void>> synced;
    for (const auto& [target, paths] : directories) {
      const io::HandlePtr root = session_.array.at(target).root();
      const bool together = paths.size() > 1 && root && root->engine().completes_inline();
      const base::Result<void> all = together ? sync_file_system(session_, target) : base::Result<void>{};
      for (const std::string& path : paths)
        synced[{target, path}] = together ? all : sync_directory(session_, target, path);
    }
    for (Building* built : going())
      built->result = synced[{built->placement.target, replica::parent_of(built->placement.path)}];
  }

  void believe() {
    const std::vector<Building*> placed = going();
    check_sources(placed);
    std::vector<ledger::Instance> done_with;
    for (Building* built : placed) {
      if (!built->result) {
        take_away(session_, *built);
        continue;
      }
      done_with.insert(done_with.end(), built->superseded.begin(), built->superseded.end());
      done_with.insert(done_with.end(), built->recorded.begin(), built->recorded.end());
      ++session_.counters.copies;
    }
    session_.clear_facts(done_with);
  }

 private:
  std::vector<Building*> going() const {
    std::vector<Building*> rest;
    for (Building* built : all_) {
      if (built->result) rest.push_back(built);
    }
    return rest;
  }

  static std::vector<std::string> paths_of(const std::vector<Building*>& replicas) {
    std::vector<std::string> paths;
    paths.reserve(replicas.size());
    for (const Building* built : replicas) paths.push_back(built->placement.path);
    return paths;
  }

  // Still there, unchanged since the copy, and not blamed.
  void check_sources(const std::vector<Building*>& replicas) {
    if (replicas.empty()) return;
    ExportSet sources;
    for (Building* built : replicas) {
      if (!source_unchanged(session_, built->placement)) built->result = base::unexpected(EAGAIN, "the source changed");
      if (session_.being_renamed(built->placement.path))
        built->result = base::unexpected(EAGAIN, "it is being renamed");
      sources.insert(built->placement.source);
    }
    const std::vector<ledger::Testimony> testimonies = session_.context.ledger.ask(paths_of(replicas), sources);
    for (std::size_t i = 0; i < replicas.size(); ++i) {
      if (testimonies[i].blamed.contains(replicas[i]->placement.source)) {
        replicas[i]->result = base::unexpected(EAGAIN, "the source missed a change");
      }
    }
  }

  Session& session_;
  const std::vector<Building*>& all_;
};

}  // namespace

bool same_state(const struct statx& a, const struct statx& b) {
  return a.stx_ino == b.stx_ino && replica::stamp_of(a) == replica::stamp_of(b) &&
         a.stx_ctime.tv_sec == b.stx_ctime.tv_sec && a.stx_ctime.tv_nsec == b.stx_ctime.tv_nsec;
}

Blame read_blame(Session& session, const std::string& path, ExportIndex target) {
  Blame blame;
  blame.instances = session.context.ledger.list(path, target, ledger::Scope::entry);
  const auto topology = session.array.topology();
  std::size_t read = 0;
  std::map<std::string, ExportSet> gone;
  for (const ledger::Instance& instance : blame.instances) {
    if (++read > most_instances_read) {
      blame.unreadable = true;
      break;
    }
    auto operation = new_operation(Kind::read_file, instance.path);
    operation->length = largest_fact_bytes;
    const replica::Done done = perform_on(session.array, instance.holder, operation);
    if (done.error == ENOENT) continue;
    auto fact = done.ok() ? ledger::parse_fact(done.operation->text, *topology)
                          : base::Result<ledger::Fact>(base::unexpected(done.error));
    if (!fact) {
      blame.unreadable = true;
      continue;
    }
    blame.whys |= Blame::bit(fact->why);
    if (fact->why == ledger::Why::removed || fact->why == ledger::Why::renamed_from)
      gone[instance.path].insert(instance.holder);
  }
  for (const auto& [instance, holders] : gone)
    blame.gone |= topology->remembered(topology->rules_for(path), target, holders);
  return blame;
}

void put_in_place(Session& session, const std::vector<Building*>& replicas) {
  Bracket bracket(session, replicas);
  bracket.sync_contents();
  bracket.announce();
  bracket.ask();
  bracket.record();
  bracket.replace();
  bracket.rename();
  bracket.sync_directories();
  bracket.believe();
}

base::Result<void> place(Session& session, const Placement& placement) {
  auto built = build(session, placement);
  if (!built) return base::Unexpected{built.error()};
  put_in_place(session, {built->get()});
  return (*built)->result;
}

base::Result<void> confirm(Session& session, const Placement& placement,
                           const std::vector<ledger::Instance>& instances) {
  const bool holds = source_unchanged(session, placement) &&
                     !session.context.ledger.ask(placement.path).blamed.contains(placement.source);
  if (!holds) return base::unexpected(EAGAIN, "the source changed");
  session.clear_facts(instances);
  return {};
}

base::Result<void> adjust(Session& session, const Placement& placement) {
  const auto set = [&](const io::Attributes& attributes) -> base::Result<void> {
    if (attributes.valid == 0) return {};
    auto operation = new_operation(Kind::set_attributes, placement.path);
    operation->attributes = attributes;
    const replica::Done done = perform_on(session.array, placement.target, operation);
    if (!done.ok()) return at_export(session, placement.target, base::Error(done.error, "setting attributes"));
    return {};
  };
  const struct statx& wanted = placement.source_stat;
  // A new owner takes capabilities and the setuid bit away, and an ACL changes the mode: in this order.
  if (auto done = set(owner_of(wanted)); !done) return done;
  if (!S_ISLNK(wanted.stx_mode)) {
    auto attributed = replica::copy_xattrs(session.context, {placement.source, placement.path, nullptr},
                                           {placement.target, placement.path, nullptr});
    if (!attributed) return at_export(session, placement.target, attributed.error());
  }
  if (auto done = set(mode_of(wanted)); !done) return done;
  return S_ISDIR(wanted.stx_mode) ? base::Result<void>{} : set(times_of(wanted));
}

}  // namespace rainfs::scrub
