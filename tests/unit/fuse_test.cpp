// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "fake_kernel.hpp"
#include "fuse_fixture.hpp"

using namespace rainfs;
using test::bytes_of;
using test::c_string;
using test::FakeKernel;
using test::Reply;

namespace {

constexpr std::uint64_t bit(int n) {
  return std::uint64_t{1} << n;
}
constexpr std::uint64_t allow_mmap = bit(36), passthrough = bit(37);

// Serves a temporary directory and notes what the transport asked of it.
class Recording final : public test::TemporaryFileSystem {
 public:
  std::vector<std::string> kills;  // operations that were to clear setuid
  std::shared_ptr<base::Buffer> kept;
  std::size_t kept_offset = 0;
  bool keep_buffers = false;
  bool fail_strangely = false;
  unsigned unnamed = 0, released = 0;
  std::vector<gid_t> groups;

  base::Result<tree::Entry> lookup(tree::NodeId parent, std::string_view name, const tree::Caller& caller) override {
    if (fail_strangely) throw std::runtime_error("strange");
    if (caller.credentials) groups = caller.credentials->groups;
    return LoopbackFileSystem::lookup(parent, name, caller);
  }
  base::Result<struct stat> set_attributes(tree::NodeId node, const io::Attributes& attributes, tree::OpenFile* file,
                                           bool kill, const tree::Caller& caller) override {
    if (kill) kills.emplace_back("setattr");
    return LoopbackFileSystem::set_attributes(node, attributes, file, kill, caller);
  }
  base::Result<tree::Opened> open(tree::NodeId node, int flags, bool kill, const tree::Caller& caller) override {
    if (kill) kills.emplace_back("open");
    return LoopbackFileSystem::open(node, flags, kill, caller);
  }
  base::Result<std::size_t> write(tree::OpenFile& file, off_t offset, std::size_t length,
                                  const std::shared_ptr<base::Buffer>& buffer, std::size_t buffer_offset,
                                  tree::WriteMode mode) override {
    if (mode.kill_privileges) kills.emplace_back("write");
    if (keep_buffers) {
      kept = buffer;
      kept_offset = buffer_offset;
    }
    return LoopbackFileSystem::write(file, offset, length, buffer, buffer_offset, mode);
  }
  base::Result<tree::Created> create_unnamed(tree::NodeId parent, int flags, mode_t mode,
                                             const tree::Caller& caller) override {
    ++unnamed;
    return LoopbackFileSystem::create_unnamed(parent, flags, mode, caller);
  }
  void release(std::unique_ptr<tree::OpenFile> file, std::optional<std::uint64_t> owner) override {
    ++released;
    LoopbackFileSystem::release(std::move(file), owner);
  }
};

std::uint64_t agreed(const Reply& reply) {
  const auto out = reply.as<fuse_init_out>();
  return out.flags | std::uint64_t{out.flags2} << 32;
}

struct Created {
  std::uint64_t node, handle;
};
Created create(FakeKernel& kernel, std::string_view name) {
  const Reply reply = kernel.create(1, name, O_CREAT | O_RDWR, 0644);
  REQUIRE(reply.error == 0);
  return {reply.as<fuse_entry_out>().nodeid, reply.as<fuse_open_out>(sizeof(fuse_entry_out)).fh};
}

std::string lock_request(std::uint64_t handle, std::uint64_t owner, std::uint32_t type) {
  fuse_lk_in body{};
  body.fh = handle;
  body.owner = owner;
  body.lk.end = 99;
  body.lk.type = type;
  return bytes_of(body);
}

}  // namespace

TEST_CASE("the session asks for what the kernel offers and libfuse does not know", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  const Reply reply = kernel.init();
  REQUIRE(reply.error == 0);
  REQUIRE(kernel.session().initialised());
  const std::uint64_t flags = agreed(reply);
  for (const std::uint64_t wanted :
       {std::uint64_t{FUSE_HANDLE_KILLPRIV_V2}, passthrough, allow_mmap, std::uint64_t{FUSE_POSIX_ACL},
        std::uint64_t{FUSE_DONT_MASK}, std::uint64_t{FUSE_ATOMIC_O_TRUNC}, std::uint64_t{FUSE_POSIX_LOCKS},
        std::uint64_t{FUSE_FLOCK_LOCKS}, std::uint64_t{FUSE_PARALLEL_DIROPS}, std::uint64_t{FUSE_DO_READDIRPLUS},
        std::uint64_t{FUSE_ASYNC_DIO}, std::uint64_t{FUSE_MAX_PAGES}, std::uint64_t{FUSE_INIT_EXT}}) {
    CHECK((flags & wanted) == wanted);
  }
  for (const std::uint64_t unwanted : {std::uint64_t{FUSE_WRITEBACK_CACHE}, std::uint64_t{FUSE_HANDLE_KILLPRIV},
                                       std::uint64_t{FUSE_CACHE_SYMLINKS}, std::uint64_t{FUSE_EXPORT_SUPPORT}}) {
    CHECK((flags & unwanted) == 0);
  }
  const auto out = reply.as<fuse_init_out>();
  CHECK(out.max_write == fuse::largest_transfer);
  CHECK(out.max_pages == fuse::largest_transfer / 4096);
  CHECK(out.unused[0] == 1);  // max_stack_depth
  CHECK(out.time_gran == 1);
}

TEST_CASE("the session never asks for what an older kernel does not offer", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  const Reply reply = kernel.init(FUSE_ASYNC_READ | FUSE_POSIX_LOCKS);
  REQUIRE(reply.error == 0);
  CHECK((agreed(reply) & ~std::uint64_t{FUSE_BIG_WRITES}) == (FUSE_ASYNC_READ | FUSE_POSIX_LOCKS));
  CHECK(reply.as<fuse_init_out>().unused[0] == 0);
}

TEST_CASE("the kernel's orders to clear setuid reach the file system", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  kernel.init();
  const Created file = create(kernel, "a");
  CHECK(kernel.write(file.node, file.handle, "x").error == 0);
  CHECK(files.kills.empty());
  CHECK(kernel.write(file.node, file.handle, "x", FUSE_WRITE_KILL_SUIDGID).error == 0);
  const fuse_open_in open{O_RDWR | O_TRUNC, FUSE_OPEN_KILL_SUIDGID};
  CHECK(kernel.call(FUSE_OPEN, file.node, bytes_of(open)).error == 0);
  fuse_setattr_in change{};
  change.valid = FATTR_SIZE | FATTR_KILL_SUIDGID;
  CHECK(kernel.call(FUSE_SETATTR, file.node, bytes_of(change)).error == 0);
  CHECK(files.kills == std::vector<std::string>{"write", "open", "setattr"});
}

TEST_CASE("a file that O_CREAT with O_TRUNC meets loses setuid, one that it makes keeps what was asked", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  kernel.init();
  std::ofstream(files.directory + "/old") << "x";
  ::chmod((files.directory + "/old").c_str(), 04755);
  const std::uint32_t flags = O_CREAT | O_TRUNC | O_WRONLY;
  const Reply old = kernel.create(1, "old", flags, 0644, FUSE_OPEN_KILL_SUIDGID);
  CHECK((old.as<fuse_entry_out>().attr.mode & 07777) == 0755);
  const Reply made = kernel.create(1, "new", flags, 04755, FUSE_OPEN_KILL_SUIDGID);
  CHECK((made.as<fuse_entry_out>().attr.mode & 07777) == 04755);
  CHECK(files.kills.size() == 1);
}

TEST_CASE("O_TMPFILE makes a file without a name that link can give one", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  kernel.init();
  const Reply reply = kernel.create(1, "/", O_CREAT | O_RDWR | O_TMPFILE, 0600, 0, FUSE_TMPFILE);
  REQUIRE(reply.error == 0);
  REQUIRE(reply.body.size() == sizeof(fuse_entry_out) + sizeof(fuse_open_out));
  CHECK(files.unnamed == 1);
  CHECK(std::filesystem::is_empty(files.directory));
  const std::uint64_t node = reply.as<fuse_entry_out>().nodeid;
  const std::uint64_t handle = reply.as<fuse_open_out>(sizeof(fuse_entry_out)).fh;
  CHECK(kernel.write(node, handle, "hello").error == 0);
  CHECK(kernel.call(FUSE_LINK, 1, bytes_of(fuse_link_in{node}) + c_string("named")).error == 0);
  CHECK(std::filesystem::file_size(files.directory + "/named") == 5);
}

TEST_CASE("a lookup counts, a forget takes it back", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  kernel.init();
  std::ofstream(files.directory + "/a") << "x";
  const std::uint64_t node = kernel.lookup(1, "a").as<fuse_entry_out>().nodeid;
  CHECK(kernel.lookup(1, "a").as<fuse_entry_out>().nodeid == node);
  CHECK(files.lookup_count(node) == 2);
  CHECK_FALSE(kernel.call(FUSE_FORGET, node, bytes_of(fuse_forget_in{1})).any);
  CHECK(files.lookup_count(node) == 1);
  kernel.lookup(1, "a");
  const std::string batch = bytes_of(fuse_batch_forget_in{1, 0}) + bytes_of(fuse_forget_one{node, 2});
  CHECK_FALSE(kernel.call(FUSE_BATCH_FORGET, 0, batch).any);
  CHECK(files.lookup_count() == 0);
  CHECK(kernel.lookup(1, "b").error == ENOENT);
}

TEST_CASE("a negative lookup may be remembered only if an option says so", "[fuse]") {
  Recording files;
  fuse::Options options;
  options.negative_timeout_s = 2;
  FakeKernel kernel(files, options);
  kernel.init();
  const Reply reply = kernel.lookup(1, "b");
  CHECK(reply.error == 0);
  CHECK(reply.as<fuse_entry_out>().nodeid == 0);
  CHECK(reply.as<fuse_entry_out>().entry_valid == 2);
}

TEST_CASE("a listing with attributes counts exactly the entries it delivers", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  kernel.init();
  for (int i = 0; i < 20; ++i) std::ofstream(files.directory + "/file" + std::to_string(i)) << "x";
  const std::uint64_t handle = kernel.call(FUSE_OPENDIR, 1, bytes_of(fuse_open_in{})).as<fuse_open_out>().fh;
  std::uint64_t offset = 0, entries = 0, dots = 0;
  for (;;) {
    fuse_read_in body{};
    body.fh = handle;
    body.offset = offset;
    body.size = 1000;  // six entries, and a seventh that does not fit
    const Reply reply = kernel.call(FUSE_READDIRPLUS, 1, bytes_of(body));
    REQUIRE(reply.error == 0);
    REQUIRE(reply.body.size() <= body.size);
    if (reply.body.empty()) break;
    for (std::size_t at = 0; at < reply.body.size();) {
      const auto entry = reply.as<fuse_direntplus>(at);
      offset = entry.dirent.off;
      (entry.entry_out.nodeid == 0 ? dots : entries) += 1;
      at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + entry.dirent.namelen);
    }
    CHECK(files.lookup_count() == entries);
  }
  CHECK(entries == 20);
  CHECK(dots == 2);
}

TEST_CASE("what a reply that nobody takes would have given away is taken back", "[fuse]") {
  Recording files;
  std::ofstream(files.directory + "/a") << "x";
  SECTION("a lookup") {
    FakeKernel kernel(files);
    kernel.init();
    kernel.send(FUSE_LOOKUP, 1, c_string("a"));
    kernel.hang_up();
    kernel.step();
    CHECK(files.lookup_count() == 0);
  }
  SECTION("a created file") {
    FakeKernel kernel(files);
    kernel.init();
    kernel.send(FUSE_CREATE, 1, bytes_of(fuse_create_in{O_CREAT | O_RDWR, S_IFREG | 0644, 0, 0}) + c_string("b"));
    kernel.hang_up();
    kernel.step();
    CHECK(files.released == 1);
    CHECK(files.lookup_count() == 0);
    CHECK(kernel.session().open_files() == 0);
  }
  SECTION("a listing with attributes") {
    FakeKernel kernel(files);
    kernel.init();
    const std::uint64_t handle = kernel.call(FUSE_OPENDIR, 1, bytes_of(fuse_open_in{})).as<fuse_open_out>().fh;
    fuse_read_in body{};
    body.fh = handle;
    body.size = 4096;
    kernel.send(FUSE_READDIRPLUS, 1, bytes_of(body));
    kernel.hang_up();
    kernel.step();
    CHECK(files.lookup_count() == 0);
  }
}

TEST_CASE("the file system gets the very memory a write was received in, at the start of a page", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  kernel.init();
  const Created file = create(kernel, "a");
  files.keep_buffers = true;
  CHECK(kernel.write(file.node, file.handle, std::string(5000, 'x')).error == 0);
  REQUIRE(files.kept);
  CHECK(files.kept_offset % 4096 == 0);
  CHECK(std::string_view(reinterpret_cast<const char*>(files.kept->data()) + files.kept_offset, 5000) ==
        std::string(5000, 'x'));
}

TEST_CASE("a buffer is not received into again while I/O holds it", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  kernel.init();
  const Created file = create(kernel, "a");
  files.keep_buffers = true;
  kernel.write(file.node, file.handle, std::string(100, 'x'));
  files.keep_buffers = false;
  const base::Buffer* const kept = files.kept.get();
  kernel.write(file.node, file.handle, std::string(100, 'y'));
  CHECK(reinterpret_cast<const char*>(kept->data())[files.kept_offset] == 'x');
  // And is used on when it has been given back.
  files.kept.reset();
  files.keep_buffers = true;
  kernel.write(file.node, file.handle, "z");
  const base::Buffer* const second = files.kept.get();
  files.kept.reset();
  kernel.write(file.node, file.handle, "z");
  CHECK(files.kept.get() == second);
}

TEST_CASE("extended attributes are asked for in two steps, and too little room is ERANGE", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  kernel.init();
  const Created file = create(kernel, "a");
  // Without FUSE_SETXATTR_EXT the kernel sends the shorter request.
  const std::uint32_t set[2] = {3, 0};
  REQUIRE(kernel.call(FUSE_SETXATTR, file.node, bytes_of(set) + c_string("user.k") + "abc").error == 0);
  const auto get = [&](std::uint32_t size) {
    return kernel.call(FUSE_GETXATTR, file.node, bytes_of(fuse_getxattr_in{size, 0}) + c_string("user.k"));
  };
  CHECK(get(0).as<fuse_getxattr_out>().size == 3);
  CHECK(get(2).error == ERANGE);
  CHECK(get(3).body == "abc");
}

TEST_CASE("a lock that must be waited for does not take up who answers requests, and can be interrupted", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  kernel.init();
  const Created holder = create(kernel, "a");
  const std::uint64_t other =
      kernel.call(FUSE_OPEN, holder.node, bytes_of(fuse_open_in{O_RDWR, 0})).as<fuse_open_out>().fh;
  REQUIRE(kernel.call(FUSE_SETLK, holder.node, lock_request(holder.handle, 1, F_WRLCK)).error == 0);
  CHECK(kernel.call(FUSE_SETLK, holder.node, lock_request(other, 2, F_WRLCK)).error == EAGAIN);
  const std::uint64_t waiting = kernel.send(FUSE_SETLKW, holder.node, lock_request(other, 2, F_WRLCK));
  kernel.step();  // returns although the lock is held
  CHECK_FALSE(kernel.receive().any);
  SECTION("interrupted") {
    kernel.send(FUSE_INTERRUPT, 0, bytes_of(fuse_interrupt_in{waiting}));
    kernel.step();
    const Reply reply = kernel.receive(10000);
    REQUIRE(reply.any);
    CHECK(reply.error == EINTR);
  }
  SECTION("granted") {
    kernel.send(FUSE_SETLK, holder.node, lock_request(holder.handle, 1, F_UNLCK));
    kernel.step();
    CHECK(kernel.receive(10000).error == 0);
    const Reply reply = kernel.receive(10000);
    REQUIRE(reply.any);
    CHECK(reply.error == 0);
  }
  SECTION("at the end all waits are given up") {
    CHECK(kernel.session().end_lock_waits(std::chrono::seconds(10)));
    CHECK(kernel.receive(10000).error == EINTR);
  }
}

TEST_CASE("more waits for locks than allowed are refused, not queued", "[fuse]") {
  Recording files;
  fuse::Options options;
  options.most_lock_waiters = 1;
  FakeKernel kernel(files, options);
  kernel.init();
  const Created holder = create(kernel, "a");
  const std::uint64_t other =
      kernel.call(FUSE_OPEN, holder.node, bytes_of(fuse_open_in{O_RDWR, 0})).as<fuse_open_out>().fh;
  kernel.call(FUSE_SETLK, holder.node, lock_request(holder.handle, 1, F_WRLCK));
  kernel.send(FUSE_SETLKW, holder.node, lock_request(other, 2, F_WRLCK));
  kernel.step();
  CHECK(kernel.call(FUSE_SETLKW, holder.node, lock_request(other, 3, F_WRLCK)).error == ENOLCK);
  CHECK(kernel.session().end_lock_waits(std::chrono::seconds(10)));
}

TEST_CASE("an exception becomes an errno and the session goes on", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  kernel.init();
  files.fail_strangely = true;
  CHECK(kernel.lookup(1, "a").error == EIO);
  files.fail_strangely = false;
  CHECK(kernel.lookup(1, "a").error == ENOENT);
}

TEST_CASE("requests that make no sense change nothing", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  kernel.init();
  const Created file = create(kernel, "a");
  kernel.send_raw("short");
  kernel.step();
  CHECK_FALSE(kernel.receive().any);
  fuse_write_in lying{};
  lying.fh = file.handle;
  lying.size = 1 << 20;  // more than is sent
  CHECK(kernel.call(FUSE_WRITE, file.node, bytes_of(lying) + "abc").error == EIO);
  CHECK(std::filesystem::file_size(files.directory + "/a") == 0);
  CHECK(kernel.write(file.node, file.handle, "abc").error == 0);
}

TEST_CASE("a caller's supplementary groups are known although FUSE does not send them", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  kernel.init();
  std::vector<gid_t> mine(static_cast<std::size_t>(::getgroups(0, nullptr)));
  mine.resize(static_cast<std::size_t>(::getgroups(static_cast<int>(mine.size()), mine.data())));
  std::sort(mine.begin(), mine.end());
  kernel.uid = 12345;  // whoever: the groups are those of the process
  kernel.lookup(1, "a");
  std::vector<gid_t> got = files.groups;
  std::sort(got.begin(), got.end());
  CHECK(got == mine);
  kernel.uid = 0;
  kernel.lookup(1, "a");
  CHECK(files.groups.empty());
}

TEST_CASE("a file whose direct way the kernel refuses is served the ordinary way", "[fuse]") {
  Recording files;
  files.offer_passthrough = true;
  FakeKernel kernel(files);  // a socket knows no backing files
  kernel.init();
  const Reply reply = kernel.create(1, "a", O_CREAT | O_RDWR, 0644);
  REQUIRE(reply.error == 0);
  const auto open = reply.as<fuse_open_out>(sizeof(fuse_entry_out));
  CHECK((open.open_flags & (1U << 7)) == 0);  // FOPEN_PASSTHROUGH
  CHECK(kernel.write(reply.as<fuse_entry_out>().nodeid, open.fh, "x").error == 0);
}

TEST_CASE("an aborted connection ends, and what was open is released", "[fuse]") {
  Recording files;
  FakeKernel kernel(files);
  kernel.init();
  create(kernel, "a");
  kernel.session().abort();
  CHECK(kernel.session().receive(kernel.worker) == fuse::Received::ended);
  CHECK(kernel.session().open_files() == 1);
  kernel.session().release_open_files();
  CHECK(files.released == 1);
}
