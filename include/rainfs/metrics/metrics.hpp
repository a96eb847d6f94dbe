// SPDX-License-Identifier: Apache-2.0
// Counters and latency histograms, and their text in the Prometheus exposition format (version 0.0.4).
//
// Instruments are members of what they measure: there is no registry. Any thread may count, without locks: one
// relaxed atomic addition. A reader sees each number as it is at some moment, not all of one moment.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rainfs/base/clock.hpp"

namespace rainfs::metrics {

class Counter {
 public:
  void add(std::uint64_t n = 1) noexcept { value_.fetch_add(n, std::memory_order_relaxed); }
  std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// How many answers took how long. The buckets are fixed: from what a cached stat on a local disk takes to the
// longest deadline in use, about three per decade.
class alignas(64) Histogram {
 public:
  // Upper bounds, inclusive; a last bucket takes what is longer.
  static constexpr std::array<std::int64_t, 18> bounds_ns = {
      10'000,      25'000,      50'000,        100'000,       250'000,       500'000,
      1'000'000,   2'500'000,   5'000'000,     10'000'000,    25'000'000,    50'000'000,
      100'000'000, 250'000'000, 1'000'000'000, 2'500'000'000, 5'000'000'000, 15'000'000'000};

  void observe(base::Duration taken) noexcept {
    const std::int64_t ns = taken.count() < 0 ? 0 : taken.count();
    std::size_t bucket = 0;
    while (bucket < bounds_ns.size() && ns > bounds_ns[bucket]) ++bucket;
    buckets_[bucket].fetch_add(1, std::memory_order_relaxed);
    sum_ns_.fetch_add(static_cast<std::uint64_t>(ns), std::memory_order_relaxed);
  }

  struct Snapshot {
    std::array<std::uint64_t, bounds_ns.size() + 1> buckets{};  // not cumulative
    std::uint64_t count = 0;
    std::uint64_t sum_ns = 0;
  };
  Snapshot snapshot() const noexcept;

 private:
  std::array<std::atomic<std::uint64_t>, bounds_ns.size() + 1> buckets_{};
  std::atomic<std::uint64_t> sum_ns_{0};
};

using Labels = std::vector<std::pair<std::string_view, std::string_view>>;

// Writes families one after the other; the samples of a family follow its heading.
class Exposition {
 public:
  enum class Type : std::uint8_t { counter, gauge, histogram };
  // `common` labels stand on every sample; what they refer to must live as long as this.
  explicit Exposition(Labels common = {}) : common_(std::move(common)) {}
  void family(std::string_view name, Type type, std::string_view help);
  void sample(const Labels& labels, double value);
  void sample(const Labels& labels, std::uint64_t value);
  void sample(const Labels& labels, const Histogram::Snapshot& histogram);
  const std::string& text() const { return text_; }

 private:
  void line(std::string_view suffix, const Labels& labels, std::string_view extra_label, std::string_view extra_value,
            std::string_view value);
  const Labels common_;
  std::string text_;
  std::string name_;
};

}  // namespace rainfs::metrics
