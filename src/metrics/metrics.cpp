// SPDX-License-Identifier: Apache-2.0
#include "rainfs/metrics/metrics.hpp"

#include <fmt/format.h>

namespace rainfs::metrics {

namespace {

std::string_view word(Exposition::Type type) {
  switch (type) {
    case Exposition::Type::counter:
      return "counter";
    case Exposition::Type::gauge:
      return "gauge";
    case Exposition::Type::histogram:
      return "histogram";
  }
  return "untyped";
}

// Backslash, line end and (in values of labels) the double quote are escaped.
void append_escaped(std::string& out, std::string_view text, bool quote) {
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\\' || (quote && c == '"')) {
      out += '\\';
      out += c;
    } else {
      out += c;
    }
  }
}

std::string seconds(double ns) {
  return fmt::format("{}", ns / 1e9);
}

}  // namespace

Histogram::Snapshot Histogram::snapshot() const noexcept {
  Snapshot out;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    out.buckets[i] = buckets_[i].load(std::memory_order_relaxed);
    out.count += out.buckets[i];
  }
  out.sum_ns = sum_ns_.load(std::memory_order_relaxed);
  return out;
}

void Exposition::family(std::string_view name, Type type, std::string_view help) {
  name_ = name;
  text_ += fmt::format("# HELP {} ", name);
  append_escaped(text_, help, false);
  text_ += fmt::format("\n# TYPE {} {}\n", name, word(type));
}

void Exposition::line(std::string_view suffix, const Labels& labels, std::string_view extra_label,
                      std::string_view extra_value, std::string_view value) {
  text_ += name_;
  text_ += suffix;
  char before = '{';
  const auto label = [&](std::string_view name, std::string_view content) {
    text_ += before;
    text_ += name;
    text_ += "=\"";
    append_escaped(text_, content, true);
    text_ += '"';
    before = ',';
  };
  for (const auto& [name, content] : common_) label(name, content);
  for (const auto& [name, content] : labels) label(name, content);
  if (!extra_label.empty()) label(extra_label, extra_value);
  if (before == ',') text_ += '}';
  text_ += ' ';
  text_ += value;
  text_ += '\n';
}

void Exposition::sample(const Labels& labels, double value) {
  line("", labels, "", "", fmt::format("{}", value));
}

void Exposition::sample(const Labels& labels, std::uint64_t value) {
  line("", labels, "", "", fmt::format("{}", value));
}

void Exposition::sample(const Labels& labels, const Histogram::Snapshot& histogram) {
  std::uint64_t below = 0;
  for (std::size_t i = 0; i < Histogram::bounds_ns.size(); ++i) {
    below += histogram.buckets[i];
    line("_bucket", labels, "le", seconds(static_cast<double>(Histogram::bounds_ns[i])), fmt::format("{}", below));
  }
  line("_bucket", labels, "le", "+Inf", fmt::format("{}", histogram.count));
  line("_sum", labels, "", "", seconds(static_cast<double>(histogram.sum_ns)));
  line("_count", labels, "", "", fmt::format("{}", histogram.count));
}

}  // namespace rainfs::metrics
