// SPDX-License-Identifier: Apache-2.0
// A file system with a directory of files for its operator at /.rainfs, before another one: not listed, for root
// and the daemon's user only; its files are texts made when they are opened, or take orders. Nothing in it can be
// made, removed, renamed or changed otherwise. So that it can be reached when too little of the array is there to
// tell the root's attributes, the last ones known are given then. Threads as tree::FileSystem says.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "rainfs/tree/file_system.hpp"

namespace rainfs::status {

struct OperatorFile {
  std::string name;
  // Both are called by any thread, several at once.
  std::function<std::string()> read;
  // One order, as written by one write(2), without its line end. Null: the file cannot be written.
  std::function<base::Result<void>(std::string_view order)> write = nullptr;
};

class OperatorFiles final : public tree::FileSystem {
 public:
  OperatorFiles(std::unique_ptr<tree::FileSystem> below, std::vector<OperatorFile> files);

  base::Result<tree::Entry> lookup(tree::NodeId parent, std::string_view name, const tree::Caller& caller) override;
  void forget(tree::NodeId node, std::uint64_t count) override;
  base::Result<struct stat> get_attributes(tree::NodeId node) override;
  base::Result<struct stat> set_attributes(tree::NodeId node, const io::Attributes& attributes, tree::OpenFile* file,
                                           bool kill_privileges, const tree::Caller& caller) override;
  base::Result<std::string> read_link(tree::NodeId node) override;
  base::Result<tree::Entry> make_directory(tree::NodeId parent, std::string_view name, mode_t mode,
                                           const tree::Caller& caller) override;
  base::Result<tree::Entry> make_node(tree::NodeId parent, std::string_view name, mode_t mode, dev_t device,
                                      const tree::Caller& caller) override;
  base::Result<tree::Entry> make_symlink(tree::NodeId parent, std::string_view name, const std::string& target,
                                         const tree::Caller& caller) override;
  base::Result<tree::Entry> link(tree::NodeId node, tree::NodeId new_parent, std::string_view new_name,
                                 const tree::Caller& caller) override;
  base::Result<void> unlink(tree::NodeId parent, std::string_view name, const tree::Caller& caller) override;
  base::Result<void> remove_directory(tree::NodeId parent, std::string_view name, const tree::Caller& caller) override;
  base::Result<void> rename(tree::NodeId parent, std::string_view name, tree::NodeId new_parent,
                            std::string_view new_name, unsigned flags, const tree::Caller& caller) override;
  base::Result<tree::Opened> open(tree::NodeId node, int flags, bool kill_privileges,
                                  const tree::Caller& caller) override;
  base::Result<tree::Created> create(tree::NodeId parent, std::string_view name, int flags, mode_t mode,
                                     const tree::Caller& caller) override;
  base::Result<tree::Created> create_unnamed(tree::NodeId parent, int flags, mode_t mode,
                                             const tree::Caller& caller) override;
  base::Result<std::size_t> read(tree::OpenFile& file, off_t offset, std::size_t length,
                                 const std::shared_ptr<base::Buffer>& buffer) override;
  base::Result<std::size_t> read_to_pipe(tree::OpenFile& file, off_t offset, std::size_t length, int pipe) override;
  base::Result<std::size_t> write(tree::OpenFile& file, off_t offset, std::size_t length,
                                  const std::shared_ptr<base::Buffer>& buffer, std::size_t buffer_offset,
                                  tree::WriteMode mode) override;
  base::Result<void> flush(tree::OpenFile& file, std::uint64_t lock_owner) override;
  base::Result<void> sync(tree::OpenFile& file, bool data_only) override;
  void release(std::unique_ptr<tree::OpenFile> file, std::optional<std::uint64_t> flock_owner) override;
  base::Result<void> allocate(tree::OpenFile& file, int mode, off_t offset, off_t length) override;
  base::Result<off_t> seek(tree::OpenFile& file, off_t offset, int whence) override;
  base::Result<std::size_t> copy_range(tree::OpenFile& from, off_t from_offset, tree::OpenFile& to, off_t to_offset,
                                       std::size_t length) override;
  base::Result<std::unique_ptr<tree::OpenDirectory>> open_directory(tree::NodeId node,
                                                                    const tree::Caller& caller) override;
  base::Result<void> read_directory(tree::OpenDirectory& directory, std::uint64_t offset,
                                    const std::function<bool(const tree::ListedEntry&)>& take) override;
  base::Result<void> sync_directory(tree::NodeId node) override;
  base::Result<struct statvfs> file_system_statistics() override { return below_->file_system_statistics(); }
  base::Result<std::string> get_xattr(tree::NodeId node, const std::string& name, const tree::Caller& caller) override;
  base::Result<std::string> list_xattr(tree::NodeId node, const tree::Caller& caller) override;
  base::Result<void> set_xattr(tree::NodeId node, const std::string& name, std::string_view value, int flags,
                               const tree::Caller& caller) override;
  base::Result<void> remove_xattr(tree::NodeId node, const std::string& name, const tree::Caller& caller) override;
  base::Result<tree::Lock> test_lock(tree::OpenFile& file, std::uint64_t owner, const tree::Lock& lock) override;
  base::Result<void> set_lock(tree::OpenFile& file, std::uint64_t owner, const tree::Lock& lock, bool wait,
                              const std::atomic<bool>& interrupted) override;
  base::Result<void> set_flock(tree::OpenFile& file, std::uint64_t owner, int operation, bool wait,
                               const std::atomic<bool>& interrupted) override;

 private:
  struct stat attributes_of(tree::NodeId node) const;
  tree::Entry entry_of(tree::NodeId node) const;

  const std::unique_ptr<tree::FileSystem> below_;
  const std::vector<OperatorFile> files_;
  const struct timespec made_;
  std::mutex mutex_;  // guards root_; a leaf lock
  struct stat root_ {};
};

}  // namespace rainfs::status
