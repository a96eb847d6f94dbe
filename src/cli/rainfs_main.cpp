// SPDX-License-Identifier: Apache-2.0
#include "service.hpp"

int main(int argc, char** argv) {
  return rainfs::cli::rainfs_main(argc, argv, rainfs::cli::make_service);
}
