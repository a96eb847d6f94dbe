// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <limits>
#include <random>

#include "rainfs/config/config.hpp"
#include "rainfs/config/values.hpp"
#include "rainfs/config/yaml.hpp"

using namespace rainfs::config;
using namespace std::chrono_literals;
using Catch::Matchers::Contains;

namespace {

const std::string good = R"(array: scratch
replicas: 2
racks:
  - name: rack-a
    exports:
      - { name: nas1, path: /nas/nas1, raid: 6 }
  - name: rack-b
    exports:
      - { name: nas2, path: /nas/nas2 }
)";

std::string errors_of(const std::string& text) {
  const auto config = parse_config(text, "a.yaml");
  return config ? "" : config.error().message();
}

std::string node_errors_of(const std::string& text) {
  const auto node = parse_node_config(text, "node.yaml");
  return node ? "" : node.error().message();
}

// `good` with another text in place of one that occurs in it.
std::string with(const std::string& from, const std::string& to) {
  std::string text = good;
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

MountOptions options_of(const std::string& text) {
  MountOptions options;
  const auto parsed = parse_mount_options(text, options);
  INFO(text);
  REQUIRE(parsed);
  return options;
}

}  // namespace

TEST_CASE("the sample files are good", "[config]") {
  const std::string directory = RAINFS_SAMPLE_CONFIGS;
  const auto small = load_config(directory + "/small.yaml");
  INFO((small ? "" : small.error().message()));
  REQUIRE(small);
  CHECK(small->array == "scratch");
  CHECK(small->racks.size() == 3);
  const auto hpc5 = load_config(directory + "/hpc5.yaml");
  INFO((hpc5 ? "" : hpc5.error().message()));
  REQUIRE(hpc5);
  CHECK(hpc5->racks.size() == 3);
  CHECK(hpc5->policies.at(0).rules.min_replicas == 2);
  const auto hadoop = load_config(directory + "/hadoop.yaml");
  INFO((hadoop ? "" : hadoop.error().message()));
  REQUIRE(hadoop);
  CHECK(hadoop->witnesses.size() == 1);
  CHECK(hadoop->policies.at(0).rules.quorum == Quorum::lenient);
  CHECK(hadoop->trash.max_per_mille == 25);
  CHECK(hadoop->scrub.rate_bytes == 0);
  const auto node = load_node_config(directory + "/node.yaml");
  INFO((node ? "" : node.error().message()));
  REQUIRE(node);
  CHECK(node->rack == "rack-a");
  CHECK(node->paths.at("nas1") == "/mnt/fast/nas1/scratch");
}

TEST_CASE("every key of an array's file arrives in the value", "[config]") {
  const auto config = parse_config(R"(
array: s.1
replicas: 2
min_replicas: 2
quorum: lenient
reserve: 2.5%
racks:
  - name: a
    exports:
      - { name: n1, path: /n1//x/, raid: 5, weight: 3 }
  - name: b
    exports: [ { name: n2, path: "/n 2", raid: 0, weight: 4 } ]
witnesses:
  - { name: w, path: /w }
policies:
  - { path: /tmp/, replicas: 1 }
  - { path: a/b, quorum: strict }
deadlines: { metadata: 250ms, data: 1min, probe: 1.5s }
reads: managed
coherence: strict
trash: { days: 0, max: 10% }
scrub: { rate: 64MiB, grace: 2h, deep_every: 7d, at: "Mon 23:59" }
)",
                                   "x.yaml");
  INFO((config ? "" : config.error().message()));
  REQUIRE(config);
  CHECK(config->defaults.min_replicas == 2);
  CHECK(config->defaults.quorum == Quorum::lenient);
  CHECK(config->reserve_per_mille == 25);
  CHECK(config->racks[0].exports[0].path == "/n1/x");
  CHECK(config->racks[0].exports[0].raid == 5);
  CHECK(config->racks[0].exports[0].weight.value == 3);
  CHECK(config->racks[0].exports[0].line == 10);
  CHECK(config->racks[1].exports[0].path == "/n 2");
  CHECK(config->witnesses[0].name == "w");
  CHECK(config->policies[0].path == "tmp");
  CHECK(config->policies[0].rules.replicas == 1);
  CHECK(config->policies[0].rules.min_replicas == 1);  // no more than its replicas
  CHECK(config->policies[0].rules.quorum == Quorum::lenient);
  CHECK(config->policies[1].path == "a/b");
  CHECK(config->policies[1].rules.quorum == Quorum::strict);
  CHECK(config->deadlines.metadata == 250ms);
  CHECK(config->deadlines.data == 60s);
  CHECK(config->deadlines.probe == 1500ms);
  CHECK(config->reads == Reads::managed);
  CHECK(config->coherence == Coherence::strict);
  CHECK(config->trash.days == 0);
  CHECK(config->trash.max_per_mille == 100);
  CHECK(config->scrub.rate_bytes == 64u << 20);
  CHECK(config->scrub.grace == 2h);
  CHECK(config->scrub.deep_every == 7 * 24h);
  CHECK(config->scrub.at->weekday == 1);
  CHECK(config->scrub.at->hour == 23);
  CHECK(config->scrub.at->minute == 59);
}

TEST_CASE("what is left out has the documented default", "[config]") {
  const auto config = parse_config(good, "a.yaml");
  REQUIRE(config);
  CHECK(config->defaults.replicas == 2);
  CHECK(config->defaults.min_replicas == 1);
  CHECK(config->defaults.quorum == Quorum::strict);
  CHECK(config->reserve_per_mille == 50);
  CHECK(config->racks[1].exports[0].weight.kind == Weight::Kind::automatic);
  CHECK(config->deadlines.metadata == 5s);
  CHECK(config->deadlines.data == 15s);
  CHECK(config->deadlines.probe == 2s);
  CHECK(config->reads == Reads::automatic);
  CHECK(config->trash.days == 14);
  CHECK(config->scrub.rate_bytes == 200'000'000);
  CHECK(config->scrub.at->weekday == 6);
}

TEST_CASE("each error names file, line and remedy", "[config]") {
  struct Case {
    std::string text;
    std::string expected;
  };
  const std::vector<Case> cases = {
      {with("replicas: 2", "replcas: 2"), "a.yaml:2: unknown key 'replcas' in the array; did you mean 'replicas'?"},
      {with("replicas: 2", "colour: red"), "a.yaml:2: unknown key 'colour'"},
      {with("raid: 6", "raid: 6, owner: me"), "a.yaml:6: unknown key 'owner' in export nas1"},
      {with("replicas: 2", "replicas: 2\nreplicas: 1"),
       "a.yaml:3: 'replicas' is given twice in the file of an array (first on line 2)"},
      {with("raid: 6", "raid: 6, raid: 6"), "a.yaml:6: 'raid' is given twice in export"},
      {with("replicas: 2", "replicas: two"), "a.yaml:2: 'replicas' of the array is 'two'; write a whole number from 1"},
      {with("replicas: 2", "replicas: 0"), "a.yaml:2: 'replicas' of the array is '0'"},
      {with("replicas: 2", "replicas: -1"), "a.yaml:2: 'replicas'"},
      {with("replicas: 2", "replicas: 3"),
       "a.yaml:2: the array asks for 3 replicas, each in a rack of its own, but there are 2 racks"},
      {with("replicas: 2", "replicas: [2]"), "a.yaml:2: 'replicas' of the array is a list; write one value"},
      {with("replicas: 2", "replicas:"), "a.yaml:2: 'replicas' of the array is nothing"},
      {with("replicas: 2", "replicas: 2\nmin_replicas: 3"),
       "a.yaml:3: 'min_replicas' of the array is 3, but there are only 2"},
      {with("array: scratch", "array: a/b"), "a.yaml:1: 'a/b' is no name"},
      {with("array: scratch\n", ""), "a.yaml:1: the array has no 'array'"},
      {with("raid: 6", "raid: 7"), "a.yaml:6: 'raid' of export nas1 is '7'; write 0 or 5 or 6"},
      {with("raid: 6", "weight: 0"), "a.yaml:6: 'weight' of export nas1 is 0"},
      {with("raid: 6", "weight: much"), "a.yaml:6: 'weight' of export nas1 is 'much'"},
      {with("raid: 6", "weight: 5"), "a.yaml:9: the weight of nas2 is a capacity while others are plain numbers"},
      {with("name: nas2", "name: nas1"), "a.yaml:9: the name nas1 is used twice (first on line 6); rename one"},
      {with("name: rack-b", "name: rack-a"), "a.yaml:7: rack rack-a is listed twice (first on line 4)"},
      {with("path: /nas/nas2", "path: /nas//nas1/"), "a.yaml:9: nas2 and nas1 (line 6) have the same path /nas/nas1"},
      {with("path: /nas/nas2", "path: nas/nas2"),
       "a.yaml:9: 'path' of export nas2 is 'nas/nas2'; write an absolute path"},
      {with("path: /nas/nas2", "path: /nas/../nas2"), "a.yaml:9: 'path' of export nas2"},
      {with(", path: /nas/nas2", ""), "a.yaml:9: export nas2 has no 'path'"},
      {good + "witnesses: [ { name: nas1, path: /w } ]", "a.yaml:10: the name nas1 is used twice"},
      {good + "witnesses: [ { name: w, path: /w, raid: 5 } ]", "a.yaml:10: unknown key 'raid' in witness w"},
      {good + "reserve: 5", "a.yaml:10: 'reserve' of the array: '5' is not a percentage; write a number and %"},
      {good + "reserve: 80%", "a.yaml:10: 'reserve' of the array is 80%; write at most 50%"},
      {good + "deadlines: { data: 15 }",
       "a.yaml:10: 'data' of deadlines: '15' has no unit; write a number and ms, s, min, h or d"},
      {good + "deadlines: { data: 15 parsecs }", "a.yaml:10: 'data' of deadlines: '15 parsecs' is not in a known unit"},
      {good + "deadlines: { data: 2d }", "a.yaml:10: 'data' of deadlines is 2d; write 50ms to 10min"},
      {good + "deadlines: 5s", "a.yaml:10: 'deadlines' of the array is a single value; write a mapping"},
      {good + "scrub: { rate: 200 }", "a.yaml:10: 'rate' of scrub: '200' has no unit"},
      {good + "scrub: { at: Saturday }", "a.yaml:10: 'at' of scrub: 'Saturday' is no time"},
      {good + "scrub: { at: \"24:00\" }", "a.yaml:10: 'at' of scrub"},
      {good + "reads: fast", "a.yaml:10: 'reads' of the array is 'fast'; write auto or managed or passthrough"},
      {good + "coherence: none", "a.yaml:10: 'coherence'"},
      {good + "quorum: maybe", "a.yaml:10: 'quorum'"},
      {good + "quorum: strict\nmissing: lenient", "a.yaml:11: 'missing' and 'quorum' of the array mean the same"},
      {good + "policies: [ { path: / } ]", "a.yaml:10: the policy's path is '/'"},
      {good + "policies: [ { path: /.rainfs/x } ]", "a.yaml:10: 'path' of the policy"},
      {good + "policies: [ { replicas: 1 } ]", "a.yaml:10: policy 1 has no 'path'"},
      {good + "policies: [ { path: /a, replicas: 3 } ]", "a.yaml:10: policy /a asks for 3 replicas"},
      {good + "policies:\n  - { path: /a }\n  - { path: a/ }", "a.yaml:12: /a has a policy already on line 11"},
      {"array: x\nracks: []", "a.yaml:2: no racks are listed"},
      {"array: x\nracks: [ { name: a, exports: [] } ]", "a.yaml:2: rack a has no exports"},
      {"array: x\nracks: [ 5 ]", "a.yaml:2: rack 1 is a single value"},
      {"array: x", "a.yaml:1: the array has no 'racks'"},
      {"array: [x\nracks:", "not valid YAML"},
      {"", "a.yaml: empty"},
      {good + "---\narray: y\n", "a second document"},
      {"array: \xff\xfe\n", "not text in UTF-8"},
      {good + "<<: { quorum: lenient }", "a.yaml:10: unknown key '<<'"},
  };
  for (const Case& c : cases) {
    INFO(c.text);
    CHECK_THAT(errors_of(c.text), Contains(c.expected));
  }
}

TEST_CASE("all errors of a file are told together, in the order of its lines", "[config]") {
  const std::string text =
      "array: a/b\nreplcas: 2\nreserve: 5\nracks:\n  - name: r\n    exports:\n      - { name: n, path: x, "
      "raid: 1 }\n";
  const std::string errors = errors_of(text);
  INFO(errors);
  std::vector<std::string> lines;
  for (std::size_t at = 0; at <= errors.size();) {
    const std::size_t end = std::min(errors.find('\n', at), errors.size());
    lines.push_back(errors.substr(at, end - at));
    at = end + 1;
  }
  REQUIRE(lines.size() == 6);
  CHECK(lines[0].find("a.yaml:1: ") == 0);
  CHECK(lines[1].find("a.yaml:2: ") == 0);
  CHECK(lines[2].find("a.yaml:3: ") == 0);
  CHECK(lines[3].find("a.yaml:4: ") == 0);
  CHECK(lines[4].find("a.yaml:7: ") == 0);
  CHECK(lines[5].find("a.yaml:7: ") == 0);
  CHECK_THAT(lines[3], Contains("replicas, each in a rack of its own"));
}

TEST_CASE("no input makes the reader crash or accept damage silently", "[config]") {
  std::mt19937 random(815);
  int refused = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string text = good;
    for (int k = 0; k < 4; ++k) text[random() % text.size()] = static_cast<char>(random() % 256);
    refused += parse_config(text, "a.yaml") ? 0 : 1;
  }
  CHECK(refused > 1500);
  CHECK_FALSE(parse_config(std::string(50'000, '{'), "a.yaml"));
  CHECK_FALSE(parse_config("a: &x { b: *x }\n", "a.yaml"));
}

TEST_CASE("durations, sizes and percentages carry units", "[config]") {
  CHECK(*parse_duration("250ms") == 250ms);
  CHECK(*parse_duration("5 s") == 5s);
  CHECK(*parse_duration("1.5min") == 90s);
  CHECK(*parse_duration("2h") == 2h);
  CHECK(*parse_duration("14d") == 14 * 24h);
  CHECK(*parse_duration("0") == 0s);
  for (const char* bad : {"", "5", "s", "-5s", "5 weeks", "1e3s", "5s5", "0x5s", ".5s", "5.s", "99999999999999999d"}) {
    INFO(bad);
    CHECK_FALSE(parse_duration(bad));
  }
  CHECK(*parse_size("200MB") == 200'000'000);
  CHECK(*parse_size("1kB") == 1000);
  CHECK(*parse_size("1KB") == 1000);
  CHECK(*parse_size("1KiB") == 1024);
  CHECK(*parse_size("1.5 GiB") == (3ull << 29));
  CHECK(*parse_size("20TB") == 20'000'000'000'000);
  for (const char* bad : {"", "5", "5mb", "5M", "MB", "-1MB", "99999999999PB"}) {
    INFO(bad);
    CHECK_FALSE(parse_size(bad));
  }
  CHECK(*parse_percent("5%") == 50);
  CHECK(*parse_percent("2.5%") == 25);
  CHECK(*parse_percent("100%") == 1000);
  for (const char* bad : {"", "5", "101%", "-5%", "%", "5%%"}) {
    INFO(bad);
    CHECK_FALSE(parse_percent(bad));
  }
  CHECK(format_duration(90s) == "90s");
  CHECK(format_duration(14 * 24h) == "14d");
  CHECK(format_duration(1500ms) == "1500ms");
  CHECK(format_size(999) == "999 B");
  CHECK(format_size(1'500'000'000'000) == "1.5 TB");
}

TEST_CASE("a node's file is as strict as an array's, and may be missing", "[config]") {
  CHECK(parse_node_config("", "node.yaml"));
  CHECK(load_node_config("/nonexistent/node.yaml"));
  const auto node = parse_node_config(
      "node: n1\nrack: r\npaths: { nas1: /a//b/ }\nattr_timeout: 500ms\nentry_timeout: 0s\nlog_level: "
      "debug\n",
      "node.yaml");
  REQUIRE(node);
  CHECK(node->node == "n1");
  CHECK(node->paths.at("nas1") == "/a/b");
  CHECK(*node->attr_timeout == 500ms);
  CHECK(*node->entry_timeout == 0s);
  CHECK(*node->log_level == rainfs::log::Level::debug);
  CHECK_THAT(node_errors_of("rak: x\n"), Contains("node.yaml:1: unknown key 'rak' in the node; did you mean 'rack'?"));
  CHECK_THAT(node_errors_of("rack: x\nattr_timeout: 5\n"), Contains("node.yaml:2: 'attr_timeout'"));
  CHECK_THAT(node_errors_of("log_level: loud\n"), Contains("'loud' is no log level"));
  CHECK_THAT(node_errors_of("paths: { nas1: b }\n"), Contains("node.yaml:1: the path of nas1"));
  CHECK_THAT(node_errors_of("paths: { nas1: /a, nas1: /b }\n"), Contains("given twice"));
}

TEST_CASE("mount options: ours have values, the generic ones pass, the last of two holds", "[config]") {
  const MountOptions o = options_of(
      "rw,nodev,nosuid,_netdev,nofail,x-systemd.automount,comment=a b,user=joe,rack=rack-b,node=n1,"
      "reads=managed,coherence=strict,attr_timeout=2,entry_timeout=500ms,log_level=debug,"
      "config=\"/etc/a,b.yaml\",allow_other,defaults,relatime");
  CHECK_FALSE(o.read_only);
  CHECK_FALSE(o.uring);
  CHECK(options_of("uring").uring);
  CHECK(o.allow_other);
  CHECK(o.rack == "rack-b");
  CHECK(o.node == "n1");
  CHECK(*o.reads == Reads::managed);
  CHECK(*o.coherence == Coherence::strict);
  CHECK(*o.attr_timeout == 2s);
  CHECK(*o.entry_timeout == 500ms);
  CHECK(*o.log_level == rainfs::log::Level::debug);
  CHECK(o.config == "/etc/a,b.yaml");
  CHECK(o.kernel == std::vector<std::string>{"nodev", "nosuid"});
  CHECK(options_of("ro,rw").read_only == false);
  CHECK(options_of("rw,ro").read_only);
  CHECK(options_of("nodev,noexec,dev").kernel == std::vector<std::string>{"noexec"});
  CHECK(options_of("rack=a,rack=b").rack == "b");
  CHECK(options_of("").kernel.empty());
  CHECK(options_of("dev,suid,exec,async,atime,sync,dirsync,noatime").kernel ==
        std::vector<std::string>{"sync", "dirsync", "noatime"});
  CHECK(options_of("nouser,auto,noauto,users,owner,X-mount.mkdir").kernel.empty());

  // Options that come in two -o are one list.
  MountOptions added = options_of("rack=a,ro");
  REQUIRE(parse_mount_options("node=n", added));
  CHECK(added.rack == "a");
  CHECK(added.node == "n");
  CHECK(added.read_only);
}

TEST_CASE("unknown and wrong mount options are all told", "[config]") {
  MountOptions options;
  const auto parsed =
      parse_mount_options("replicas=2,rack,reads=fast,attr_timeout=never,ro=1,log_level=loud,rack=a/b,foo", options);
  REQUIRE_FALSE(parsed);
  const std::string text = parsed.error().message();
  for (const char* expected :
       {"'replicas' is unknown", "rack has no value", "reads: 'fast' is unknown", "attr_timeout: 'never'",
        "ro takes no value", "'loud' is no log level", "'a/b' is no name", "'foo' is unknown"}) {
    CHECK_THAT(text, Contains(expected));
  }
}

TEST_CASE("SOURCE is a path or the name of an array", "[config]") {
  char pattern[] = "/tmp/rainfs-config-XXXXXX";
  REQUIRE(::mkdtemp(pattern) != nullptr);
  const std::string directory = pattern;
  CHECK(config_path("scratch", directory) == directory + "/scratch.yaml");
  CHECK(config_path("./scratch", directory) == "./scratch");
  CHECK(config_path("/x/y.yaml", directory) == "/x/y.yaml");

  const auto missing = load_config(config_path("scratch", directory));
  REQUIRE_FALSE(missing);
  CHECK_THAT(missing.error().message(), Contains(directory + "/scratch.yaml") && Contains("no such file"));
  const auto not_a_file = load_config(directory);
  REQUIRE_FALSE(not_a_file);
  CHECK_THAT(not_a_file.error().message(), Contains(directory));
  std::ofstream(directory + "/scratch.yaml") << good;
  const auto loaded = load_config(config_path("scratch", directory));
  REQUIRE(loaded);
  CHECK(loaded->file == directory + "/scratch.yaml");
  REQUIRE(::unlink((directory + "/scratch.yaml").c_str()) == 0);
  REQUIRE(::rmdir(directory.c_str()) == 0);
}
