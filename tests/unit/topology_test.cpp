// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <algorithm>
#include <random>

#include "rainfs/topology/from_config.hpp"
#include "rainfs/topology/topology.hpp"

using namespace rainfs::topology;

namespace {

// Racks a (nas0, nas1), b (nas2), c (nas3, nas4), and a witness.
Topology five_exports() {
  Topology t;
  t.array_name = "scratch";
  t.array_uuid = rainfs::base::make_uuid();
  t.racks = {{"a"}, {"b"}, {"c"}, {"witness:w"}};
  const unsigned rack_of[] = {0, 0, 1, 2, 2, 3};
  for (unsigned i = 0; i < 6; ++i) {
    Export e;
    e.name = i == 5 ? "w" : "nas" + std::to_string(i);
    e.uuid = rainfs::base::make_uuid();
    e.rack = rack_of[i];
    e.path = "/nas/" + std::to_string(i);
    e.raid = i % 2 == 0 ? 6 : 5;
    e.weight = 1000 + i;
    e.placement_weight = 500 + i;
    e.witness = i == 5;
    t.exports.push_back(e);
  }
  return t;
}

ExportSet set_of(std::initializer_list<int> indices) {
  ExportSet set;
  for (const int i : indices) set.insert(static_cast<ExportIndex>(i));
  return set;
}

}  // namespace

TEST_CASE("a rack counts as answered only when all of its exports have answered", "[topology]") {
  const Topology t = five_exports();
  CHECK(t.rack_count() == 3);
  CHECK(t.complete_racks(set_of({})) == 0);
  CHECK(t.complete_racks(set_of({0, 2, 3})) == 1);
  CHECK(t.complete_racks(set_of({0, 1, 2, 3})) == 2);
  CHECK(t.complete_racks(set_of({0, 1, 2, 3, 4})) == 3);
  CHECK(t.complete_racks(set_of({5})) == 0);  // a witness knows nothing of files
  CHECK(t.racks_of(set_of({0, 1, 5})) == 2);
  CHECK(t.rack_members(3) == set_of({3, 4}));
}

TEST_CASE("draining exports answer but take nothing new, retired ones do neither", "[topology]") {
  Topology t = five_exports();
  t.exports[0].state = State::draining;
  t.exports[2].state = State::retired;
  CHECK(t.data_exports() == set_of({0, 1, 3, 4}));
  CHECK(t.placeable() == set_of({1, 3, 4}));
  CHECK(t.fact_holders() == set_of({0, 1, 3, 4, 5}));
  CHECK(t.rack_count() == 2);
  CHECK(t.complete_racks(set_of({1, 3, 4})) == 1);
  CHECK(t.complete_racks(set_of({0, 1})) == 1);
}

TEST_CASE("K-R+1 racks are needed to deny, and never less than one", "[topology]") {
  const Topology t = five_exports();
  CHECK(t.racks_to_deny({1, 1, Quorum::strict}) == 3);
  CHECK(t.racks_to_deny({2, 1, Quorum::strict}) == 2);
  CHECK(t.racks_to_deny({3, 1, Quorum::strict}) == 1);
  CHECK(t.racks_to_deny({4, 1, Quorum::strict}) == 1);
}

TEST_CASE("the longest policy that is the path or an ancestor holds", "[topology]") {
  Topology t = five_exports();
  t.policies = {{"tmp", {1, 1, Quorum::lenient}},
                {"tmp/keep/safe", {3, 2, Quorum::strict}},
                {"tmp/keep", {2, 2, Quorum::strict}}};
  CHECK(&t.rules_for("") == &t.defaults);
  CHECK(&t.rules_for("home/tmp") == &t.defaults);
  CHECK(&t.rules_for("tmpfile") == &t.defaults);
  CHECK(t.rules_for("tmp").replicas == 1);
  CHECK(t.rules_for("tmp/keeper").replicas == 1);
  CHECK(t.rules_for("tmp/keep/a").replicas == 2);
  CHECK(t.rules_for("tmp/keep/safe/x/y").replicas == 3);
}

TEST_CASE("tolerance is (raid+1)*R-1 disks with the weakest raid, and R-1 racks", "[topology]") {
  Topology t = five_exports();
  CHECK(t.tolerance({2, 1, Quorum::strict}).disks == 3);
  CHECK(t.tolerance({2, 1, Quorum::strict}).racks == 1);
  for (Export& e : t.exports) e.raid = 6;
  CHECK(t.tolerance({3, 1, Quorum::strict}).disks == 8);
  t.exports[4].raid = 0;
  CHECK(t.tolerance({3, 1, Quorum::strict}).disks == 2);
  t.exports[4].state = State::retired;
  CHECK(t.tolerance({1, 1, Quorum::strict}).disks == 2);
}

TEST_CASE("array.yaml is read back as it was written, byte for byte", "[topology]") {
  Topology t = five_exports();
  t.version = 7;
  t.defaults = {3, 2, Quorum::lenient};
  t.reserve_per_mille = 25;
  t.time_granularity_ns = 1'000'000;
  t.exports[1].state = State::draining;
  t.exports[2].rebuild_pending = true;
  t.exports[3].path = "/a \"quoted\" \\ path: with # and \xc3\xa9";
  t.policies = {{"t m:p", {1, 1, Quorum::lenient}}};
  const std::string text = format_topology(t);
  const auto back = parse_topology(text, "array.yaml");
  REQUIRE(back);
  CHECK(format_topology(*back) == text);
  CHECK(back->version == 7);
  CHECK(back->defaults.replicas == 3);
  CHECK(back->defaults.min_replicas == 2);
  CHECK(back->defaults.quorum == Quorum::lenient);
  CHECK(back->exports[1].state == State::draining);
  CHECK(back->exports[2].rebuild_pending);
  CHECK(back->exports[3].path == t.exports[3].path);
  CHECK(back->exports[5].witness);
  CHECK(back->exports[4].rack == 2);
  CHECK(back->exports[4].placement_weight == 504);
  CHECK(back->policies.at(0).path == "t m:p");
}

TEST_CASE("any changed or missing byte of array.yaml is noticed", "[topology]") {
  const std::string text = format_topology(five_exports());
  for (std::size_t length = 0; length < text.size(); length += 7) {
    CHECK_FALSE(parse_topology(text.substr(0, length), "array.yaml"));
  }
  std::mt19937 random(4711);
  for (int i = 0; i < 300; ++i) {
    std::string damaged = text;
    damaged[random() % damaged.size()] ^= static_cast<char>(1U << (random() % 8));
    INFO(damaged);
    CHECK_FALSE(parse_topology(damaged, "array.yaml"));
  }
}

TEST_CASE("a foreign file gives one error that names it", "[topology]") {
  for (const std::string foreign : {"", "hello", "- a\n- b\n", "a: [1, 2", "racks: 3\nhosts: []\n",
                                    "\x7f"
                                    "ELF\x01\x02",
                                    "--- \n...\n---\n", "%YAML 9.9\n---\n: :\n", "a: &a [*a]\n"}) {
    INFO(foreign);
    const auto topology = parse_topology(foreign, "/nas/x/array.yaml");
    REQUIRE_FALSE(topology);
    CHECK(topology.error().message().find("/nas/x/array.yaml") == 0);
    CHECK(topology.error().message().find('\n') == std::string::npos);
    const auto identity = parse_identity(foreign, "/nas/x/export.yaml");
    REQUIRE_FALSE(identity);
    CHECK(identity.error().message().find("/nas/x/export.yaml") == 0);
  }
  CHECK_FALSE(parse_topology(std::string(100'000, '['), "array.yaml"));
  CHECK_FALSE(parse_topology(std::string(3'000'000, 'a'), "array.yaml"));
}

TEST_CASE("a newer format is told apart from damage", "[topology]") {
  std::string text = format_topology(five_exports());
  text.replace(text.find("format: 1"), 9, "format: 2");
  const auto newer = parse_topology(text, "array.yaml");
  REQUIRE_FALSE(newer);
  CHECK(newer.error().message().find("update RainFS") != std::string::npos);
}

TEST_CASE("export.yaml is read back as it was written", "[topology]") {
  Identity identity;
  identity.array_name = "scratch";
  identity.array_uuid = rainfs::base::make_uuid();
  identity.export_name = "nas1";
  identity.export_uuid = rainfs::base::make_uuid();
  identity.rack = "rack-a";
  identity.time_granularity_ns = 100;
  const std::string text = format_identity(identity);
  const auto back = parse_identity(text, "export.yaml");
  REQUIRE(back);
  CHECK(format_identity(*back) == text);
  CHECK(back->array_uuid == identity.array_uuid);
  CHECK(back->export_uuid == identity.export_uuid);
  CHECK(back->rack == "rack-a");
  CHECK(back->time_granularity_ns == 100);

  const auto without = parse_identity(text.substr(0, text.find("rack:")), "/x/export.yaml");
  REQUIRE_FALSE(without);
  CHECK(without.error().message().find("/x/export.yaml:") == 0);
  CHECK(without.error().message().find("'rack'") != std::string::npos);
}

TEST_CASE("a new topology has all that the file says, and differs in nothing from it", "[topology]") {
  const auto config = rainfs::config::parse_config(R"(array: s
replicas: 2
quorum: lenient
reserve: 10%
racks:
  - { name: a, exports: [ { name: n1, path: /n1, raid: 6 }, { name: n2, path: /n2, weight: 3TiB } ] }
  - { name: b, exports: [ { name: n3, path: /n3 } ] }
witnesses: [ { name: w, path: /w } ]
policies: [ { path: /tmp, replicas: 1 } ]
)",
                                                   "s.yaml");
  REQUIRE(config);
  Topology t = make_topology(*config);
  CHECK(t.version == 1);
  CHECK(rainfs::base::is_uuid(t.array_uuid));
  REQUIRE(t.exports.size() == 4);
  CHECK(t.data_exports().size() == 3);
  CHECK(t.exports[3].witness);
  CHECK(t.exports[3].rack == 2);
  CHECK(t.exports[0].weight == 0);
  CHECK(t.exports[1].weight == 3u << 20);
  CHECK(t.exports[0].raid == 6);
  CHECK(t.defaults.quorum == Quorum::lenient);
  CHECK(t.reserve_per_mille == 100);
  CHECK(t.rules_for("tmp/x").replicas == 1);
  CHECK(differences(*config, t).empty());

  t.exports[0].weight = 12345;  // measured since
  t.exports[0].path = "/elsewhere";
  CHECK(differences(*config, t).empty());

  t.exports[2].state = State::retired;
  t.exports[1].raid = 5;
  t.exports[0].rack = 1;
  t.exports.push_back(t.exports[0]);
  t.exports.back().name = "n9";
  t.defaults.replicas = 1;
  t.policies.clear();
  const auto list = differences(*config, t);
  const auto told = [&](const std::string& text) { return std::find(list.begin(), list.end(), text) != list.end(); };
  CHECK(told("replicas is 2, in the array 1"));
  CHECK(told("export n3 is retired from the array"));
  CHECK(told("raid of n2 is 0, in the array 5"));
  CHECK(told("export n1 is in rack a, in the array in b"));
  CHECK(told("export n9 of the array is not listed"));
  CHECK(told("policy /tmp is not in the array"));
  CHECK(list.size() == 6);
}

TEST_CASE("while files may lack replicas every rack must answer before a name is denied", "[topology]") {
  const auto config = rainfs::config::parse_config(
      "array: s\nreplicas: 2\nracks:\n  - { name: a, exports: [ { name: n1, path: /n1 } ] }\n"
      "  - { name: b, exports: [ { name: n2, path: /n2 } ] }\n  - { name: c, exports: [ { name: n3, path: /n3 } ] }\n"
      "policies: [ { path: /tmp, replicas: 1 }, { path: /safe, replicas: 3 } ]\n",
      "s.yaml");
  REQUIRE(config);
  Topology t = make_topology(*config);
  CHECK(t.racks_to_deny(t.defaults) == 2);
  CHECK_FALSE(t.replicas_missing());
  t.set_replicas_missing(true);
  CHECK(t.replicas_missing());
  for (const char* path : {"x", "tmp/x", "safe/x"}) CHECK(t.racks_to_deny(t.rules_for(path)) == 3);
  const auto back = parse_topology(format_topology(t), "array.yaml");
  REQUIRE(back);
  CHECK(back->replicas_missing());
  t.set_replicas_missing(false);
  CHECK_FALSE(t.replicas_missing());
  CHECK(t.racks_to_deny(t.rules_for("safe/x")) == 1);
}
