// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "rainfs/cli/rainfsctl.hpp"

int main(int argc, char** argv) {
  return rainfs::cli::rainfsctl_main(argc, argv, std::cout, std::cerr);
}
