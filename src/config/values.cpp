// SPDX-License-Identifier: Apache-2.0
#include "rainfs/config/values.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <utility>

namespace rainfs::config {

namespace {

// A decimal number kept exact: digits / 10^places.
struct Decimal {
  std::uint64_t digits = 0;
  std::uint64_t divisor = 1;
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// Takes the number off the front of `text`; nothing if there is none or it has too many digits.
std::optional<Decimal> take_decimal(std::string_view& text) {
  constexpr std::size_t most_digits = 18;
  Decimal out;
  std::size_t used = 0;
  std::size_t count = 0;
  bool point = false;
  for (; used < text.size(); ++used) {
    const char c = text[used];
    if (c == '.' && !point && used > 0) {
      point = true;
      continue;
    }
    if (!is_digit(c)) break;
    if (++count > most_digits) return std::nullopt;
    out.digits = out.digits * 10 + static_cast<std::uint64_t>(c - '0');
    if (point) out.divisor *= 10;
  }
  if (count == 0 || text[used - 1] == '.') return std::nullopt;
  text.remove_prefix(used);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return out;
}

__extension__ typedef unsigned __int128 Wide;  // digits times unit needs more than 64 bits

// digits * unit / divisor; nothing if it does not fit.
std::optional<std::uint64_t> scale(const Decimal& number, std::uint64_t unit) {
  const auto product = static_cast<Wide>(number.digits) * unit / number.divisor;
  if (product > static_cast<Wide>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
  return static_cast<std::uint64_t>(product);
}

template <std::size_t N>
std::optional<std::uint64_t> unit_of(const std::array<std::pair<std::string_view, std::uint64_t>, N>& units,
                                     std::string_view word) {
  for (const auto& [name, factor] : units) {
    if (name == word) return factor;
  }
  return std::nullopt;
}

constexpr std::uint64_t ns_per_s = 1'000'000'000;
constexpr std::array<std::pair<std::string_view, std::uint64_t>, 7> duration_units{{{"d", 86400 * ns_per_s},
                                                                                    {"h", 3600 * ns_per_s},
                                                                                    {"min", 60 * ns_per_s},
                                                                                    {"s", ns_per_s},
                                                                                    {"ms", 1'000'000},
                                                                                    {"us", 1'000},
                                                                                    {"ns", 1}}};
constexpr std::array<std::pair<std::string_view, std::uint64_t>, 13> size_units{{
    {"B", 1},
    {"kB", 1000},
    {"KB", 1000},
    {"MB", 1000'000},
    {"GB", 1000'000'000},
    {"TB", 1000'000'000'000},
    {"PB", 1000'000'000'000'000},
    {"KiB", std::uint64_t{1} << 10},
    {"kiB", std::uint64_t{1} << 10},
    {"MiB", std::uint64_t{1} << 20},
    {"GiB", std::uint64_t{1} << 30},
    {"TiB", std::uint64_t{1} << 40},
    {"PiB", std::uint64_t{1} << 50},
}};

base::Unexpected wrong(std::string_view text, std::string_view why, std::string_view remedy) {
  return base::unexpected(base::config_error(fmt::format("'{}' {}; {}", text.substr(0, 80), why, remedy)));
}

}  // namespace

base::Result<base::Duration> parse_duration(std::string_view text) {
  constexpr std::string_view remedy = "write a number and ms, s, min, h or d, as in 5s";
  std::string_view rest = text;
  const auto number = take_decimal(rest);
  if (!number) return wrong(text, "is not a duration", remedy);
  if (rest.empty() && number->digits == 0) return base::Duration(0);
  if (rest.empty()) return wrong(text, "has no unit", remedy);
  const auto unit = unit_of(duration_units, rest);
  if (!unit) return wrong(text, "is not in a known unit of time", remedy);
  const auto nanoseconds = scale(*number, *unit);
  if (!nanoseconds) return wrong(text, "is longer than 292 years", remedy);
  return base::Duration(static_cast<std::int64_t>(*nanoseconds));
}

base::Result<std::uint64_t> parse_size(std::string_view text) {
  constexpr std::string_view remedy = "write a number and kB, MB, GB, TB or KiB, MiB, GiB, TiB, as in 200MB";
  std::string_view rest = text;
  const auto number = take_decimal(rest);
  if (!number) return wrong(text, "is not a size", remedy);
  if (rest.empty() && number->digits == 0) return std::uint64_t{0};
  if (rest.empty()) return wrong(text, "has no unit", remedy);
  const auto unit = unit_of(size_units, rest);
  if (!unit) return wrong(text, "is not in a known unit of size", remedy);
  const auto bytes = scale(*number, *unit);
  if (!bytes) return wrong(text, "is too large", remedy);
  return *bytes;
}

base::Result<std::uint32_t> parse_percent(std::string_view text) {
  constexpr std::string_view remedy = "write a number and %, as in 5%";
  std::string_view rest = text;
  const auto number = take_decimal(rest);
  if (!number) return wrong(text, "is not a percentage", remedy);
  if (rest != "%" && !(rest.empty() && number->digits == 0)) return wrong(text, "is not a percentage", remedy);
  const auto thousandths = scale(*number, 10);
  if (!thousandths || *thousandths > 1000) return wrong(text, "is more than all", "write at most 100%");
  return static_cast<std::uint32_t>(*thousandths);
}

base::Result<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size()) {
    return wrong(text, "is not a whole number", "write digits only");
  }
  return value;
}

std::string format_size(std::uint64_t bytes) {
  static constexpr std::array<std::string_view, 7> units{"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 999.95 && unit + 1 < units.size()) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, units[unit]);
}

std::string format_duration(base::Duration duration) {
  const auto nanoseconds = static_cast<std::uint64_t>(duration.count());
  if (duration.count() <= 0) return "0s";
  for (const auto& [name, factor] : duration_units) {
    if (nanoseconds % factor == 0) return fmt::format("{}{}", nanoseconds / factor, name);
  }
  return "0s";
}

bool is_name(std::string_view text) {
  if (text.empty() || text.size() > 64) return false;
  const auto word = [](char c) { return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (!word(text.front())) return false;
  for (const char c : text) {
    if (!word(c) && c != '.' && c != '_' && c != '-') return false;
  }
  return true;
}

std::string normalize_path(std::string_view path) {
  if (path.empty() || path.front() != '/' || path.size() > 4000) return {};
  std::string out;
  std::size_t at = 0;
  while (at < path.size()) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string_view part = path.substr(at, end - at);
    at = end + 1;
    if (part.empty()) continue;
    if (part == "." || part == "..") return {};
    for (const char c : part) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return {};
    }
    out += '/';
    out += part;
  }
  return out.empty() ? "/" : out;
}

}  // namespace rainfs::config
