// SPDX-License-Identifier: Apache-2.0
// The form of facts on the exports.
#include <fmt/format.h>
#include <xxhash.h>

#include <array>
#include <charconv>

#include "rainfs/ledger/ledger.hpp"
#include "shape.hpp"

namespace rainfs::ledger {

namespace {

constexpr std::array<std::pair<Why, std::string_view>, 8> names = {{
    {Why::missed_write, "missed-write"},
    {Why::removed, "removed"},
    {Why::renamed_from, "renamed-from"},
    {Why::renamed_to, "renamed-to"},
    {Why::metadata, "metadata"},
    {Why::being_copied, "being-copied"},
    {Why::unverified, "unverified"},
    {Why::may_lack, "may-lack"},
}};

std::string hash_of(std::string_view text) {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

std::string percent_encode(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    if (c > ' ' && c < 0x7f && c != '%') {
      out += c;
    } else {
      out += fmt::format("%{:02x}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

bool percent_decode(std::string_view text, std::string& out) {
  out.clear();
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    unsigned value = 0;
    if (i + 2 >= text.size()) return false;
    const auto [end, error] = std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16);
    if (error != std::errc{} || end != text.data() + i + 3) return false;
    out += static_cast<char>(value);
    i += 2;
  }
  return true;
}
std::string_view name_of(Why why) {
  for (const auto& [value, name] : names) {
    if (value == why) return name;
  }
  return "?";
}

bool parse_why(std::string_view text, Why& out) {
  for (const auto& [value, name] : names) {
    if (name == text) {
      out = value;
      return true;
    }
  }
  return false;
}

std::string format_fact(const Fact& fact, const topology::Topology& topology) {
  return fmt::format("path: {}\nexport: {}\nscope: {}\nwhy: {}\nnode: {}\ntime: {}.{:09}\n", percent_encode(fact.path),
                     topology.exports[fact.target].name, fact.scope == Scope::subtree ? "subtree" : "entry",
                     name_of(fact.why), percent_encode(fact.node), fact.time.tv_sec, fact.time.tv_nsec);
}

base::Result<Fact> parse_fact(std::string_view text, const topology::Topology& topology) {
  Fact fact;
  bool path = false, target = false, why = false;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) break;  // a torn last line
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    const std::size_t colon = line.find(": ");
    if (colon == std::string_view::npos) continue;
    const std::string_view key = line.substr(0, colon);
    const std::string_view value = line.substr(colon + 2);
    if (key == "path") path = percent_decode(value, fact.path);
    if (key == "node" && !percent_decode(value, fact.node)) fact.node.clear();
    if (key == "scope") fact.scope = value == "subtree" ? Scope::subtree : Scope::entry;
    if (key == "why") why = parse_why(value, fact.why);
    if (key == "time") std::from_chars(value.data(), value.data() + value.size(), fact.time.tv_sec);
    if (key == "export") {
      if (const auto named = topology.export_named(value)) {
        fact.target = *named;
        target = true;
      }
    }
  }
  if (!path || !target || !why) return base::unexpected(EBADMSG, "a damaged fact");
  return fact;
}

std::string fact_directory(const topology::Topology& topology, ExportIndex target, Scope scope, std::string_view path) {
  // No path ends in a slash: the two scopes of one path never share a directory.
  std::string hashed(path);
  if (scope == Scope::subtree) hashed += '/';
  const std::string hash = hash_of(hashed);
  return fmt::format(".rainfs/ledger/{}/{}/{}", topology.exports[target].name, std::string_view(hash).substr(0, 2),
                     hash);
}

std::string child_mark(std::string_view path) {
  return fmt::format("{}{}+", child_prefix, hash_of(path));
}

bool about_child(std::string_view instance) {
  return instance.starts_with(child_prefix);
}

bool about_child(std::string_view instance, std::string_view path) {
  return instance.starts_with(child_mark(path));
}

}  // namespace rainfs::ledger
