// SPDX-License-Identifier: Apache-2.0
#include "node.hpp"

int main(int argc, char** argv) {
  using namespace rainfs;
  return cli::rainfs_main(argc, argv, [](const cli::Setup& setup) -> base::Result<cli::Service> {
    auto node = cli::Node::assemble(setup);
    if (!node) return base::Unexpected{node.error()};
    cli::Service service;
    std::shared_ptr<cli::Node> owned = std::move(*node);
    service.file_system = owned->take_tree();
    service.below = std::move(owned);
    return service;
  });
}
