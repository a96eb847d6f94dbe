// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "rainfs/config/config.hpp"
#include "rainfs/config/values.hpp"
#include "words.hpp"

namespace rainfs::config {

namespace {

// Of these pairs the first is the kernel's default; the second must be asked for.
constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kernel_pairs{{{"dev", "nodev"},
                                                                                     {"suid", "nosuid"},
                                                                                     {"exec", "noexec"},
                                                                                     {"async", "sync"},
                                                                                     {"atime", "noatime"},
                                                                                     {"diratime", "nodiratime"},
                                                                                     {"nodirsync", "dirsync"},
                                                                                     {"symfollow", "nosymfollow"}}};

// For mount(8), systemd and the boot scripts, not for a file system; or what is so anyway.
constexpr std::array<std::string_view, 17> not_ours{
    "defaults", "auto",  "noauto",  "nofail",   "_netdev",    "_rnetdev",    "user",          "users",   "nouser",
    "owner",    "group", "nogroup", "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime"};

void set_kernel(MountOptions& options, std::string_view word, bool on) {
  std::erase(options.kernel, word);
  if (on) options.kernel.emplace_back(word);
}

bool is_generic(std::string_view key, bool has_value, MountOptions& options) {
  if (key.starts_with("x-") || key.starts_with("X-") || key == "comment") return true;
  if (has_value) return key == "user";  // mount(8) records user=NAME
  for (const auto& [usual, asked] : kernel_pairs) {
    if (key != usual && key != asked) continue;
    set_kernel(options, asked, key == asked);
    return true;
  }
  return std::find(not_ours.begin(), not_ours.end(), key) != not_ours.end();
}

base::Error wrong(std::string text) {
  return base::config_error("mount option " + std::move(text));
}

base::Result<base::Duration> timeout_of(std::string_view value) {
  // Seconds without a unit, as all FUSE file systems take them.
  const bool bare = !value.empty() && value.find_first_not_of("0123456789.") == std::string_view::npos;
  auto duration = parse_duration(bare ? std::string(value) + "s" : std::string(value));
  if (duration && *duration > std::chrono::hours(24)) {
    return base::unexpected(base::config_error(fmt::format("'{}' is more than a day; write 0s to 1d", value)));
  }
  return duration;
}

base::Result<std::string> name_of(std::string_view value) {
  if (is_name(value)) return std::string(value);
  return base::unexpected(base::config_error(fmt::format("'{}' is no name; use {}", value, name_rule)));
}

template <typename T>
base::Result<T> word_of(std::string_view value, std::initializer_list<std::string_view> words) {
  const auto* const found = std::find(words.begin(), words.end(), value);
  if (found != words.end()) return static_cast<T>(found - words.begin());
  return base::unexpected(
      base::config_error(fmt::format("'{}' is unknown; write {}", value, fmt::join(words, " or "))));
}

template <typename T, typename U>
base::Result<void> assign(base::Result<T> value, U& field, std::string_view key) {
  if (!value) return base::unexpected(wrong(fmt::format("{}: {}", key, value.error().message())));
  field = std::move(*value);
  return {};
}

base::Result<void> apply_value(std::string_view key, std::string_view value, MountOptions& o) {
  if (key == "rack") return assign(name_of(value), o.rack, key);
  if (key == "node") return assign(name_of(value), o.node, key);
  if (key == "reads") return assign(word_of<Reads>(value, {"auto", "managed", "passthrough"}), o.reads, key);
  if (key == "coherence") return assign(word_of<Coherence>(value, {"close-to-open", "strict"}), o.coherence, key);
  if (key == "attr_timeout") return assign(timeout_of(value), o.attr_timeout, key);
  if (key == "entry_timeout") return assign(timeout_of(value), o.entry_timeout, key);
  if (key == "log_level") return assign(parse_log_level(value), o.log_level, key);
  if (key == "config") {
    if (value.empty()) return base::unexpected(wrong("config: no file given; write config=FILE"));
    o.config = value;
    return {};
  }
  return base::unexpected(
      wrong(fmt::format("'{}' is unknown; known are allow_other, ro, rw, uring, rack=, node=, reads=, coherence=, "
                        "attr_timeout=, entry_timeout=, log_level=, config= and the generic ones of "
                        "mount(8)",
                        key)));
}

base::Result<void> apply(std::string_view item, MountOptions& options) {
  const std::size_t equals = item.find('=');
  const bool has_value = equals != std::string_view::npos;
  const std::string_view key = item.substr(0, equals);
  std::string_view value = has_value ? item.substr(equals + 1) : std::string_view{};
  if (value.size() >= 2 && value.front() == '"' && value.back() == '"') value = value.substr(1, value.size() - 2);
  if (is_generic(key, has_value, options)) return {};
  if (key == "ro" || key == "rw" || key == "allow_other" || key == "uring") {
    if (has_value) return base::unexpected(wrong(fmt::format("{} takes no value; write {} alone", key, key)));
    if (key == "allow_other") {
      options.allow_other = true;
    } else if (key == "uring") {
      options.uring = true;
    } else {
      options.read_only = key == "ro";
    }
    return {};
  }
  static constexpr std::array<std::string_view, 8> with_value{"rack",         "node",          "reads",     "coherence",
                                                              "attr_timeout", "entry_timeout", "log_level", "config"};
  if (!has_value && std::find(with_value.begin(), with_value.end(), key) != with_value.end()) {
    return base::unexpected(wrong(fmt::format("{} has no value; write {}=...", key, key)));
  }
  return apply_value(key, value, options);
}

}  // namespace

base::Result<void> parse_mount_options(std::string_view text, MountOptions& options) {
  std::string problems;
  std::size_t at = 0;
  while (at < text.size()) {
    std::size_t end = at;
    for (bool quoted = false; end < text.size() && (quoted || text[end] != ','); ++end)
      quoted = quoted != (text[end] == '"');
    const std::string_view item = text.substr(at, end - at);
    at = end + 1;
    if (item.empty()) continue;
    if (const auto applied = apply(item, options); !applied) {
      problems += (problems.empty() ? "" : "\n") + applied.error().message();
    }
  }
  if (!problems.empty()) return base::unexpected(base::config_error(std::move(problems)));
  return {};
}

}  // namespace rainfs::config
