// SPDX-License-Identifier: Apache-2.0
// A tree::FileSystem that serves one local directory: what the transport is tested and measured with. Simple on
// purpose: nodes are found by path, a renamed directory renames the paths below it. Any thread may call.
#pragma once

#include "loopback_nodes.hpp"

namespace rainfs::test {

class LoopbackFileSystem : public tree::FileSystem {
 public:
  static std::unique_ptr<LoopbackFileSystem> open_root(const std::string& directory);

  // Set before it is used.
  bool offer_passthrough = false;
  bool direct_writes = false;  // files opened for writing only bypass the page cache

  // Sum of the lookup counts of all nodes but the root's.
  std::uint64_t lookup_count() const { return nodes_.lookup_count(); }
  std::uint64_t lookup_count(tree::NodeId node) const { return nodes_.lookup_count(node); }

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
  base::Result<struct statvfs> file_system_statistics() override;
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

 protected:
  LoopbackFileSystem() = default;
  base::Result<void> connect(const std::string& directory);

 private:
  base::Result<void> run(io::Operation& operation) const;
  // Does an operation on a node, by path or by what is open of it.
  base::Result<void> run_on(tree::NodeId node, io::Operation& operation, const tree::Caller* caller = nullptr) const;
  base::Result<void> run_beneath(tree::NodeId parent, std::string_view name, io::Operation& operation,
                                 const tree::Caller& caller) const;
  tree::Entry counted(const std::string& path, const struct statx& stat, const io::HandlePtr& open, bool nameless);
  base::Result<tree::Entry> make(tree::NodeId parent, std::string_view name, io::Operation& operation,
                                 const tree::Caller& caller);
  tree::Created created(io::Operation& operation, bool nameless);
  base::Result<void> clear_privileges(const io::HandlePtr& file) const;

  std::unique_ptr<io::Engine> engine_;
  io::HandlePtr root_;
  LoopbackNodes nodes_;
};

}  // namespace rainfs::test
