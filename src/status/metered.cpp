// SPDX-License-Identifier: Apache-2.0
#include "rainfs/status/metered.hpp"

namespace rainfs::status {

using base::Result;
using namespace tree;

std::string_view name_of(Call call) {
  static constexpr std::array<std::string_view, call_kinds> names = {
      "lookup",   "getattr", "setattr",  "readlink",  "mkdir",    "mknod",           "symlink", "link",
      "unlink",   "rmdir",   "rename",   "open",      "create",   "tmpfile",         "read",    "write",
      "flush",    "fsync",   "release",  "fallocate", "lseek",    "copy_file_range", "opendir", "readdir",
      "fsyncdir", "statfs",  "getxattr", "listxattr", "setxattr", "removexattr",     "getlk",   "setlk",
      "flock"};
  return names[static_cast<std::size_t>(call)];
}

std::uint64_t CallMeters::operations() const {
  std::uint64_t sum = 0;
  for (const metrics::Histogram& histogram : latency) sum += histogram.snapshot().count;
  return sum;
}

std::uint64_t CallMeters::failed() const {
  std::uint64_t sum = 0;
  for (const auto& call : errors) {
    for (std::size_t kind = 0; kind < error_classes; ++kind) {
      if (kind != static_cast<std::size_t>(base::ErrorClass::file)) sum += call[kind].value();
    }
  }
  return sum;
}

template <typename Work>
auto MeteredFileSystem::measured(Call call, Work work) {
  const base::TimePoint begun = clock_.now();
  auto result = work();
  meters_.latency[static_cast<std::size_t>(call)].observe(clock_.now() - begun);
  if (!result) {
    meters_.errors[static_cast<std::size_t>(call)][static_cast<std::size_t>(result.error().kind)].add();
  }
  return result;
}

Result<Entry> MeteredFileSystem::lookup(NodeId parent, std::string_view name, const Caller& caller) {
  return measured(Call::lookup, [&] { return below_->lookup(parent, name, caller); });
}
Result<struct stat> MeteredFileSystem::get_attributes(NodeId node) {
  return measured(Call::getattr, [&] { return below_->get_attributes(node); });
}
Result<struct stat> MeteredFileSystem::set_attributes(NodeId node, const io::Attributes& attributes, OpenFile* file,
                                                      bool kill_privileges, const Caller& caller) {
  return measured(Call::setattr,
                  [&] { return below_->set_attributes(node, attributes, file, kill_privileges, caller); });
}
Result<std::string> MeteredFileSystem::read_link(NodeId node) {
  return measured(Call::readlink, [&] { return below_->read_link(node); });
}
Result<Entry> MeteredFileSystem::make_directory(NodeId parent, std::string_view name, mode_t mode,
                                                const Caller& caller) {
  return measured(Call::mkdir, [&] { return below_->make_directory(parent, name, mode, caller); });
}
Result<Entry> MeteredFileSystem::make_node(NodeId parent, std::string_view name, mode_t mode, dev_t device,
                                           const Caller& caller) {
  return measured(Call::mknod, [&] { return below_->make_node(parent, name, mode, device, caller); });
}
Result<Entry> MeteredFileSystem::make_symlink(NodeId parent, std::string_view name, const std::string& target,
                                              const Caller& caller) {
  return measured(Call::symlink, [&] { return below_->make_symlink(parent, name, target, caller); });
}
Result<Entry> MeteredFileSystem::link(NodeId node, NodeId new_parent, std::string_view new_name, const Caller& caller) {
  return measured(Call::link, [&] { return below_->link(node, new_parent, new_name, caller); });
}
Result<void> MeteredFileSystem::unlink(NodeId parent, std::string_view name, const Caller& caller) {
  return measured(Call::unlink, [&] { return below_->unlink(parent, name, caller); });
}
Result<void> MeteredFileSystem::remove_directory(NodeId parent, std::string_view name, const Caller& caller) {
  return measured(Call::rmdir, [&] { return below_->remove_directory(parent, name, caller); });
}
Result<void> MeteredFileSystem::rename(NodeId parent, std::string_view name, NodeId new_parent,
                                       std::string_view new_name, unsigned flags, const Caller& caller) {
  return measured(Call::rename, [&] { return below_->rename(parent, name, new_parent, new_name, flags, caller); });
}
Result<Opened> MeteredFileSystem::open(NodeId node, int flags, bool kill_privileges, const Caller& caller) {
  return measured(Call::open, [&] { return below_->open(node, flags, kill_privileges, caller); });
}
Result<Created> MeteredFileSystem::create(NodeId parent, std::string_view name, int flags, mode_t mode,
                                          const Caller& caller) {
  return measured(Call::create, [&] { return below_->create(parent, name, flags, mode, caller); });
}
Result<Created> MeteredFileSystem::create_unnamed(NodeId parent, int flags, mode_t mode, const Caller& caller) {
  return measured(Call::tmpfile, [&] { return below_->create_unnamed(parent, flags, mode, caller); });
}
Result<std::size_t> MeteredFileSystem::read(OpenFile& file, off_t offset, std::size_t length,
                                            const std::shared_ptr<base::Buffer>& buffer) {
  auto done = measured(Call::read, [&] { return below_->read(file, offset, length, buffer); });
  if (done) meters_.read_bytes.add(*done);
  return done;
}
Result<std::size_t> MeteredFileSystem::read_to_pipe(OpenFile& file, off_t offset, std::size_t length, int pipe) {
  const base::TimePoint begun = clock_.now();
  auto done = below_->read_to_pipe(file, offset, length, pipe);
  if (done) {  // what cannot be had so is read, and counted, by read()
    meters_.latency[static_cast<std::size_t>(Call::read)].observe(clock_.now() - begun);
    meters_.read_bytes.add(*done);
  }
  return done;
}
Result<std::size_t> MeteredFileSystem::write(OpenFile& file, off_t offset, std::size_t length,
                                             const std::shared_ptr<base::Buffer>& buffer, std::size_t buffer_offset,
                                             WriteMode mode) {
  auto done = measured(Call::write, [&] { return below_->write(file, offset, length, buffer, buffer_offset, mode); });
  if (done) meters_.written_bytes.add(*done);
  return done;
}
Result<void> MeteredFileSystem::flush(OpenFile& file, std::uint64_t lock_owner) {
  return measured(Call::flush, [&] { return below_->flush(file, lock_owner); });
}
Result<void> MeteredFileSystem::sync(OpenFile& file, bool data_only) {
  return measured(Call::fsync, [&] { return below_->sync(file, data_only); });
}
void MeteredFileSystem::release(std::unique_ptr<OpenFile> file, std::optional<std::uint64_t> flock_owner) {
  static_cast<void>(measured(Call::release, [&]() -> Result<void> {
    below_->release(std::move(file), flock_owner);
    return {};
  }));
}
Result<void> MeteredFileSystem::allocate(OpenFile& file, int mode, off_t offset, off_t length) {
  return measured(Call::fallocate, [&] { return below_->allocate(file, mode, offset, length); });
}
Result<off_t> MeteredFileSystem::seek(OpenFile& file, off_t offset, int whence) {
  return measured(Call::lseek, [&] { return below_->seek(file, offset, whence); });
}
Result<std::size_t> MeteredFileSystem::copy_range(OpenFile& from, off_t from_offset, OpenFile& to, off_t to_offset,
                                                  std::size_t length) {
  return measured(Call::copy_file_range, [&] { return below_->copy_range(from, from_offset, to, to_offset, length); });
}
Result<std::unique_ptr<OpenDirectory>> MeteredFileSystem::open_directory(NodeId node, const Caller& caller) {
  return measured(Call::opendir, [&] { return below_->open_directory(node, caller); });
}
Result<void> MeteredFileSystem::read_directory(OpenDirectory& directory, std::uint64_t offset,
                                               const std::function<bool(const ListedEntry&)>& take) {
  return measured(Call::readdir, [&] { return below_->read_directory(directory, offset, take); });
}
Result<void> MeteredFileSystem::sync_directory(NodeId node) {
  return measured(Call::fsyncdir, [&] { return below_->sync_directory(node); });
}
Result<struct statvfs> MeteredFileSystem::file_system_statistics() {
  return measured(Call::statfs, [&] { return below_->file_system_statistics(); });
}
Result<std::string> MeteredFileSystem::get_xattr(NodeId node, const std::string& name, const Caller& caller) {
  return measured(Call::getxattr, [&] { return below_->get_xattr(node, name, caller); });
}
Result<std::string> MeteredFileSystem::list_xattr(NodeId node, const Caller& caller) {
  return measured(Call::listxattr, [&] { return below_->list_xattr(node, caller); });
}
Result<void> MeteredFileSystem::set_xattr(NodeId node, const std::string& name, std::string_view value, int flags,
                                          const Caller& caller) {
  return measured(Call::setxattr, [&] { return below_->set_xattr(node, name, value, flags, caller); });
}
Result<void> MeteredFileSystem::remove_xattr(NodeId node, const std::string& name, const Caller& caller) {
  return measured(Call::removexattr, [&] { return below_->remove_xattr(node, name, caller); });
}
Result<Lock> MeteredFileSystem::test_lock(OpenFile& file, std::uint64_t owner, const Lock& lock) {
  return measured(Call::getlk, [&] { return below_->test_lock(file, owner, lock); });
}
// How long somebody else keeps a lock says nothing of the file system.
Result<void> MeteredFileSystem::set_lock(OpenFile& file, std::uint64_t owner, const Lock& lock, bool wait,
                                         const std::atomic<bool>& interrupted) {
  const auto work = [&] { return below_->set_lock(file, owner, lock, wait, interrupted); };
  return wait ? work() : measured(Call::setlk, work);
}
Result<void> MeteredFileSystem::set_flock(OpenFile& file, std::uint64_t owner, int operation, bool wait,
                                          const std::atomic<bool>& interrupted) {
  const auto work = [&] { return below_->set_flock(file, owner, operation, wait, interrupted); };
  return wait ? work() : measured(Call::flock, work);
}

}  // namespace rainfs::status
