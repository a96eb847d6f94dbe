// SPDX-License-Identifier: Apache-2.0
#include "rainfs/status/exposition.hpp"

#include <algorithm>

namespace rainfs::status {

namespace {

using metrics::Exposition;
using Type = Exposition::Type;

constexpr std::array<std::string_view, nas::work_kinds> work_names = {"metadata", "read", "write", "sync"};
constexpr std::array<std::string_view, error_classes> class_names = {"file", "absent", "no_space", "resource",
                                                                     "config"};

void daemon_families(Exposition& out, const CallMeters& calls, const Daemon& daemon) {
  out.family("rainfs_info", Type::gauge, "What runs here.");
  out.sample({{"node", daemon.node}, {"version", daemon.version}}, std::uint64_t{1});
  out.family("rainfs_mounted_timestamp_seconds", Type::gauge, "When the daemon began.");
  out.sample({}, static_cast<std::uint64_t>(daemon.since_s));
  const auto simple = [&](std::string_view name, Type type, std::string_view help, std::uint64_t value) {
    out.family(name, type, help);
    out.sample({}, value);
  };
  simple("rainfs_open_files", Type::gauge, "Files open on this node.", daemon.open_files);
  simple("rainfs_cached_nodes", Type::gauge, "Files and directories the kernel knows of.", daemon.cached_nodes);
  simple("rainfs_over_io_uring", Type::gauge, "1 if requests come over io_uring, 0 if by /dev/fuse.",
         daemon.over_io_uring ? 1 : 0);
  simple("rainfs_read_bytes_total", Type::counter, "Bytes read by programs, through the daemon.", daemon.read_bytes);
  simple("rainfs_written_bytes_total", Type::counter, "Bytes written by programs.", daemon.written_bytes);
  simple("rainfs_degraded_commits_total", Type::counter, "Commit points that left fewer than all replicas.",
         daemon.degraded_commits);
  simple("rainfs_read_failovers_total", Type::counter, "Reads that failed on a replica and went on to the next.",
         daemon.failovers);
  simple("rainfs_facts_recorded_total", Type::counter, "Facts recorded about replicas that missed a change.",
         daemon.facts_recorded);
  out.family("rainfs_operation_seconds", Type::histogram, "Time of programs' operations.");
  for (std::size_t i = 0; i < call_kinds; ++i) {
    out.sample({{"operation", name_of(static_cast<Call>(i))}}, calls.latency[i].snapshot());
  }
  out.family("rainfs_operation_errors_total", Type::counter,
             "Operations that failed, by whose fault: file (a plain answer), absent, no_space, resource (this node).");
  for (std::size_t i = 0; i < call_kinds; ++i) {
    for (std::size_t kind = 0; kind < error_classes; ++kind) {
      const std::uint64_t count = calls.errors[i][kind].value();
      if (count > 0) out.sample({{"operation", name_of(static_cast<Call>(i))}, {"class", class_names[kind]}}, count);
    }
  }
}

void export_families(Exposition& out, nas::Array& array, const Report& found) {
  const auto topology = array.topology();
  const auto each = [&](std::string_view name, Type type, std::string_view help, auto value) {
    out.family(name, type, help);
    for (const base::ExportIndex index : topology->fact_holders()) {
      const topology::Export& info = topology->exports[index];
      const metrics::Labels labels = {{"export", info.name},
                                      {"rack", info.witness ? std::string_view() : topology->racks[info.rack].name}};
      out.sample(labels, std::uint64_t{value(array.at(index), index)});
    }
  };
  using nas::Export;
  const status::Export unknown;
  const auto described = [&](const Export& one) -> const status::Export& {
    const auto at =
        std::find_if(found.exports.begin(), found.exports.end(), [&](const auto& e) { return e.name == one.name(); });
    return at != found.exports.end() ? *at : unknown;
  };
  const base::ExportSet blamed = array.blamed_somewhere();
  each("rainfs_export_online", Type::gauge, "1 while the export answers (its breaker is closed).",
       [](const Export& e, auto) { return e.online() ? 1U : 0U; });
  each("rainfs_export_absences_total", Type::counter, "Times it stopped answering.",
       [](const Export& e, auto) { return e.meters().absences.value(); });
  each("rainfs_export_missed_deadlines_total", Type::counter, "Operations it did not answer in time.",
       [](const Export& e, auto) { return e.meters().missed_deadlines.value(); });
  each("rainfs_export_read_only", Type::gauge, "1 if it is mounted read-only.",
       [](const Export& e, auto) { return e.read_only() ? 1U : 0U; });
  each("rainfs_export_full", Type::gauge, "1 if it takes no new replicas for want of space.",
       [](const Export& e, auto) { return e.full() ? 1U : 0U; });
  each("rainfs_export_slow", Type::gauge, "1 if it answers much later than the others.",
       [&](const Export& e, auto) { return described(e).slow ? 1U : 0U; });
  each("rainfs_export_draining", Type::gauge, "1 while its files are moved to others.",
       [&](const Export& e, auto) { return described(e).state == "draining" ? 1U : 0U; });
  // Whether there are any is known at every second, how many at every half minute.
  each("rainfs_export_facts", Type::gauge, "Paths about which it is not to be believed until they are repaired.",
       [&](const Export& e, auto index) {
         return blamed.contains(index) ? std::max<std::uint64_t>(described(e).facts, 1) : std::uint64_t{0};
       });
  each("rainfs_export_size_bytes", Type::gauge, "Its capacity.",
       [](const Export& e, auto) { return e.space().total_bytes; });
  each("rainfs_export_available_bytes", Type::gauge, "What is free of it.",
       [](const Export& e, auto) { return e.space().available_bytes; });
  each("rainfs_export_read_bytes_total", Type::counter, "Bytes read from it.",
       [](const Export& e, auto) { return e.meters().read_bytes.value(); });
  each("rainfs_export_written_bytes_total", Type::counter, "Bytes written to it.",
       [](const Export& e, auto) { return e.meters().written_bytes.value(); });
  out.family("rainfs_export_errors_total", Type::counter, "Operations that failed by the export's fault.");
  const auto per_work = [&](auto sample) {
    for (const base::ExportIndex index : topology->fact_holders()) {
      for (std::size_t work = 0; work < nas::work_kinds; ++work) {
        const topology::Export& info = topology->exports[index];
        sample(metrics::Labels{{"export", info.name}, {"work", work_names[work]}}, array.at(index).meters(), work);
      }
    }
  };
  per_work([&](const auto& labels, const nas::ExportMeters& meters, std::size_t work) {
    out.sample(labels, meters.errors[work].value());
  });
  out.family("rainfs_export_operation_seconds", Type::histogram, "Time of operations on an export.");
  per_work([&](const auto& labels, const nas::ExportMeters& meters, std::size_t work) {
    out.sample(labels, meters.latency[work].snapshot());
  });
}

void array_families(Exposition& out, const Report& found) {
  if (found.time_s == 0) return;  // nothing is known yet: no figure is better than a wrong one
  const auto gauge = [&](std::string_view name, std::string_view help, std::uint64_t value) {
    out.family(name, Type::gauge, help);
    out.sample({}, value);
  };
  gauge("rainfs_looked_at_timestamp_seconds", "When what follows about the array was found, at most half a minute ago.",
        static_cast<std::uint64_t>(found.time_s));
  gauge("rainfs_health", "0 healthy, 1 degraded, 2 some data is unavailable: as rainfsctl status ends.",
        static_cast<std::uint64_t>(found.health));
  gauge("rainfs_racks", "Racks of the array.", found.racks);
  gauge("rainfs_racks_complete", "Racks all exports of which are online.", found.racks_complete);
  gauge("rainfs_replicas", "Replicas that files are to have.", found.replicas);
  gauge("rainfs_usable_bytes", "What the array holds at that many replicas.", found.usable_bytes);
  gauge("rainfs_usable_available_bytes", "What is free of it.", found.usable_available_bytes);
  gauge("rainfs_facts", "Replicas that wait for repair.", found.facts.count);
  gauge("rainfs_facts_paths", "Files and directories with fewer good replicas than they should have.",
        found.facts.paths);
  if (found.facts.oldest_s > 0) {
    gauge("rainfs_facts_oldest_timestamp_seconds", "Since when the oldest of them waits.",
          static_cast<std::uint64_t>(found.facts.oldest_s));
  }
  const Scrub& scrub = found.scrub;
  if (scrub.finished_s == 0) return;
  gauge("rainfs_scrub_last_timestamp_seconds", "When the last scrub of everything ended.",
        static_cast<std::uint64_t>(scrub.finished_s));
  gauge("rainfs_scrub_last_duration_seconds", "How long it took.",
        static_cast<std::uint64_t>(std::max<std::int64_t>(scrub.finished_s - scrub.started_s, 0)));
  out.family("rainfs_scrub_last_files", Type::gauge, "Files it found, repaired, and left.");
  for (const auto& [what, count] : {std::pair<std::string_view, std::uint64_t>{"seen", scrub.files},
                                    {"repaired", scrub.repaired},
                                    {"unrepaired", scrub.unrepaired},
                                    {"damaged", scrub.damaged},
                                    {"conflicts", scrub.conflicts},
                                    {"fewer_than_replicas", scrub.fewer_than_r},
                                    {"single_replica", scrub.single}}) {
    out.sample({{"files", what}}, count);
  }
}

}  // namespace

std::string to_metrics(nas::Array& array, const CallMeters& calls, const Daemon& daemon, const Report& found) {
  // A node may have several arrays mounted, whose metrics are collected together.
  const auto topology = array.topology();
  Exposition out({{"array", topology->array_name}, {"mount", daemon.mount_point}});
  daemon_families(out, calls, daemon);
  export_families(out, array, found);
  array_families(out, found);
  out.family("rainfs_scrub_running", Type::gauge, "1 while a scrub is announced.");
  out.sample({}, std::uint64_t{array.scrub_announced() ? 1U : 0U});
  return out.text();
}

}  // namespace rainfs::status
