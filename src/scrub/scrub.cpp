// SPDX-License-Identifier: Apache-2.0
// One run: its passes, in their order.
#include "rainfs/scrub/scrub.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "deep.hpp"
#include "drain.hpp"
#include "heal.hpp"
#include "pool.hpp"
#include "rainfs/log/log.hpp"
#include "rainfs/replica/intent.hpp"
#include "rainfs/tree/tree.hpp"
#include "records.hpp"
#include "resume.hpp"
#include "session.hpp"
#include "trash.hpp"
#include "walk.hpp"

namespace rainfs::scrub {

namespace {
constexpr std::size_t most_deferred = 100'000;
constexpr base::Duration record_interval = std::chrono::seconds(5);
// After that a rename is taken for abandoned, and a little more.
constexpr base::Duration rename_wait = std::chrono::seconds(20);
constexpr base::Duration rename_pause = std::chrono::milliseconds(1100);
}  // namespace

struct Scrub::Impl {
  Impl(replica::Context& context, Options options, Reporter reporter)
      : session(context, options, std::move(reporter)), healer(session), placer(session) {}

  Session session;
  Healer healer;
  Placer placer;
  Links links;
  Coverage coverage;
  std::mutex deferred_mutex;  // guards deferred
  std::vector<std::string> deferred;

  base::Result<int> run();
  void passes(Pool& pool);
  void finish_renames();
  void metadata(Pool& pool);
  void heal_deferred(Pool& pool);
  void heal_links(Pool& pool, bool complete, bool repaired_now = false);
  void heal_group(std::vector<std::string> names, bool repaired_now);
  void collect_links(Pool& pool);
  void sweep_temporaries();
  int status() const;
};

namespace {

// Writes the progress to the exports now and then, for rainfsctl status on any node.
class Recorder {
 public:
  explicit Recorder(Session& session) : session_(session), thread_([this] { work(); }) {}
  ~Recorder() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    wake_.notify_all();
    thread_.join();
    remove_record(session_, progress_file);
  }

 private:
  void work() {
    io::prepare_thread();
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, record_interval, [this] { return ending_; })) {
      lock.unlock();
      write_record(session_, progress_file, describe(session_, -1));
      lock.lock();
    }
  }
  Session& session_;
  std::mutex mutex_;  // guards ending_
  std::condition_variable wake_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace

int Scrub::Impl::status() const {
  const Counters& counters = session.counters;
  int status = 0;
  if (counters.repaired > 0) status |= status_repaired;
  if (counters.left > 0 || counters.in_use > 0) status |= status_left;
  if (session.lease && session.lease->lost()) status |= status_failed;
  return status;
}

// What scrubs that were killed have left behind: whose temporary file it is, its name says, and who is alive has a
// lease.
void Scrub::Impl::sweep_temporaries() {
  for (const ExportIndex index : session.array.holders_online()) {
    const replica::Done listed = perform_on(session.array, index, new_operation(Kind::read_directory, ".rainfs/tmp"));
    if (!listed.ok() || listed.operation->entries.empty()) continue;
    const std::set<std::string> alive = lease_tags(session.array);  // after the listing: a lease comes before its files
    for (const io::DirectoryEntry& entry : listed.operation->entries) {
      constexpr std::string_view prefix = "scrub-";
      const std::size_t end = entry.name.rfind('-');
      const bool of_scrub = entry.name.starts_with(prefix) && end > prefix.size();
      const bool dead = of_scrub ? !alive.contains(entry.name.substr(prefix.size(), end - prefix.size()))
                                 : entry.name.starts_with("clock-") && !session.lease->sharded();
      if (dead) perform_on(session.array, index, new_operation(Kind::unlink, ".rainfs/tmp/" + entry.name));
    }
  }
}

void Scrub::Impl::metadata(Pool& pool) {
  session.counters.pass = Pass::metadata;
  Resume resume(session, "metadata");
  const bool whole = session.options.paths.empty();
  const std::vector<std::string> tops = walked_tops(session);
  std::vector<std::pair<ExportIndex, CatalogueReader>> none;
  HealOptions options;
  options.defer_scarce = true;
  options.links = &links;
  options.placer = &placer;
  std::vector<std::pair<ExportIndex, CatalogueReader>> catalogues;
  for (const ExportIndex index : session.array.online())
    catalogues.emplace_back(index, CatalogueReader(session, index));
  for (const std::string& top : tops) {
    walk(
        session, top, [&](const std::string& directory) { return resume.begin(directory); },
        [&](const Walked& walked) {
          if (!of_this_shard(session, walked.path) || resume.done_before(walked)) return;
          if (!walked.directory) ++session.counters.files;
          options.catalogued.clear();
          for (auto& [index, catalogue] : walked.directory ? none : catalogues) {
            if (auto entry = catalogue.find(walked.path)) options.catalogued.emplace_back(index, std::move(*entry));
          }
          options.holds = resume.task();
          pool.add([this, options, path = walked.path] {
            if (healer.heal(path, options) != Healed::deferred) return;
            {
              const std::lock_guard lock(deferred_mutex);
              if (deferred.size() < most_deferred) {
                deferred.push_back(path);
                return;
              }
            }
            HealOptions now = options;
            now.defer_scarce = false;
            healer.heal(path, now);
          });
        });
  }
  options.holds = nullptr;
  pool.wait_until_idle();
  placer.flush(pool);
  heal_deferred(pool);
  if (session.stopped()) {
    resume.keep();
    return;
  }
  heal_links(pool, whole && !resume.resumed() && session.options.shards == 1);
  resume.finish();
}

void Scrub::Impl::heal_deferred(Pool& pool) {
  std::vector<std::string> paths;
  {
    const std::lock_guard lock(deferred_mutex);
    paths.swap(deferred);
  }
  HealOptions options;
  options.links = &links;
  options.placer = &placer;
  for (std::string& path : paths) {
    pool.add([this, options, path = std::move(path)] { healer.heal(path, options); });
  }
  pool.wait_until_idle();
  placer.flush(pool);
}

// All names of files with several names: only with all of them at hand a group can be healed as one.
void Scrub::Impl::collect_links(Pool& pool) {
  const ExportSet online = session.array.online();
  walk(session, "", {}, [&](const Walked& walked) {
    if (walked.directory) return;
    pool.add([this, online, path = walked.path] {
      nas::Answers answers =
          session.array.metadata(online, [&](ExportIndex) { return new_operation(Kind::stat, path); });
      for (const nas::Answer& answer : answers) {
        if (!answer.ok() || answer.operation->stat.stx_nlink < 2) continue;
        links.note(answer.index, answer.operation->stat.stx_ino, path);
      }
    });
  });
  pool.wait_until_idle();
}

// Names about which there are facts first: the others are linked to what these lead to then.
void Scrub::Impl::heal_group(std::vector<std::string> names, bool repaired_now) {
  constexpr unsigned about_contents =
      Blame::bit(ledger::Why::missed_write) | Blame::bit(ledger::Why::metadata) | Blame::bit(ledger::Why::unverified);
  Doubts doubts;
  std::set<std::string> first;
  bool committed = repaired_now;  // it is our own change then that is young
  for (const std::string& name : names) {
    for (const ExportIndex index : session.context.ledger.ask(name).blamed) {
      committed = true;
      const unsigned whys = read_blame(session, name, index).whys & about_contents;
      if (whys == 0) continue;
      first.insert(name);
      const replica::Done there = perform_on(session.array, index, new_operation(Kind::stat, name));
      if (there.ok()) doubts.insert({index, {there.operation->stat.stx_ino, whys}});
    }
  }
  std::stable_partition(names.begin(), names.end(), [&](const std::string& name) { return first.contains(name); });
  std::vector<std::string> before;
  for (const std::string& name : names) {
    HealOptions options;
    options.facts = true;
    options.group = &before;
    options.doubts = &doubts;
    options.committed = committed;
    const Healed result = healer.heal(name, options);
    if (result == Healed::clean || result == Healed::repaired) links.healed(name);
    before.push_back(name);
  }
}

void Scrub::Impl::heal_links(Pool& pool, bool complete, bool repaired_now) {
  if (!links.any_broken()) return;
  session.counters.pass = Pass::links;
  if (!complete) collect_links(pool);
  if (links.overflowed()) {
    session.found(
        Finding::left, "",
        fmt::format("more than {} names of files with several names: run it on parts of the tree", Links::most_names));
  }
  for (std::vector<std::string>& group : links.broken()) {
    pool.add([this, names = std::move(group), repaired_now] { heal_group(names, repaired_now); });
  }
  pool.wait_until_idle();
}

// Renames that killed nodes have left half done are finished first: else both names would get their replicas. Those of
// nodes that live are over soon.
void Scrub::Impl::finish_renames() {
  std::map<std::string, ExportSet> begun = replica::list_intents(session.array).holders;
  if (begun.empty()) return;
  if (session.options.dry_run) {
    session.found(Finding::left, "", fmt::format("{} renames are not finished", begun.size()));
    return;
  }
  tree::Tree tree(session.array, session.context.ledger, session.array.options().node_name, {});
  const base::TimePoint until = session.array.clock().now() + rename_wait;
  while (!session.stopped()) {
    tree.finish_abandoned_renames();
    const replica::IntentList now = replica::list_intents(session.array);
    std::erase_if(begun, [&](const auto& intent) {
      return !now.holders.contains(intent.first) && (intent.second - now.answered).empty();
    });
    if (begun.empty()) return;
    if (session.array.clock().now() >= until) break;
    session.array.clock().sleep(rename_pause);
  }
  session.found(Finding::left, "",
                fmt::format("{} renames are not finished: exports that know of them are away", begun.size()));
}

void Scrub::Impl::passes(Pool& pool) {
  finish_renames();
  { Drain(session, pool, links).run(); }
  if (!session.options.ledger_only && !session.stopped()) metadata(pool);
  if (session.options.ledger_only && !session.stopped()) heal_links(pool, false);
  if (session.options.deep && !session.stopped()) {
    if (Deep(session, pool, links).run()) heal_links(pool, false, true);
  }
  // What waited for the other names of a file.
  sweep_ledger(session);
  if (links.any_broken() && !session.stopped() && !session.array.blamed_somewhere().empty()) {
    Links rest;
    rest.keep_healed(links);
    Drain(session, pool, rest).run();
    sweep_ledger(session);
  }
  session.restore_times();
  if (!session.options.dry_run && !session.stopped()) {
    session.counters.pass = Pass::trash;
    expire_trash(session);
  }
}

base::Result<int> Scrub::Impl::run() {
  const struct timespec begun = session.array.clock().realtime();
  {
    const auto topology = session.array.topology();
    const bool rebuilding = std::any_of(topology->exports.begin(), topology->exports.end(),
                                        [](const auto& e) { return e.rebuild_pending; });
    coverage = {false, session.options.paths, topology->version, topology->replicas_missing() || rebuilding};
  }
  if (session.options.paths.empty() && session.options.shards == 1)
    session.counters.expected_files = files_last_time(session.array);
  if (!session.options.dry_run) {
    auto lease = Lease::acquire(session.array, session.options.shard, session.options.shards);
    if (!lease) return base::Unexpected{lease.error()};
    session.lease = std::move(*lease);
    sweep_temporaries();
  }
  std::unique_ptr<Recorder> recorder;
  if (session.lease) recorder = std::make_unique<Recorder>(session);
  const auto absent = [this] { return session.array.topology()->data_exports() - session.array.online(); };
  const ExportSet absent_before = absent();
  for (const ExportIndex index : absent_before) {
    session.found(Finding::left, "",
                  "export " + session.name_of(index) + " is absent: " + session.array.at(index).absent_reason());
  }
  {
    Pool pool(std::max(1U, session.options.jobs));
    passes(pool);
  }
  if (session.unanswered && absent_before.empty() && absent().empty()) {
    session.found(Finding::left, "", "an export did not answer now and then: what it has was not looked at everywhere");
  }
  for (const ExportIndex index : absent() - absent_before) {
    session.found(
        Finding::left, "",
        "export " + session.name_of(index) + " went away meanwhile: " + session.array.at(index).absent_reason());
  }
  recorder = nullptr;
  session.counters.pass = Pass::done;
  const Options& options = session.options;
  coverage.complete = !options.ledger_only && !options.dry_run && options.shards == 1 && !session.stopped() &&
                      !session.unanswered && absent_before.empty() && absent().empty();
  int result = status();
  if (session.stopping) result |= status_left;
  if (session.lease) record_result(session, result, begun.tv_sec);
  session.lease = nullptr;
  return result;
}

Scrub::Scrub(replica::Context& context, Options options, Reporter reporter)
    : impl_(std::make_unique<Impl>(context, std::move(options), std::move(reporter))) {}
Scrub::~Scrub() = default;
base::Result<int> Scrub::run() {
  return impl_->run();
}
void Scrub::stop() {
  impl_->session.stopping = true;
}
const Counters& Scrub::counters() const {
  return impl_->session.counters;
}
const Coverage& Scrub::coverage() const {
  return impl_->coverage;
}

}  // namespace rainfs::scrub
