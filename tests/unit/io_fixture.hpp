// SPDX-License-Identifier: Apache-2.0
// A temporary directory as an export, on whichever engine, and short words for operations on it.
#pragma once

#include <dirent.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "rainfs/io/engines.hpp"

namespace io_test {

using namespace rainfs;
using io::Kind;
using io::OperationPtr;

#define RAINFS_EVERY_ENGINE std::string(GENERATE("direct", "inert root", "thread", "uring"))
#define RAINFS_ASYNCHRONOUS_ENGINES std::string(GENERATE("thread", "uring"))

inline std::unique_ptr<io::Engine> make_engine(const std::string& which, io::EngineOptions options = {}) {
  options.name = "test";
  if (which == "uring") return io::make_uring_engine(options);
  if (which == "thread") return io::make_thread_engine(options);
  return io::make_direct_engine();
}

class Directory {
 public:
  Directory() {
    char name[] = "/tmp/rainfs-io-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path_ = name;
    ::chmod(name, 0755);
  }
  ~Directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}
inline std::string read_whole(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}
inline std::shared_ptr<base::Buffer> buffer_of(const std::string& text) {
  auto buffer = base::Buffer::allocate(std::max<std::size_t>(text.size(), 1));
  std::memcpy(buffer->data(), text.data(), text.size());
  return buffer;
}

// One export. Operations are waited for; those of tests that hang set a short deadline themselves.
class World {
 public:
  explicit World(const std::string& which, io::EngineOptions options = {}) : engine(make_engine(which, options)) {
    REQUIRE(engine != nullptr);
    auto open = std::make_shared<io::Operation>(Kind::open_root);
    open->text = directory.path();
    run(open);
    REQUIRE(open->error == 0);
    root = open->handle;
    if (which != "inert root") return;
    const int inert = io::inert_root(root->number());
    REQUIRE(inert >= 0);
    root = std::make_shared<io::Handle>(*engine, inert, true);
  }

  void run(const OperationPtr& operation, base::Duration deadline = std::chrono::seconds(60)) {
    io::Batch batch;
    batch.add(*engine, operation);
    batch.run(base::Clock::system(), deadline);
  }
  OperationPtr make(Kind kind, const std::string& path = {}) const {
    auto operation = std::make_shared<io::Operation>(kind);
    operation->file = root;
    operation->path = path;
    return operation;
  }
  // Fills in, does, and hands back.
  template <typename Fill>
  OperationPtr does(Kind kind, const std::string& path, Fill fill) {
    auto operation = make(kind, path);
    fill(*operation);
    run(operation);
    REQUIRE(operation->done());
    return operation;
  }
  OperationPtr does(Kind kind, const std::string& path = {}) {
    return does(kind, path, [](io::Operation&) {});
  }
  OperationPtr open(const std::string& path, int flags, mode_t mode = 0644) {
    return does(Kind::open, path, [&](io::Operation& op) {
      op.flags = flags;
      op.mode = mode;
    });
  }

  Directory directory;
  std::unique_ptr<io::Engine> engine;
  io::HandlePtr root;  // goes before the engine
};

}  // namespace io_test
