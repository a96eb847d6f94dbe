// SPDX-License-Identifier: Apache-2.0
// The `rainfs` command over a stand-in for the array: serves the directory of the config's first export as it is. With
// reads=passthrough the kernel may go to it directly, with coherence=strict write-only files bypass the page cache.
#include "loopback_file_system.hpp"
#include "rainfs/cli/rainfs.hpp"

int main(int argc, char** argv) {
  using namespace rainfs;
  return cli::rainfs_main(argc, argv, [](const cli::Setup& setup) -> base::Result<cli::Service> {
    const std::string& directory = setup.config.racks.at(0).exports.at(0).path;
    auto file_system = test::LoopbackFileSystem::open_root(directory);
    if (!file_system) return base::unexpected(ENOENT, directory);
    file_system->offer_passthrough = setup.options.reads == config::Reads::passthrough;
    file_system->direct_writes = setup.options.coherence == config::Coherence::strict;
    cli::Service service;
    service.file_system = std::move(file_system);
    return service;
  });
}
