// SPDX-License-Identifier: Apache-2.0
// Tells whoever counts the threads at work that this one only waits: for a disk, another thread or a time.
//
// An object of this class spans the wait. Costs next to nothing on threads that nobody observes.
#pragma once

namespace rainfs::base {

class Waiting {
 public:
  // Called by the observed thread itself. Waits may lie within each other.
  class Observer {
   public:
    virtual void wait_begins() noexcept = 0;
    virtual void wait_ends() noexcept = 0;

   protected:
    ~Observer() = default;
  };

  Waiting() noexcept {
    if (observer_ != nullptr) observer_->wait_begins();
  }
  ~Waiting() {
    if (observer_ != nullptr) observer_->wait_ends();
  }
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  // The calling thread's, from now on; null: none.
  static void observe(Observer* observer) noexcept { observer_ = observer; }

 private:
  inline static thread_local Observer* observer_ = nullptr;
};

}  // namespace rainfs::base
