// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <chrono>
#include <functional>
#include <future>
#include <thread>

#include "fake_kernel.hpp"
#include "fuse_fixture.hpp"
#include "workers.hpp"

using namespace rainfs;
using test::c_string;
using test::FakeKernel;

namespace {

class Waiting final : public test::TemporaryFileSystem {
 public:
  std::shared_future<void> wait_in_lookup;

  base::Result<tree::Entry> lookup(tree::NodeId parent, std::string_view name, const tree::Caller& caller) override {
    if (wait_in_lookup.valid()) wait_in_lookup.wait();
    return TemporaryFileSystem::lookup(parent, name, caller);
  }
};

bool until(const std::function<bool()>& reached) {
  for (int i = 0; i < 1000 && !reached(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return reached();
}

// Served by threads, two of them at work, whose lookups wait until they are let go.
struct Served {
  explicit Served(unsigned most) : kernel(files), workers((kernel.init(), kernel.session()), most, 2) {
    files.wait_in_lookup = let_go.get_future().share();
    REQUIRE(workers.start());
  }
  void end() {
    kernel.hang_up();
    CHECK(until([&] {
      workers.wake();
      return workers.ended();
    }));
  }

  Waiting files;
  FakeKernel kernel;
  std::promise<void> let_go;
  fuse::Workers workers;
};

}  // namespace

TEST_CASE("it is seen when all threads for requests stand still, and not before", "[fuse]") {
  Served served(2);
  FakeKernel& kernel = served.kernel;
  fuse::Workers& workers = served.workers;
  kernel.send(FUSE_LOOKUP, 1, c_string("a"));
  CHECK(until([&] { return workers.in_work().size() == 1 && workers.count() == 2; }));
  CHECK(workers.all_busy_for().count() == 0);  // one is free
  kernel.send(FUSE_LOOKUP, 1, c_string("b"));
  CHECK(until([&] { return workers.all_busy_for() > std::chrono::milliseconds(20); }));
  served.let_go.set_value();
  CHECK(until([&] { return workers.all_busy_for().count() == 0; }));
  served.end();
}

TEST_CASE("requests that do not end keep no others from being taken up", "[fuse]") {
  constexpr std::size_t many = 16;
  Served served(64);
  FakeKernel& kernel = served.kernel;
  fuse::Workers& workers = served.workers;
  for (std::size_t i = 0; i < many; ++i) kernel.send(FUSE_LOOKUP, 1, c_string("a"));
  CHECK(until([&] { return workers.in_work().size() == many; }));
  served.let_go.set_value();
  constexpr int patience_ms = 10'000;
  for (std::size_t i = 0; i < many; ++i) CHECK(kernel.receive(patience_ms).error == ENOENT);
  // Those that were needed only meanwhile rest, and the others go on.
  for (std::size_t i = 0; i < many; ++i) {
    kernel.send(FUSE_LOOKUP, 1, c_string("a"));
    CHECK(kernel.receive(patience_ms).error == ENOENT);
  }
  served.end();
}
