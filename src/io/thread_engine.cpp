// SPDX-License-Identifier: Apache-2.0
#include "thread_pool.hpp"

namespace rainfs::io {

namespace {

class ThreadCore final : public Engine {
 public:
  explicit ThreadCore(EngineOptions options) : pool_(std::make_shared<ThreadPool>(std::move(options))) {}
  void submit(OperationPtr operation) override { pool_->submit(std::move(operation), shared_from_this()); }
  bool completes_inline() const noexcept override { return false; }
  void release(int number) noexcept override { pool_->close(number); }
  unsigned outstanding() const noexcept override { return pool_->outstanding(); }
  void stop() noexcept { pool_->stop(); }

 private:
  const std::shared_ptr<ThreadPool> pool_;
};

}  // namespace

std::unique_ptr<Engine> make_thread_engine(EngineOptions options) {
  return std::make_unique<EngineOwner<ThreadCore>>(std::make_shared<ThreadCore>(std::move(options)));
}

}  // namespace rainfs::io
