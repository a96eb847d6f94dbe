// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "candidates.hpp"
#include "probe.hpp"
#include "rainfs/cli/rainfsctl.hpp"

using namespace rainfs;
using namespace rainfs::cli;
using Catch::Matchers::Contains;

namespace {

struct Directory {
  std::filesystem::path path;
  Directory() {
    char pattern[] = "/tmp/rainfs-cli-XXXXXX";
    if (::mkdtemp(pattern) == nullptr) throw std::runtime_error("mkdtemp");
    path = std::filesystem::canonical(pattern);
    for (const char* name : {"a", "b"}) std::filesystem::create_directory(path / name);
  }
  ~Directory() { std::filesystem::remove_all(path); }
  std::string at(const std::string& name) const { return (path / name).string(); }
};

config::Config two_exports(const Directory& directory) {
  auto config =
      config::parse_config("array: s\nracks:\n  - { name: a, exports: [ { name: na, path: " + directory.at("a") +
                               " } ] }\n  - { name: b, exports: [ { name: nb, path: " + directory.at("b") + " } ] }\n",
                           "s.yaml");
  REQUIRE(config);
  return *config;
}

int call(std::vector<std::string> words, std::string& out, std::string& err) {
  words.insert(words.begin(), "rainfsctl");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  std::ostringstream out_stream;
  std::ostringstream err_stream;
  const int status = rainfsctl_main(static_cast<int>(argv.size()), argv.data(), out_stream, err_stream);
  out = out_stream.str();
  err = err_stream.str();
  return status;
}

}  // namespace

TEST_CASE("mounts are read with their escaped names and optional fields", "[cli]") {
  const auto mounts = parse_mounts(
      "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
      "40 22 0:50 /sub\\040dir /nas/a\\134b rw - nfs4 server:/x rw\n"
      "broken line\n"
      "41 22 0:51 / /mnt/rain rw,nosuid shared:2 master:3 - fuse.rainfs scratch rw\n");
  REQUIRE(mounts.size() == 3);
  CHECK(mounts[0].device == makedev(254, 0));
  CHECK(mounts[1].root == "/sub dir");
  CHECK(mounts[1].point == "/nas/a\\b");
  CHECK(mounts[1].type == "nfs4");
  CHECK_FALSE(mounts[1].is_rainfs());
  CHECK(mounts[2].is_rainfs());
  CHECK(mount_of(mounts, "/mnt/rain/x") == &mounts[2]);
  CHECK(mount_of(mounts, "/mnt/rainy") == &mounts[0]);
  CHECK(mount_of(mounts, "/mnt/rain") == &mounts[2]);
}

TEST_CASE("an export in a RainFS mount, or with one in it, is refused", "[cli]") {
  const Directory directory;
  const config::Config config = two_exports(directory);
  const Mount root{makedev(8, 1), "/", "/", "ext4"};
  const auto errors = [&](const std::string& point) {
    config::Problems problems("s.yaml");
    open_candidates(config, {}, {root, Mount{makedev(0, 77), "/", point, "fuse.rainfs"}}, problems);
    return problems.empty() ? std::string() : problems.all().message();
  };
  CHECK(errors("/mnt/elsewhere").empty());
  CHECK_THAT(errors(directory.at("b")), Contains("s.yaml:4: export nb") && Contains("lies in the RainFS mount"));
  CHECK_THAT(errors(directory.path.string()), Contains("s.yaml:3: ") && Contains("s.yaml:4: "));
  CHECK_THAT(errors(directory.at("a") + "/mnt"), Contains("s.yaml:3: export na") && Contains("would contain itself"));
}

TEST_CASE("what an export can do is found, and nothing is left of the trial", "[cli]") {
  const Directory directory;
  const base::UniqueFd fd(::open(directory.at("a").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const auto found = probe(fd.get(), "create-", directory.at("a"));
  REQUIRE(found);
  CHECK(found->capacity_bytes > 0);
  CHECK(found->free_bytes <= found->capacity_bytes);
  CHECK(found->time_granularity_ns >= 1);
  CHECK(std::filesystem::is_empty(directory.at("a")));
}

TEST_CASE("the command runs as a function, with its status and its streams", "[cli]") {
  std::string out;
  std::string err;
  CHECK(call({}, out, err) == 2);
  CHECK(call({"--version"}, out, err) == 0);
  CHECK_THAT(out, Contains("rainfsctl "));
  CHECK(call({"create"}, out, err) == 2);
  CHECK_THAT(err, Contains("too few arguments; usage: rainfsctl create CONFIG"));
  CHECK(call({"create", "--nonsense", "x"}, out, err) == 2);

  const Directory directory;
  std::ofstream(directory.at("s.yaml")) << "array: s\nracks:\n  - { name: a, exports: [ { name: na, path: "
                                        << directory.at("a")
                                        << " } ] }\n  - { name: b, exports: [ { name: nb, path: " << directory.at("b")
                                        << " } ] }\n";
  CHECK(call({"create", "--node-config", directory.at("nowhere"), directory.at("s.yaml")}, out, err) == 1);
  CHECK_THAT(err, Contains("nowhere"));
  std::ofstream(directory.at("none"));  // a node that does nothing differently
  CHECK(call({"create", "--node-config", directory.at("none"), directory.at("s.yaml")}, out, err) == 0);
  INFO(err);
  CHECK_THAT(out, Contains("The array s is made: 2 exports in 2 racks"));
  CHECK(call({"create", "--node-config", directory.at("none"), directory.at("s.yaml")}, out, err) == 0);
  CHECK_THAT(out, Contains("nothing was changed"));
  CHECK(call({"where", directory.at("a")}, out, err) == 1);
  CHECK_THAT(err, Contains("is not in a RainFS mount"));
}
