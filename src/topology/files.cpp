// SPDX-License-Identifier: Apache-2.0
// array.yaml and export.yaml. They are written by this program only, so reading is strict: anything else is
// damage or a foreign file, and one error says so.
#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

#include "rainfs/config/values.hpp"
#include "rainfs/config/yaml.hpp"
#include "rainfs/topology/topology.hpp"

namespace rainfs::topology {

namespace {

using config::Mapping;
using config::Problems;

constexpr std::string_view checksum_key = "\nchecksum: ";
constexpr std::size_t checksum_digits = 16;
constexpr std::uint64_t most_granularity_ns = 4'000'000'000;  // what fits; 2 s (FAT) is the coarsest known
constexpr std::uint64_t most_weight = std::uint64_t{1} << 62;

std::string quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string checksum_of(std::string_view text) {
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

// The last line is the checksum of all before it.
bool checksum_matches(std::string_view text) {
  const std::size_t at = text.rfind(checksum_key);
  if (at == std::string_view::npos) return false;
  const std::size_t value = at + checksum_key.size();
  if (text.size() != value + checksum_digits + 3) return false;  // two quotes and the newline
  return text.substr(value) == '"' + checksum_of(text.substr(0, at + 1)) + "\"\n";
}

std::string_view word(State state) {
  switch (state) {
    case State::active:
      return "active";
    case State::draining:
      return "draining";
    case State::retired:
      return "retired";
  }
  return "active";
}

std::string_view word(Quorum quorum) {
  return quorum == Quorum::strict ? "strict" : "lenient";
}

constexpr std::string_view damaged = "the file is damaged or not RainFS's";

// What both files begin with. False if there is no sense in reading on.
bool read_format(Mapping& file, Problems& problems) {
  if (!file.has("format")) {
    problems.add(file.line(), fmt::format("no 'format' in it; {}", damaged));
    return false;
  }
  const auto format = file.number("format", 1, 1'000'000);
  if (!format) return false;
  if (*format == static_cast<std::uint64_t>(format_version)) return true;
  problems.add(file.line_of("format"),
               fmt::format("format {} is newer than this program, which knows {}; update RainFS "
                           "on this node",
                           *format, format_version));
  return false;
}

std::string take_text(Mapping& from, std::string_view key) {
  if (!from.require(key, damaged)) return {};
  const auto value = from.scalar(key);
  return value ? value->text : std::string{};
}

std::string take_name(Mapping& from, std::string_view key) {
  std::string text = take_text(from, key);
  if (!text.empty() && !config::is_name(text)) {
    from.add_problem(key, fmt::format("'{}' of {} is not a name; {}", key, from.what(), damaged));
  }
  return text;
}

std::string take_uuid(Mapping& from, std::string_view key) {
  std::string text = take_text(from, key);
  if (!text.empty() && !base::is_uuid(text)) {
    from.add_problem(key, fmt::format("'{}' of {} is not a UUID; {}", key, from.what(), damaged));
  }
  return text;
}

std::uint64_t take_number(Mapping& from, std::string_view key, std::uint64_t low, std::uint64_t high) {
  if (!from.require(key, damaged)) return low;
  return from.number(key, low, high).value_or(low);
}

bool take_boolean(Mapping& from, std::string_view key) {
  if (!from.require(key, damaged)) return false;
  return from.boolean(key).value_or(false);
}

Rules take_rules(Mapping& from) {
  Rules rules;
  rules.replicas = static_cast<unsigned>(take_number(from, "replicas", 1, base::max_exports));
  rules.min_replicas = static_cast<unsigned>(take_number(from, "min_replicas", 1, rules.replicas));
  if (from.has("rebuilding_from")) {
    rules.rebuilding_from = static_cast<unsigned>(from.number("rebuilding_from", 1, base::max_exports).value_or(0));
  }
  if (from.require("quorum", damaged)) {
    rules.quorum = from.choice("quorum", {"strict", "lenient"}).value_or(0) == 0 ? Quorum::strict : Quorum::lenient;
  }
  return rules;
}

Export take_export(Mapping& from, const std::vector<Rack>& racks) {
  Export out;
  out.name = take_name(from, "name");
  out.uuid = take_uuid(from, "uuid");
  const std::string rack = take_text(from, "rack");
  const auto found = std::find_if(racks.begin(), racks.end(), [&](const Rack& r) { return r.name == rack; });
  if (found != racks.end()) {
    out.rack = static_cast<unsigned>(found - racks.begin());
  } else if (!rack.empty()) {
    from.add_problem("rack",
                     fmt::format("rack '{}' of {} is not in the list of racks; {}", rack, from.what(), damaged));
  }
  if (from.require("state", damaged)) {
    out.state = static_cast<State>(from.choice("state", {"active", "draining", "retired"}).value_or(0));
  }
  out.witness = take_boolean(from, "witness");
  out.path = take_text(from, "path");
  out.raid = static_cast<int>(take_number(from, "raid", 0, 6));
  out.weight = take_number(from, "weight", 0, most_weight);
  out.placement_weight = take_number(from, "placement_weight", 0, most_weight);
  out.rebuild_pending = take_boolean(from, "rebuild_pending");
  from.finish();
  return out;
}

void check_whole(const Topology& topology, const Mapping& file, Problems& problems) {
  if (topology.exports.size() > base::max_exports || topology.racks.size() > base::max_exports) {
    problems.add(file.line(), fmt::format("more than {} exports or racks; {}", base::max_exports, damaged));
    return;
  }
  if (topology.data_exports().empty())
    problems.add(file.line(), fmt::format("no export is part of the array; {}", damaged));
  for (std::size_t i = 0; i < topology.exports.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      const Export& a = topology.exports[k];
      const Export& b = topology.exports[i];
      if (a.name != b.name && a.uuid != b.uuid) continue;
      problems.add(file.line_of("exports"),
                   fmt::format("exports {} and {} have the same name or UUID; {}", a.name, b.name, damaged));
    }
  }
}

}  // namespace

base::Result<Topology> parse_topology(std::string_view text, const std::string& where) {
  Problems problems(where);
  auto file = config::load_mapping(text, "an array.yaml of RainFS", problems, damaged);
  if (!file || !read_format(*file, problems)) return base::unexpected(problems.first());
  if (!checksum_matches(text)) {
    problems.add(0,
                 "damaged: its last line is not the checksum of the rest; the copies on the other exports are used "
                 "where they are good, 'rainfs-scrub' replaces this one");
    return base::unexpected(problems.first());
  }
  file->has("checksum");
  Topology out;
  out.version = take_number(*file, "version", 1, std::uint64_t{1} << 62);
  out.array_name = take_name(*file, "array");
  out.array_uuid = take_uuid(*file, "uuid");
  out.defaults = take_rules(*file);
  out.reserve_per_mille = static_cast<std::uint32_t>(take_number(*file, "reserve_per_mille", 0, 1000));
  out.time_granularity_ns =
      static_cast<std::uint32_t>(take_number(*file, "time_granularity_ns", 1, most_granularity_ns));
  file->require("racks", damaged);
  for (auto& rack : file->scalars("racks")) out.racks.push_back({std::move(rack.text)});
  file->require("exports", damaged);
  for (Mapping& item : file->mappings("exports", "export")) out.exports.push_back(take_export(item, out.racks));
  for (Mapping& item : file->mappings("policies", "policy")) {
    Policy policy;
    policy.path = take_text(item, "path");
    policy.rules = take_rules(item);
    item.finish();
    out.policies.push_back(std::move(policy));
  }
  file->finish();
  if (problems.empty()) check_whole(out, *file, problems);
  if (!problems.empty()) return base::unexpected(problems.first());
  return out;
}

std::string format_topology(const Topology& topology) {
  std::string out = fmt::format(
      "# The topology of a RainFS array, the same on all of its exports. Written by rainfsctl; do not edit.\n"
      "format: {}\nversion: {}\narray: {}\nuuid: {}\nreplicas: {}\nmin_replicas: {}\nquorum: {}\n"
      "reserve_per_mille: {}\ntime_granularity_ns: {}\n",
      format_version, topology.version, quote(topology.array_name), quote(topology.array_uuid),
      topology.defaults.replicas, topology.defaults.min_replicas, word(topology.defaults.quorum),
      topology.reserve_per_mille, topology.time_granularity_ns);
  if (topology.defaults.rebuilding_from != 0)
    out += fmt::format("rebuilding_from: {}\n", topology.defaults.rebuilding_from);
  out += "racks:\n";
  for (const Rack& rack : topology.racks) out += fmt::format("  - {}\n", quote(rack.name));
  out += "exports:\n";
  for (const Export& e : topology.exports) {
    out += fmt::format(
        "  - name: {}\n    uuid: {}\n    rack: {}\n    state: {}\n    witness: {}\n    path: {}\n    raid: "
        "{}\n"
        "    weight: {}\n    placement_weight: {}\n    rebuild_pending: {}\n",
        quote(e.name), quote(e.uuid), quote(topology.racks[e.rack].name), word(e.state), e.witness, quote(e.path),
        e.raid, e.weight, e.placement_weight, e.rebuild_pending);
  }
  if (!topology.policies.empty()) out += "policies:\n";
  for (const Policy& policy : topology.policies) {
    out += fmt::format("  - path: {}\n    replicas: {}\n    min_replicas: {}\n    quorum: {}\n", quote(policy.path),
                       policy.rules.replicas, policy.rules.min_replicas, word(policy.rules.quorum));
    if (policy.rules.rebuilding_from != 0)
      out += fmt::format("    rebuilding_from: {}\n", policy.rules.rebuilding_from);
  }
  return out + fmt::format("checksum: \"{}\"\n", checksum_of(out));
}

Identity identity_of(const Topology& topology, const Export& exp) {
  Identity identity;
  identity.array_name = topology.array_name;
  identity.array_uuid = topology.array_uuid;
  identity.export_name = exp.name;
  identity.export_uuid = exp.uuid;
  identity.rack = topology.racks[exp.rack].name;
  return identity;
}

base::Result<Identity> parse_identity(std::string_view text, const std::string& where) {
  Problems problems(where);
  auto file = config::load_mapping(text, "an export.yaml of RainFS", problems, damaged);
  if (!file || !read_format(*file, problems)) return base::unexpected(problems.first());
  Identity out;
  out.format = format_version;
  out.array_name = take_name(*file, "array");
  out.array_uuid = take_uuid(*file, "array_uuid");
  out.export_name = take_name(*file, "export");
  out.export_uuid = take_uuid(*file, "export_uuid");
  out.rack = take_text(*file, "rack");
  out.time_granularity_ns =
      static_cast<std::uint32_t>(take_number(*file, "time_granularity_ns", 1, most_granularity_ns));
  file->finish();
  if (!problems.empty()) return base::unexpected(problems.first());
  return out;
}

std::string format_identity(const Identity& identity) {
  return fmt::format(
      "# This directory is an export of a RainFS array. Written by rainfsctl; do not edit.\n"
      "format: {}\narray: {}\narray_uuid: {}\nexport: {}\nexport_uuid: {}\nrack: {}\ntime_granularity_ns: "
      "{}\n",
      identity.format, quote(identity.array_name), quote(identity.array_uuid), quote(identity.export_name),
      quote(identity.export_uuid), quote(identity.rack), identity.time_granularity_ns);
}

}  // namespace rainfs::topology
