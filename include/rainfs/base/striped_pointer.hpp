// SPDX-License-Identifier: Apache-2.0
// A shared pointer that all threads read all the time and that is rarely replaced: each reads its own of a few
// copies with counts of their own, so that counting references moves no cache line between processors.
// Any thread may load; stores must not overlap. A load beside a store gives the old or the new value.
//
// Each copy has a mutex: in libstdc++ 12 a load of atomic<shared_ptr> does not order its read before it lets go of the
// pointer, which ThreadSanitizer tells, and which a store may overtake where the processor reorders.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>

#include "rainfs/base/short_mutex.hpp"

namespace rainfs::base {

template <typename T>
class StripedPointer {
 public:
  StripedPointer() = default;
  explicit StripedPointer(const std::shared_ptr<T>& pointer) { store(pointer); }

  std::shared_ptr<T> load() const {
    const Slot& slot = slots_[slot_of_this_thread()];
    const std::lock_guard lock(slot.mutex);
    return slot.pointer;
  }
  void store(const std::shared_ptr<T>& pointer) {
    for (Slot& slot : slots_) {
      std::shared_ptr<T> own;
      if (pointer) own = std::shared_ptr<T>(std::make_shared<std::shared_ptr<T>>(pointer), pointer.get());
      const std::lock_guard lock(slot.mutex);
      slot.pointer.swap(own);  // what was there goes when the mutex is free again
    }
  }

 private:
  static constexpr std::size_t slot_count = 8;
  struct alignas(64) Slot {
    mutable ShortMutex mutex;
    std::shared_ptr<T> pointer;
  };
  static std::size_t slot_of_this_thread() {
    static std::atomic<std::size_t> next{0};
    thread_local const std::size_t mine = next.fetch_add(1, std::memory_order_relaxed) % slot_count;
    return mine;
  }
  std::array<Slot, slot_count> slots_;
};

}  // namespace rainfs::base
