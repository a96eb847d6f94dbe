// SPDX-License-Identifier: Apache-2.0
// The report for people.
#include <fmt/format.h>

#include <algorithm>

#include "rainfs/config/values.hpp"
#include "rainfs/status/report.hpp"
#include "words.hpp"

namespace rainfs::status {

namespace {

using config::format_size;

constexpr std::size_t line_width = 100;
constexpr std::size_t label_width = 8;

// A paragraph after a right-aligned label, broken between words.
void paragraph(std::string& out, std::string_view label, std::string_view text) {
  std::string line = fmt::format("{:>{}}: ", label, label_width);
  const std::string indent(label_width + 2, ' ');
  bool empty = true;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of(" \n"), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (word.empty()) continue;
    if (!empty && line.size() + 1 + word.size() > line_width) {
      out += line + "\n";
      line = indent;
      empty = true;
    }
    if (!empty) line += ' ';
    line += word;
    empty = false;
  }
  out += line + "\n";
}

std::string states_of(const Export& exp) {
  std::string states = exp.online ? "online" : "ABSENT";
  if (exp.state == "retired") return "retired";
  if (exp.slow) states += ", SLOW";
  if (exp.read_only) states += ", READ-ONLY";
  if (exp.full) states += ", FULL";
  if (exp.state == "draining") states += ", draining";
  if (exp.rebuild_pending) states += ", to be rebuilt";
  return states;
}

void rows(std::string& out, const std::vector<std::vector<std::string>>& table) {
  std::vector<std::size_t> widths;
  for (const auto& row : table) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : table) {
    std::string line = "  ";
    // The name and the state to the left, figures to the right.
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += i < 2 ? fmt::format("{:<{}}  ", row[i], widths[i]) : fmt::format("{:>{}}  ", row[i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
}

void export_rows(std::string& out, const Report& report) {
  std::vector<std::vector<std::string>> table{
      {"RACK / EXPORT", "STATE", "SIZE", "USED", "FREE", "FILL", "LATENCY", "TO REPAIR"}};
  std::string rack = "\n";  // no rack's name
  for (const Export& exp : report.exports) {
    const std::string& title = exp.witness ? "witnesses" : exp.rack;
    if (title != rack) table.push_back({rack = title});
    std::vector<std::string> row{"  " + exp.name, states_of(exp)};
    if (exp.total_bytes > 0) {
      const std::uint64_t used = exp.total_bytes - std::min(exp.total_bytes, exp.available_bytes);
      row.push_back(format_size(exp.total_bytes));
      row.push_back(format_size(used));
      row.push_back(format_size(exp.available_bytes));
      row.push_back(fmt::format(
          "{} %", static_cast<int>(100.0 * static_cast<double>(used) / static_cast<double>(exp.total_bytes) + 0.5)));
    } else {
      row.insert(row.end(), {"-", "-", "-", "-"});
    }
    row.push_back(exp.online && exp.latency_ns > 0 ? format_latency(exp.latency_ns) : "-");
    row.push_back(exp.facts > 0 ? std::to_string(exp.facts) : "-");
    table.push_back(std::move(row));
  }
  rows(out, table);
}

std::string losses(unsigned racks, unsigned disks) {
  return fmt::format("{} {} whole, or any {} {}", racks, racks == 1 ? "rack" : "racks", disks,
                     disks == 1 ? "disk" : "disks");
}

std::string tolerance_of(const Report& report) {
  const Tolerance& t = report.tolerance;
  if (t.racks_now == t.racks_whole && t.disks_now == t.disks_whole && report.racks_complete == report.racks) {
    return "the loss of " + losses(t.racks_whole, t.disks_whole) + ", without loss of data";
  }
  return fmt::format("now {}; when everything is there the loss of {}",
                     t.disks_now == 0 ? "no further loss" : "the loss of " + losses(t.racks_now, t.disks_now),
                     losses(t.racks_whole, t.disks_whole));
}

std::string scrub_of(const Report& report) {
  const Scrub& scrub = report.scrub;
  std::string text;
  if (scrub.running) text = "running" + (scrub.progress.empty() ? "" : ": " + scrub.progress) + "; ";
  if (scrub.finished_s == 0) return text + "none has ended yet";
  text += fmt::format("last ended {} ({} ago){}: {} files, {} repaired, {} left unrepaired",
                      format_date(scrub.finished_s), format_age(report.time_s - scrub.finished_s),
                      scrub.deep ? ", contents compared" : "", scrub.files, scrub.repaired, scrub.unrepaired);
  if (scrub.damaged > 0) text += fmt::format(", {} damaged", scrub.damaged);
  return text;
}

std::string files_of(const Report& report) {
  const Scrub& scrub = report.scrub;
  if (scrub.finished_s == 0) return "how many replicas they have is known when a scrub has ended";
  return fmt::format("{} with fewer than {} replicas, {} of them with one, as the last scrub left them",
                     scrub.fewer_than_r, report.replicas, scrub.single);
}

std::string mounts_of(const Report& report) {
  std::vector<const Mount*> alive, gone;
  for (const Mount& mount : report.mounts) (mount.alive ? alive : gone).push_back(&mount);
  constexpr std::size_t most_named = 12;
  const auto names = [](const std::vector<const Mount*>& mounts) {
    const bool same = std::all_of(mounts.begin(), mounts.end(),
                                  [&](const Mount* m) { return m->mount_point == mounts.front()->mount_point; });
    std::string text;
    for (std::size_t i = 0; i < mounts.size() && i < most_named; ++i) {
      text += (i > 0 ? ", " : "") + mounts[i]->node + (same ? "" : " on " + mounts[i]->mount_point);
    }
    if (mounts.size() > most_named) text += fmt::format(" and {} more", mounts.size() - most_named);
    if (same && !mounts.empty()) text += " on " + mounts.front()->mount_point;
    return text;
  };
  if (alive.empty() && gone.empty()) return "none known";
  std::string text = alive.empty() ? "none" : fmt::format("{}: {}", alive.size(), names(alive));
  if (!gone.empty()) text += fmt::format("; not heard of lately: {}", names(gone));
  return text;
}

}  // namespace

std::string to_text(const Report& report) {
  std::string out;
  paragraph(
      out, "array",
      fmt::format("{}, {} {} of every file, {} {}", report.array, report.replicas,
                  report.replicas == 1 ? "replica" : "replicas", report.racks, report.racks == 1 ? "rack" : "racks"));
  const char* state = report.health == Health::healthy    ? "healthy"
                      : report.health == Health::degraded ? "DEGRADED: all data can be used, but not all is well"
                                                          : "UNAVAILABLE: some data cannot be used";
  paragraph(out, "state", state);
  for (const Problem& problem : report.problems) {
    out += "\n";
    paragraph(out, "what", problem.what);
    paragraph(out, "means", problem.means);
    paragraph(out, "do", problem.action);
  }
  if (report.exports.empty()) return out;  // nothing could be reached
  out += "\n";
  export_rows(out, report);
  out += "\n";
  paragraph(out, "capacity",
            fmt::format("{} usable of {} raw, {} free", format_size(report.usable_bytes), format_size(report.raw_bytes),
                        format_size(report.usable_available_bytes)));
  paragraph(out, "stands", tolerance_of(report));
  paragraph(out, "repair",
            report.facts.count == 0 && report.facts.complete
                ? "nothing waits"
                : fmt::format("{}{} {}{} ({} facts)", report.facts.complete ? "" : "more than ", report.facts.paths,
                              report.facts.paths == 1 ? "file waits" : "files wait",
                              report.facts.oldest_s > 0
                                  ? ", the oldest for " + format_age(report.time_s - report.facts.oldest_s)
                                  : std::string{},
                              report.facts.count));
  paragraph(out, "files", files_of(report));
  paragraph(out, "scrub", scrub_of(report));
  paragraph(out, "mounts", mounts_of(report));
  if (report.daemon) {
    const Daemon& daemon = *report.daemon;
    paragraph(out, "here",
              fmt::format("{} on {}, for {}{}: {} files open, {} operations, {} failed; {} read, {} written; "
                          "{} commits with fewer replicas, {} reads taken over by another replica",
                          daemon.node, daemon.mount_point, format_age(report.time_s - daemon.since_s),
                          daemon.over_io_uring ? ", over io_uring" : "", daemon.open_files, daemon.operations,
                          daemon.failed_operations, format_size(daemon.read_bytes), format_size(daemon.written_bytes),
                          daemon.degraded_commits, daemon.failovers));
  }
  return out;
}

std::string tolerance_table(const Report& report) {
  std::string out = fmt::format("Losses without loss of data, array {} ({} racks):\n\n", report.array, report.racks);
  std::vector<std::vector<std::string>> table{{"REPLICAS", "", "RACKS", "DISKS, NO RAID", "RAID 5", "RAID 6"}};
  for (unsigned replicas = 1; replicas <= std::max(report.racks, 1U); ++replicas) {
    const auto disks = [&](unsigned raid) { return std::to_string((raid + 1) * replicas - 1); };
    table.push_back({std::to_string(replicas), replicas == report.replicas ? "this array" : "",
                     std::to_string(replicas - 1), disks(0), disks(1), disks(2)});
  }
  rows(out, table);
  out += fmt::format("\nThis array, by the weakest RAID of its exports, stands {}.\n", tolerance_of(report));
  return out;
}

}  // namespace rainfs::status
