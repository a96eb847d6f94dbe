// SPDX-License-Identifier: Apache-2.0
#include "rainfs/cli/scrub.hpp"

#include <iostream>

int main(int argc, char** argv) {
  return rainfs::cli::scrub_main(argc, argv, std::cout, std::cerr);
}
