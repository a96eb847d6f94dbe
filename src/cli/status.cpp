// SPDX-License-Identifier: Apache-2.0
// rainfsctl status and tolerance: what is known of arrays, and whether that is well.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <thread>

#include "command.hpp"
#include "look.hpp"

namespace rainfs::cli {

namespace {

namespace po = boost::program_options;

// Monitoring systems take 3 for "could not tell".
constexpr int exit_unknown = 3;
constexpr std::chrono::seconds watch_interval{5};

int exit_of(status::Health health) {
  switch (health) {
    case status::Health::healthy:
      return 0;
    case status::Health::degraded:
      return 1;
    case status::Health::unavailable:
      return 2;
  }
  return exit_unknown;
}

base::Result<std::vector<Target>> targets_of(const po::variables_map& values) {
  if (values.count("operand") == 0) return all_targets();
  std::vector<Target> targets;
  for (const std::string& operand : operands_of(values)) {
    auto target = find_target(operand);
    if (!target) return base::unexpected(target.error());
    targets.push_back(std::move(*target));
  }
  return targets;
}

// The worst of what was found; of what could not be told only if nothing else is wrong.
int worse(int a, int b) {
  const auto rank = [](int status) { return status == 2 ? 4 : status == exit_unknown ? 3 : status; };
  return rank(a) > rank(b) ? a : b;
}

int show(const Command& self, const std::vector<Target>& targets, bool json, std::ostream& out, std::ostream& err) {
  int status = 0;
  bool first = true;
  if (json && targets.size() != 1) out << "[\n";
  for (const Target& target : targets) {
    const auto report = look(target);
    if (!report) {
      complain(self, target.title() + ": " + report.error().message(), err);
      status = worse(status, exit_unknown);
      continue;
    }
    if (!first) out << (json ? ",\n" : "\n");
    first = false;
    out << (json ? status::to_json(*report) : status::to_text(*report));
    status = worse(status, exit_of(report->health));
  }
  if (json && targets.size() != 1) out << "]\n";
  return status;
}

int run_status(const Command& self, const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  po::options_description options("Options");
  options.add_options()("json,j", "print JSON instead: an object for one array, else a list")(
      "watch,w", fmt::format("go on, every {} seconds, until interrupted", watch_interval.count()).c_str());
  int status = 0;
  const auto values = parse_arguments(self, arguments, options, 0, SIZE_MAX, out, err, status);
  if (!values) return status == exit_done ? exit_done : exit_unknown;
  const bool json = values->count("json") != 0;
  const bool watch = values->count("watch") != 0;
  while (true) {
    const auto targets = targets_of(*values);
    if (!targets) {
      complain(self, targets.error().message(), err);
      return exit_unknown;
    }
    if (watch && !json && ::isatty(STDOUT_FILENO) != 0) out << "\033[H\033[2J";
    status = show(self, *targets, json, out, err);
    if (!watch) return status;
    out << std::endl;
    if (!out) return status;
    std::this_thread::sleep_for(watch_interval);
  }
}

int run_tolerance(const Command& self, const std::vector<std::string>& arguments, std::ostream& out,
                  std::ostream& err) {
  int status = 0;
  const auto values =
      parse_arguments(self, arguments, po::options_description("Options"), 0, SIZE_MAX, out, err, status);
  if (!values) return status;
  const auto targets = targets_of(*values);
  if (!targets) {
    complain(self, targets.error().message(), err);
    return exit_failed;
  }
  for (const Target& target : *targets) {
    const auto report = look(target);
    if (!report) {
      complain(self, target.title() + ": " + report.error().message(), err);
      status = exit_failed;
      continue;
    }
    out << status::tolerance_table(*report);
  }
  return status;
}

// The page as a whole or not at all: something may be showing the old one.
base::Result<void> write_page(const std::string& file, const std::string& page) {
  const std::string temporary = file + ".new";
  {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    out << page;
    out.close();
    if (!out) return base::unexpected(errno != 0 ? errno : EIO, temporary);
  }
  if (::rename(temporary.c_str(), file.c_str()) != 0) return base::unexpected(errno, file);
  return {};
}

int run_report(const Command& self, const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  po::options_description options("Options");
  options.add_options()("html", po::value<std::string>(), "where to write the page");
  int status = 0;
  const auto values = parse_arguments(self, arguments, options, 0, SIZE_MAX, out, err, status);
  if (!values) return status;
  if (values->count("html") == 0) {
    complain(self, "--html FILE is needed; see 'rainfsctl report --help'", err);
    return exit_usage;
  }
  const auto targets = targets_of(*values);
  if (!targets) {
    complain(self, targets.error().message(), err);
    return exit_failed;
  }
  std::vector<status::Report> reports;
  for (const Target& target : *targets) {
    auto report = look(target);
    if (!report) {
      complain(self, target.title() + ": " + report.error().message(), err);
      return exit_failed;
    }
    reports.push_back(std::move(*report));
  }
  const std::string file = (*values)["html"].as<std::string>();
  if (const auto written = write_page(file, status::to_html(reports)); !written) {
    complain(self, written.error().message(), err);
    return exit_failed;
  }
  return exit_done;
}

}  // namespace

const Command report_command{
    "report", "--html FILE [ARRAY|MOUNTPOINT|FILE]...", "write the state of arrays as a page for a browser",
    "Writes what 'rainfsctl status' knows as one page that needs nothing else; made anew as a whole, so that it can "
    "be\n"
    "written where a web server finds it.\n\n"
    "Exit status: 0 done, 1 an array could not be looked at or the page not be written, 2 wrong usage.",
    run_report};

const Command status_command{
    "status", "[ARRAY|MOUNTPOINT|FILE]...", "show the health of arrays, what is wrong and what to do",
    "Shows racks and exports, capacity, what waits for repair, the last scrub and who has mounted the array; and of\n"
    "each thing that is not well what it is, what it means and what to do. Without operands: all arrays that are\n"
    "mounted here or have a file in /etc/rainfs. Asks the daemon where an array is mounted on this node, else the\n"
    "exports themselves; an export that hangs costs its deadline and no more.\n\n"
    "Exit status: 0 healthy, 1 degraded, 2 some data is unavailable, 3 it could not be told.",
    run_status};

const Command tolerance_command{
    "tolerance", "[ARRAY|MOUNTPOINT|FILE]...", "show which losses an array stands",
    "Prints how many racks and how many disks, wherever they are, may be lost at once without loss of data: for each\n"
    "number of replicas and each kind of RAID within the exports, and for this array as it is now.\n\n"
    "Exit status: 0 done, 1 if an array could not be looked at, 2 for wrong usage.",
    run_tolerance};

}  // namespace rainfs::cli
