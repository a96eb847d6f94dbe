// SPDX-License-Identifier: Apache-2.0
#include "private_files.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace rainfs::status {

namespace {

using nlohmann::json;

// An object, or a null value for anything else.
json parse_object(std::string_view text) {
  json value = json::parse(text, nullptr, false);
  return value.is_object() ? value : json();
}

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

template <typename Number>
Number number_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number() ? found->get<Number>() : Number{};
}

}  // namespace

std::string format_mark(const NodeMark& mark) {
  json object = {{"node", mark.mount.node},
                 {"mount_point", mark.mount.mount_point},
                 {"version", mark.mount.version},
                 {"mounted", mark.mount.mounted_s},
                 {"read_bytes_per_s", mark.mount.read_bytes_per_s},
                 {"written_bytes_per_s", mark.mount.written_bytes_per_s},
                 {"absent", json::object()}};
  for (const auto& [name, since_s] : mark.absent_since_s) object["absent"][name] = since_s;
  return object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

std::optional<NodeMark> parse_mark(std::string_view text) {
  const json object = parse_object(text);
  if (object.is_null()) return std::nullopt;
  NodeMark mark;
  mark.mount.node = text_of(object, "node");
  mark.mount.mount_point = text_of(object, "mount_point");
  mark.mount.version = text_of(object, "version");
  mark.mount.mounted_s = number_of<std::int64_t>(object, "mounted");
  mark.mount.read_bytes_per_s = number_of<std::uint64_t>(object, "read_bytes_per_s");
  mark.mount.written_bytes_per_s = number_of<std::uint64_t>(object, "written_bytes_per_s");
  if (mark.mount.node.empty()) return std::nullopt;
  const auto absent = object.find("absent");
  if (absent != object.end() && absent->is_object()) {
    for (const auto& [name, since] : absent->items()) {
      if (since.is_number()) mark.absent_since_s[name] = since.get<std::int64_t>();
    }
  }
  return mark;
}

std::optional<Scrub> parse_scrub(std::string_view text) {
  const json object = parse_object(text);
  if (object.is_null()) return std::nullopt;
  Scrub scrub;
  scrub.started_s = number_of<std::int64_t>(object, "started");
  scrub.finished_s = number_of<std::int64_t>(object, "time");
  const auto deep = object.find("deep");
  scrub.deep = deep != object.end() && deep->is_boolean() && deep->get<bool>();
  scrub.node = text_of(object, "node");
  scrub.scope = text_of(object, "scope");
  scrub.files = number_of<std::uint64_t>(object, "files");
  scrub.repaired = number_of<std::uint64_t>(object, "repaired");
  scrub.unrepaired = number_of<std::uint64_t>(object, "unrepaired");
  scrub.conflicts = number_of<std::uint64_t>(object, "conflicts");
  scrub.bytes_copied = number_of<std::uint64_t>(object, "bytes_copied");
  scrub.facts = number_of<std::uint64_t>(object, "facts");
  scrub.damaged = number_of<std::uint64_t>(object, "damaged");
  scrub.fewer_than_r = number_of<std::uint64_t>(object, "fewer_than_r");
  scrub.single = number_of<std::uint64_t>(object, "single");
  return scrub;
}

std::vector<Scrub> parse_scrubs(std::string_view text) {
  std::vector<Scrub> scrubs;
  while (!text.empty() && scrubs.size() < most_scrubs) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    if (auto scrub = parse_scrub(text.substr(0, end))) scrubs.push_back(std::move(*scrub));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return scrubs;
}

std::string parse_progress(std::string_view text) {
  const json object = parse_object(text);
  if (object.is_null()) return {};
  std::string line = text_of(object, "pass");
  const auto done = number_of<std::uint64_t>(object, "files_done");
  const auto all = number_of<std::uint64_t>(object, "files");  // as many as the last time
  line += fmt::format("{}{} files", line.empty() ? "" : ", ", done);
  if (all > 0) line += fmt::format(" of about {}", all);
  line += fmt::format(", {} repaired", number_of<std::uint64_t>(object, "repaired"));
  const std::string node = text_of(object, "node");
  if (!node.empty()) line += fmt::format(", on {}", node);
  return line;
}

}  // namespace rainfs::status
