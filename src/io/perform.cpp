// SPDX-License-Identifier: Apache-2.0
#include <exception>
#include <new>

#include "identity.hpp"
#include "kinds.hpp"

namespace rainfs::io {

namespace {

// An object that another node replaced may meet us as ESTALE from a cached name, which says nothing bad of
// the export: a fresh walk settles it.
constexpr int most_attempts = 3;

bool makes_files(const Operation& op) {
  switch (op.kind) {
    case Kind::open:
      return (op.flags & O_CREAT) != 0;
    case Kind::open_tmpfile:
    case Kind::mkdir:
    case Kind::mknod:
    case Kind::make_file:
      return true;
    default:
      return false;
  }
}

// The data of an open file is the daemon's business: the kernel judged when it was opened, and what NFS sends
// is the opener's. So every engine does the same, and switching costs nothing here.
bool acts_as_caller(const Operation& op) {
  switch (op.kind) {
    case Kind::read:
    case Kind::read_to_pipe:
    case Kind::write:
    case Kind::fsync:
    case Kind::sync_file_system:
    case Kind::flush:
    case Kind::allocate:
    case Kind::seek:
    case Kind::copy_range:
    case Kind::lock:
    case Kind::test_lock:
    case Kind::flock:
    case Kind::statfs:
      return false;
    case Kind::stat:
      return !op.path.empty();
    default:
      return true;
  }
}

int dispatch(Operation& op, Attempt& attempt) {
  switch (op.kind) {
    case Kind::open_root:
      return do_open_root(op, attempt);
    case Kind::stat:
      return do_stat(op, attempt);
    case Kind::open:
      return do_open(op, attempt);
    case Kind::open_tmpfile:
      return do_open_tmpfile(op, attempt);
    case Kind::mkdir:
      return do_mkdir(op, attempt);
    case Kind::mknod:
      return do_mknod(op, attempt);
    case Kind::symlink:
      return do_symlink(op, attempt);
    case Kind::link:
      return do_link(op, attempt);
    case Kind::rename:
      return do_rename(op, attempt);
    case Kind::unlink:
      return do_unlink(op, attempt);
    case Kind::rmdir:
      return do_rmdir(op, attempt);
    case Kind::readlink:
      return do_readlink(op, attempt);
    case Kind::set_attributes:
      return do_set_attributes(op, attempt);
    case Kind::get_xattr:
      return do_get_xattr(op, attempt);
    case Kind::set_xattr:
      return do_set_xattr(op, attempt);
    case Kind::list_xattr:
      return do_list_xattr(op, attempt);
    case Kind::remove_xattr:
      return do_remove_xattr(op, attempt);
    case Kind::read_directory:
      return do_read_directory(op, attempt);
    case Kind::statfs:
      return do_statfs(op);
    case Kind::read:
      return do_read(op);
    case Kind::read_to_pipe:
      return do_read_to_pipe(op);
    case Kind::write:
      return do_write(op);
    case Kind::fsync:
      return do_fsync(op);
    case Kind::sync_file_system:
      return do_sync_file_system(op);
    case Kind::flush:
      return do_flush(op);
    case Kind::allocate:
      return do_allocate(op);
    case Kind::seek:
      return do_seek(op);
    case Kind::copy_range:
      return do_copy_range(op);
    case Kind::lock:
      return do_lock(op);
    case Kind::test_lock:
      return do_test_lock(op);
    case Kind::flock:
      return do_flock(op);
    case Kind::make_file:
      return do_make_file(op, attempt);
    case Kind::read_file:
      return do_read_file(op, attempt);
  }
  return EINVAL;
}

}  // namespace

void perform(Operation& op, Engine& owner) noexcept {
  try {
    const ActingAs acting(acts_as_caller(op) ? op.credentials.get() : nullptr, makes_files(op), op.mode);
    op.error = acting.error();
    if (op.error != 0) return;
    for (int done = 1;; ++done) {
      Attempt attempt{owner};
      op.error = dispatch(op, attempt);
      if (op.error != ESTALE || op.path.empty() || attempt.changed || done >= most_attempts) return;
    }
  } catch (const std::bad_alloc&) {
    op.error = ENOMEM;
  } catch (const std::exception&) {  // std::length_error: more than memory can ever hold
    op.error = ENOMEM;
  }
}

}  // namespace rainfs::io
