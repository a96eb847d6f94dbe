// SPDX-License-Identifier: Apache-2.0
#include "rainfs/replica/locate.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <tuple>

#include "rainfs/log/log.hpp"
#include "rainfs/replica/intent.hpp"

namespace rainfs::replica {

namespace {

bool nothing_there(int error) {
  return error == ENOENT || error == ENOTDIR;
}

class Search {
 public:
  Search(Context& context, std::string_view path, const LocateOptions& options)
      : context_(context), path_(path), options_(options) {
    found_.topology = context.array.topology();
    found_.rules = found_.topology->rules_for(path);
    found_.order = placement::order(path, *found_.topology);
    scrub_seen_ = context.array.scrub_announced();
  }

  base::Result<Location> run() {
    const ExportSet all = found_.topology->data_exports();
    const ExportSet online = context_.array.online();
    ExportSet first = all;
    bool hinted = false;
    if (!options_.everywhere) {
      hinted = found_.topology->racks_of(options_.hint & online) >= found_.rules.replicas;
      first = hinted ? options_.hint & online
                     : placement::choose(found_.order, *found_.topology, found_.rules.replicas,
                                         online & found_.topology->placeable());
    }
    const base::TimePoint began = context_.array.clock().now();
    ask(first);
    if (error_ != 0) return base::unexpected(error_);
    bool known = decided();
    // (That it is no longer where it was says little: it may be in fewer places now, and elsewhere.)
    if (!known || (hinted && absent())) {
      ask(all - found_.asked);
      known = error_ == 0 && decided();
    }
    if (error_ != 0) return base::unexpected(error_);
    // The exports were not asked at one moment: what was renamed meanwhile may have been missed on all, unless that
    // took less time than a rename leaves between its first step and its last.
    if (known && absent() && context_.array.clock().now() - began >= one_moment) {
      look_again(found_.asked);
      if (error_ != 0) return base::unexpected(error_);
      known = decided();
    }
    if (!known) ask_ledger();
    if (error_ != 0) return base::unexpected(error_);
    if (absent()) confirm_absence(online == all && found_.not_reached.empty());
    if (options_.newest_times && found_.verdict.finding == Finding::present && S_ISDIR(found_.elected().stx_mode)) {
      ask(all - found_.asked);
      const Verdict before = found_.verdict;
      if (!decided()) found_.verdict = before;
    }
    if (found_.verdict.finding == Finding::unprovable) {
      log::warning("unprovable",
                   "/{}: too few racks answered to tell; not reached: {}; behind: {}; silent about facts: {}", path_,
                   fmt::join(names(all - found_.evidence.present - found_.evidence.missing), ", "),
                   fmt::join(names(found_.evidence.blamed), ", "),
                   fmt::join(names(found_.topology->fact_holders() - found_.evidence.holders_answered), ", "));
      return base::unexpected(EIO);
    }
    return std::move(found_);
  }

 private:
  void ask_ledger() {
    const ledger::Testimony testimony = context_.ledger.ask(path_);
    found_.evidence.ledger_asked = true;
    blamed_ = testimony.blamed;
    lacking_ = testimony.lacking;
    found_.evidence.gone = testimony.gone;
    found_.evidence.holders_answered = testimony.answered;
    const ExportSet seen = found_.evidence.present - testimony.blamed;
    // What was seen before may have been repaired, and its facts cleared, since: the replicas are looked at
    // after the ledger.
    look_again(found_.topology->data_exports());
    decided();
    // What one look found and the next does not may have been renamed to where the next had looked already.
    if (absent() && !seen.empty()) {
      look_again(found_.topology->data_exports());
      decided();
    }
    if (found_.verdict.finding != Finding::present) return;
    const ExportSet behind = behind_by_other_names(context_, found_);
    if (behind.empty()) return;
    if ((found_.evidence.present - found_.evidence.blamed - behind).empty()) {
      log::warning("unprovable", "/{}: what is left of it missed a change by another of its names", path_);
      error_ = EIO;
      return;
    }
    blamed_ |= behind;
    decided();
  }

  // Other nodes may see exports that this one does not. What they have left on those alone, and have recorded since the
  // last poll or since the ledger was asked, this node may have missed: with exports away the ledger is asked last of
  // all.
  void confirm_absence(bool all_reached) {
    // (Before the ledger, which knows what an exchange has left behind by the time its intent goes.)
    if ((!all_reached || context_.array.intents_pending()) && being_exchanged(context_.array, path_)) {
      log::warning("exchange-unfinished", "/{}: it is being exchanged with another name, and that is not finished",
                   path_);
      found_.verdict.finding = Finding::unprovable;
      return;
    }
    if (all_reached) return;
    const ledger::Testimony now = context_.ledger.ask({std::string(path_)}, found_.evidence.missing).front();
    Evidence& evidence = found_.evidence;
    evidence.holders_answered = evidence.ledger_asked ? evidence.holders_answered & now.answered : now.answered;
    evidence.ledger_asked = true;
    lacking_ = (lacking_ - now.blamed) | (now.lacking - (blamed_ - lacking_));
    blamed_ |= now.blamed;
    decided();
  }

  bool absent() const { return found_.verdict.finding == Finding::absent; }

  void look_again(ExportSet targets) {
    found_.evidence.present = found_.evidence.missing = found_.not_reached = found_.asked = {};
    found_.answers = {};
    ask(targets);
  }

  bool decided() {
    // (What may lack a directory and has it is to be believed.)
    found_.evidence.blamed = blamed_;
    for (const ExportIndex index : lacking_& found_.evidence.present) {
      if (S_ISDIR(found_.evidence.stamps[index].mode)) found_.evidence.blamed.erase(index);
    }
    // While a scrub is announced agreement is not enough: a replica may just be being placed.
    scrub_seen_ |= context_.array.scrub_announced();
    const ExportSet suspect = scrub_seen_ ? found_.topology->data_exports() : context_.array.blamed_somewhere();
    found_.verdict = judge(found_.evidence, *found_.topology, found_.rules, found_.order, suspect);
    return found_.verdict.finding != Finding::undecided;
  }

  void ask(ExportSet targets) {
    if (targets.empty()) return;
    found_.asked |= targets;
    nas::Answers answers = stats(targets, nullptr);
    const ExportSet refused = answers.with_error(EACCES) | answers.with_error(EPERM);
    if (!refused.empty() && options_.credentials) {
      for (nas::Answer& answer : stats(refused, options_.credentials)) *answers.of(answer.index) = std::move(answer);
    }
    int file_error = 0;
    bool some_answer = false;
    found_.answers.list.reserve(found_.answers.list.size() + answers.list.size());
    for (nas::Answer& answer : answers) {
      if (answer.ok()) {
        found_.evidence.present.insert(answer.index);
        found_.evidence.stamps[answer.index] = stamp_of(answer.operation->stat);
        some_answer = true;
      } else if (nothing_there(answer.error)) {
        found_.evidence.missing.insert(answer.index);
        some_answer = true;
      } else if (base::classify(answer.error) == base::ErrorClass::absent) {
        found_.not_reached.insert(answer.index);
      } else {
        file_error = answer.error;
      }
      found_.answers.list.push_back(std::move(answer));
    }
    if (file_error != 0 && !some_answer) error_ = file_error;
  }

  nas::Answers stats(ExportSet targets, const io::CredentialsPtr& credentials) {
    return context_.array.metadata(targets, [&](ExportIndex) {
      auto operation = std::make_shared<io::Operation>(io::Kind::stat);
      operation->path = path_;
      operation->flags = options_.force_sync ? AT_STATX_FORCE_SYNC : 0;
      operation->credentials = credentials;
      return operation;
    });
  }

  std::vector<std::string> names(ExportSet set) const {
    std::vector<std::string> out;
    for (const ExportIndex index : set) out.push_back(found_.topology->exports[index].name);
    return out;
  }

  Context& context_;
  std::string_view path_;
  const LocateOptions& options_;
  Location found_;
  ExportSet blamed_, lacking_;  // as the ledger says
  int error_ = 0;
  bool scrub_seen_ = false;
};

}  // namespace

const struct statx* Location::stat_of(ExportIndex index) const {
  const nas::Answer* answer = answers.of(index);
  return answer != nullptr && answer->ok() ? &answer->operation->stat : nullptr;
}

namespace {

// Of names on one export, whether one leads to the inode. True where the export does not tell.
bool leads_to(nas::Array& array, ExportIndex index, const std::vector<std::string>& names, std::uint64_t inode) {
  constexpr std::size_t at_once = 128;
  for (std::size_t begin = 0; begin < names.size(); begin += at_once) {
    const io::HandlePtr root = array.at(index).root();
    if (!root) return true;
    std::vector<io::OperationPtr> looks;
    io::Batch batch;
    for (std::size_t i = begin; i < std::min(names.size(), begin + at_once); ++i) {
      looks.push_back(io::new_operation(io::Kind::stat, names[i]));
      looks.back()->file = root;
      batch.add(looks.back());
    }
    batch.run(array.clock(), array.deadlines().metadata);
    for (const io::OperationPtr& look : looks) {
      if (!look->done() || (look->error != 0 && !nothing_there(look->error))) return true;
      if (look->error == 0 && look->stat.stx_ino == inode) return true;
    }
  }
  return false;
}

}  // namespace

ExportSet behind_by_other_names(Context& context, const Location& found) {
  ExportSet behind;
  if (found.verdict.agreed || found.rules.quorum == topology::Quorum::lenient) return behind;
  const ExportSet credible = found.evidence.present - found.evidence.blamed;
  ExportSet linked;
  for (const ExportIndex index : credible& context.array.blamed_somewhere()) {
    const struct statx* stat = found.stat_of(index);
    if (stat != nullptr && S_ISREG(stat->stx_mode) && stat->stx_nlink > 1) linked.insert(index);
  }
  if (linked.empty()) return behind;
  const auto facts = context.ledger.beneath("");
  if (!facts) return linked;
  for (const ExportIndex index : linked) {
    std::vector<std::string> names;
    for (const ledger::Fact& fact : *facts) {
      const bool contents = fact.why == ledger::Why::missed_write || fact.why == ledger::Why::metadata ||
                            fact.why == ledger::Why::unverified;
      if (fact.target == index && contents && fact.scope == ledger::Scope::entry) names.push_back(fact.path);
    }
    if (leads_to(context.array, index, names, found.stat_of(index)->stx_ino)) behind.insert(index);
  }
  return behind;
}

base::Result<Location> locate(Context& context, std::string_view path, const LocateOptions& options) {
  return Search(context, path, options).run();
}

namespace {

void take_newer(struct statx_timestamp& time, const struct statx_timestamp& other) {
  if (std::tie(other.tv_sec, other.tv_nsec) > std::tie(time.tv_sec, time.tv_nsec)) time = other;
}

}  // namespace

void take_newer_times(struct statx& stat, const struct statx& other) {
  take_newer(stat.stx_atime, other.stx_atime);
  take_newer(stat.stx_ctime, other.stx_ctime);
}

void merge_directory(struct statx& stat, const struct statx& other) {
  take_newer_times(stat, other);
  take_newer(stat.stx_mtime, other.stx_mtime);
  stat.stx_size = std::max(stat.stx_size, other.stx_size);
  stat.stx_blocks = std::max(stat.stx_blocks, other.stx_blocks);
  stat.stx_nlink = std::max(stat.stx_nlink, other.stx_nlink);
}

struct statx merged_directory_stat(const Location& location) {
  struct statx merged = location.elected();
  for (const ExportIndex index : location.verdict.good) merge_directory(merged, *location.stat_of(index));
  return merged;
}

}  // namespace rainfs::replica
