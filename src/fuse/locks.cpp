// SPDX-License-Identifier: Apache-2.0
// Record locks (fcntl) and whole-file locks (flock).
#include <sys/file.h>

#include "request.hpp"

namespace rainfs::fuse {

namespace {

tree::OpenFile& open_file(const fuse_file_info& info) {
  return *handle_of<FileHandle>(info.fh).file;
}

tree::Lock lock_of(const struct flock& lock) {
  return {lock.l_type, lock.l_start, lock.l_len, lock.l_pid};  // the kernel sends absolute starts only
}

void on_getlk(fuse_req_t raw, fuse_ino_t, fuse_file_info* info, struct flock* lock) {
  answer(raw, [&](Request& request) {
    const auto found = request.file_system().test_lock(open_file(*info), info->lock_owner, lock_of(*lock));
    if (!found) {
      request.error(found.error());
      return;
    }
    struct flock held {};
    held.l_type = static_cast<short>(found->type);
    held.l_whence = SEEK_SET;
    held.l_start = found->start;
    held.l_len = found->length;
    held.l_pid = found->pid;
    request.lock(held);
  });
}

// Tries at once; only what is really held elsewhere is waited for, by a thread of its own. The file stays open as
// long: the kernel does not release it before the request is answered.
template <typename Take>
void take_lock(Request& request, bool wait, const Take& take) {
  static const std::atomic<bool> never{false};
  const base::Result<void> taken = take(false, never);
  if (taken || !wait || taken.error().code != EAGAIN) {
    request.done(taken);
    return;
  }
  LockWaiters::Wait waiting = [take](const std::atomic<bool>& interrupted) {
    const base::Result<void> granted = take(true, interrupted);
    return granted ? 0 : granted.error().code;
  };
  request.session().lock_waiters.start(request.raw(), std::move(waiting));
  request.handed_over();
}

void on_setlk(fuse_req_t raw, fuse_ino_t, fuse_file_info* info, struct flock* lock, int sleep) {
  answer(raw, [&](Request& request) {
    take_lock(request, sleep != 0,
              [&file_system = request.file_system(), &file = open_file(*info), owner = info->lock_owner,
               wanted = lock_of(*lock)](bool wait, const std::atomic<bool>& interrupted) {
                return file_system.set_lock(file, owner, wanted, wait, interrupted);
              });
  });
}

void on_flock(fuse_req_t raw, fuse_ino_t, fuse_file_info* info, int operation) {
  answer(raw, [&](Request& request) {
    take_lock(request, (operation & LOCK_NB) == 0,
              [&file_system = request.file_system(), &file = open_file(*info), owner = info->lock_owner,
               wanted = operation & ~LOCK_NB](bool wait, const std::atomic<bool>& interrupted) {
                return file_system.set_flock(file, owner, wanted, wait, interrupted);
              });
  });
}

}  // namespace

void add_lock_operations(fuse_lowlevel_ops& table) {
  table.getlk = on_getlk;
  table.setlk = on_setlk;
  table.flock = on_flock;
}

}  // namespace rainfs::fuse
