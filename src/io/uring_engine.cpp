// SPDX-License-Identifier: Apache-2.0
#include "rainfs/log/log.hpp"
#include "uring_core.hpp"

namespace rainfs::io {

std::unique_ptr<Engine> make_uring_engine(EngineOptions options) {
  auto core = std::make_shared<UringCore>();
  int error = core->open(options);
  if (error == 0) error = core->start();
  if (error == 0) return std::make_unique<EngineOwner<UringCore>>(std::move(core));
  log::info("no-io-uring", "{}: io_uring is not available: {}", options.name, base::Error(error).message());
  return nullptr;
}

std::unique_ptr<Engine> make_remote_engine(EngineOptions options) {
  std::unique_ptr<Engine> engine = make_uring_engine(options);
  return engine ? std::move(engine) : make_thread_engine(std::move(options));
}

}  // namespace rainfs::io
