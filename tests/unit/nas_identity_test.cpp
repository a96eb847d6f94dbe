// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "rainfs/nas/identity.hpp"

using namespace rainfs;
using namespace rainfs::nas;

namespace {

struct Root {
  std::filesystem::path path;
  Root() {
    char pattern[] = "/tmp/rainfs-identity-XXXXXX";
    if (::mkdtemp(pattern) == nullptr) throw std::runtime_error("mkdtemp");
    path = pattern;
  }
  ~Root() { std::filesystem::remove_all(path); }
  base::UniqueFd open() const { return base::UniqueFd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)); }
};

topology::Identity identity_of(const std::string& name) {
  topology::Identity identity;
  identity.array_name = "scratch";
  identity.array_uuid = base::make_uuid();
  identity.export_name = name;
  identity.export_uuid = base::make_uuid();
  identity.rack = "a";
  return identity;
}

}  // namespace

TEST_CASE("a creation that is not finished leaves the directory as it was", "[nas]") {
  const Root root;
  std::ofstream(root.path / "file") << "x";
  {
    auto creation = Creation::begin(root.open(), root.path, "scratch");
    REQUIRE(creation);
    CHECK(inspect(root.open().get(), root.path)->state == Formatted::creating);
    CHECK(inspect(root.open().get(), root.path)->creating_array == "scratch");
    REQUIRE(write_identity(creation->root_fd(), root.path, identity_of("nas1")));
  }
  CHECK_FALSE(std::filesystem::exists(root.path / ".rainfs"));
  CHECK(std::filesystem::exists(root.path / "file"));
  CHECK(inspect(root.open().get(), root.path)->state == Formatted::no);
}

TEST_CASE("a finished creation is an export that says who it is", "[nas]") {
  const Root root;
  const topology::Identity identity = identity_of("nas1");
  {
    auto creation = Creation::begin(root.open(), root.path, "scratch");
    REQUIRE(creation);
    REQUIRE(write_identity(creation->root_fd(), root.path, identity));
    creation->commit();
    REQUIRE(creation->finish());
  }
  const auto inspection = inspect(root.open().get(), root.path);
  REQUIRE(inspection);
  CHECK(inspection->state == Formatted::yes);
  CHECK(inspection->identity.export_uuid == identity.export_uuid);
  struct stat st {};
  REQUIRE(::stat((root.path / ".rainfs").c_str(), &st) == 0);
  CHECK((st.st_mode & 07777) == 0700);
  CHECK(std::filesystem::is_empty(root.path / ".rainfs/tmp"));
}

TEST_CASE("two programs do not create in one directory at once, and the second takes nothing back", "[nas]") {
  const Root root;
  auto first = Creation::begin(root.open(), root.path, "scratch");
  REQUIRE(first);
  REQUIRE(write_identity(first->root_fd(), root.path, identity_of("nas1")));
  const auto second = Creation::begin(root.open(), root.path, "scratch");
  REQUIRE_FALSE(second);
  CHECK(second.error().code == EBUSY);
  CHECK(std::filesystem::exists(root.path / ".rainfs/export.yaml"));
}

TEST_CASE("a file in .rainfs that is a symbolic link is not followed", "[nas]") {
  const Root root;
  std::filesystem::create_directory(root.path / ".rainfs");
  std::ofstream(root.path / "elsewhere") << topology::format_identity(identity_of("nas1"));
  std::filesystem::create_symlink("../elsewhere", root.path / ".rainfs/export.yaml");
  CHECK_FALSE(read_identity(root.open().get(), root.path));
  CHECK_FALSE(inspect(root.open().get(), root.path));
}

TEST_CASE("taking back spares what lies in the directories of .rainfs", "[nas]") {
  const Root root;
  {
    auto creation = Creation::begin(root.open(), root.path, "scratch");
    REQUIRE(creation);
    std::ofstream(root.path / ".rainfs/trash/precious") << "x";
  }
  CHECK(std::filesystem::exists(root.path / ".rainfs/trash/precious"));
}
