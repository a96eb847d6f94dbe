// SPDX-License-Identifier: Apache-2.0
// The report as one page that needs nothing else: no script, no font, no picture from elsewhere.
#include <fmt/format.h>

#include <algorithm>

#include "rainfs/config/values.hpp"
#include "rainfs/status/report.hpp"
#include "words.hpp"

namespace rainfs::status {

namespace {

using config::format_size;

constexpr std::string_view style = R"(
:root { --ink: #1c2733; --dim: #5d6b7a; --paper: #f5f7f9; --card: #fff; --line: #dde3e9; --bar: #3b7dd8;
        --healthy: #1e8e4e; --degraded: #b86e00; --unavailable: #c62f2f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4eaf0; --dim: #93a1b0; --paper: #12181f; --card: #1b232c; --line: #2c3742; --bar: #5b9bf0;
          --healthy: #4fc27f; --degraded: #e9a23b; --unavailable: #f07070; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 72rem; color: var(--ink); background: var(--paper);
       font: 15px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.6rem; } h2 { margin: 2.5rem 0 .6rem; font-size: 1.15rem; } h3 { margin: 0; font-size: 1rem; }
p { margin: .3rem 0; } .dim { color: var(--dim); }
header { margin-bottom: 1rem; display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: baseline; }
.badge { padding: .1rem .7rem; border-radius: 1rem; color: #fff; font-weight: 600; font-size: .85rem; }
.healthy { background: var(--healthy); } .degraded { background: var(--degraded); } .unavailable { background: var(--unavailable); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .8rem; }
.card { padding: .8rem 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; overflow-wrap: anywhere; }
.card.problem { border-left: .3rem solid var(--degraded); margin-bottom: .8rem; }
.card.problem.worst { border-left-color: var(--unavailable); }
.figure { font-size: 1.4rem; font-weight: 600; }
.bar { height: .5rem; margin: .5rem 0; background: var(--line); border-radius: .25rem; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--bar); } .bar i.high { background: var(--degraded); }
.export { display: flex; justify-content: space-between; gap: .5rem; } .away { color: var(--unavailable); font-weight: 600; }
.rack + .rack { margin-top: .8rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; background: var(--card); }
td, th { padding: .35rem .7rem; border: 1px solid var(--line); text-align: left; } td.n { text-align: right; }
footer { margin-top: 2.5rem; }
)";

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\n': out += "<br>"; break;
      default: out += c;
    }
  }
  return out;
}

void figure(std::string& out, std::string_view title, const std::string& value, const std::string& more) {
  out += fmt::format("<div class=card><div class=dim>{}</div><div class=figure>{}</div><div class=dim>{}</div></div>\n",
                     escape(title), escape(value), escape(more));
}

void figures(std::string& out, const Report& report) {
  out += "<div class=cards>\n";
  figure(out, "Free for files", format_size(report.usable_available_bytes),
         fmt::format("of {} usable, {} raw", format_size(report.usable_bytes), format_size(report.raw_bytes)));
  figure(out, "Racks complete", fmt::format("{} of {}", report.racks_complete, report.racks),
         fmt::format("{} replicas of every file", report.replicas));
  const Tolerance& t = report.tolerance;
  figure(out, "Stands the loss of", fmt::format("{} racks or {} disks", t.racks_now, t.disks_now),
         fmt::format("{} racks or {} disks when everything is there", t.racks_whole, t.disks_whole));
  figure(out, "Replicas waiting for repair",
         fmt::format("{}{}", report.facts.complete ? "" : "more than ", report.facts.count),
         report.facts.oldest_s > 0 ? "oldest: " + format_age(report.time_s - report.facts.oldest_s) : "");
  const auto alive = std::count_if(report.mounts.begin(), report.mounts.end(), [](const Mount& m) { return m.alive; });
  figure(out, "Nodes", std::to_string(alive), "have it mounted");
  if (report.daemon) {
    const Daemon& daemon = *report.daemon;
    const auto seconds = static_cast<std::uint64_t>(std::max<std::int64_t>(report.time_s - daemon.since_s, 1));
    figure(out, "Throughput of " + daemon.node,
           fmt::format("{}/s", format_size((daemon.read_bytes + daemon.written_bytes) / seconds)),
           fmt::format("on average: {} read, {} written in {}", format_size(daemon.read_bytes),
                       format_size(daemon.written_bytes), format_age(report.time_s - daemon.since_s)));
  }
  out += "</div>\n";
}

std::string state_of(const Export& exp) {
  if (exp.state == "retired") return "retired";
  if (!exp.online) return "<span class=away>absent</span>";
  std::string text = "online";
  if (exp.slow) text += ", slow";
  if (exp.read_only) text += ", read-only";
  if (exp.full) text += ", full";
  if (exp.state == "draining") text += ", draining";
  return text;
}

void export_lines(std::string& out, const Export& exp) {
  constexpr std::uint64_t high_per_cent = 90;
  out += fmt::format("<div class=export><b>{}</b><span>{}</span></div>\n", escape(exp.name), state_of(exp));
  if (exp.total_bytes > 0) {
    const std::uint64_t used = exp.total_bytes - std::min(exp.total_bytes, exp.available_bytes);
    const std::uint64_t fill = used / std::max<std::uint64_t>(exp.total_bytes / 100, 1);
    out += fmt::format("<div class=bar><i{} style=\"width:{}%\"></i></div>\n<p class=dim>{} of {}{}</p>\n",
                       fill >= high_per_cent ? " class=high" : "", std::min<std::uint64_t>(fill, 100),
                       format_size(used), format_size(exp.total_bytes),
                       exp.online && exp.latency_ns > 0 ? ", " + format_latency(exp.latency_ns) : "");
  }
  if (!exp.online && exp.absent_since_s > 0) {
    out += fmt::format("<p class=dim>since {}</p>\n", format_date(exp.absent_since_s));
  }
  if (exp.facts > 0) out += fmt::format("<p>{} replicas to repair</p>\n", exp.facts);
}

void racks(std::string& out, const Report& report) {
  out += "<h2>Racks and exports</h2>\n<div class=cards>\n";
  std::string rack = "\n";
  for (const Export& exp : report.exports) {
    const std::string& title = exp.witness ? "witnesses" : exp.rack;
    if (title != rack) {
      if (rack != "\n") out += "</div>\n";
      rack = title;
      out += fmt::format("<div class=card><h3>{}</h3>\n", escape(rack));
    }
    export_lines(out, exp);
  }
  if (rack != "\n") out += "</div>\n";
  out += "</div>\n";
}

void table(std::string& out, std::string_view title, const std::vector<std::string>& headings,
           const std::vector<std::vector<std::string>>& rows) {
  out += fmt::format("<h2>{}</h2>\n<div class=scroll><table><tr>", title);
  for (const std::string& heading : headings) out += fmt::format("<th>{}</th>", escape(heading));
  out += "</tr>\n";
  for (const auto& row : rows) {
    out += "<tr>";
    for (const std::string& cell : row) out += fmt::format("<td>{}</td>", escape(cell));
    out += "</tr>\n";
  }
  out += "</table></div>\n";
}

void tables(std::string& out, const Report& report) {
  const Scrub& scrub = report.scrub;
  out += "<h2>Scrub</h2>\n<div class=card>";
  if (scrub.running) out += fmt::format("<p>Running: {}</p>", escape(scrub.progress));
  if (scrub.finished_s == 0) {
    out += "<p class=dim>None has ended yet.</p>";
  } else {
    out += fmt::format("<p>Last ended {} on {}: {} files, {} repaired, {} left unrepaired, {} damaged, {} conflicts, {} copied.</p>",
                       format_date(scrub.finished_s), escape(scrub.node), scrub.files, scrub.repaired,
                       scrub.unrepaired, scrub.damaged, scrub.conflicts, format_size(scrub.bytes_copied));
  }
  out += "</div>\n";
  if (!report.facts.examples.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const Facts::Example& example : report.facts.examples) {
      rows.push_back({"/" + example.path, example.export_name, example.why, example.node, format_date(example.time_s)});
    }
    table(out, "Waiting for repair (the oldest seen)", {"Path", "Export", "Why", "Node", "Since"}, rows);
  }
  if (!report.mounts.empty()) {
    std::vector<std::vector<std::string>> rows;
    for (const Mount& mount : report.mounts) {
      rows.push_back({mount.node, mount.mount_point, mount.version, format_date(mount.mounted_s),
                      mount.alive ? "alive" : "not heard of since " + format_date(mount.seen_s)});
    }
    table(out, "Mounts", {"Node", "Mount point", "Version", "Since", "State"}, rows);
  }
}

}  // namespace

std::string to_html(const std::vector<Report>& reports) {
  std::string out =
      "<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\n"
      "<title>RainFS</title>\n<style>";
  out += style;
  out += "</style></head>\n<body>\n";
  for (const Report& report : reports) {
    const std::string_view health = name_of(report.health);
    out += fmt::format("<header><h1>{}</h1><span class=\"badge {}\">{}</span><span class=dim>as of {}</span></header>\n",
                       escape(report.array), health, health, format_date(report.time_s));
    for (const Problem& problem : report.problems) {
      out += fmt::format("<div class=\"card problem{}\"><h3>{}</h3><p>{}</p><p><b>To do:</b> {}</p></div>\n",
                         problem.health == Health::unavailable ? " worst" : "", escape(problem.what),
                         escape(problem.means), escape(problem.action));
    }
    out += "<h2>At a glance</h2>\n";
    figures(out, report);
    racks(out, report);
    tables(out, report);
  }
  out += "<footer class=dim>Made by rainfsctl report.</footer>\n</body></html>\n";
  return out;
}

}  // namespace rainfs::status
