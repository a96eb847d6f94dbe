// SPDX-License-Identifier: Apache-2.0
// What engines promise when an export hangs. Opening a FIFO that nobody writes to hangs as an export does;
// opening its other side lets it go.
#include <chrono>
#include <thread>

#include "io_fixture.hpp"
#include "rainfs/base/unique_fd.hpp"

using namespace io_test;
using namespace std::chrono_literals;

namespace {

// The FIFO, and what lets the operations go that hang on it. They go at the latest when this does.
class Hang {
 public:
  explicit Hang(const Directory& directory) : path_(directory / "fifo") { REQUIRE(::mkfifo(path_.c_str(), 0600) == 0); }
  ~Hang() { release(); }
  // Any thread that opened the FIFO before or opens it later goes on.
  void release() {
    if (!writer_) writer_ = base::UniqueFd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  }

 private:
  std::string path_;
  base::UniqueFd writer_;
};

OperationPtr hanging_open(World& world) {
  auto operation = world.make(Kind::open, "fifo");
  operation->flags = O_RDONLY;
  return operation;
}

template <typename Condition>
bool eventually(Condition condition) {
  for (int i = 0; i < 6000 && !condition(); ++i) std::this_thread::sleep_for(10ms);
  return condition();
}

int open_descriptors() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

}  // namespace

TEST_CASE("a hung operation is answered for at the deadline, and what it uses stays", "[io][hang]") {
  World world(RAINFS_ASYNCHRONOUS_ENGINES);
  Hang hang(world.directory);
  const auto hung = hanging_open(world);
  hung->buffer = buffer_of("kept");
  const std::weak_ptr<base::Buffer> buffer = hung->buffer;
  const auto healthy = world.make(Kind::stat, "fifo");
  io::Batch batch;
  batch.add(hung);
  batch.add(healthy);
  const auto began = std::chrono::steady_clock::now();
  batch.run(base::Clock::system(), 200ms);
  CHECK(std::chrono::steady_clock::now() - began >= 200ms);
  CHECK_FALSE(hung->done());
  CHECK((healthy->done() && healthy->error == 0));  // others are not delayed
  CHECK(world.does(Kind::stat, "")->error == 0);
  CHECK_FALSE(buffer.expired());
  CHECK(world.engine->outstanding() == 1);
  hang.release();
  CHECK(eventually([&] { return hung->done(); }));
  CHECK(hung->error == 0);
  CHECK(hung->handle != nullptr);
}

TEST_CASE("more than the bound is refused at once", "[io][hang]") {
  io::EngineOptions options;
  options.threads = 2;
  options.queue = 3;
  World world(RAINFS_ASYNCHRONOUS_ENGINES, options);
  Hang hang(world.directory);
  std::vector<OperationPtr> all;
  for (unsigned i = 0; i < options.threads + options.queue; ++i) {
    all.push_back(hanging_open(world));
    world.engine->submit(all.back());
    CHECK_FALSE(all.back()->done());
  }
  CHECK(world.engine->outstanding() == 5);
  const auto refused = hanging_open(world);
  world.run(refused);
  CHECK(refused->error == EBUSY);
  hang.release();
  for (const auto& operation : all) CHECK(eventually([&] { return operation->done(); }));
  CHECK(world.engine->outstanding() == 0);
  CHECK(world.does(Kind::stat, "fifo")->error == 0);
}

TEST_CASE("an engine ends while an operation hangs, and the operation may end later", "[io][hang]") {
  const int before = open_descriptors();
  {
    Directory directory;
    Hang hang(directory);
    OperationPtr hung, waiting;
    {
      io::EngineOptions options;
      options.threads = 1;
      World world(RAINFS_ASYNCHRONOUS_ENGINES, options);
      // In the outer directory, which lives longer than this world.
      auto root = std::make_shared<io::Operation>(Kind::open_root);
      root->text = directory.path();
      world.run(root);
      REQUIRE(root->error == 0);
      const auto make = [&] {
        auto operation = std::make_shared<io::Operation>(Kind::open);
        operation->file = root->handle;
        operation->path = "fifo";
        return operation;
      };
      hung = make();
      world.engine->submit(hung);
      // Once the thread is in the FIFO's open, nothing else is done.
      const auto probe = world.make(Kind::statfs);
      world.run(probe, 100ms);
      waiting = make();
      world.engine->submit(waiting);
    }
    CHECK(eventually([&] { return waiting->done(); }));
    CHECK((waiting->error == ECANCELED || waiting->error == 0));
    hang.release();
    CHECK(eventually([&] { return hung->done(); }));
    CHECK((hung->error == 0 || hung->error == ECANCELED));
  }
  // The late handles are closed although their engine is long gone.
  CHECK(eventually([&] { return open_descriptors() == before; }));
}

TEST_CASE("closing a handle never waits for the export", "[io][hang]") {
  io::EngineOptions options;
  options.threads = 1;
  const int before = open_descriptors();
  {
    World world(RAINFS_ASYNCHRONOUS_ENGINES, options);
    Hang hang(world.directory);
    write_file(world.directory / "f", "x");
    auto file = world.open("f", O_RDONLY);
    REQUIRE(file->error == 0);
    const auto hung = hanging_open(world);
    world.run(hung, 50ms);
    file->handle.reset();  // the only thread hangs: returns nevertheless
    file.reset();
    hang.release();
    CHECK(eventually([&] { return hung->done(); }));
  }
  CHECK(eventually([&] { return open_descriptors() == before; }));
}

TEST_CASE("no descriptor leaks", "[io]") {
  const int before = open_descriptors();
  {
    World world(RAINFS_EVERY_ENGINE);
    ::mkdir((world.directory / "d").c_str(), 0755);
    for (int i = 0; i < 50; ++i) {
      world.open("d/f", O_CREAT | O_RDWR);
      world.open("d/none/f", O_RDONLY);
      world.does(Kind::open_tmpfile, "d", [](io::Operation& op) { op.flags = O_RDWR; });
      world.does(Kind::make_file, "d/small" + std::to_string(i % 40), [](io::Operation& op) { op.flags = 1; });
      world.does(Kind::read_directory, "d");
      world.does(Kind::list_xattr, "d/f");
      world.does(Kind::set_attributes, "d/f",
                 [](io::Operation& op) { op.attributes.valid = io::Attributes::mode_set; });
      world.does(Kind::rename, "d/f", [](io::Operation& op) { op.path2 = "d/g"; });
    }
  }
  CHECK(eventually([&] { return open_descriptors() == before; }));
}

TEST_CASE("operations from many threads are each completed once", "[io]") {
  World world(RAINFS_EVERY_ENGINE);
  write_file(world.directory / "f", "x");
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        io::Batch batch;
        std::vector<OperationPtr> operations;
        for (int n = 0; n < 5; ++n) {
          operations.push_back(world.make(Kind::stat, n % 2 == 0 ? "f" : "d/none"));
          batch.add(operations.back());
        }
        batch.run(base::Clock::system(), 60s);
        for (const auto& operation : operations) good += operation->done() ? 1 : 0;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(good == 4 * 200 * 5);
}

TEST_CASE("a buffer stays until a hung ring lets go of it, though the engine ends before", "[io][hang]") {
  base::UniqueFd other;
  auto read = std::make_shared<io::Operation>(Kind::read);
  {
    World world("uring");
    REQUIRE(::mkfifo((world.directory / "fifo").c_str(), 0600) == 0);
    other.reset(::open((world.directory / "fifo").c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(other);
    const auto opened = world.open("fifo", O_RDWR);
    REQUIRE(opened->error == 0);
    read->file = opened->handle;  // reading it hangs until something is written
    read->buffer = base::Buffer::allocate(4);
    read->length = 4;
    io::Batch batch;
    batch.add(*world.engine, read);
    batch.run(base::Clock::system(), 50ms);
    CHECK_FALSE(read->done());
    CHECK(world.engine->outstanding() == 1);
  }
  CHECK_FALSE(read->done());
  REQUIRE(::write(other.get(), "late", 4) == 4);
  CHECK(eventually([&] { return read->done(); }));
  CHECK(read->error == 0);
  CHECK(std::memcmp(read->buffer->data(), "late", 4) == 0);
}

TEST_CASE("a ring with all slots taken serves what waits when one is free", "[io][hang]") {
  io::EngineOptions options;
  options.ring_entries = 2;
  World world("uring", options);
  const auto file = world.open("f", O_CREAT | O_RDWR);
  REQUIRE(file->error == 0);
  std::vector<OperationPtr> all;
  io::Batch batch;
  for (int i = 0; i < 300; ++i) {
    all.push_back(world.make(Kind::write));
    all.back()->file = file->handle;
    all.back()->buffer = buffer_of("0123456789");
    all.back()->length = 10;
    all.back()->offset = 10 * i;
    batch.add(all.back());
  }
  batch.run(base::Clock::system(), 60s);
  for (const auto& operation : all) CHECK((operation->done() && operation->error == 0 && operation->value == 10));
  CHECK(world.does(Kind::stat, "f")->stat.stx_size == 3000);
}
