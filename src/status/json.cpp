// SPDX-License-Identifier: Apache-2.0
// The report for programs. Names of keys are kept from version to version; new ones may be added.
#include <nlohmann/json.hpp>

#include "rainfs/status/report.hpp"

namespace rainfs::status {

using nlohmann::json;

NLOHMANN_JSON_SERIALIZE_ENUM(Health, {{Health::unavailable, "unavailable"},
                                      {Health::healthy, "healthy"},
                                      {Health::degraded, "degraded"}})
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Problem, health, what, means, action)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Export, name, rack, path, state, raid, witness, online, slow, read_only,
                                                full, rebuild_pending, absent_reason, absent_since_s, total_bytes,
                                                available_bytes, latency_ns, facts)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Facts::Example, path, export_name, why, node, time_s)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Facts, count, paths, complete, oldest_s, examples)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Mount, node, mount_point, version, mounted_s, seen_s, alive,
                                                read_bytes_per_s, written_bytes_per_s)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Throughput, time_s, read_bytes_per_s, written_bytes_per_s)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Scrub, running, started_s, finished_s, deep, scope, node, files, facts,
                                                repaired, unrepaired, conflicts, damaged, bytes_copied, fewer_than_r,
                                                single, progress)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Policy, path, replicas)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Tolerance, racks_whole, disks_whole, racks_now, disks_now)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Daemon, node, mount_point, version, log_level, since_s, open_files,
                                                cached_nodes, read_bytes, written_bytes, operations, failed_operations,
                                                degraded_commits, failovers, facts_recorded, over_io_uring, throughput)

namespace {

// The optional part apart: the library's macros know none.
struct Whole : Report {};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Whole, array, uuid, topology_version, time_s, health, problems,
                                                replicas, min_replicas, strict, racks, racks_complete, racks_to_deny,
                                                rack_names, exports, policies, replicas_missing, raw_bytes,
                                                usable_bytes, usable_available_bytes, tolerance, facts, scrub, scrubs,
                                                mounts, mounts_complete)

}  // namespace

std::string to_json(const Report& report) {
  json value = Whole{report};
  if (report.daemon) value["daemon"] = *report.daemon;
  // Names of files are bytes: what is no UTF-8 in them is replaced.
  return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

base::Result<Report> from_json(std::string_view text) {
  try {
    const json value = json::parse(text);
    Report report = value.get<Whole>();
    if (const auto daemon = value.find("daemon"); daemon != value.end()) report.daemon = daemon->get<Daemon>();
    return report;
  } catch (const json::exception& e) {
    return base::unexpected(base::config_error(std::string("not a status report: ") + e.what()));
  }
}

}  // namespace rainfs::status
