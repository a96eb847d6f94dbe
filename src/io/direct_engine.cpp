// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include "rainfs/io/engines.hpp"

namespace rainfs::io {

namespace {

// For what is done beside the caller. More than that at once, and it is done by the caller after all.
constexpr unsigned most_threads = 32;

class DirectEngine final : public Engine {
 public:
  void submit(OperationPtr operation) override {
    // Nothing is written back by close(2) on a local disk: there is nothing late to report.
    if (operation->kind != Kind::flush) perform(*operation, *this);
    operation->complete();
  }
  void submit_beside(OperationPtr operation) override {
    if (beside_->outstanding() >= most_threads) return submit(std::move(operation));
    beside_->submit(std::move(operation));
  }
  bool completes_inline() const noexcept override { return true; }
  void release(int number) noexcept override { ::close(number); }
  unsigned outstanding() const noexcept override { return beside_->outstanding(); }

 private:
  const std::unique_ptr<Engine> beside_ = make_thread_engine({"local", most_threads});
};

}  // namespace

std::unique_ptr<Engine> make_direct_engine() {
  return std::make_unique<DirectEngine>();
}

}  // namespace rainfs::io
