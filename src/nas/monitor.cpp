// SPDX-License-Identifier: Apache-2.0
// Polling of the exports: who is there, who they are, what they know.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/statvfs.h>

#include <mutex>
#include <optional>

#include "rainfs/base/periodic.hpp"
#include "rainfs/log/log.hpp"
#include "rainfs/nas/array.hpp"
#include "rainfs/nas/sightings.hpp"

namespace rainfs::nas {

// The polling of one export. Lives in the array so that a probe that hangs is not repeated meanwhile.
struct Array::Probe {
  Export* exp = nullptr;
  io::OperationPtr open, identity, ledger, intents, lease, topology, seen;
  struct statx topology_stat {};  // of the array.yaml that was read last
  struct statx root_stat {};      // of the root in use
  std::string identity_text;
  // What the export said last, kept until it says otherwise: a hung export's ledger may hold facts.
  ExportSet blamed;
  bool lease_seen = false;
  bool intents_seen = false;

  bool hangs() const {
    for (const auto* operation : {&open, &identity, &ledger, &intents, &lease, &topology, &seen}) {
      if (*operation && !(*operation)->done()) return true;
    }
    return false;
  }
};

struct Array::Monitor {
  std::vector<std::unique_ptr<Probe>> probes;
  Sightings sightings;    // of the last poll
  std::mutex poll_mutex;  // one poll at a time
  std::optional<base::Periodic> polling;
};

namespace {
constexpr std::size_t largest_identity_bytes = 64 * 1024;
constexpr std::size_t largest_topology_bytes = 1 << 20;
constexpr const char* topology_path = ".rainfs/array.yaml";

io::OperationPtr on(const io::HandlePtr& root, io::Kind kind, const char* path) {
  auto operation = std::make_shared<io::Operation>(kind);
  operation->file = root;
  operation->path = path;
  operation->length = largest_identity_bytes;
  return operation;
}

std::string put_back_reason(const Sightings& sightings, ExportIndex index, const topology::Topology& topology) {
  const auto at = [](std::int64_t tick) {
    return fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(static_cast<std::time_t>(tick * seconds_a_tick)));
  };
  const std::int64_t own = sightings.of_itself(index);
  return fmt::format(
      "{}, but other exports saw it at {}: it was put back to an earlier moment, or is another disk. 'rainfsctl rejoin "
      "{} {}' takes it back and has repaired what it missed",
      own == 0 ? std::string("it does not know to have been in use") : "it is as it was at " + at(own),
      at(sightings.of_others(index)), topology.array_name, topology.exports[index].name);
}

void damaged(const std::string& where, const std::string& why) {
  log::warning("topology-damaged", "{} cannot be used ({}); other exports' copies are. Copy one of them there", where,
               why);
}

}  // namespace

Array::Array(std::shared_ptr<const topology::Topology> topology, ArrayOptions options, EngineFactory& factory,
             base::Clock& clock)
    : clock_(clock),
      options_(std::move(options)),
      metadata_deadline_(options_.deadlines.metadata),
      data_deadline_(options_.deadlines.data),
      probe_deadline_(options_.deadlines.probe),
      topology_(topology),
      factory_(factory),
      monitor_(std::make_unique<Monitor>()) {
  exports_.reserve(base::max_exports);  // never moved: exports are added while others look at theirs
  add_exports(*topology);
}

void Array::add_exports(const topology::Topology& topology) {
  for (std::size_t i = exports_.size(); i < topology.exports.size(); ++i) {
    const topology::Export& info = topology.exports[i];
    const bool elsewhere = i < options_.local_paths.size() && !options_.local_paths[i].empty();
    exports_.push_back(std::make_unique<Export>(info, static_cast<ExportIndex>(i),
                                                elsewhere ? options_.local_paths[i] : info.path, factory_, clock_));
    auto probe = std::make_unique<Probe>();
    probe->exp = exports_.back().get();
    monitor_->probes.push_back(std::move(probe));
  }
}

Array::~Array() {
  stop_monitor();
}

void Array::probe_all(std::vector<std::unique_ptr<Probe>>& probes) {
  io::Batch opens;
  const auto topology = topology_.load();
  std::vector<Probe*> asked;
  for (auto& probe : probes) {
    if (topology->exports[probe->exp->index()].state == topology::State::retired) continue;
    if (probe->hangs()) {
      probe->exp->lost("does not answer");
      continue;
    }
    probe->open = std::make_shared<io::Operation>(io::Kind::open_root);
    probe->open->text = probe->exp->local_path();
    probe->identity = probe->ledger = probe->intents = probe->lease = probe->topology = probe->seen = nullptr;
    // Through the engine that may block, also for local exports: what lies at the path may have changed.
    opens.add(probe->exp->engine(), probe->open);
    asked.push_back(probe.get());
  }
  opens.run(clock_, deadlines().probe);

  io::Batch reads;
  for (Probe* probe : asked) {
    if (!probe->open->done() || probe->open->error != 0) continue;
    const io::HandlePtr& root = probe->open->handle;
    reads.add(probe->identity = on(root, io::Kind::read_file, ".rainfs/export.yaml"));
    reads.add(probe->ledger = on(root, io::Kind::read_directory, ".rainfs/ledger"));
    reads.add(probe->intents = on(root, io::Kind::read_directory, ".rainfs/intents"));
    reads.add(probe->lease = on(root, io::Kind::stat, ".rainfs/scrub/announced"));
    reads.add(probe->topology = on(root, io::Kind::stat, topology_path));
    if (options_.tell_put_back) reads.add(probe->seen = on(root, io::Kind::read_directory, sightings_directory));
  }
  reads.run(clock_, deadlines().probe);
  compare_sightings(asked);
  for (Probe* probe : asked) judge(*probe);
}

void Array::compare_sightings(const std::vector<Probe*>& asked) {
  Sightings& sightings = monitor_->sightings;
  sightings = {};
  const auto topology = topology_.load();
  const auto tells = [](const Probe& probe) { return probe.seen && probe.seen->done() && probe.seen->error == 0; };
  for (const Probe* probe : asked) {
    if (tells(*probe)) sightings.take(probe->exp->index(), probe->seen->entries, *topology);
  }
  // The others may have been told between the look at the export itself and that at them.
  io::Batch again;
  std::vector<Probe*> suspected;
  for (Probe* probe : asked) {
    if (!probe->seen || !probe->seen->done() || !sightings.put_back(probe->exp->index())) continue;
    again.add(probe->seen = on(probe->open->handle, io::Kind::read_directory, sightings_directory));
    suspected.push_back(probe);
  }
  if (suspected.empty()) return;
  again.run(clock_, deadlines().probe);
  for (const Probe* probe : suspected) {
    if (tells(*probe)) sightings.look_again(probe->exp->index(), probe->seen->entries, *topology);
  }
}

std::int64_t Array::put_back(ExportIndex index) const {
  const std::lock_guard lock(monitor_->poll_mutex);
  return monitor_->sightings.put_back(index) ? monitor_->sightings.of_others(index) : 0;
}

// Whether the other exports that are online can prove and remember what has to be.
bool Array::enough_without(ExportIndex index) const {
  const auto topology = topology_.load();
  ExportSet others = online();
  others.erase(index);
  const topology::Rules& rules = topology->defaults;
  return topology->racks_of(others) >= rules.replicas &&
         topology->complete_racks(others) >= topology->racks_to_deny(rules);
}

void Array::judge(Probe& probe) {
  Export& exp = *probe.exp;
  const Sightings& sightings = monitor_->sightings;
  const auto topology = topology_.load();
  const topology::Export& info = topology->exports[exp.index()];
  if (probe.hangs()) return exp.lost("does not answer");
  if (probe.open->error != 0) return exp.lost(base::Error(probe.open->error, "cannot open it").message());
  // It opened, but after the deadline: nothing was asked of it in this round.
  if (!probe.identity) return exp.lost("answers too late");
  if (probe.identity->error != 0) {
    return exp.lost(probe.identity->error == ENOENT
                        ? "no .rainfs/export.yaml there: not mounted, or not an export of this array"
                        : base::Error(probe.identity->error, ".rainfs/export.yaml").message());
  }
  if (probe.identity->text != probe.identity_text) {
    auto identity = topology::parse_identity(probe.identity->text, exp.local_path() + "/.rainfs/export.yaml");
    if (!identity) return exp.lost(identity.error().message());
    if (identity->array_uuid != topology->array_uuid || identity->export_uuid != info.uuid) {
      return exp.lost("it is export " + identity->export_name + " of array " + identity->array_name + ", not export " +
                      info.name + " of " + topology->array_name);
    }
    probe.identity_text = probe.identity->text;
  }
  if (probe.seen && probe.seen->error != 0 && probe.seen->error != ENOENT)
    return exp.lost(base::Error(probe.seen->error, sightings_directory).message());
  if (sightings.put_back(exp.index())) return exp.lost(put_back_reason(sightings, exp.index(), *topology));
  if (probe.ledger->error != 0) return exp.lost(base::Error(probe.ledger->error, ".rainfs/ledger").message());

  probe.blamed = {};
  for (const io::DirectoryEntry& entry : probe.ledger->entries) {
    if (const auto target = topology->export_named(entry.name)) probe.blamed.insert(*target);
  }
  probe.intents_seen = probe.intents->error == 0 && !probe.intents->entries.empty();
  probe.lease_seen = probe.lease->error == 0;

  if (!exp.online() && exp.on_probation() && enough_without(exp.index())) {
    return exp.lost("misses deadlines again and again while it answers probes: left alone for a while");
  }

  // A root that is the same mount and directory as before stays: handles made beneath it remain good.
  const struct statx& now = probe.open->stat;
  io::HandlePtr root = exp.root();
  const bool same = root && now.stx_ino == probe.root_stat.stx_ino && now.stx_mnt_id == probe.root_stat.stx_mnt_id &&
                    now.stx_dev_major == probe.root_stat.stx_dev_major &&
                    now.stx_dev_minor == probe.root_stat.stx_dev_minor &&
                    ((probe.open->filesystem.f_flags & ST_RDONLY) != 0) == exp.read_only();
  if (!same) root = factory_.adopt(probe.open->handle, probe.open->filesystem);
  probe.root_stat = now;
  exp.found(root, probe.open->filesystem, topology->reserve_per_mille);
  probe.open->handle = nullptr;
}

// The highest version on any export holds. It is read where its file has changed, by exports whose identity was
// matched; a state, a policy or a new export is taken up without a remount.
void Array::take_up_topology() {
  io::Batch reads;
  std::vector<Probe*> asked;
  for (auto& probe : monitor_->probes) {
    const io::HandlePtr root = probe->exp->root();
    if (!root || !probe->topology || !probe->topology->done() || probe->topology->error != 0) continue;
    const struct statx& now = probe->topology->stat;
    struct statx& seen = probe->topology_stat;
    if (now.stx_ino == seen.stx_ino && now.stx_size == seen.stx_size && now.stx_mtime.tv_sec == seen.stx_mtime.tv_sec &&
        now.stx_mtime.tv_nsec == seen.stx_mtime.tv_nsec) {
      continue;
    }
    seen = now;
    probe->topology = on(root, io::Kind::read_file, topology_path);
    probe->topology->length = largest_topology_bytes;
    reads.add(probe->topology);
    asked.push_back(probe.get());
  }
  if (asked.empty()) return;
  reads.run(clock_, deadlines().probe);
  for (Probe* probe : asked) {
    const std::string where = probe->exp->local_path() + "/" + topology_path;
    if (!probe->topology->done() || probe->topology->error != 0) {
      if (probe->topology->done()) damaged(where, base::Error(probe->topology->error).message());
      probe->topology_stat = {};
      continue;
    }
    const auto current = topology_.load();
    auto found = topology::parse_topology(probe->topology->text, where);
    if (!found) {
      damaged(where, found.error().message());
      continue;
    }
    if (found->array_uuid != current->array_uuid) {
      damaged(where, "it is of another array");
      continue;
    }
    if (found->version <= current->version || found->exports.size() < current->exports.size()) continue;
    add_exports(*found);
    log::notice("topology", "the array's topology is version {} now, found on export {}", found->version,
                probe->exp->name());
    topology_.store(std::make_shared<const topology::Topology>(std::move(*found)));
    break;  // another one's still higher version is met at the next poll
  }
}

void Array::poll() {
  const std::lock_guard lock(monitor_->poll_mutex);
  {
    const std::lock_guard noting(blame_mutex_);
    noted_since_poll_ = {};
  }
  probe_all(monitor_->probes);
  take_up_topology();
  ExportSet blamed;
  bool lease = false;
  bool intents = false;
  for (const auto& probe : monitor_->probes) {
    blamed |= probe->blamed;
    lease |= probe->lease_seen;
    intents |= probe->intents_seen;
  }
  {
    // What was noted while the ledgers were being looked at may not have been in what was seen of them.
    const std::lock_guard noting(blame_mutex_);
    const ExportSet known = blamed | noted_since_poll_;
    blamed_somewhere_ = known.bits();
    for (const ExportIndex index : ExportSet::first(static_cast<unsigned>(exports_.size())) - known)
      blamed_since_ns_[index] = 0;
  }
  note_blame(blamed);
  if (lease) ++scrub_polls_;
  scrub_announced_ = lease;
  intents_pending_ = intents;
}

void Array::start_monitor() {
  monitor_->polling.emplace(poll_interval, [this] {
    io::prepare_thread();
    poll();
  });
}

void Array::stop_monitor() {
  monitor_->polling.reset();
}

}  // namespace rainfs::nas
