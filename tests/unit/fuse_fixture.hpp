// SPDX-License-Identifier: Apache-2.0
// A file system for the transport to serve: a temporary directory, which goes with it.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "loopback_file_system.hpp"

namespace rainfs::test {

class TemporaryFileSystem : public LoopbackFileSystem {
 public:
  TemporaryFileSystem() {
    char name[] = "/tmp/rainfs-fuse-test-XXXXXX";
    directory = ::mkdtemp(name);
    if (!connect(directory)) std::abort();
  }
  ~TemporaryFileSystem() override { std::filesystem::remove_all(directory); }

  std::string directory;
};

}  // namespace rainfs::test
