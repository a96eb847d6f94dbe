// SPDX-License-Identifier: Apache-2.0
#include "rainfs/status/operator_files.hpp"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <typeinfo>

namespace rainfs::status {

using base::Result;
using base::unexpected;
using namespace tree;

namespace {

constexpr std::string_view directory_name = ".rainfs";
// The nodes below are addresses: never so high in user space.
constexpr NodeId directory_node = NodeId{0xffff} << 48;
constexpr NodeId first_file_node = directory_node + 1;
constexpr std::size_t longest_order = 4096;

bool is_ours(NodeId node) {
  return node >= directory_node;
}
bool is_ours(NodeId parent, std::string_view name) {
  return is_ours(parent) || (parent == root_node && name == directory_name);
}

class OpenText final : public OpenFile {
 public:
  OpenText(const OperatorFile& file_in, std::string text_in) : file(file_in), text(std::move(text_in)) {}
  const OperatorFile& file;
  const std::string text;
};
class OpenOurDirectory final : public OpenDirectory {};

OpenText* ours(OpenFile& file) {
  return typeid(file) == typeid(OpenText) ? static_cast<OpenText*>(&file) : nullptr;
}
bool is_ours(const OpenDirectory& directory) {
  return typeid(directory) == typeid(OpenOurDirectory);
}

}  // namespace

OperatorFiles::OperatorFiles(std::unique_ptr<FileSystem> below, std::vector<OperatorFile> files)
    : below_(std::move(below)), files_(std::move(files)), made_(base::Clock::system().realtime()) {
  root_ = attributes_of(directory_node);
  root_.st_ino = root_node;
  root_.st_mode = S_IFDIR | 0555;
}

struct stat OperatorFiles::attributes_of(NodeId node) const {
  struct stat st {};
  st.st_ino = node;
  st.st_uid = ::geteuid();
  st.st_gid = ::getegid();
  st.st_blksize = 4096;
  st.st_atim = st.st_mtim = st.st_ctim = made_;
  if (node == directory_node) {
    st.st_mode = S_IFDIR | 0500;
    st.st_nlink = 2;
  } else {
    // As in /proc, a size is not known before the text is made.
    st.st_mode = S_IFREG | (files_[node - first_file_node].write ? 0600 : 0400);
    st.st_nlink = 1;
  }
  return st;
}

Entry OperatorFiles::entry_of(NodeId node) const {
  return Entry{node, 0, attributes_of(node)};
}

Result<Entry> OperatorFiles::lookup(NodeId parent, std::string_view name, const Caller& caller) {
  if (!is_ours(parent, name)) return below_->lookup(parent, name, caller);
  if (parent == root_node) return entry_of(directory_node);
  if (parent != directory_node) return unexpected(ENOTDIR);
  for (std::size_t i = 0; i < files_.size(); ++i) {
    if (files_[i].name == name) return entry_of(first_file_node + i);
  }
  return unexpected(ENOENT);
}

void OperatorFiles::forget(NodeId node, std::uint64_t count) {
  if (!is_ours(node)) below_->forget(node, count);
}

Result<struct stat> OperatorFiles::get_attributes(NodeId node) {
  if (is_ours(node)) return attributes_of(node);
  auto known = below_->get_attributes(node);
  if (node != root_node) return known;
  const std::lock_guard lock(mutex_);
  if (known) {
    root_ = *known;
  } else if (known.error().kind == base::ErrorClass::absent) {
    return root_;
  }
  return known;
}

Result<struct stat> OperatorFiles::set_attributes(NodeId node, const io::Attributes& attributes, OpenFile* file,
                                                  bool kill_privileges, const Caller& caller) {
  if (!is_ours(node)) return below_->set_attributes(node, attributes, file, kill_privileges, caller);
  // A shell's "> file" truncates first.
  const bool truncates = (attributes.valid & io::Attributes::size_set) != 0 && attributes.size == 0;
  constexpr std::uint32_t others = io::Attributes::mode_set | io::Attributes::uid_set | io::Attributes::gid_set;
  if (node == directory_node || !files_[node - first_file_node].write || !truncates ||
      (attributes.valid & others) != 0) {
    return unexpected(EPERM);
  }
  return attributes_of(node);
}

Result<std::string> OperatorFiles::read_link(NodeId node) {
  if (is_ours(node)) return unexpected(EINVAL);
  return below_->read_link(node);
}
Result<Entry> OperatorFiles::make_directory(NodeId parent, std::string_view name, mode_t mode, const Caller& caller) {
  if (is_ours(parent, name)) return unexpected(EPERM);
  return below_->make_directory(parent, name, mode, caller);
}
Result<Entry> OperatorFiles::make_node(NodeId parent, std::string_view name, mode_t mode, dev_t device,
                                       const Caller& caller) {
  if (is_ours(parent, name)) return unexpected(EPERM);
  return below_->make_node(parent, name, mode, device, caller);
}
Result<Entry> OperatorFiles::make_symlink(NodeId parent, std::string_view name, const std::string& target,
                                          const Caller& caller) {
  if (is_ours(parent, name)) return unexpected(EPERM);
  return below_->make_symlink(parent, name, target, caller);
}
Result<Entry> OperatorFiles::link(NodeId node, NodeId new_parent, std::string_view new_name, const Caller& caller) {
  if (is_ours(node) || is_ours(new_parent, new_name)) return unexpected(EPERM);
  return below_->link(node, new_parent, new_name, caller);
}
Result<void> OperatorFiles::unlink(NodeId parent, std::string_view name, const Caller& caller) {
  if (is_ours(parent, name)) return unexpected(EPERM);
  return below_->unlink(parent, name, caller);
}
Result<void> OperatorFiles::remove_directory(NodeId parent, std::string_view name, const Caller& caller) {
  if (is_ours(parent, name)) return unexpected(EPERM);
  return below_->remove_directory(parent, name, caller);
}
Result<void> OperatorFiles::rename(NodeId parent, std::string_view name, NodeId new_parent, std::string_view new_name,
                                   unsigned flags, const Caller& caller) {
  if (is_ours(parent, name) || is_ours(new_parent, new_name)) return unexpected(EPERM);
  return below_->rename(parent, name, new_parent, new_name, flags, caller);
}

Result<Opened> OperatorFiles::open(NodeId node, int flags, bool kill_privileges, const Caller& caller) {
  if (!is_ours(node)) return below_->open(node, flags, kill_privileges, caller);
  if (node == directory_node) return unexpected(EISDIR);
  const OperatorFile& file = files_[node - first_file_node];
  const bool writes = (flags & O_ACCMODE) != O_RDONLY;
  if (writes && !file.write) return unexpected(EPERM);
  Opened opened;
  opened.file = std::make_unique<OpenText>(file, (flags & O_ACCMODE) != O_WRONLY ? file.read() : std::string{});
  opened.direct_io = true;
  opened.no_flush = true;
  return opened;
}
Result<Created> OperatorFiles::create(NodeId parent, std::string_view name, int flags, mode_t mode,
                                      const Caller& caller) {
  if (is_ours(parent, name)) return unexpected(EPERM);
  return below_->create(parent, name, flags, mode, caller);
}
Result<Created> OperatorFiles::create_unnamed(NodeId parent, int flags, mode_t mode, const Caller& caller) {
  if (is_ours(parent)) return unexpected(EPERM);
  return below_->create_unnamed(parent, flags, mode, caller);
}

Result<std::size_t> OperatorFiles::read(OpenFile& file, off_t offset, std::size_t length,
                                        const std::shared_ptr<base::Buffer>& buffer) {
  const OpenText* const open = ours(file);
  if (open == nullptr) return below_->read(file, offset, length, buffer);
  const std::size_t begin = std::min(static_cast<std::size_t>(offset), open->text.size());
  const std::size_t size = std::min(length, open->text.size() - begin);
  std::memcpy(buffer->data(), open->text.data() + begin, size);
  return size;
}

Result<std::size_t> OperatorFiles::read_to_pipe(OpenFile& file, off_t offset, std::size_t length, int pipe) {
  return ours(file) == nullptr ? below_->read_to_pipe(file, offset, length, pipe) : unexpected(EOPNOTSUPP);
}

Result<std::size_t> OperatorFiles::write(OpenFile& file, off_t offset, std::size_t length,
                                         const std::shared_ptr<base::Buffer>& buffer, std::size_t buffer_offset,
                                         WriteMode mode) {
  const OpenText* const open = ours(file);
  if (open == nullptr) return below_->write(file, offset, length, buffer, buffer_offset, mode);
  if (length > longest_order) return unexpected(EMSGSIZE);
  std::string_view order(reinterpret_cast<const char*>(buffer->data()) + buffer_offset, length);
  while (!order.empty() && (order.back() == '\n' || order.back() == ' ')) order.remove_suffix(1);
  if (const auto done = open->file.write(order); !done) return base::unexpected(done.error());
  return length;
}

Result<void> OperatorFiles::flush(OpenFile& file, std::uint64_t lock_owner) {
  if (ours(file) != nullptr) return {};
  return below_->flush(file, lock_owner);
}
Result<void> OperatorFiles::sync(OpenFile& file, bool data_only) {
  if (ours(file) != nullptr) return {};
  return below_->sync(file, data_only);
}
void OperatorFiles::release(std::unique_ptr<OpenFile> file, std::optional<std::uint64_t> flock_owner) {
  if (ours(*file) == nullptr) below_->release(std::move(file), flock_owner);
}
Result<void> OperatorFiles::allocate(OpenFile& file, int mode, off_t offset, off_t length) {
  if (ours(file) != nullptr) return unexpected(EOPNOTSUPP);
  return below_->allocate(file, mode, offset, length);
}
Result<off_t> OperatorFiles::seek(OpenFile& file, off_t offset, int whence) {
  if (ours(file) != nullptr) return unexpected(EINVAL);
  return below_->seek(file, offset, whence);
}
Result<std::size_t> OperatorFiles::copy_range(OpenFile& from, off_t from_offset, OpenFile& to, off_t to_offset,
                                              std::size_t length) {
  if (ours(from) != nullptr || ours(to) != nullptr) return unexpected(EOPNOTSUPP);
  return below_->copy_range(from, from_offset, to, to_offset, length);
}

Result<std::unique_ptr<OpenDirectory>> OperatorFiles::open_directory(NodeId node, const Caller& caller) {
  if (!is_ours(node)) return below_->open_directory(node, caller);
  if (node != directory_node) return unexpected(ENOTDIR);
  return std::unique_ptr<OpenDirectory>(new OpenOurDirectory);
}
Result<void> OperatorFiles::read_directory(OpenDirectory& directory, std::uint64_t offset,
                                           const std::function<bool(const ListedEntry&)>& take) {
  if (!is_ours(directory)) return below_->read_directory(directory, offset, take);
  constexpr std::uint64_t dots = 2;
  for (std::uint64_t at = offset; at < dots + files_.size(); ++at) {
    ListedEntry entry;
    entry.name = at == 0 ? std::string_view(".") : at == 1 ? std::string_view("..") : files_[at - dots].name;
    entry.inode = at == 0 ? directory_node : at == 1 ? root_node : first_file_node + at - dots;
    entry.type = at < dots ? DT_DIR : DT_REG;
    entry.offset = at + 1;
    if (!take(entry)) break;
  }
  return {};
}
Result<void> OperatorFiles::sync_directory(NodeId node) {
  if (is_ours(node)) return {};
  return below_->sync_directory(node);
}

Result<std::string> OperatorFiles::get_xattr(NodeId node, const std::string& name, const Caller& caller) {
  if (is_ours(node)) return unexpected(ENODATA);
  return below_->get_xattr(node, name, caller);
}
Result<std::string> OperatorFiles::list_xattr(NodeId node, const Caller& caller) {
  if (is_ours(node)) return std::string{};
  return below_->list_xattr(node, caller);
}
Result<void> OperatorFiles::set_xattr(NodeId node, const std::string& name, std::string_view value, int flags,
                                      const Caller& caller) {
  if (is_ours(node)) return unexpected(EPERM);
  return below_->set_xattr(node, name, value, flags, caller);
}
Result<void> OperatorFiles::remove_xattr(NodeId node, const std::string& name, const Caller& caller) {
  if (is_ours(node)) return unexpected(EPERM);
  return below_->remove_xattr(node, name, caller);
}
Result<Lock> OperatorFiles::test_lock(OpenFile& file, std::uint64_t owner, const Lock& lock) {
  if (ours(file) != nullptr) return unexpected(ENOLCK);
  return below_->test_lock(file, owner, lock);
}
Result<void> OperatorFiles::set_lock(OpenFile& file, std::uint64_t owner, const Lock& lock, bool wait,
                                     const std::atomic<bool>& interrupted) {
  if (ours(file) != nullptr) return unexpected(ENOLCK);
  return below_->set_lock(file, owner, lock, wait, interrupted);
}
Result<void> OperatorFiles::set_flock(OpenFile& file, std::uint64_t owner, int operation, bool wait,
                                      const std::atomic<bool>& interrupted) {
  if (ours(file) != nullptr) return unexpected(ENOLCK);
  return below_->set_flock(file, owner, operation, wait, interrupted);
}

}  // namespace rainfs::status
