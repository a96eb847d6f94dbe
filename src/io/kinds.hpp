// SPDX-License-Identifier: Apache-2.0
// The kinds of operation as functions in the calling thread: what perform() chooses from. Each returns 0 or
// an errno and fills in the operation's results. May throw std::bad_alloc.
#pragma once

#include "rainfs/base/unique_fd.hpp"
#include "rainfs/io/operation.hpp"

namespace rainfs::io {

// Progress of one attempt, for the decision whether it may be repeated.
struct Attempt {
  Engine& owner;         // of handles that are opened
  bool changed = false;  // something on the export was changed: not to be done twice
};

// Names: kinds_path.cpp
int do_open_root(Operation& op, Attempt& attempt);
int do_stat(Operation& op, Attempt& attempt);
int do_open(Operation& op, Attempt& attempt);
int do_open_tmpfile(Operation& op, Attempt& attempt);
int do_mkdir(Operation& op, Attempt& attempt);
int do_mknod(Operation& op, Attempt& attempt);
int do_symlink(Operation& op, Attempt& attempt);
int do_link(Operation& op, Attempt& attempt);
int do_rename(Operation& op, Attempt& attempt);
int do_unlink(Operation& op, Attempt& attempt);
int do_rmdir(Operation& op, Attempt& attempt);
int do_readlink(Operation& op, Attempt& attempt);
int do_read_directory(Operation& op, Attempt& attempt);
int do_make_file(Operation& op, Attempt& attempt);
int do_read_file(Operation& op, Attempt& attempt);

// Metadata of an object by path or handle: kinds_metadata.cpp
int do_set_attributes(Operation& op, Attempt& attempt);
int do_get_xattr(Operation& op, Attempt& attempt);
int do_set_xattr(Operation& op, Attempt& attempt);
int do_list_xattr(Operation& op, Attempt& attempt);
int do_remove_xattr(Operation& op, Attempt& attempt);

// Open files: kinds_data.cpp
int do_statfs(Operation& op);
int do_read(Operation& op);
int do_read_to_pipe(Operation& op);
int do_write(Operation& op);
int do_fsync(Operation& op);
int do_sync_file_system(Operation& op);
int do_flush(Operation& op);
int do_allocate(Operation& op);
int do_seek(Operation& op);
int do_copy_range(Operation& op);
int do_lock(Operation& op);
int do_test_lock(Operation& op);
int do_flock(Operation& op);

// Shared by them.
inline constexpr unsigned stat_mask = STATX_BASIC_STATS | STATX_BTIME;
inline int number_of(const Operation& op) {
  return op.file->number();
}
int stat_descriptor(int fd, int flags, struct statx& out);
// True if the buffer holds what offset and length say, and the file offset can be one.
bool buffer_fits(const Operation& op);

// Repeats a system call that a signal interrupted; 0 or an errno, the result in `result` if given.
template <typename Call>
int retried(Call call) {
  for (;;) {
    if (call() >= 0) return 0;
    if (errno != EINTR) return errno;
  }
}

// "/proc/self/fd/N" names the object a descriptor refers to for calls that take no O_PATH descriptor.
class ProcPath {
 public:
  explicit ProcPath(int fd);
  const char* c_str() const { return text_; }

 private:
  char text_[32];
};

}  // namespace rainfs::io
