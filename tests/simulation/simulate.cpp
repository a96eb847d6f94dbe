// SPDX-License-Identifier: Apache-2.0
// simulate --seeds A-B [--steps N] [--break PROMISE] [--history] [--cut-renames]: runs that one number each decides.
// Prints the seed and the history of the first run in which something was seen that must not be.
#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>

#include <charconv>
#include <cstring>

#include "rainfs/log/log.hpp"
#include "scenario.hpp"

namespace {

using namespace rainfs::simulation;

struct Arguments {
  std::uint64_t first = 1, last = 100;
  unsigned steps = 60;
  std::string broken;
  bool history = false, every = false, log = false, twice = false, cut_renames = false;
};

template <typename Number>
bool parse(std::string_view text, Number& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size();
}

bool parse_arguments(int count, char** values, Arguments& out) {
  for (int i = 1; i < count; ++i) {
    const std::string_view name = values[i];
    const std::string_view value = i + 1 < count ? values[i + 1] : "";
    if (name == "--history") {
      out.history = true;
    } else if (name == "--every") {
      out.every = true;
    } else if (name == "--twice") {
      out.twice = true;
    } else if (name == "--cut-renames") {
      out.cut_renames = true;
    } else if (name == "--log") {
      out.log = true;
    } else if (name == "--steps" && parse(value, out.steps)) {
      ++i;
    } else if (name == "--break") {
      out.broken = value;
      ++i;
    } else if (name == "--seeds") {
      const std::size_t dash = value.find('-');
      if (!parse(value.substr(0, dash), out.first)) return false;
      out.last = out.first;
      if (dash != std::string_view::npos && !parse(value.substr(dash + 1), out.last)) return false;
      ++i;
    } else {
      return false;
    }
  }
  if (out.broken.empty()) return true;
  for (const Breakage& breakage : breakages()) {
    if (out.broken == breakage.name) return true;
  }
  return false;
}

int usage() {
  fmt::print(stderr,
             "usage: simulate [--seeds A-B] [--steps N] [--break PROMISE] [--history] [--every] [--twice] "
             "[--cut-renames] [--log]\npromises that can be broken:\n");
  for (const Breakage& breakage : breakages()) fmt::print(stderr, "  {:<14} {}\n", breakage.name, breakage.how);
  return 2;
}

Outcome run(const Arguments& arguments, std::uint64_t seed, bool history) {
  Settings settings;
  settings.seed = seed;
  settings.steps = arguments.steps;
  settings.broken = arguments.broken;
  settings.keep_history = history;
  settings.cut_renames = arguments.cut_renames;
  return run_scenario(settings);
}

}  // namespace

int main(int count, char** values) {
  Arguments arguments;
  if (!parse_arguments(count, values, arguments)) return usage();
  rainfs::log::set_level(arguments.log ? rainfs::log::Level::debug : static_cast<rainfs::log::Level>(0));
  std::uint64_t operations = 0, succeeded = 0, unprovable = 0, faults = 0, scrubs = 0, violations = 0;
  for (std::uint64_t seed = arguments.first; seed <= arguments.last; ++seed) {
    const Outcome outcome = run(arguments, seed, arguments.history);
    operations += outcome.operations;
    succeeded += outcome.succeeded;
    unprovable += outcome.unprovable;
    faults += outcome.faults;
    scrubs += outcome.scrubs;
    if (arguments.twice && run(arguments, seed, false).fingerprint != outcome.fingerprint) {
      fmt::print("seed {} does not replay\n", seed);
      return 1;
    }
    if (!outcome.violation && !arguments.history) continue;
    const Outcome again = arguments.history ? outcome : run(arguments, seed, true);
    if (arguments.every) {
      ++violations;
      fmt::print("seed {}: {}\n", seed, *outcome.violation);
      if (again.fingerprint != outcome.fingerprint) fmt::print("seed {} does not replay\n", seed);
      continue;
    }
    for (const std::string& line : again.history) fmt::print("{}\n", line);
    if (!outcome.violation) continue;
    fmt::print("seed {}: {}\n", seed, *outcome.violation);
    if (again.fingerprint != outcome.fingerprint)
      fmt::print("seed {} does not replay: {}\n", seed, again.violation.value_or("nothing found"));
    if (!arguments.broken.empty())
      fmt::print("the broken promise ({}) was noticed at seed {}\n", arguments.broken, seed);
    return arguments.broken.empty() ? 1 : 0;
  }
  fmt::print(
      "{} seeds: {} operations, {} succeeded, {} could not be proven or remembered, {} faults, {} scrubs; {} "
      "violations\n",
      arguments.last - arguments.first + 1, operations, succeeded, unprovable, faults, scrubs, violations);
  if (violations > 0) return 1;
  if (arguments.broken.empty()) return 0;
  fmt::print("the broken promise ({}) was not noticed\n", arguments.broken);
  return 1;
}
