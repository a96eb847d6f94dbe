// SPDX-License-Identifier: Apache-2.0
// What the kernel holds open: the objects whose addresses are its file handles. Any thread may call.
//
// A handle belongs to the requests that name it until they are answered: after its reply a callback must not touch
// it, as the kernel may have closed it and another thread freed it. The table knows all of them because a
// connection that is aborted releases nothing: what was written must be committed all the same.
#pragma once

#include <atomic>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "rainfs/tree/file_system.hpp"

namespace rainfs::fuse {

struct FileHandle {
  tree::NodeId node = 0;
  std::unique_ptr<tree::OpenFile> file;
  bool passthrough = false;
  std::atomic<bool> moves{true};  // whether to try read_to_pipe()
  std::list<std::unique_ptr<FileHandle>>::iterator place;
};

struct DirectoryHandle {
  tree::NodeId node = 0;
  std::mutex mutex;  // one listing at a time: names are valid until the next call
  std::unique_ptr<tree::OpenDirectory> directory;
  std::list<std::unique_ptr<DirectoryHandle>>::iterator place;
};

template <typename Handle>
class HandleTable {
 public:
  Handle& add(std::unique_ptr<Handle> handle) {
    const std::lock_guard lock(mutex_);
    handles_.push_front(std::move(handle));
    handles_.front()->place = handles_.begin();
    return *handles_.front();
  }
  std::unique_ptr<Handle> remove(Handle& handle) {
    const std::lock_guard lock(mutex_);
    std::unique_ptr<Handle> taken = std::move(*handle.place);
    handles_.erase(taken->place);
    return taken;
  }
  std::unique_ptr<Handle> remove_any() {
    const std::lock_guard lock(mutex_);
    if (handles_.empty()) return nullptr;
    std::unique_ptr<Handle> taken = std::move(handles_.front());
    handles_.pop_front();
    return taken;
  }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return handles_.size();
  }

 private:
  mutable std::mutex mutex_;
  std::list<std::unique_ptr<Handle>> handles_;
};

inline std::uint64_t number_of(const void* handle) {
  return reinterpret_cast<std::uint64_t>(handle);
}
template <typename Handle>
Handle& handle_of(std::uint64_t number) {
  return *reinterpret_cast<Handle*>(number);
}

}  // namespace rainfs::fuse
