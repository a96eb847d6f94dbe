// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <thread>
#include <vector>

#include "rainfs/metrics/metrics.hpp"

using namespace rainfs::metrics;
using namespace std::chrono_literals;

TEST_CASE("nothing counted by several threads at once is lost", "[metrics]") {
  Counter counter;
  Histogram histogram;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 10000; ++k) {
        counter.add(2);
        histogram.observe(1us);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(counter.value() == 80000);
  CHECK(histogram.snapshot().count == 40000);
  CHECK(histogram.snapshot().sum_ns == 40'000'000);
}

TEST_CASE("a time lies in the first bucket whose bound it does not exceed", "[metrics]") {
  Histogram histogram;
  histogram.observe(10us);  // the bound itself
  histogram.observe(10001ns);
  histogram.observe(16s);   // beyond all
  histogram.observe(-1ns);  // a clock that went back
  const Histogram::Snapshot snapshot = histogram.snapshot();
  CHECK(snapshot.buckets[0] == 2);
  CHECK(snapshot.buckets[1] == 1);
  CHECK(snapshot.buckets.back() == 1);
  CHECK(snapshot.count == 4);
}

TEST_CASE("the text is Prometheus', with cumulative buckets and escaped labels", "[metrics]") {
  Exposition out;
  Histogram histogram;
  histogram.observe(1ms);
  histogram.observe(20s);
  out.family("x_seconds", Exposition::Type::histogram, "Times.\nTwo \\ lines");
  out.sample({{"path", "a\"b\\c\n"}}, histogram.snapshot());
  const std::string& text = out.text();
  CHECK(text.starts_with("# HELP x_seconds Times.\\nTwo \\\\ lines\n# TYPE x_seconds histogram\n"));
  CHECK(text.find("x_seconds_bucket{path=\"a\\\"b\\\\c\\n\",le=\"0.0005\"} 0\n") != std::string::npos);
  CHECK(text.find("le=\"0.001\"} 1\n") != std::string::npos);
  CHECK(text.find("le=\"15\"} 1\n") != std::string::npos);
  CHECK(text.find("le=\"+Inf\"} 2\n") != std::string::npos);
  CHECK(text.find("x_seconds_count{path=\"a\\\"b\\\\c\\n\"} 2\n") != std::string::npos);
  Exposition plain;
  plain.family("y_total", Exposition::Type::counter, "Y.");
  plain.sample({}, std::uint64_t{18446744073709551615u});
  CHECK(plain.text().ends_with("y_total 18446744073709551615\n"));
}
