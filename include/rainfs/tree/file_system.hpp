// SPDX-License-Identifier: Apache-2.0
// The namespace as the transport (FUSE) sees it: nodes, entries, open files. Implemented by tree::Tree over
// an array and by fakes in tests.
//
// Threads: any thread may call anything, several at once. Every call blocks until it is answered, which is
// bounded by the array's deadlines, except set_lock with wait. The caller has checked permissions where
// the kernel does so (default_permissions); operations that create, remove, rename or open act as the
// caller on the exports all the same.
//
// Node ids: 1 is the root; each Entry returned with a node adds one to the node's lookup count, which
// forget() takes back. Errors are errnos as POSIX gives them for the call; EIO where something cannot be
// proven or remembered.
#pragma once

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "rainfs/base/buffer.hpp"
#include "rainfs/base/result.hpp"
#include "rainfs/io/operation.hpp"

namespace rainfs::tree {

using NodeId = std::uint64_t;
inline constexpr NodeId root_node = 1;

// Who asks. `credentials` carry file system uid and gid, supplementary groups and umask.
struct Caller {
  io::CredentialsPtr credentials;
  pid_t pid = 0;
};

struct Entry {
  NodeId node = 0;
  std::uint64_t generation = 0;
  struct stat attributes {};
};

// An open file or directory; the transport keeps the pointer as its file handle.
class OpenFile {
 public:
  virtual ~OpenFile() = default;
};
class OpenDirectory {
 public:
  virtual ~OpenDirectory() = default;
};

struct Opened {
  std::unique_ptr<OpenFile> file;
  bool keep_cache = false;  // what the kernel cached of this node is still what the exports hold
  bool direct_io = false;   // do not cache (O_DIRECT, strict coherence)
  bool no_flush = false;    // nothing can be written through it: close needs no flush
  int passthrough_fd = -1;  // descriptor the kernel may go to directly, -1 for none; owned by file
};

struct Created {
  Entry entry;
  Opened opened;
};

// One entry of a directory listing. `offset` is the position after it.
struct ListedEntry {
  std::string_view name;
  std::uint64_t inode = 0;
  std::uint8_t type = 0;  // DT_*
  std::uint64_t offset = 0;
};

struct Lock {
  int type = F_UNLCK;  // F_RDLCK, F_WRLCK, F_UNLCK
  off_t start = 0;
  off_t length = 0;  // 0: to the end of the file
  pid_t pid = 0;
};

// What the kernel says with a write.
struct WriteMode {
  bool kill_privileges = false;
  bool append = false;  // O_APPEND: to the end of the file, which the kernel's offset may miss; never for cached pages
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual base::Result<Entry> lookup(NodeId parent, std::string_view name, const Caller& caller) = 0;
  virtual void forget(NodeId node, std::uint64_t count) = 0;
  virtual base::Result<struct stat> get_attributes(NodeId node) = 0;
  // kill_privileges: clear setuid, and setgid where group-executable, as a write by another user must.
  virtual base::Result<struct stat> set_attributes(NodeId node, const io::Attributes& attributes, OpenFile* file,
                                                   bool kill_privileges, const Caller& caller) = 0;
  virtual base::Result<std::string> read_link(NodeId node) = 0;
  virtual base::Result<Entry> make_directory(NodeId parent, std::string_view name, mode_t mode,
                                             const Caller& caller) = 0;
  virtual base::Result<Entry> make_node(NodeId parent, std::string_view name, mode_t mode, dev_t device,
                                        const Caller& caller) = 0;
  virtual base::Result<Entry> make_symlink(NodeId parent, std::string_view name, const std::string& target,
                                           const Caller& caller) = 0;
  virtual base::Result<Entry> link(NodeId node, NodeId new_parent, std::string_view new_name, const Caller& caller) = 0;
  virtual base::Result<void> unlink(NodeId parent, std::string_view name, const Caller& caller) = 0;
  virtual base::Result<void> remove_directory(NodeId parent, std::string_view name, const Caller& caller) = 0;
  virtual base::Result<void> rename(NodeId parent, std::string_view name, NodeId new_parent, std::string_view new_name,
                                    unsigned flags, const Caller& caller) = 0;

  // flags are open(2)'s without O_CREAT and O_EXCL for open().
  virtual base::Result<Opened> open(NodeId node, int flags, bool kill_privileges, const Caller& caller) = 0;
  virtual base::Result<Created> create(NodeId parent, std::string_view name, int flags, mode_t mode,
                                       const Caller& caller) = 0;
  // O_TMPFILE in the directory `parent`: a node without a name, which link() can give one.
  virtual base::Result<Created> create_unnamed(NodeId parent, int flags, mode_t mode, const Caller& caller) = 0;
  // Fills buffer from its start; short only at the end of the file. The buffer may be kept by I/O that
  // outlives the call: the caller must not reuse it while others hold it (use_count() > 1).
  virtual base::Result<std::size_t> read(OpenFile& file, off_t offset, std::size_t length,
                                         const std::shared_ptr<base::Buffer>& buffer) = 0;
  // Moves the same into a pipe that has room for it, where that is cheaper: else EOPNOTSUPP. On any error the pipe may
  // hold some of it, and read() is to be asked.
  virtual base::Result<std::size_t> read_to_pipe(OpenFile& /*file*/, off_t /*offset*/, std::size_t /*length*/,
                                                 int /*pipe*/) {
    return base::unexpected(EOPNOTSUPP);
  }
  // The same rule for the buffer.
  virtual base::Result<std::size_t> write(OpenFile& file, off_t offset, std::size_t length,
                                          const std::shared_ptr<base::Buffer>& buffer, std::size_t buffer_offset,
                                          WriteMode mode) = 0;
  // close(2) of one descriptor: commit, and drop the owner's record locks.
  virtual base::Result<void> flush(OpenFile& file, std::uint64_t lock_owner) = 0;
  virtual base::Result<void> sync(OpenFile& file, bool data_only) = 0;
  // The last descriptor is gone; commits what is dirty, drops the flock of `flock_owner` if given.
  virtual void release(std::unique_ptr<OpenFile> file, std::optional<std::uint64_t> flock_owner) = 0;
  virtual base::Result<void> allocate(OpenFile& file, int mode, off_t offset, off_t length) = 0;
  virtual base::Result<off_t> seek(OpenFile& file, off_t offset, int whence) = 0;
  virtual base::Result<std::size_t> copy_range(OpenFile& from, off_t from_offset, OpenFile& to, off_t to_offset,
                                               std::size_t length) = 0;

  virtual base::Result<std::unique_ptr<OpenDirectory>> open_directory(NodeId node, const Caller& caller) = 0;
  // Calls `take` for each entry from `offset` on (0: the beginning, read afresh) until it returns false.
  // "." and ".." included. Names stay valid until the next call on this directory.
  virtual base::Result<void> read_directory(OpenDirectory& directory, std::uint64_t offset,
                                            const std::function<bool(const ListedEntry&)>& take) = 0;
  virtual base::Result<void> sync_directory(NodeId node) = 0;

  virtual base::Result<struct statvfs> file_system_statistics() = 0;

  // value empty and size 0 asked: the caller does the size protocol.
  virtual base::Result<std::string> get_xattr(NodeId node, const std::string& name, const Caller& caller) = 0;
  virtual base::Result<std::string> list_xattr(NodeId node, const Caller& caller) = 0;  // NUL after each name
  virtual base::Result<void> set_xattr(NodeId node, const std::string& name, std::string_view value, int flags,
                                       const Caller& caller) = 0;
  virtual base::Result<void> remove_xattr(NodeId node, const std::string& name, const Caller& caller) = 0;

  // Record locks (fcntl): owner is the process's lock owner.
  virtual base::Result<Lock> test_lock(OpenFile& file, std::uint64_t owner, const Lock& lock) = 0;
  // wait: until granted or `interrupted` becomes true (then EINTR). Without wait EAGAIN.
  virtual base::Result<void> set_lock(OpenFile& file, std::uint64_t owner, const Lock& lock, bool wait,
                                      const std::atomic<bool>& interrupted) = 0;
  // flock(2): operation LOCK_SH, LOCK_EX or LOCK_UN.
  virtual base::Result<void> set_flock(OpenFile& file, std::uint64_t owner, int operation, bool wait,
                                       const std::atomic<bool>& interrupted) = 0;
};

}  // namespace rainfs::tree
