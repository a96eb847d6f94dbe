// SPDX-License-Identifier: Apache-2.0
// Whose file system identity operations have. Needs root, as the daemon does.
#include <grp.h>
#include <sys/fsuid.h>

#include <thread>

#include "io_fixture.hpp"

using namespace io_test;

namespace {

io::CredentialsPtr user(uid_t uid, gid_t gid, std::vector<gid_t> groups = {}, mode_t umask = 022) {
  auto credentials = std::make_shared<io::Credentials>();
  *credentials = {uid, gid, umask, std::move(groups)};
  return credentials;
}

OperationPtr as(World& world, const io::CredentialsPtr& who, Kind kind, const std::string& path, mode_t mode = 0,
                int flags = 0) {
  return world.does(kind, path, [&](io::Operation& op) {
    op.credentials = who;
    op.mode = mode;
    op.flags = flags;
  });
}

}  // namespace

TEST_CASE("files belong to who made them, with the caller's umask", "[io][identity]") {
  REQUIRE(::geteuid() == 0);
  World world(RAINFS_EVERY_ENGINE);
  ::chmod(world.directory.path().c_str(), 01777);
  const auto nobody = user(65534, 65533);
  const auto file = as(world, nobody, Kind::open, "f", 0666, O_CREAT | O_RDWR);
  REQUIRE(file->error == 0);
  CHECK(file->stat.stx_uid == 65534);
  CHECK(file->stat.stx_gid == 65533);
  CHECK(file->stat.stx_mode == (S_IFREG | 0644));
  CHECK(as(world, user(65534, 65533, {}, 077), Kind::mkdir, "d", 0777)->stat.stx_mode == (S_IFDIR | 0700));
  const auto own = as(world, nullptr, Kind::open, "root", 0666, O_CREAT | O_RDWR);
  CHECK(own->stat.stx_uid == 0);
  CHECK(own->stat.stx_mode == (S_IFREG | 0666));
  CHECK(as(world, user(1000, 1000), Kind::unlink, "f")->error == EPERM);  // sticky
  CHECK(as(world, nobody, Kind::unlink, "f")->error == 0);
}

TEST_CASE("a user has no more rights than the user has", "[io][identity]") {
  REQUIRE(::geteuid() == 0);
  World world(RAINFS_EVERY_ENGINE);
  write_file(world.directory / "private", "x");
  ::chmod((world.directory / "private").c_str(), 0600);
  ::mkdir((world.directory / "closed").c_str(), 0700);
  const auto nobody = user(65534, 65534);
  CHECK(as(world, nobody, Kind::open, "private", 0, O_RDONLY)->error == EACCES);
  CHECK(as(world, nobody, Kind::stat, "closed/x")->error == EACCES);
  CHECK(as(world, nobody, Kind::mkdir, "d", 0755)->error == EACCES);
  const auto mode = world.does(Kind::set_attributes, "private", [&](io::Operation& op) {
    op.credentials = nobody;
    op.attributes.valid = io::Attributes::mode_set;
    op.attributes.mode = 0666;
  });
  CHECK(mode->error == EPERM);
  ::chmod(world.directory.path().c_str(), 0777);
  const auto device = world.does(Kind::mknod, "dev", [&](io::Operation& op) {
    op.credentials = nobody;
    op.mode = S_IFCHR | 0666;
    op.device = 0x103;
  });
  CHECK(device->error == EPERM);
  CHECK(as(world, nullptr, Kind::open, "private", 0, O_RDONLY)->error == 0);  // and the daemon has its own again
}

TEST_CASE("a user may do by path what the user owns", "[io][identity]") {
  REQUIRE(::geteuid() == 0);
  World world(RAINFS_EVERY_ENGINE);
  ::chmod(world.directory.path().c_str(), 0777);
  const auto nobody = user(65534, 65534);
  REQUIRE(as(world, nobody, Kind::open, "f", 0600, O_CREAT | O_RDWR)->error == 0);
  const auto set = world.does(Kind::set_attributes, "f", [&](io::Operation& op) {
    op.credentials = nobody;
    op.attributes.valid =
        io::Attributes::mode_set | io::Attributes::size_set | io::Attributes::mtime_set | io::Attributes::gid_set;
    op.attributes.mode = 0640;
    op.attributes.gid = 65534;
    op.attributes.size = 10;
    op.attributes.mtime = {5, 5};
  });
  CHECK(set->error == 0);
  CHECK(set->stat.stx_mode == (S_IFREG | 0640));
  CHECK(set->stat.stx_size == 10);
  const auto unnamed = as(world, nobody, Kind::open_tmpfile, "", 0600, O_RDWR);
  REQUIRE(unnamed->error == 0);
  const auto linked = world.does(Kind::link, "", [&](io::Operation& op) {
    op.credentials = nobody;
    op.other = unnamed->handle;
    op.path2 = "named";
  });
  CHECK(linked->error == 0);
}

TEST_CASE("supplementary groups are honoured", "[io][identity]") {
  REQUIRE(::geteuid() == 0);
  World world(RAINFS_EVERY_ENGINE);
  write_file(world.directory / "shared", "x");
  REQUIRE(::chown((world.directory / "shared").c_str(), 0, 7777) == 0);
  ::chmod((world.directory / "shared").c_str(), 0640);
  CHECK(as(world, user(65534, 65534), Kind::open, "shared", 0, O_RDONLY)->error == EACCES);
  CHECK(as(world, user(65534, 65534, {5, 7777}), Kind::open, "shared", 0, O_RDONLY)->error == 0);
  CHECK(as(world, user(65534, 7777), Kind::open, "shared", 0, O_RDONLY)->error == 0);
  CHECK(as(world, user(65534, 65534, {5}), Kind::open, "shared", 0, O_RDONLY)->error == EACCES);
}

TEST_CASE("other threads keep their identity", "[io][identity]") {
  REQUIRE(::geteuid() == 0);
  World world(RAINFS_EVERY_ENGINE);
  std::atomic<bool> stop{false};
  std::atomic<bool> changed{false};
  std::thread watcher([&] {
    while (!stop) {
      if (::setfsuid(-1) != 0 || ::setfsgid(-1) != 0 || ::getgroups(0, nullptr) != 0) changed = true;
    }
  });
  std::vector<gid_t> before(64);
  const int groups = ::getgroups(64, before.data());
  const auto nobody = user(65534, 65534, {1, 2, 3});
  for (int i = 0; i < 300; ++i) as(world, nobody, Kind::stat, "");
  stop = true;
  watcher.join();
  if (groups == 0) CHECK_FALSE(changed);
  CHECK(::setfsuid(-1) == 0);
  CHECK(::setfsgid(-1) == 0);
  CHECK(::getgroups(0, nullptr) == groups);
}
