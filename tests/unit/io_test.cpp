// SPDX-License-Identifier: Apache-2.0
// What every engine does, on real file systems.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "io_fixture.hpp"
#include "rainfs/base/unique_fd.hpp"

using namespace io_test;

TEST_CASE("paths are resolved beneath the root only", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  ::mkdir((world.directory / "d").c_str(), 0755);
  write_file(world.directory / "d/f", "x");
  CHECK(world.does(Kind::stat, "d/f")->error == 0);
  CHECK(world.does(Kind::stat, "d/f")->stat.stx_size == 1);
  CHECK(S_ISDIR(world.does(Kind::stat)->stat.stx_mode));
  for (const std::string path : {"/etc/passwd", "..", "../x", "d/../f", "d/..", "a/../../etc"}) {
    INFO(path);
    CHECK(world.does(Kind::stat, path)->error == EINVAL);
    CHECK(world.open(path, O_RDONLY)->error == EINVAL);
    CHECK(world.does(Kind::unlink, path)->error == EINVAL);
    CHECK(world.does(Kind::mkdir, path)->error == EINVAL);
  }
  CHECK(world.does(Kind::stat, std::string("d/f\0x", 5))->error == EINVAL);
  CHECK(world.does(Kind::stat, "d/..f")->error == ENOENT);
  CHECK(world.does(Kind::stat, "d/f/x")->error == ENOTDIR);
  CHECK(world.does(Kind::stat, "none/x")->error == ENOENT);
  CHECK(world.does(Kind::stat, std::string(256, 'n'))->error == ENAMETOOLONG);
  CHECK(world.does(Kind::stat, "d/" + std::string(256, 'n'))->error == ENAMETOOLONG);
}

TEST_CASE("no symbolic link is ever followed", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  Directory outside;
  write_file(outside / "secret", "secret");
  REQUIRE(::symlink(outside.path().c_str(), (world.directory / "way").c_str()) == 0);
  REQUIRE(::symlink((outside / "secret").c_str(), (world.directory / "leaf").c_str()) == 0);
  for (const Kind kind : {Kind::stat, Kind::unlink, Kind::rmdir, Kind::mkdir, Kind::readlink, Kind::set_attributes,
                          Kind::list_xattr, Kind::read_directory, Kind::make_file, Kind::read_file}) {
    INFO(static_cast<int>(kind));
    CHECK(world.does(kind, "way/secret")->error == ENOTDIR);
  }
  CHECK(world.open("way/secret", O_RDONLY)->error == ENOTDIR);
  CHECK(world.open("way/new", O_CREAT | O_RDWR)->error == ENOTDIR);
  CHECK(world.open("leaf", O_RDWR | O_TRUNC)->error == ELOOP);
  CHECK(world.open("leaf", O_CREAT | O_EXCL | O_RDWR)->error == EEXIST);
  CHECK(world.open("way", O_RDONLY | O_DIRECTORY)->error == ENOTDIR);
  CHECK(world.does(Kind::read_directory, "way")->error == ENOTDIR);
  const auto rename = world.does(Kind::rename, "leaf", [](io::Operation& op) { op.path2 = "way/gone"; });
  CHECK(rename->error == ENOTDIR);
  const auto mode = world.does(Kind::set_attributes, "leaf", [](io::Operation& op) {
    op.attributes.valid = io::Attributes::mode_set;
    op.attributes.mode = 0777;
  });
  CHECK(mode->error == EOPNOTSUPP);
  const auto size = world.does(Kind::set_attributes, "leaf",
                               [](io::Operation& op) { op.attributes.valid = io::Attributes::size_set; });
  CHECK(size->error == EINVAL);
  CHECK(S_ISLNK(world.does(Kind::stat, "leaf")->stat.stx_mode));
  CHECK(world.does(Kind::readlink, "leaf")->text == outside / "secret");
  CHECK(read_whole(outside / "secret") == "secret");
}

TEST_CASE("a link swapped in while operations run never leads outside", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  Directory outside;
  write_file(outside / "f", "outside");
  REQUIRE(::chmod((outside / "f").c_str(), 0644) == 0);
  ::mkdir((world.directory / "real").c_str(), 0755);
  write_file(world.directory / "real/f", "in");
  REQUIRE(::symlink(outside.path().c_str(), (world.directory / "link").c_str()) == 0);
  std::atomic<bool> stop{false};
  std::thread swapper([&] {
    const std::string real = world.directory / "real", link = world.directory / "link";
    while (!stop) ::renameat2(AT_FDCWD, real.c_str(), AT_FDCWD, link.c_str(), RENAME_EXCHANGE);
  });
  bool escaped = false;
  for (int i = 0; i < 500; ++i) {
    const auto read = world.does(Kind::read_file, "real/f", [](io::Operation& op) { op.length = 100; });
    escaped = escaped || (read->error == 0 ? read->text != "in" : read->error != ENOTDIR);
    world.does(Kind::set_attributes, "real/f", [](io::Operation& op) {
      op.attributes.valid = io::Attributes::mode_set;
      op.attributes.mode = 0600;
    });
    world.open("real/f", O_WRONLY | O_APPEND);
  }
  stop = true;
  swapper.join();
  CHECK_FALSE(escaped);
  struct stat now {};
  REQUIRE(::stat((outside / "f").c_str(), &now) == 0);
  CHECK((now.st_mode & 0777) == 0644);
  CHECK(read_whole(outside / "f") == "outside");
}

TEST_CASE("paths longer than PATH_MAX work", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  const std::string piece(200, 'p');
  std::string path = piece;
  REQUIRE(world.does(Kind::mkdir, path, [](io::Operation& op) { op.mode = 0755; })->error == 0);
  while (path.size() < 9000) {
    path += "/" + piece;
    REQUIRE(world.does(Kind::mkdir, path, [](io::Operation& op) { op.mode = 0755; })->error == 0);
  }
  const auto file = world.open(path + "/f", O_CREAT | O_EXCL | O_RDWR);
  REQUIRE(file->error == 0);
  CHECK(world.does(Kind::stat, path + "/f")->stat.stx_ino == file->stat.stx_ino);
  CHECK(world.does(Kind::stat, path + "/g")->error == ENOENT);
  CHECK(world.does(Kind::read_directory, path)->entries.size() == 1);
  const auto renamed = world.does(Kind::rename, path + "/f", [&](io::Operation& op) { op.path2 = path + "/g"; });
  CHECK(renamed->error == 0);
  CHECK(world.does(Kind::unlink, path + "/g")->error == 0);
  CHECK(world.does(Kind::stat, std::string(5000, 'x'))->error == ENAMETOOLONG);
  while (!path.empty()) {  // from the end, as nothing else on this machine may reach so deep
    REQUIRE(world.does(Kind::rmdir, path)->error == 0);
    path.resize(path.size() >= 201 ? path.size() - 201 : 0);
  }
}

TEST_CASE("names are made, linked, renamed and removed", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  CHECK(world.does(Kind::mkdir, "d", [](io::Operation& op) { op.mode = 0750; })->stat.stx_mode == (S_IFDIR | 0750));
  CHECK(world.does(Kind::mkdir, "d")->error == EEXIST);
  const auto fifo = world.does(Kind::mknod, "d/fifo", [](io::Operation& op) { op.mode = S_IFIFO | 0622; });
  CHECK(fifo->stat.stx_mode == (S_IFIFO | 0622));
  CHECK(S_ISLNK(world.does(Kind::symlink, "d/l", [](io::Operation& op) { op.text = "a\xff"; })->stat.stx_mode));
  CHECK(world.does(Kind::readlink, "d/l")->text == "a\xff");
  CHECK(world.does(Kind::readlink, "d/fifo")->error == EINVAL);
  const auto linked = world.does(Kind::link, "d/l", [](io::Operation& op) { op.path2 = "l2"; });
  CHECK(linked->error == 0);
  CHECK(linked->stat.stx_nlink == 2);
  const auto taken = world.does(Kind::rename, "l2", [](io::Operation& op) {
    op.path2 = "d/l";
    op.flags = RENAME_NOREPLACE;
  });
  CHECK(taken->error == EEXIST);
  CHECK(world.does(Kind::rename, "d/fifo", [](io::Operation& op) { op.path2 = "fifo"; })->error == 0);
  CHECK(world.does(Kind::rmdir, "d")->error == ENOTEMPTY);
  CHECK(world.does(Kind::unlink, "d")->error == EISDIR);
  CHECK(world.does(Kind::unlink, "d/l")->error == 0);
  CHECK(world.does(Kind::rmdir, "d")->error == 0);
  auto names = world.does(Kind::read_directory)->entries;
  std::sort(names.begin(), names.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  REQUIRE(names.size() == 2);
  CHECK(names[0].name == "fifo");
  CHECK(names[0].type == DT_FIFO);
  CHECK(names[1].name == "l2");
}

TEST_CASE("a file without a name can be given one", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  const auto file = world.does(Kind::open_tmpfile, "", [](io::Operation& op) {
    op.flags = O_RDWR;
    op.mode = 0600;
  });
  if (file->error == EOPNOTSUPP) WARN("no O_TMPFILE under /tmp");
  REQUIRE(file->error == 0);
  const auto linked = world.does(Kind::link, "", [&](io::Operation& op) {
    op.other = file->handle;
    op.path2 = "named";
  });
  REQUIRE(linked->error == 0);
  CHECK(linked->stat.stx_ino == file->stat.stx_ino);
}

TEST_CASE("what is written is read back, short only at the end", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  const auto file = world.open("f", O_CREAT | O_RDWR);
  REQUIRE(file->error == 0);
  const auto on = [&](Kind kind, auto fill) {
    return world.does(kind, "", [&](io::Operation& op) {
      op.file = file->handle;
      fill(op);
    });
  };
  const auto wrote = on(Kind::write, [](io::Operation& op) {
    op.buffer = buffer_of("..hello");
    op.buffer_offset = 2;
    op.length = 5;
    op.offset = 3;
  });
  CHECK(wrote->error == 0);
  CHECK(wrote->value == 5);
  const auto read = on(Kind::read, [](io::Operation& op) {
    op.buffer = base::Buffer::allocate(100);
    op.length = 100;
  });
  CHECK(read->value == 8);
  CHECK(std::memcmp(read->buffer->data(), "\0\0\0hello", 8) == 0);
  const auto past = on(Kind::read, [](io::Operation& op) {
    op.buffer = base::Buffer::allocate(10);
    op.length = 10;
    op.offset = 50;
  });
  CHECK(past->error == 0);
  CHECK(past->value == 0);
  CHECK(on(Kind::read, [](io::Operation& op) {
          op.buffer = base::Buffer::allocate(10);
          op.buffer_offset = 5;
          op.length = 6;
        })->error == EINVAL);
  CHECK(on(Kind::fsync, [](io::Operation& op) {})->error == 0);
  CHECK(on(Kind::fsync, [](io::Operation& op) { op.flags = 1; })->error == 0);
  CHECK(on(Kind::sync_file_system, [](io::Operation& op) {})->error == 0);
  CHECK(on(Kind::flush, [](io::Operation& op) {})->error == 0);
  CHECK(on(Kind::allocate, [](io::Operation& op) { op.length = 100'000; })->error == 0);
  CHECK(on(Kind::stat, [](io::Operation& op) {})->stat.stx_size == 100'000);
  CHECK(on(Kind::set_attributes, [](io::Operation& op) {
          op.attributes.valid = io::Attributes::size_set;
          op.attributes.size = 1 << 20;
        })->stat.stx_size == 1 << 20);
  CHECK(on(Kind::seek, [](io::Operation& op) {
          op.flags = SEEK_HOLE;
          op.offset = 1;
        })->value <= 1 << 20);
  CHECK(on(Kind::seek, [](io::Operation& op) { op.flags = SEEK_SET; })->error == EINVAL);
  const auto target = world.open("g", O_CREAT | O_RDWR);
  const auto copied = on(Kind::copy_range, [&](io::Operation& op) {
    op.other = target->handle;
    op.length = 8;
    op.offset2 = 1;
  });
  CHECK(copied->value == 8);
  CHECK(read_whole(world.directory / "g") == std::string("\0\0\0\0hello", 9));
  const auto onto_itself = on(Kind::copy_range, [&](io::Operation& op) {
    op.other = file->handle;
    op.length = 8;
    op.offset2 = 1;
  });
  CHECK(onto_itself->error == EINVAL);
}

TEST_CASE("a file's pages are moved into a pipe, and nothing waits for room", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  const auto file = world.open("f", O_CREAT | O_RDWR);
  std::string text(300'000, 'a');
  for (std::size_t i = 0; i < text.size(); i += 7) text[i] = static_cast<char>('b' + i % 20);
  std::ofstream(world.directory / "f") << text;
  int ends[2];
  REQUIRE(::pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
  const base::UniqueFd exit(ends[0]), entrance(ends[1]);
  REQUIRE(::fcntl(entrance.get(), F_SETPIPE_SZ, 512 * 1024) >= 512 * 1024);
  const auto moved = [&](off_t offset, std::size_t length) {
    return world.does(Kind::read_to_pipe, "", [&](io::Operation& op) {
      op.file = file->handle;
      op.offset = offset;
      op.length = length;
      op.flags = entrance.get();
    });
  };
  const auto taken = [&] {
    std::string out(1 << 20, '\0');
    std::size_t size = 0;
    ssize_t now = 0;
    while ((now = ::read(exit.get(), out.data() + size, out.size() - size)) > 0) size += static_cast<std::size_t>(now);
    out.resize(size);
    return out;
  };
  CHECK(moved(12'345, 150'000)->value == 150'000);
  CHECK(taken() == text.substr(12'345, 150'000));
  CHECK(moved(299'000, 5000)->value == 1000);  // the end
  CHECK(taken() == text.substr(299'000));
  CHECK(moved(300'000, 5000)->value == 0);
  CHECK(moved(0, 300'000)->value == 300'000);
  CHECK(moved(0, 300'000)->error == EAGAIN);  // full
}

TEST_CASE("ranges are copied where the kernel will not copy them", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  // Between file systems of different types copy_file_range refuses: /dev/shm is a tmpfs, /proc no real one.
  const auto target = world.open("g", O_CREAT | O_RDWR);
  char name[] = "/dev/shm/rainfs-io-XXXXXX";
  const int fd = ::mkstemp(name);
  REQUIRE(fd >= 0);
  ::unlink(name);
  const std::string text(700'000, 'c');
  REQUIRE(::pwrite(fd, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  const auto source = std::make_shared<io::Handle>(*world.engine, fd);
  const auto copied = world.does(Kind::copy_range, "", [&](io::Operation& op) {
    op.file = source;
    op.other = target->handle;
    op.length = 1'000'000;
  });
  CHECK(copied->error == 0);
  CHECK(copied->value == 700'000);
  CHECK(read_whole(world.directory / "g") == text);
}

TEST_CASE("attributes are set in the order that keeps them all", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  write_file(world.directory / "f", "12345");
  io::Attributes wanted;
  wanted.valid = io::Attributes::mode_set | io::Attributes::uid_set | io::Attributes::gid_set |
                 io::Attributes::size_set | io::Attributes::mtime_set;
  wanted.mode = 06755;
  wanted.uid = ::geteuid() == 0 ? 1234 : ::geteuid();
  wanted.gid = ::geteuid() == 0 ? 4321 : ::getegid();
  wanted.size = 3;
  wanted.mtime = {1'000'000'000, 123'456'789};
  const auto set = world.does(Kind::set_attributes, "f", [&](io::Operation& op) { op.attributes = wanted; });
  REQUIRE(set->error == 0);
  CHECK(set->stat.stx_mode == (S_IFREG | 06755));
  CHECK(set->stat.stx_uid == wanted.uid);
  CHECK(set->stat.stx_gid == wanted.gid);
  CHECK(set->stat.stx_size == 3);
  CHECK(set->stat.stx_mtime.tv_sec == 1'000'000'000);
  CHECK(set->stat.stx_mtime.tv_nsec == 123'456'789);
  REQUIRE(::symlink("nowhere", (world.directory / "l").c_str()) == 0);
  wanted.valid = io::Attributes::uid_set | io::Attributes::mtime_set;
  const auto link = world.does(Kind::set_attributes, "l", [&](io::Operation& op) { op.attributes = wanted; });
  CHECK(link->error == 0);
  CHECK(link->stat.stx_uid == wanted.uid);
  CHECK(link->stat.stx_mtime.tv_nsec == 123'456'789);
}

TEST_CASE("extended attributes answer as the bare file system does", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  write_file(world.directory / "f", "x");
  REQUIRE(::symlink("nowhere", (world.directory / "l").c_str()) == 0);
  for (const std::string path : {"f", "l"}) {
    for (const std::string name : {"user.a", "trusted.a"}) {
      INFO(path << " " << name);
      const std::string bare = world.directory / path;
      const std::string value(3000, 'v');
      const auto got = [&] { return world.does(Kind::get_xattr, path, [&](io::Operation& op) { op.name = name; }); };
      const auto error = [](ssize_t result) { return result < 0 ? errno : 0; };
      CHECK(got()->error == error(::lgetxattr(bare.c_str(), name.c_str(), nullptr, 0)));
      const auto set = world.does(Kind::set_xattr, path, [&](io::Operation& op) {
        op.name = name;
        op.text = value;
        op.flags = XATTR_CREATE;
      });
      const int expected = error(::lsetxattr(bare.c_str(), name.c_str(), "v", 1, XATTR_CREATE));
      CHECK(set->error == (expected == EEXIST ? 0 : expected));
      if (set->error != 0) continue;
      CHECK(got()->text == value);
      CHECK(world.does(Kind::list_xattr, path)->text == name + '\0');
      CHECK(world.does(Kind::remove_xattr, path, [&](io::Operation& op) { op.name = name; })->error == 0);
      CHECK(got()->error == ENODATA);
    }
  }
}

TEST_CASE("a listing is whole, however often a handle is listed", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  ::mkdir((world.directory / "d").c_str(), 0755);
  for (int i = 0; i < 3000; ++i) write_file(world.directory / ("d/file-with-a-long-name-" + std::to_string(i)), "");
  const auto opened = world.open("d", O_RDONLY | O_DIRECTORY);
  REQUIRE(opened->error == 0);
  for (int turn = 0; turn < 2; ++turn) {
    const auto listed = world.does(Kind::read_directory, "", [&](io::Operation& op) { op.file = opened->handle; });
    CHECK(listed->entries.size() == 3000);
  }
  CHECK(world.does(Kind::read_directory, "d")->entries.size() == 3000);
}

TEST_CASE("small files are made whole or not at all", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  const std::string text(10'000, 't');
  const auto make = [&](const std::string& path) {
    return world.does(Kind::make_file, path, [&](io::Operation& op) {
      op.text = text;
      op.mode = 0600;
      op.flags = 1;
    });
  };
  CHECK(make("f")->error == 0);
  CHECK(make("f")->error == EEXIST);
  CHECK(make("none/f")->error == ENOENT);
  const auto read = [&](std::size_t most) {
    return world.does(Kind::read_file, "f", [&](io::Operation& op) { op.length = most; });
  };
  CHECK(read(10'000)->text == text);
  CHECK(read(SIZE_MAX)->text == text);
  CHECK(read(9'999)->error == EFBIG);
  CHECK(world.does(Kind::read_file, "")->error != 0);
  REQUIRE(::mkfifo((world.directory / "fifo").c_str(), 0600) == 0);
  CHECK(world.does(Kind::read_file, "fifo")->error == EINVAL);
}

TEST_CASE("locks of two handles exclude each other and never wait", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  const auto a = world.open("f", O_CREAT | O_RDWR), b = world.open("f", O_RDWR);
  const auto lock = [&](const OperationPtr& file, Kind kind, int type, off_t offset, std::size_t length) {
    return world.does(kind, "", [&](io::Operation& op) {
      op.file = file->handle;
      op.flags = type;
      op.offset = offset;
      op.length = length;
    });
  };
  CHECK(lock(a, Kind::lock, F_WRLCK, 10, 10)->error == 0);
  CHECK(lock(b, Kind::lock, F_RDLCK, 15, 1)->error == EAGAIN);
  CHECK(lock(b, Kind::lock, F_WRLCK, 20, 0)->error == 0);
  const auto tested = lock(b, Kind::test_lock, F_RDLCK, 0, 0);
  CHECK(tested->value == F_WRLCK);
  CHECK(tested->offset == 10);
  CHECK(tested->length == 10);
  CHECK(lock(a, Kind::lock, F_UNLCK, 10, 10)->error == 0);
  CHECK(lock(b, Kind::test_lock, F_RDLCK, 0, 0)->value == F_UNLCK);
  CHECK(lock(a, Kind::flock, LOCK_EX, 0, 0)->error == 0);
  CHECK(lock(b, Kind::flock, LOCK_SH, 0, 0)->error == EAGAIN);
  CHECK(lock(a, Kind::flock, LOCK_UN, 0, 0)->error == 0);
  CHECK(lock(b, Kind::flock, LOCK_SH, 0, 0)->error == 0);
}
