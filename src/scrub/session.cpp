// SPDX-License-Identifier: Apache-2.0
#include "session.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "rainfs/log/log.hpp"
#include "rainfs/replica/intent.hpp"

namespace rainfs::scrub {

namespace {
constexpr std::size_t most_touched = 4096;  // directories whose times are to be set right
}

const char* name_of(Pass pass) {
  switch (pass) {
    case Pass::starting:
      return "starting";
    case Pass::ledger:
      return "ledger";
    case Pass::metadata:
      return "metadata";
    case Pass::links:
      return "hard links";
    case Pass::deep:
      return "contents";
    case Pass::trash:
      return "trash";
    case Pass::done:
      return "done";
  }
  return "?";
}

const char* name_of(Finding finding) {
  switch (finding) {
    case Finding::repaired:
      return "repaired";
    case Finding::left:
      return "left";
    case Finding::in_use:
      return "in-use";
    case Finding::conflict:
      return "conflict";
    case Finding::damaged:
      return "damaged";
  }
  return "?";
}

void RateLimit::take(std::uint64_t bytes) {
  if (rate_ == 0) return;
  base::TimePoint until;
  {
    const std::lock_guard lock(mutex_);
    const base::TimePoint now = clock_.now();
    if (next_ < now) next_ = now;
    until = next_;
    next_ += std::chrono::nanoseconds(
        static_cast<std::int64_t>(1e9 * static_cast<double>(bytes) / static_cast<double>(rate_)));
  }
  const base::TimePoint now = clock_.now();
  if (until > now) clock_.sleep(until - now);
}

Session::Session(replica::Context& context_in, const Options& options_in, Reporter reporter)
    : context(context_in),
      array(context_in.array),
      options(options_in),
      rate(context_in.array.clock(), options_in.rate_bytes),
      reporter_(std::move(reporter)) {}

void Session::found(Finding finding, const std::string& path, const std::string& text) {
  switch (finding) {
    case Finding::repaired:
      ++counters.repaired;
      break;
    case Finding::left:
      ++counters.left;
      break;
    case Finding::in_use:
      ++counters.in_use;
      break;
    case Finding::conflict:
      ++counters.conflicts;
      break;
    case Finding::damaged:
      ++counters.damaged;
      break;
  }
  const std::lock_guard lock(report_mutex_);
  if (reporter_) reporter_(finding, path, text);
}

bool Session::being_renamed(const std::string& path) const {
  if (!array.intents_pending()) return false;
  const auto intents = replica::read_intents(array);
  return !intents || std::any_of(intents->begin(), intents->end(),
                                 [&](const replica::Intent& intent) { return intent.concerns(path); });
}

std::string Session::temporary() {
  return fmt::format(".rainfs/tmp/scrub-{}-{}", lease ? lease->tag() : "none", sequence_.fetch_add(1));
}

std::string Session::names_of(ExportSet set) const {
  std::string text;
  for (const ExportIndex index : set) {
    if (!text.empty()) text += ", ";
    text += name_of(index);
  }
  return text;
}

void Session::clear_facts(const std::vector<ledger::Instance>& instances) {
  context.ledger.clear(instances, ledger::Ledger::Emptied::left);
}

void Session::touched(ExportIndex index, const std::string& directory) {
  bool full = false;
  {
    const std::lock_guard lock(touched_mutex_);
    touched_.insert(static_cast<char>(index) + directory);
    full = touched_.size() >= most_touched;
  }
  if (full) restore_times();
}

void Session::restore_times() {
  std::unordered_set<std::string> all;
  {
    const std::lock_guard lock(touched_mutex_);
    all.swap(touched_);
  }
  // The newest time that the other exports have: what users see is the newest of all.
  for (const std::string& key : all) {
    const auto index = static_cast<ExportIndex>(key.front());
    const std::string path = key.substr(1);
    nas::Answers answers = array.metadata(array.online(), [&](ExportIndex) { return new_operation(Kind::stat, path); });
    const nas::Answer* own = answers.of(index);
    if (own == nullptr || !own->ok()) continue;
    struct timespec newest {};
    for (const nas::Answer& answer : answers) {
      if (answer.index == index || !answer.ok() || all.contains(static_cast<char>(answer.index) + path)) continue;
      const struct statx_timestamp& time = answer.operation->stat.stx_mtime;
      if (time.tv_sec > newest.tv_sec || (time.tv_sec == newest.tv_sec && time.tv_nsec > newest.tv_nsec)) {
        newest = {time.tv_sec, time.tv_nsec};
      }
    }
    if (newest.tv_sec == 0) continue;
    auto set = new_operation(Kind::set_attributes, path);
    set->attributes.valid = io::Attributes::mtime_set;
    set->attributes.mtime = newest;
    perform_on(array, index, set);
  }
}

}  // namespace rainfs::scrub
