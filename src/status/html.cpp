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
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: .8rem; }
.card { padding: .8rem 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; overflow-wrap: anywhere; }
.lead { font-size: 1.05rem; margin: .2rem 0 1rem; }
.card.gone { border-color: var(--unavailable); background: repeating-linear-gradient(135deg, transparent 0 .6rem, rgba(198, 47, 47, .06) .6rem 1.2rem), var(--card); }
.dot { display: inline-block; width: .65rem; height: .65rem; border-radius: 50%; margin-right: .45rem; vertical-align: baseline; }
svg { display: block; width: 100%; height: auto; } svg text { fill: var(--dim); font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .read { stroke: var(--bar); fill: var(--bar); } svg .written { stroke: var(--healthy); fill: var(--healthy); }
svg polyline { fill: none !important; stroke-width: 2; stroke-linejoin: round; } svg polygon { stroke: none !important; fill-opacity: .13; }
.key { display: inline-block; width: .9rem; height: .25rem; margin: 0 .35rem .2rem .9rem; }
.card.problem { border-left: .3rem solid var(--degraded); margin-bottom: .8rem; }
.card.problem.worst { border-left-color: var(--unavailable); }
.figure { font-size: 1.4rem; font-weight: 600; }
.bar { height: .5rem; margin: .5rem 0; background: var(--line); border-radius: .25rem; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--bar); } .bar i.high { background: var(--degraded); }
.export { display: flex; justify-content: space-between; gap: .5rem; } .away { color: var(--unavailable); font-weight: 600; }
.rack + .rack { margin-top: .8rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; background: var(--card); }
td, th { padding: .35rem .7rem; border: 1px solid var(--line); text-align: left; white-space: nowrap; } th { color: var(--dim); font-weight: 600; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
footer { margin-top: 2.5rem; }
)";

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\n':
        out += "<br>";
        break;
      default:
        out += c;
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
  const auto losses = [](unsigned racks, unsigned disks) {
    return fmt::format("{} {} or {} {}", racks, racks == 1 ? "rack" : "racks", disks, disks == 1 ? "disk" : "disks");
  };
  figure(out, "Stands the loss of", t.disks_now == 0 ? "nothing more" : losses(t.racks_now, t.disks_now),
         losses(t.racks_whole, t.disks_whole) + " when everything is there");
  figure(out, "Files waiting for repair",
         fmt::format("{}{}", report.facts.complete ? "" : "more than ", report.facts.paths),
         report.facts.oldest_s > 0 ? "the oldest for " + format_age(report.time_s - report.facts.oldest_s)
                                   : "every change is on all replicas");
  const auto alive = std::count_if(report.mounts.begin(), report.mounts.end(), [](const Mount& m) { return m.alive; });
  std::uint64_t read = 0, written = 0;
  for (const Mount& mount : report.mounts) {
    read += mount.alive ? mount.read_bytes_per_s : 0;
    written += mount.alive ? mount.written_bytes_per_s : 0;
  }
  figure(out, "Throughput of all nodes", fmt::format("{}/s", format_size(read + written)),
         fmt::format("{}/s read, {}/s written by {} {}", format_size(read), format_size(written), alive,
                     alive == 1 ? "mount" : "mounts"));
  const Scrub& scrub = report.scrub;
  if (scrub.finished_s > 0) {
    figure(out, fmt::format("Files with fewer than {} replicas", report.replicas), std::to_string(scrub.fewer_than_r),
           fmt::format("of {}, {} of them with one; scrub of {} ago", scrub.files, scrub.single,
                       format_age(report.time_s - scrub.finished_s)));
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
    out += fmt::format("<div class=bar><i{} style=\"width:{}%\"></i></div>\n<p class=dim>{} of {}, {} %{}</p>\n",
                       fill >= high_per_cent ? " class=high" : "", std::min<std::uint64_t>(fill, 100),
                       format_size(used), format_size(exp.total_bytes), std::min<std::uint64_t>(fill, 100),
                       exp.online && exp.latency_ns > 0 ? ", " + format_latency(exp.latency_ns) : "");
  }
  if (!exp.online && exp.absent_since_s > 0) {
    out += fmt::format("<p class=dim>since {}</p>\n", format_date(exp.absent_since_s));
  }
  if (exp.facts > 0) out += fmt::format("<p>{} files to repair on it</p>\n", exp.facts);
}

void racks(std::string& out, const Report& report) {
  out += "<h2>Racks and exports</h2>\n<div class=cards>\n";
  std::string rack = "\n";
  for (const Export& exp : report.exports) {
    const std::string& title = exp.witness ? "witnesses" : exp.rack;
    if (title != rack) {
      if (rack != "\n") out += "</div>\n";
      rack = title;
      const bool gone = std::any_of(report.exports.begin(), report.exports.end(), [&](const Export& one) {
        return one.rack == exp.rack && one.witness == exp.witness && !one.online && one.state != "retired";
      });
      out += fmt::format("<div class=\"card{}\"><h3>{}</h3>\n", gone ? " gone" : "", escape(rack));
    }
    export_lines(out, exp);
  }
  if (rack != "\n") out += "</div>\n";
  out += "</div>\n";
}

void table(std::string& out, std::string_view title, const std::vector<std::string>& headings,
           const std::vector<std::vector<std::string>>& rows) {
  out += fmt::format("<h2>{}</h2>\n<div class=scroll><table><tr>", title);
  // A heading that begins with ">" is of figures, which stand to the right.
  const auto cell = [&](std::size_t column, std::string_view tag, std::string_view text) {
    out += fmt::format("<{}{}>{}</{}>", tag, headings[column].starts_with('>') ? " class=n" : "", escape(text), tag);
  };
  for (std::size_t i = 0; i < headings.size(); ++i) {
    cell(i, "th", std::string_view(headings[i]).substr(headings[i].starts_with('>') ? 1 : 0));
  }
  out += "</tr>\n";
  for (const auto& row : rows) {
    out += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) cell(i, "td", row[i]);
    out += "</tr>\n";
  }
  out += "</table></div>\n";
}

std::string scope_of(const Scrub& scrub) {
  std::string text = scrub.scope.starts_with("ledger")  ? "what was known to be amiss"
                     : scrub.scope.starts_with("paths") ? "some paths"
                                                        : "everything";
  if (const std::size_t shard = scrub.scope.find(' '); shard != std::string::npos)
    text += ", part" + scrub.scope.substr(shard);
  return text + (scrub.deep ? ", with contents" : "");
}

void scrubs(std::string& out, const Report& report) {
  if (report.scrub.running) {
    out += fmt::format("<h2>Scrub</h2>\n<div class=card><b>Running</b> {}</div>\n",
                       escape(report.scrub.progress.empty() ? "(just begun, or about to end)" : report.scrub.progress));
  }
  if (report.scrubs.empty()) {
    out +=
        "<h2>Scrub history</h2>\n<div class=card><p class=dim>None has ended yet: rainfs-scrub looks at every file, "
        "and "
        "repairs what is amiss.</p></div>\n";
    return;
  }
  std::vector<std::vector<std::string>> rows;
  for (const Scrub& scrub : report.scrubs) {
    rows.push_back({format_date(scrub.finished_s), scope_of(scrub), scrub.node,
                    format_age(std::max<std::int64_t>(scrub.finished_s - scrub.started_s, 0)),
                    std::to_string(scrub.files), std::to_string(scrub.facts), std::to_string(scrub.repaired),
                    std::to_string(scrub.unrepaired), std::to_string(scrub.damaged), format_size(scrub.bytes_copied)});
  }
  table(out, "Scrub history",
        {"Ended", "Looked at", "Node", ">Took", ">Files", ">Facts", ">Repaired", ">Left", ">Damaged", ">Copied"}, rows);
}

// Two lines over time, in a picture of fixed proportions.
void throughput_chart(std::string& out, const Daemon& daemon) {
  if (daemon.throughput.size() < 2) return;
  constexpr double width = 1000, height = 180, left = 70, bottom = 22, top = 10;
  std::uint64_t most = 1;
  for (const Throughput& one : daemon.throughput) {
    most = std::max({most, one.read_bytes_per_s, one.written_bytes_per_s});
  }
  const std::int64_t begin = daemon.throughput.front().time_s;
  const double span = std::max<double>(static_cast<double>(daemon.throughput.back().time_s - begin), 1);
  const auto x = [&](std::int64_t time) { return left + (width - left) * static_cast<double>(time - begin) / span; };
  const auto y = [&](std::uint64_t value) {
    return height - bottom - (height - bottom - top) * static_cast<double>(value) / static_cast<double>(most);
  };
  out += fmt::format(
      "<h2>Throughput of {} <span class=key style=\"background:var(--bar)\"></span><small>read</small>"
      "<span class=key style=\"background:var(--healthy)\"></span><small>written</small></h2>\n"
      "<div class=card><svg viewBox=\"0 0 {} {}\" role=img aria-label=\"throughput over time\">\n",
      escape(daemon.node), width, height);
  for (int part = 0; part <= 2; ++part) {
    const std::uint64_t value = most / 2 * static_cast<std::uint64_t>(part);
    out += fmt::format(
        "<line class=grid x1={:.0f} x2={:.0f} y1={:.1f} y2={:.1f} /><text x={:.0f} y={:.1f} "
        "text-anchor=end>{}/s</text>\n",
        left, width, y(value), y(value), left - 6, y(value) + 4, format_size(value));
  }
  const auto line = [&](std::string_view name, std::uint64_t Throughput::*value) {
    std::string points;
    for (const Throughput& one : daemon.throughput)
      points += fmt::format("{:.1f},{:.1f} ", x(one.time_s), y(one.*value));
    out += fmt::format(
        "<polygon class={} points=\"{:.1f},{:.1f} {}{:.1f},{:.1f}\" /><polyline class={} points=\"{}\" />\n", name,
        left, height - bottom, points, width, height - bottom, name, points);
  };
  line("read", &Throughput::read_bytes_per_s);
  line("written", &Throughput::written_bytes_per_s);
  out += fmt::format("<text x={:.0f} y={:.0f}>{}</text><text x={:.0f} y={:.0f} text-anchor=end>{}</text></svg></div>\n",
                     left, height - 4, format_date(begin), width, height - 4,
                     format_date(daemon.throughput.back().time_s));
}

void tables(std::string& out, const Report& report) {
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
                      mount.alive ? "alive" : "not heard of since " + format_date(mount.seen_s),
                      format_size(mount.read_bytes_per_s) + "/s", format_size(mount.written_bytes_per_s) + "/s"});
    }
    table(out, "Mounts", {"Node", "Mount point", "Version", "Since", "State", ">Reads", ">Writes"}, rows);
  }
}

std::string lead_of(const Report& report) {
  switch (report.health) {
    case Health::healthy:
      return fmt::format(
          "All is well: every export is there, and nothing waits for repair. {} {} of every file, in {} racks.",
          report.replicas, report.replicas == 1 ? "replica" : "replicas", report.racks);
    case Health::degraded:
      return "All data can be used, but not all is well:";
    case Health::unavailable:
      break;
  }
  return "Some data cannot be used until what is missing is back. Nothing is lost by that:";
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
    out +=
        fmt::format("<header><h1>{}</h1><span class=\"badge {}\">{}</span><span class=dim>as of {}</span></header>\n",
                    escape(report.array), health, health, format_date(report.time_s));
    out += fmt::format("<p class=lead>{}</p>\n", escape(lead_of(report)));
    for (const Problem& problem : report.problems) {
      out += fmt::format("<div class=\"card problem{}\"><h3>{}</h3><p>{}</p><p><b>To do:</b> {}</p></div>\n",
                         problem.health == Health::unavailable ? " worst" : "", escape(problem.what),
                         escape(problem.means), escape(problem.action));
    }
    figures(out, report);
    racks(out, report);
    if (report.daemon) throughput_chart(out, *report.daemon);
    scrubs(out, report);
    tables(out, report);
  }
  out += "<footer class=dim>Made by rainfsctl report.</footer>\n</body></html>\n";
  return out;
}

}  // namespace rainfs::status
