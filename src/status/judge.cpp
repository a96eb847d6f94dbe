// SPDX-License-Identifier: Apache-2.0
// What is wrong, what it means and what to do about it: the one place where a state of the array is given words.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "rainfs/config/values.hpp"
#include "rainfs/status/report.hpp"
#include "words.hpp"

namespace rainfs::status {

namespace {

constexpr unsigned nearly_full_per_cent = 5;

std::string title(const Export& exp) {
  return exp.witness ? fmt::format("witness {}", exp.name) : fmt::format("export {} ({})", exp.name, exp.rack);
}

std::string action_for(const Export& exp, const std::string& array) {
  const std::string& reason = exp.absent_reason;
  const auto says = [&](std::string_view words) { return reason.find(words) != std::string::npos; };
  std::string first;
  if (says("not mounted")) {
    first = fmt::format("Mount the export at {}.", exp.path);
  } else if (says("it is export")) {
    first = fmt::format("Another export is mounted at {}: mount the right one there.", exp.path);
  } else if (says("does not answer") || says("deadline")) {
    first = "Check the NAS and the network to it.";
  } else {
    first = fmt::format("Check the mount at {} (dmesg tells more), and the NAS.", exp.path);
  }
  return fmt::format("{} It is taken back by itself when it answers. If it is lost for good: rainfsctl retire {} {}.",
                     first, array, exp.name);
}

void judge_racks(Report& report) {
  const unsigned missing = report.racks - report.racks_complete;
  if (report.racks_complete >= report.racks_to_deny && missing < std::max(report.replicas, 1U)) return;
  Problem problem;
  problem.health = Health::unavailable;
  problem.what =
      fmt::format("{} of {} racks are not complete; with {} {} of each file the array stands the loss of {}", missing,
                  report.racks, report.replicas, report.replicas == 1 ? "replica" : "replicas", report.replicas - 1);
  problem.means = report.strict
                      ? "Files with no replica in reach, and names that cannot be proven not to exist, answer EIO. "
                        "Nothing is lost by that, and nothing wrong is answered."
                      : "Files with no replica in reach are missing until their exports return (quorum: lenient).";
  problem.action = fmt::format("Bring the exports of at least {} of these racks back, whichever is quickest.",
                               missing - std::min(missing, report.replicas - 1));
  report.problems.push_back(std::move(problem));
}

void judge_export(Report& report, const Export& exp) {
  if (exp.state == "retired") return;
  const auto add = [&](std::string what, std::string means, std::string action) {
    report.problems.push_back(
        {Health::degraded, title(exp) + " " + std::move(what), std::move(means), std::move(action)});
  };
  if (!exp.online) {
    std::string since;
    if (exp.absent_since_s > 0) {
      since = fmt::format(" since {} ({})", format_date(exp.absent_since_s),
                          format_age(report.time_s - exp.absent_since_s));
    }
    add(fmt::format("is absent{}: {}", since, exp.absent_reason),
        exp.witness ? "Facts about absent exports have one place fewer."
                    : "Its files are read from other racks. What changes meanwhile is remembered, and brought to it "
                      "after its return.",
        action_for(exp, report.array));
    return;
  }
  if (exp.slow) {
    add(fmt::format("is slow: {} per operation", format_latency(exp.latency_ns)),
        "It is read from last, but everything written to it waits for it.",
        "Look for what keeps the NAS busy: a rebuild, a failing disk, another client.");
  }
  if (exp.read_only) {
    add("is mounted read-only", "Its files are read; what is written to them is recorded as missing on it.",
        fmt::format("Find out why (dmesg), and mount {} for writing.", exp.path));
  }
  if (exp.full) {
    add(fmt::format("is full: {} of {} are free", config::format_size(exp.available_bytes),
                    config::format_size(exp.total_bytes)),
        "New replicas go to other exports; writes that find no room go on with fewer replicas.",
        fmt::format("Remove files, enlarge it, or add an export (rainfsctl add); then rainfs-scrub {}.", report.array));
  }
  if (exp.state == "draining") {
    add("is being drained", "Its replicas are moved to other exports; nothing new goes there.",
        fmt::format("Nothing, if a scrub is running; else rainfs-scrub {}.", report.array));
  }
  if (exp.rebuild_pending) {
    add("is to be rebuilt", "It does not hold all of its replicas yet: those files have one replica fewer.",
        fmt::format("Nothing, if a scrub is running; else rainfs-scrub {}.", report.array));
  }
}

void judge_space(Report& report) {
  if (report.usable_bytes == 0 || report.racks_complete < report.racks) return;
  if (report.usable_available_bytes / nearly_full_per_cent >= report.usable_bytes / 100) return;
  report.problems.push_back(
      {Health::degraded,
       fmt::format("the array is nearly full: {} of {} are free", config::format_size(report.usable_available_bytes),
                   config::format_size(report.usable_bytes)),
       "Soon there will not be room for all replicas of new files.",
       "Remove files (what repair put into .rainfs/trash counts as well), or add exports: rainfsctl add."});
}

void judge_files(Report& report) {
  if (report.replicas_missing) {
    report.problems.push_back(
        {Health::degraded, "not all files have been given all their replicas yet",
         "They lay on an export before it was part of the array, or the number of replicas was raised. Until it is "
         "done, "
         "one absent rack is enough for EIO where a name or a listing cannot be proven without it.",
         fmt::format("rainfsctl replicas {} {} makes them.", report.array, report.replicas)});
  }
  const Facts& facts = report.facts;
  bool any_absent = false;
  for (const Export& exp : report.exports) any_absent |= !exp.online && exp.state != "retired" && !exp.witness;
  if (facts.count > 0) {
    Problem problem;
    problem.what =
        fmt::format("{}{} {} waiting for repair{}", facts.complete ? "" : "more than ", facts.paths,
                    facts.paths == 1 ? "file is" : "files are",
                    facts.oldest_s > 0 ? fmt::format(", the oldest for {}", format_age(report.time_s - facts.oldest_s))
                                       : std::string{});
    problem.means =
        fmt::format("They changed while a replica could not be reached, and have {}. The stale ones are not used.",
                    report.replicas == 2 ? "one good replica instead of 2"
                                         : fmt::format("fewer than {} good replicas", report.replicas));
    problem.action = report.scrub.running
                         ? "Nothing: a scrub is running."
                         : fmt::format("{}rainfs-scrub --ledger {}.",
                                       any_absent ? "Bring the absent export back, then: " : "", report.array);
    report.problems.push_back(std::move(problem));
  }
  const Scrub& scrub = report.scrub;
  if (scrub.finished_s == 0) return;
  if (scrub.fewer_than_r > 0) {
    report.problems.push_back(
        {Health::degraded,
         fmt::format("the last scrub left {} files with fewer than {} replicas, {} of them with one",
                     scrub.fewer_than_r, report.replicas, scrub.single),
         "They may not survive the loss of another rack.",
         fmt::format("Bring absent exports back or make room, then rainfs-scrub {}.", report.array)});
  }
  if (scrub.unrepaired > 0) {
    report.problems.push_back({Health::degraded,
                               fmt::format("the last scrub left {} files as they were", scrub.unrepaired),
                               "It could not tell which replica is right, or could not write: nothing was guessed.",
                               fmt::format("rainfs-scrub --dry-run {} lists them and says why.", report.array)});
  }
}

void judge_policies(Report& report) {
  const unsigned missing = report.racks - report.racks_complete;
  if (missing == 0) return;
  for (const Policy& policy : report.policies) {
    if (policy.replicas == 0 || missing < policy.replicas || policy.replicas >= report.replicas) continue;
    report.problems.push_back({Health::degraded,
                               fmt::format("/{} has {} {} of each file, and {} racks are not complete", policy.path,
                                           policy.replicas, policy.replicas == 1 ? "replica" : "replicas", missing),
                               "Some of these files cannot be used until the racks return.",
                               "Bring the absent exports back."});
  }
}

}  // namespace

std::string_view name_of(Health health) {
  switch (health) {
    case Health::healthy:
      return "healthy";
    case Health::degraded:
      return "degraded";
    case Health::unavailable:
      return "unavailable";
  }
  return "?";
}

void judge(Report& report) {
  report.problems.clear();
  judge_racks(report);
  for (const Export& exp : report.exports) judge_export(report, exp);
  judge_policies(report);
  judge_space(report);
  judge_files(report);
  std::stable_sort(report.problems.begin(), report.problems.end(),
                   [](const Problem& a, const Problem& b) { return a.health > b.health; });
  report.health = report.problems.empty() ? Health::healthy : report.problems.front().health;
}

std::string format_age(std::int64_t seconds) {
  if (seconds < 0) seconds = 0;
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 2 * 3600) return fmt::format("{} min", seconds / 60);
  if (seconds < 2 * 86400) return fmt::format("{} h", seconds / 3600);
  return fmt::format("{} days", seconds / 86400);
}

std::string format_date(std::int64_t seconds) {
  const auto when = static_cast<std::time_t>(seconds);
  struct tm parts {};
  if (::localtime_r(&when, &parts) == nullptr) return std::to_string(seconds);
  return fmt::format("{:%Y-%m-%d %H:%M:%S}", parts);
}

std::string format_latency(std::uint64_t nanoseconds) {
  if (nanoseconds < 1'000'000) return fmt::format("{} us", nanoseconds / 1000);
  if (nanoseconds < 1'000'000'000) return fmt::format("{:.1f} ms", static_cast<double>(nanoseconds) / 1e6);
  return fmt::format("{:.1f} s", static_cast<double>(nanoseconds) / 1e9);
}

}  // namespace rainfs::status
