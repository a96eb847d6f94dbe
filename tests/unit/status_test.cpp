// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include "private_files.hpp"
#include "rainfs/status/report.hpp"

using namespace rainfs;
using namespace rainfs::status;

namespace {

Report three_racks() {
  Report report;
  report.array = "scratch";
  report.time_s = 1'700'000'000;
  report.replicas = 2;
  report.racks = report.racks_complete = 3;
  report.racks_to_deny = 2;
  report.usable_bytes = 1000;
  report.usable_available_bytes = 500;
  for (const char* name : {"a", "b", "c"}) {
    Export exp;
    exp.name = std::string("nas-") + name;
    exp.rack = std::string("rack-") + name;
    exp.path = "/nas/" + exp.name;
    exp.online = true;
    exp.total_bytes = 1000;
    exp.available_bytes = 500;
    report.exports.push_back(exp);
  }
  return report;
}

void take_away(Report& report, std::size_t i) {
  report.exports[i].online = false;
  report.exports[i].absent_reason = "does not answer";
  --report.racks_complete;
}

}  // namespace

TEST_CASE("an array with everything there is healthy, and says nothing else", "[status]") {
  Report report = three_racks();
  judge(report);
  CHECK(report.health == Health::healthy);
  CHECK(report.problems.empty());
}

TEST_CASE("up to R-1 racks away is degraded, one more is unavailable", "[status]") {
  Report report = three_racks();
  take_away(report, 1);
  judge(report);
  CHECK(report.health == Health::degraded);
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0].what.find("nas-b") != std::string::npos);
  CHECK(report.problems[0].what.find("does not answer") != std::string::npos);
  take_away(report, 2);
  judge(report);
  CHECK(report.health == Health::unavailable);
  CHECK(report.problems.size() == 3);
  CHECK(report.problems[0].health == Health::unavailable);  // the worst first
}

TEST_CASE("each thing that is not well is told with its meaning and what to do", "[status]") {
  const auto one = [](auto change) {
    Report report = three_racks();
    change(report);
    judge(report);
    CHECK(report.health == Health::degraded);
    REQUIRE(report.problems.size() == 1);
    CHECK_FALSE(report.problems[0].means.empty());
    CHECK_FALSE(report.problems[0].action.empty());
    return report.problems[0].what;
  };
  CHECK(one([](Report& r) { r.exports[0].slow = true; }).find("slow") != std::string::npos);
  CHECK(one([](Report& r) { r.exports[0].read_only = true; }).find("read-only") != std::string::npos);
  CHECK(one([](Report& r) { r.exports[0].full = true; }).find("full") != std::string::npos);
  CHECK(one([](Report& r) { r.exports[0].state = "draining"; }).find("drained") != std::string::npos);
  CHECK(one([](Report& r) { r.usable_available_bytes = 10; }).find("nearly full") != std::string::npos);
  CHECK(one([](Report& r) { r.facts.count = r.facts.paths = 3; }).find("3 files are") != std::string::npos);
  CHECK(one([](Report& r) {
          r.facts.count = r.facts.paths = 10000;
          r.facts.complete = false;
        }).find("more than 10000") != std::string::npos);
  CHECK(one([](Report& r) {
          r.scrub.finished_s = 1;
          r.scrub.unrepaired = 2;
        }).find("left 2 files") != std::string::npos);
}

TEST_CASE("a retired export is no problem", "[status]") {
  Report report = three_racks();
  report.exports[2].online = false;
  report.exports[2].state = "retired";
  judge(report);
  CHECK(report.health == Health::healthy);
}

TEST_CASE("a report survives JSON, strange names and missing keys included", "[status]") {
  Report report = three_racks();
  take_away(report, 0);
  report.facts.examples.push_back({"dir/\"x\"\n", "nas-a", "missed-write", "n1", 5});
  report.mounts.push_back({"n1", "/mnt", "1.0", 1, 2, true});
  report.daemon = Daemon{};
  report.daemon->open_files = 7;
  judge(report);
  const auto back = from_json(to_json(report));
  REQUIRE(back);
  CHECK(back->health == Health::degraded);
  CHECK(back->problems.size() == report.problems.size());
  CHECK(back->exports[0].absent_reason == "does not answer");
  CHECK(back->facts.examples[0].path == "dir/\"x\"\n");
  CHECK(back->mounts[0].alive);
  REQUIRE(back->daemon);
  CHECK(back->daemon->open_files == 7);
  CHECK(to_text(*back) == to_text(report));
  CHECK(from_json("{\"array\": \"old\"}")->array == "old");
  CHECK_FALSE(from_json("no json"));
  report.facts.examples[0].path = "\xff\xfe";  // names are bytes
  CHECK(from_json(to_json(report)));
}

TEST_CASE("a page holds no markup of anybody else's", "[status]") {
  Report report = three_racks();
  report.facts.examples.push_back({"<script>x</script>", "nas-a", "removed", "n1", 5});
  const std::string page = to_html({report});
  CHECK(page.find("<script") == std::string::npos);
  CHECK(page.find("&lt;script&gt;") != std::string::npos);
}

TEST_CASE("a damaged or foreign file in .rainfs is passed over", "[status]") {
  CHECK_FALSE(parse_mark(""));
  CHECK_FALSE(parse_mark("[1, 2]"));
  CHECK_FALSE(parse_mark("{\"mount_point\": \"/mnt\"}"));
  CHECK_FALSE(parse_mark("{\"node\": "));
  NodeMark mark;
  mark.mount = {"n1", "/mnt", "1.0", 17, 0, true};
  mark.absent_since_s["nas-a"] = 99;
  const auto back = parse_mark(format_mark(mark));
  REQUIRE(back);
  CHECK(back->mount.node == "n1");
  CHECK(back->mount.mounted_s == 17);
  CHECK(back->absent_since_s.at("nas-a") == 99);
  CHECK_FALSE(parse_scrub("nonsense"));
  CHECK(parse_scrub("{\"time\": \"text\"}")->finished_s == 0);
  const auto scrub = parse_scrub("{\"time\": 50, \"started\": 40, \"unrepaired\": 3}");
  CHECK(scrub->unrepaired == 3);
  CHECK(scrub->started_s == 40);
  CHECK(parse_progress("{\"pass\": \"deep\", \"files_done\": 3, \"files\": 10, \"repaired\": 1}") ==
        "deep, 3 files of about 10, 1 repaired");
  const auto scrubs = parse_scrubs("{\"time\": 9, \"scope\": \"all\"}\nnonsense\n{\"time\": 8}\n{\"time\"");
  REQUIRE(scrubs.size() == 2);
  CHECK(scrubs[0].finished_s == 9);
  CHECK(scrubs[1].finished_s == 8);
}
