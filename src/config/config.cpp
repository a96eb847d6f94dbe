// SPDX-License-Identifier: Apache-2.0
#include "rainfs/config/config.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "rainfs/base/ids.hpp"
#include "rainfs/config/values.hpp"
#include "rainfs/config/yaml.hpp"
#include "words.hpp"

namespace rainfs::config {

namespace {

constexpr std::uint64_t seconds = 1'000'000'000;
constexpr unsigned most_days = 3650;

std::string take_name(Mapping& from, std::string_view key, std::string_view remedy) {
  if (!from.require(key, remedy)) return {};
  const auto value = from.scalar(key);
  if (!value) return {};
  if (!is_name(value->text)) {
    from.add_problem(key, fmt::format("'{}' is no name for {}; use {}", value->text, from.what(), name_rule));
  }
  return value->text;
}

template <typename T, typename Parse>
std::optional<T> take(Mapping& from, std::string_view key, Parse parse) {
  const auto value = from.scalar(key);
  if (!value) return std::nullopt;
  const auto parsed = parse(value->text);
  if (parsed) return *parsed;
  from.add_problem(key, fmt::format("'{}' of {}: {}", key, from.what(), parsed.error().message()));
  return std::nullopt;
}

// Durations from `low` to `high`, which are written as people write them.
void take_duration(Mapping& from, std::string_view key, std::string_view low, std::string_view high,
                   base::Duration& out) {
  const auto value = take<base::Duration>(from, key, parse_duration);
  if (!value) return;
  if (*value < *parse_duration(low) || *value > *parse_duration(high)) {
    from.add_problem(
        key, fmt::format("'{}' of {} is {}; write {} to {}", key, from.what(), format_duration(*value), low, high));
    return;
  }
  out = *value;
}

void take_percent(Mapping& from, std::string_view key, std::uint32_t most, std::uint32_t& out) {
  const auto value = take<std::uint32_t>(from, key, parse_percent);
  if (!value) return;
  if (*value > most) {
    from.add_problem(key,
                     fmt::format("'{}' of {} is {}%; write at most {}%", key, from.what(), *value / 10, most / 10));
    return;
  }
  out = *value;
}

// quorum, or missing, which says the same from the view of a user whose replica is missing.
std::optional<Quorum> take_quorum(Mapping& from) {
  const auto quorum = from.choice("quorum", {"strict", "lenient"});
  const auto missing = from.choice("missing", {"strict", "lenient"});
  if (from.has("quorum") && from.has("missing")) {
    from.add_problem("missing", fmt::format("'missing' and 'quorum' of {} mean the same; remove one", from.what()));
  }
  const auto chosen = quorum ? quorum : missing;
  if (!chosen) return std::nullopt;
  return *chosen == 0 ? Quorum::strict : Quorum::lenient;
}

Rules take_rules(Mapping& from, const Rules& inherited) {
  Rules rules = inherited;
  if (const auto n = from.number("replicas", 1, base::max_exports)) rules.replicas = static_cast<unsigned>(*n);
  rules.min_replicas = std::min(inherited.min_replicas, rules.replicas);
  if (const auto n = from.number("min_replicas", 1, base::max_exports)) {
    rules.min_replicas = static_cast<unsigned>(*n);
    if (rules.min_replicas > rules.replicas) {
      from.add_problem("min_replicas",
                       fmt::format("'min_replicas' of {} is {}, but there are only {} replicas; write 1 to {}",
                                   from.what(), *n, rules.replicas, rules.replicas));
    }
  }
  if (const auto quorum = take_quorum(from)) rules.quorum = *quorum;
  return rules;
}

Weight take_weight(Mapping& from) {
  const auto value = from.scalar("weight");
  if (!value || value->text == "auto") return {};
  if (const auto share = parse_number(value->text)) {
    if (*share >= 1 && *share <= 1'000'000'000) return {Weight::Kind::share, *share};
    from.add_problem("weight",
                     fmt::format("'weight' of {} is {}; write 1 to 1000000000, or drain the export to leave it empty",
                                 from.what(), value->text));
    return {};
  }
  const auto bytes = parse_size(value->text);
  if (bytes && *bytes >= (std::uint64_t{1} << 20)) return {Weight::Kind::bytes, *bytes};
  from.add_problem("weight",
                   fmt::format("'weight' of {} is '{}'; write auto (its capacity), a number, or a size from 1MiB "
                               "with a unit",
                               from.what(), value->text));
  return {};
}

ExportConfig take_export(Mapping& from, std::string_view kind, bool witness) {
  ExportConfig out;
  out.line = from.line();
  out.name = take_name(from, "name", "write name: and a word that is used for nothing else");
  if (!out.name.empty()) from.rename(fmt::format("{} {}", kind, out.name));
  if (from.require("path", "write path: and the directory where it is mounted")) {
    if (const auto value = from.scalar("path")) {
      out.path = normalize_path(value->text);
      if (out.path.empty() || out.path == "/") {
        from.add_problem("path",
                         fmt::format("'path' of {} is '{}'; write an absolute path without '..' and '.', not '/'",
                                     from.what(), value->text));
      }
    }
  }
  if (!witness) {
    if (const auto raid = from.choice("raid", {"0", "5", "6"})) out.raid = *raid == 0 ? 0 : *raid == 1 ? 5 : 6;
    out.weight = take_weight(from);
  }
  from.finish();
  return out;
}

void take_racks(Mapping& file, Config& out) {
  if (!file.require("racks", "write racks: and a list, each with name: and exports:")) return;
  for (Mapping& item : file.mappings("racks", "rack")) {
    RackConfig rack;
    rack.line = item.line();
    rack.name = take_name(item, "name", "write name: and a word for the failure domain");
    if (!rack.name.empty()) item.rename("rack " + rack.name);
    if (item.require("exports", "write exports: and a list, each with name: and path:")) {
      for (Mapping& e : item.mappings("exports", "export")) {
        rack.exports.push_back(take_export(e, "export", false));
      }
      if (rack.exports.empty())
        item.add_problem("exports", item.what() + " has no exports; list one or remove the rack");
    }
    item.finish();
    out.racks.push_back(std::move(rack));
  }
  for (Mapping& item : file.mappings("witnesses", "witness"))
    out.witnesses.push_back(take_export(item, "witness", true));
}

void take_policies(Mapping& file, Config& out) {
  for (Mapping& item : file.mappings("policies", "policy")) {
    PolicyConfig policy;
    policy.line = item.line();
    if (item.require("path", "write path: and the subtree, seen from the mount's root, as in /tmp")) {
      if (const auto value = item.scalar("path")) {
        const std::string path = normalize_path(value->text.starts_with('/') ? value->text : "/" + value->text);
        if (path == "/") {
          item.add_problem("path", "the policy's path is '/'; what holds for all stands at the top of the file");
        } else if (path.empty() || path == "/.rainfs" || path.starts_with("/.rainfs/")) {
          item.add_problem("path",
                           fmt::format("'path' of the policy is '{}'; write a path seen from the mount's root, as in "
                                       "/tmp, without '..', '.' and .rainfs",
                                       value->text));
        } else {
          policy.path = path.substr(1);
          item.rename("policy " + path);
        }
      }
    }
    policy.rules = take_rules(item, out.defaults);
    item.finish();
    out.policies.push_back(std::move(policy));
  }
}

base::Result<std::optional<ScrubTime>> parse_scrub_time(std::string_view text) {
  static constexpr std::array<std::string_view, 7> days{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  if (text == "never") return std::optional<ScrubTime>();
  ScrubTime out;
  out.weekday.reset();
  std::string_view rest = text;
  for (std::size_t i = 0; i < days.size(); ++i) {
    if (!rest.starts_with(days[i]) || rest.size() < 4 || rest[3] != ' ') continue;
    out.weekday = static_cast<int>(i);
    rest.remove_prefix(4);
    break;
  }
  const auto number = [&](std::size_t at, int below) {
    const auto value = parse_number(rest.substr(at, 2));
    return value && *value < static_cast<std::uint64_t>(below) ? static_cast<int>(*value) : -1;
  };
  const bool shaped = rest.size() == 5 && rest[2] == ':';
  out.hour = shaped ? number(0, 24) : -1;
  out.minute = shaped ? number(3, 60) : -1;
  if (out.hour >= 0 && out.minute >= 0) return std::optional<ScrubTime>(out);
  return base::unexpected(
      base::config_error(fmt::format("'{}' is no time; write \"Sat 02:00\", \"02:00\" for every day, or never", text)));
}

void take_scrub(Mapping& file, Scrub& out) {
  auto scrub = file.mapping("scrub", "scrub");
  if (!scrub) return;
  if (const auto rate = take<std::uint64_t>(*scrub, "rate", [](const std::string& text) -> base::Result<std::uint64_t> {
        if (text == "unlimited") return std::uint64_t{0};
        auto bytes = parse_size(text.ends_with("/s") ? text.substr(0, text.size() - 2) : text);
        if (bytes && *bytes < 1'000'000) {
          return base::unexpected(
              base::config_error("'" + text + "' per second would never end; write at least 1MB, or unlimited"));
        }
        return bytes;
      })) {
    out.rate_bytes = *rate;
  }
  take_duration(*scrub, "grace", "1s", "30d", out.grace);
  take_duration(*scrub, "deep_every", "1h", "3650d", out.deep_every);
  if (const auto at = take<std::optional<ScrubTime>>(*scrub, "at", parse_scrub_time)) out.at = *at;
  scrub->finish();
}

void take_behaviour(Mapping& file, Config& out) {
  take_percent(file, "reserve", 500, out.reserve_per_mille);
  if (const auto reads = file.choice("reads", {"auto", "managed", "passthrough"}))
    out.reads = static_cast<Reads>(*reads);
  if (const auto word = file.choice("coherence", {"close-to-open", "strict"}))
    out.coherence = static_cast<Coherence>(*word);
  if (auto deadlines = file.mapping("deadlines", "deadlines")) {
    take_duration(*deadlines, "metadata", "50ms", "10min", out.deadlines.metadata);
    take_duration(*deadlines, "data", "50ms", "10min", out.deadlines.data);
    take_duration(*deadlines, "probe", "50ms", "10min", out.deadlines.probe);
    deadlines->finish();
  }
  if (auto trash = file.mapping("trash", "trash")) {
    if (const auto days = trash->number("days", 0, most_days)) out.trash.days = static_cast<unsigned>(*days);
    take_percent(*trash, "max", 500, out.trash.max_per_mille);
    trash->finish();
  }
  take_scrub(file, out.scrub);
}

// Two of the same name or path, anywhere in the file.
void check_unique(const Config& config, Problems& problems) {
  std::vector<const ExportConfig*> all;
  for (std::size_t i = 0; i < config.racks.size(); ++i) {
    const RackConfig& rack = config.racks[i];
    for (std::size_t k = 0; k < i; ++k) {
      if (rack.name.empty() || config.racks[k].name != rack.name) continue;
      problems.add(rack.line, fmt::format("rack {} is listed twice (first on line {}); list all its exports in one, or "
                                          "rename it",
                                          rack.name, config.racks[k].line));
    }
    for (const ExportConfig& e : rack.exports) all.push_back(&e);
  }
  for (const ExportConfig& e : config.witnesses) all.push_back(&e);
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (!all[i]->name.empty() && all[i]->name == all[k]->name) {
        problems.add(all[i]->line, fmt::format("the name {} is used twice (first on line {}); rename one", all[i]->name,
                                               all[k]->line));
      }
      if (!all[i]->path.empty() && all[i]->path == all[k]->path) {
        problems.add(all[i]->line,
                     fmt::format("{} and {} (line {}) have the same path {}; each export is a directory of its own",
                                 all[i]->name, all[k]->name, all[k]->line, all[i]->path));
      }
    }
  }
  if (all.size() > base::max_exports) {
    problems.add(all[base::max_exports]->line,
                 fmt::format("{} exports and witnesses; an array has at most {}", all.size(), base::max_exports));
  }
  for (std::size_t i = 0; i < config.policies.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (config.policies[i].path.empty() || config.policies[i].path != config.policies[k].path) continue;
      problems.add(config.policies[i].line, fmt::format("/{} has a policy already on line {}; remove one",
                                                        config.policies[i].path, config.policies[k].line));
    }
  }
}

void check_counts(const Config& config, Problems& problems) {
  const auto racks = static_cast<unsigned>(config.racks.size());
  const auto check = [&](unsigned replicas, int line, const std::string& what) {
    if (racks == 0 || replicas <= racks) return;
    problems.add(
        line, fmt::format("{} asks for {} replicas, each in a rack of its own, but there {}; lower 'replicas' or add "
                          "racks",
                          what, replicas, racks == 1 ? "is 1 rack" : fmt::format("are {} racks", racks)));
  };
  check(config.defaults.replicas, config.replicas_line, "the array");
  for (const PolicyConfig& policy : config.policies) {
    // One that inherits its number has been told of with the array.
    if (policy.rules.replicas != config.defaults.replicas)
      check(policy.rules.replicas, policy.line, "policy /" + policy.path);
  }
  bool shares = false;
  const ExportConfig* other = nullptr;
  for (const RackConfig& rack : config.racks) {
    for (const ExportConfig& e : rack.exports) {
      shares = shares || e.weight.kind == Weight::Kind::share;
      if (e.weight.kind != Weight::Kind::share && other == nullptr) other = &e;
    }
  }
  if (shares && other != nullptr) {
    problems.add(other->line,
                 fmt::format("the weight of {} is a capacity while others are plain numbers, which cannot be "
                             "compared; give all exports a number, or none",
                             other->name));
  }
}

}  // namespace

base::Result<Config> parse_config(std::string_view text, const std::string& where) {
  Problems problems(where);
  auto file = load_mapping(text, "the file of an array", problems);
  if (!file) return base::unexpected(problems.all());
  file->rename("the array");
  Config out;
  out.file = where;
  out.array = take_name(*file, "array", "write array: and its name");
  out.replicas_line = file->line_of(file->has("replicas") ? "replicas" : "racks");
  out.defaults = take_rules(*file, Rules{});
  take_racks(*file, out);
  take_policies(*file, out);
  take_behaviour(*file, out);
  file->finish();
  if (file->has("racks") && out.racks.empty()) {
    file->add_problem("racks", "no racks are listed; list at least as many as there are replicas");
  }
  check_unique(out, problems);
  check_counts(out, problems);
  if (!problems.empty()) return base::unexpected(problems.all());
  return out;
}

base::Result<NodeConfig> parse_node_config(std::string_view text, const std::string& where) {
  NodeConfig out;
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return out;
  Problems problems(where);
  auto file = load_mapping(text, "the file of a node", problems);
  if (!file) return base::unexpected(problems.all());
  file->rename("the node");
  if (file->has("node")) out.node = take_name(*file, "node", {});
  if (file->has("rack")) out.rack = take_name(*file, "rack", {});
  if (auto paths = file->mapping("paths", "paths")) {
    for (const auto& [name, value] : paths->pairs()) {
      const std::string path = normalize_path(value.text);
      if (!is_name(name.text)) {
        problems.add(name.line, fmt::format("'{}' is no name of an export; write export: path", name.text));
      } else if (path.empty() || path == "/") {
        problems.add(value.line,
                     fmt::format("the path of {} is '{}'; write an absolute path without '..' and '.', not '/'",
                                 name.text, value.text));
      } else {
        out.paths[name.text] = path;
      }
    }
  }
  for (const auto& [key, field] :
       {std::pair{"attr_timeout", &out.attr_timeout}, {"entry_timeout", &out.entry_timeout}}) {
    base::Duration value{-1};
    take_duration(*file, key, "0s", "1d", value);
    if (value.count() >= 0) *field = value;
  }
  if (const auto level = take<log::Level>(*file, "log_level", parse_log_level)) out.log_level = *level;
  file->finish();
  if (!problems.empty()) return base::unexpected(problems.all());
  return out;
}

}  // namespace rainfs::config
