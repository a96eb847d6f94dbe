// SPDX-License-Identifier: Apache-2.0
// One typed operation on one export, its engine, and the wait for several of them.
//
// An Operation is filled in, submitted once to the engine of its `file` handle, and completed exactly once
// by that engine, however late. Whoever waits may give up at a deadline: the operation, its buffer and its
// handles then live on until the completion arrives (they are shared), and its outcome is unknown.
//
// Paths are never absolute and have no ".." (EINVAL); a symbolic link on the way is ENOTDIR, at the end of an
// open ELOOP. They are relative to `file`, which is then an export's root: they are resolved beneath it without
// following any symbolic link (openat2 RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS), may be longer than PATH_MAX,
// and are bytes. With an empty path the operation acts on `file` itself.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rainfs/base/buffer.hpp"
#include "rainfs/base/clock.hpp"
#include "rainfs/base/result.hpp"

namespace rainfs::io {

// On whose behalf an operation is done: file system uid and gid, supplementary groups, umask. The daemon's
// own operations (null) have umask 0: they get the mode they ask for.
// What is done to the data of an open file, its locks and its stat is always the daemon's own doing.
struct Credentials {
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t umask = 0;
  std::vector<gid_t> groups;
};
using CredentialsPtr = std::shared_ptr<const Credentials>;  // null: the daemon's own

class Engine;

// A descriptor on an export. Its destructor closes it through its engine and never blocks. Where the engine
// is owned by a shared pointer, it stays for as long as its handles.
class Handle {
 public:
  // Of a root with inert links (see inert_root()) a path is walked by the very call that acts on it; of any other
  // in a call of its own before.
  Handle(Engine& engine, int number, bool inert_links = false);
  ~Handle();
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  Engine& engine() const { return *engine_; }
  int number() const { return number_; }
  bool inert_links() const { return inert_links_; }

 private:
  Engine* engine_;
  std::shared_ptr<Engine> keeper_;
  int number_;  // a file descriptor; in the simulated engine a number of its own
  bool inert_links_;
};
using HandlePtr = std::shared_ptr<Handle>;

// A second root of the same directory, in a detached copy of its mount (and of those beneath it) that follows no
// symbolic links (MOUNT_ATTR_NOSYMFOLLOW, Linux 5.10; needs CAP_SYS_ADMIN). -1 where the system does not give one.
// Blocks as opening the directory does. What is mounted beneath the directory later may not be seen through it; the
// original mount can be unmounted, and the file system stays until the descriptor is closed.
int inert_root(int directory) noexcept;

// What makes something new (open with O_CREAT, open_tmpfile, mkdir, mknod, symlink) also sets the times in
// `attributes`, if any are asked for, before it takes the stat.
enum class Kind : std::uint8_t {
  open_root,         // text = absolute local path; opened O_DIRECTORY; gives handle, stat, statfs
  stat,              // path or file; flags: AT_STATX_FORCE_SYNC; gives stat
  open,              // path, flags (O_*; O_CREAT applies credentials' umask), mode; gives handle and stat
  open_tmpfile,      // path of the directory, flags, mode: O_TMPFILE; gives handle and stat
  mkdir,             // path, mode; gives stat
  mknod,             // path, mode with type, device; gives stat
  symlink,           // path, text = target; gives stat
  link,              // path = existing, path2 = new; empty path: the open `other` is linked; gives stat
  rename,            // path, path2, flags (RENAME_*)
  unlink,            // path
  rmdir,             // path
  readlink,          // path; gives text
  set_attributes,    // path or file; `attributes`; gives stat, unless flags is 1
  get_xattr,         // path or file, name; gives text
  set_xattr,         // path or file, name, text, flags
  list_xattr,        // path or file; gives text, names each ended by NUL
  remove_xattr,      // path or file, name
  read_directory,    // path or file; gives entries, without . and ..
  statfs,            // file; gives statfs
  read,              // file, buffer, length, offset; gives value = bytes read, short only at end of file
  read_to_pipe,      // file, offset, length, flags = a pipe's descriptor: moves what read gives into it, and does not
                     // wait for room; gives value as read does
  write,             // file, buffer, length, offset; gives value = length, or an error
  fsync,             // file; flags 1: data only
  flush,             // file: what close(2) would report, by closing a duplicate; local disks have nothing to report
  allocate,          // file, flags = FALLOC_FL_*, offset, length
  seek,              // file, offset, flags = SEEK_DATA or SEEK_HOLE; gives value
  copy_range,        // from file at offset to other at offset2, length; gives value, may be short
  lock,              // file: open-file-description record lock; flags F_RDLCK|F_WRLCK|F_UNLCK, offset, length
                     // (0: to the end); never waits: EAGAIN if held elsewhere
  test_lock,         // file: F_OFD_GETLK as for lock; gives value = F_UNLCK or type held, offset/length of it
  flock,             // file: flags LOCK_SH|LOCK_EX|LOCK_UN, with LOCK_NB implied
  make_file,         // path, text = whole contents, mode: creates with O_EXCL, writes, flags 1: and fsyncs file
                     // and directory; for small files of RainFS's own
  read_file,         // path: whole contents into text; at most length bytes, else EFBIG
  sync_file_system,  // file: all of the file system it lies on, what others have written too (syncfs)
};

struct Attributes {
  enum : std::uint32_t { mode_set = 1, uid_set = 2, gid_set = 4, size_set = 8, atime_set = 16, mtime_set = 32 };
  std::uint32_t valid = 0;
  mode_t mode = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  off_t size = 0;
  struct timespec atime {};  // tv_nsec may be UTIME_NOW
  struct timespec mtime {};
};

struct DirectoryEntry {
  std::string name;
  std::uint64_t inode = 0;
  std::uint8_t type = 0;  // DT_*
};

struct BatchState;

struct Operation {
  explicit Operation(Kind kind_in) : kind(kind_in) {}

  Kind kind;
  HandlePtr file;   // the export's root for path operations, else an open file
  HandlePtr other;  // second file of copy_range and of link of an open file
  std::string path, path2;
  std::string name;  // of an xattr
  std::string text;  // in or out, as Kind says
  int flags = 0;
  mode_t mode = 0;
  dev_t device = 0;
  off_t offset = 0, offset2 = 0;
  std::size_t length = 0;
  Attributes attributes;
  std::shared_ptr<base::Buffer> buffer;
  std::size_t buffer_offset = 0;
  CredentialsPtr credentials;

  // Results, valid once done() is true.
  int error = 0;  // errno, 0 for success
  std::int64_t value = 0;
  struct statx stat {};
  struct statfs filesystem {};
  HandlePtr handle;
  std::vector<DirectoryEntry> entries;
  base::Duration taken{};  // from its submission by a batch to its completion

  bool done() const { return done_.load(std::memory_order_acquire); }
  // Called by engines only, exactly once.
  void complete();

 private:
  friend class Batch;
  std::atomic<bool> done_{false};
  std::shared_ptr<BatchState> waited_by_;
  const base::Clock* clock_ = nullptr;  // of the batch; outlives all engines
  base::TimePoint submitted_{};
};
using OperationPtr = std::shared_ptr<Operation>;

// On a path beneath the export's root.
inline OperationPtr new_operation(Kind kind, std::string path) {
  auto operation = std::make_shared<Operation>(kind);
  operation->path = std::move(path);
  return operation;
}

// Does operations of one export. Any thread may submit. Never invokes user code but Operation::complete.
class Engine : public std::enable_shared_from_this<Engine> {
 public:
  virtual ~Engine() = default;
  // Takes the operation; completes it exactly once, possibly before returning. When its bounded queue is
  // full it completes it with EBUSY -> the caller treats the export as absent.
  virtual void submit(OperationPtr operation) = 0;
  // True if submit() always completes before returning.
  virtual bool completes_inline() const noexcept = 0;
  // The same, but done beside the caller where the engine can: for several that take long in one batch.
  virtual void submit_beside(OperationPtr operation) { submit(std::move(operation)); }
  // Closes a handle's number without waiting for the result.
  virtual void release(int number) noexcept = 0;
  // Operations taken and not completed yet.
  virtual unsigned outstanding() const noexcept = 0;
  // Waits until the batch is complete or the deadline has passed; the simulated engine lets its world run.
  virtual void wait(BatchState& state, base::Deadline deadline);
};

// A fan-out: operations submitted together and awaited together. One thread.
class Batch {
 public:
  // operation->file must be set (its engine does the work); for open_root give the engine.
  void add(OperationPtr operation);
  void add(Engine& engine, OperationPtr operation);
  // Submits all, those that complete inline last, and waits. Operations that are not done() when it
  // returns missed the deadline: they must not be touched again, unless they are waited for once more.
  void run(const base::Clock& clock, base::Duration deadline);
  // For those that run() has not seen done: waits again, from now.
  void wait_again(const base::Clock& clock, base::Duration deadline);

 private:
  struct Entry {
    Engine* engine;
    OperationPtr operation;
    bool inline_here = false;
  };
  std::vector<Entry> entries_;
  std::shared_ptr<BatchState> state_;
  Engine* waits_ = nullptr;
};

// Does the operation in the calling thread, with the calling thread's file system credentials switched to
// the operation's for the time: what the direct and thread engines are made of. `owner` becomes the engine of a handle
// that is opened.
void perform(Operation& operation, Engine& owner) noexcept;
// Makes the thread the daemon's, with its own umask (0) and working directory (unshare CLONE_FS). The first
// perform() of a thread does it too.
void prepare_thread();
// For threads that touch files through perform() only: the identity of one operation stays until the next
// one needs another, which saves its switching to and fro (some 10 us) where a user does many in a row.
void keep_identity();

}  // namespace rainfs::io
