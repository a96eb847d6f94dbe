// SPDX-License-Identifier: Apache-2.0
#include "flaky_nodes.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>

namespace flaky {
namespace {

constexpr unsigned handle_bytes = MAX_HANDLE_SZ;

struct HandleBuffer {
  alignas(file_handle) unsigned char bytes[sizeof(file_handle) + handle_bytes] = {};
  file_handle* get() { return reinterpret_cast<file_handle*>(bytes); }
};

// The handle of a name below a directory, or of the directory itself (name ""), as bytes.
bool read_handle(int directory, const char* name, std::string& handle) {
  HandleBuffer buffer;
  buffer.get()->handle_bytes = handle_bytes;
  int mount = 0;
  const int flags = *name == '\0' ? AT_EMPTY_PATH : 0;
  if (::name_to_handle_at(directory, name, buffer.get(), &mount, flags) != 0) return false;
  handle.assign(reinterpret_cast<const char*>(buffer.bytes), sizeof(file_handle) + buffer.get()->handle_bytes);
  return true;
}

std::string link_target(const std::string& path) {
  char target[PATH_MAX] = {};
  const ssize_t length = ::readlink(path.c_str(), target, sizeof target - 1);
  return length < 0 ? std::string() : std::string(target, static_cast<std::size_t>(length));
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

int Descriptor::take() {
  const int fd = fd_;
  fd_ = -1;
  return fd;
}

bool Nodes::start(int root_fd) {
  root_fd_ = root_fd;
  root_path_ = link_target("/proc/self/fd/" + std::to_string(root_fd));
  Node root;
  if (!read_handle(root_fd, "", root.handle)) return false;
  root.last_path = "/";
  root.lookups = 1;
  const std::lock_guard lock(mutex_);
  by_handle_[root.handle] = root_id;
  nodes_[root_id] = std::move(root);
  return true;
}

std::string Nodes::handle_of(NodeId id, std::string* last_path) const {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(id);
  if (found == nodes_.end()) return {};
  if (last_path != nullptr) *last_path = found->second.last_path;
  return found->second.handle;
}

Descriptor Nodes::open(NodeId id, int flags) const {
  if (id == root_id) return Descriptor(::openat(root_fd_, ".", flags | O_CLOEXEC));
  const std::string bytes = handle_of(id, nullptr);
  if (bytes.empty()) {
    errno = ESTALE;
    return Descriptor();
  }
  HandleBuffer buffer;
  std::memcpy(buffer.bytes, bytes.data(), bytes.size());
  return Descriptor(::open_by_handle_at(root_fd_, buffer.get(), flags | O_CLOEXEC));
}

int Nodes::look_up(NodeId parent, const char* name, NodeId& id, struct stat& attributes) {
  const Descriptor directory = open(parent, O_PATH);
  if (!directory.valid()) return errno;
  const Descriptor found(::openat(directory.get(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  std::string handle;
  if (!found.valid() || ::fstatat(found.get(), "", &attributes, AT_EMPTY_PATH) != 0 ||
      !read_handle(found.get(), "", handle)) {
    return errno;
  }
  std::string seen = path(parent, name);
  const std::lock_guard lock(mutex_);
  const auto [entry, is_new] = by_handle_.try_emplace(handle, next_id_);
  if (is_new) ++next_id_;
  id = entry->second;
  Node& node = nodes_[id];
  if (is_new) node.handle = std::move(handle);
  node.last_path = std::move(seen);
  ++node.lookups;
  return 0;
}

void Nodes::forget(NodeId id, std::uint64_t lookups) {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(id);
  if (id == root_id || found == nodes_.end()) return;
  if (found->second.lookups > lookups) {
    found->second.lookups -= lookups;
    return;
  }
  by_handle_.erase(found->second.handle);
  nodes_.erase(found);
}

std::string Nodes::path(NodeId id) const {
  std::string last_path;
  if (id == root_id || handle_of(id, &last_path).empty()) return "/";
  const Descriptor node = open(id, O_PATH);
  const std::string now = node.valid() ? link_target(node.path()) : std::string();
  // The kernel may know the node without its name, or as a removed one.
  const bool below_root = now.size() > root_path_.size() && now.compare(0, root_path_.size(), root_path_) == 0;
  if (!below_root || now.find(" (deleted)") != std::string::npos) return last_path;
  return now.substr(root_path_ == "/" ? 0 : root_path_.size());
}

std::string Nodes::path(NodeId parent, const char* name) const {
  std::string result = path(parent);
  if (result != "/") result += '/';
  return result + name;
}

}  // namespace flaky
