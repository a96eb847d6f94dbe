// SPDX-License-Identifier: Apache-2.0
// An open replicated file: writes to all good replicas in parallel, reads from one with failover, commits.
//
// Inode-level state (SharedState) is common to all handles of a file on this node: a replica that missed
// something through one handle is used by none. Any thread may call, several at once. Every call blocks,
// bounded by the array's deadlines. Never acknowledges a commit that leaves neither R equal replicas nor
// facts for what is missing to R.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "rainfs/replica/locate.hpp"

namespace rainfs::replica {

struct SharedState {
  std::mutex mutex;
  ExportSet left_out;      // replicas not to be used: stale when opened, or failed since
  bool unsealed = false;   // written since the last seal
  bool unflushed = false;  // written since the last successful flush or fsync
  bool unsynced = false;   // written since the last successful fsync
  ExportSet writing;       // replicas that this node's writers have open
  // Written to, but not known to be equal: an election found them unequal when they were opened, or a write failed on
  // all.
  ExportSet unverified;
  struct timespec mtime {};      // of the last write, or set by the user since: what the seal will set
  std::uint64_t changes = 0;     // counts writes, to see one that happened during a commit
  base::TimePoint changed_at{};  // the last write
  // For O_APPEND: where this node's own writes ended, where another node's were found to end, and when they were looked
  // for.
  off_t own_end = 0;
  off_t foreign_end = 0;
  base::TimePoint end_seen_at{};

  // These take the mutex: a write of this node ended here; it cut the file here; what other nodes did is to be looked
  // for.
  void wrote_until(off_t end);
  void cut_at(off_t end);
  void forget_end();
};
using SharedStatePtr = std::shared_ptr<SharedState>;

class File {
 public:
  struct Replica {
    ExportIndex index = 0;
    io::HandlePtr handle;     // null until needed (reading)
    std::uint64_t inode = 0;  // on that export, to see that a late open finds the same file
  };

  // Opens a located file. flags: open(2)'s access mode, O_TRUNC, O_APPEND; others are dropped or kept as
  // they concern the replicas. For writing all good replicas are opened; for reading one.
  static base::Result<std::unique_ptr<File>> open(Context& context, const std::string& path, Location location,
                                                  int flags, const io::CredentialsPtr& credentials,
                                                  SharedStatePtr shared);
  // For files just created: the handles are there.
  static std::unique_ptr<File> adopt(Context& context, std::vector<Replica> replicas, int flags, SharedStatePtr shared,
                                     const topology::Rules& rules);

  bool writable() const { return writable_; }
  bool readable() const { return readable_; }
  // All its replicas are on local disks, where nothing has to be waited for.
  bool local() const;
  int flags() const { return flags_; }
  const SharedStatePtr& shared() const { return shared_; }

  // `path` is where the file is now, empty if it has no name any more: it then needs no facts.
  using PathNow = std::function<std::string()>;  // asked only when another replica has to be opened
  base::Result<std::size_t> read(const PathNow& path, off_t offset, std::size_t length,
                                 const std::shared_ptr<base::Buffer>& buffer);
  // The same into a pipe that has room, where that costs no copy and cannot hang: else EOPNOTSUPP. On any error the
  // pipe may hold some of it, and read() is to be asked.
  base::Result<std::size_t> read_to_pipe(const PathNow& path, off_t offset, std::size_t length, int pipe);
  base::Result<std::size_t> write(off_t offset, std::size_t length, const std::shared_ptr<base::Buffer>& buffer,
                                  std::size_t buffer_offset);
  // Where an append goes that the kernel, by what it knows of the size, would write at `offset`: behind what other
  // nodes have appended since. The replicas are asked if they were not within `trusted_for`.
  base::Result<off_t> append_at(off_t offset, std::size_t length, base::Duration trusted_for);
  base::Result<void> allocate(int mode, off_t offset, off_t length);
  base::Result<void> truncate(off_t size);
  base::Result<off_t> seek(const PathNow& path, off_t offset, int whence);
  // EOPNOTSUPP where the two files have no replicas on the same exports: the caller copies by itself.
  base::Result<std::size_t> copy_from(File& from, const std::string& from_path, off_t from_offset, off_t offset,
                                      std::size_t length);

  enum class Durability { flush, data, full };
  // The commit point: flush or fsync all replicas, seal them with one mtime, record facts.
  base::Result<void> commit(const std::string& path, Durability durability);

  // Stat and attribute changes by descriptor, for files that have lost their name.
  base::Result<struct statx> stat();
  base::Result<struct statx> set_attributes(const io::Attributes& attributes);

  io::HandlePtr handle_of(ExportIndex index) const;
  // Opens all replicas of a file opened for reading: it is about to lose its name, and goes on being
  // readable, with failover, without one.
  void hold_all(const std::string& path);
  // Another handle of the same open file, with an access mode of its own: for files without a name.
  base::Result<std::unique_ptr<File>> reopen(int flags, const io::CredentialsPtr& credentials);
  // Where it can be read or written now.
  ExportSet usable() const;

 private:
  File(Context& context, int flags, SharedStatePtr shared, const topology::Rules& rules);
  using Make = base::FunctionRef<io::OperationPtr(const Replica&)>;
  // To all replicas that are open and not left out.
  nas::Answers to_all(Make make, base::Duration deadline);
  // Sorts out a fan-out of a change: leaves failed replicas out, or gives the error if too few took it.
  base::Result<void> settle(nas::Answers& answers, const char* what);
  void changed();
  nas::Answers set_on_all(const io::Attributes& attributes, bool with_stat);
  base::Result<void> seal();
  // While a scrub is at work: replicas that it has replaced or added since the file was opened have missed what was
  // written through the descriptors, and are left out.
  void notice_repairs(const std::string& path);
  base::Result<void> remember(const std::string& path);
  void doubt(ExportSet suspects, ExportIndex except);
  io::HandlePtr reader(const PathNow& path, ExportIndex& index, ExportSet tried);
  void let_go(ExportIndex index, const io::HandlePtr& handle, int error, const PathNow& path);
  io::HandlePtr handle_on(const std::string& path, ExportIndex index);
  void prefer_for_reading(std::string_view path);

  Context& context_;
  const int flags_;
  const bool writable_, readable_;
  SharedStatePtr shared_;
  topology::Rules rules_;
  std::atomic<std::uint64_t> scrub_polls_;  // of the array when the replicas were last seen in their places
  mutable std::mutex mutex_;                // guards replicas_' handles and reading_; after SharedState::mutex never
  std::vector<Replica> replicas_;           // in order of preference for reading
};

}  // namespace rainfs::replica
