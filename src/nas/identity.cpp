// SPDX-License-Identifier: Apache-2.0
#include "rainfs/nas/identity.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <memory>

#include "rainfs/config/yaml.hpp"

namespace rainfs::nas {

namespace {

constexpr const char* marker_file = "creating";
constexpr const char* temporary_directory = "tmp";
constexpr std::array<const char*, 5> directories{"ledger", "trash", "conflicts", temporary_directory, "scrub"};

std::string in_metadata(const std::string& root_path, std::string_view name) {
  return fmt::format("{}/{}/{}", root_path, metadata_directory, name);
}

base::Result<base::UniqueFd> open_directory(int parent, const char* name, const std::string& where) {
  base::UniqueFd fd(::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (fd) return fd;
  if (errno != ENOTDIR && errno != ELOOP) return base::unexpected(errno, where);
  return base::unexpected(base::config_error(fmt::format("{} is not a directory; move it away", where)));
}

base::Result<base::UniqueFd> open_metadata(int root_fd, const std::string& root_path) {
  return open_directory(root_fd, metadata_directory, root_path + "/" + metadata_directory);
}

base::Result<std::string> read_file(int directory, const char* name, const std::string& where) {
  base::UniqueFd fd(::openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return base::unexpected(errno, where);
  std::string text;
  std::array<char, 16384> buffer{};
  for (;;) {
    const ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::unexpected(errno, where);
    if (n == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(n));
    if (text.size() > config::max_file_bytes) {
      return base::unexpected(base::config_error(fmt::format("{}: too large; damaged or not RainFS's", where)));
    }
  }
}

base::Result<void> write_all(int fd, std::string_view text, const std::string& where) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::unexpected(errno, where);
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  if (::fsync(fd) != 0) return base::unexpected(errno, where);
  return {};
}

// Calls `take` for each name but "." and "..". The names are listed first: `take` may remove them.
template <typename Take>
void for_each_name(int directory, Take take) {
  const int copy = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return;
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(copy), ::closedir);
  if (stream == nullptr) return;
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  for (const std::string& name : names) take(name);
}

bool is_empty(int directory) {
  bool empty = true;
  for_each_name(directory, [&](const std::string&) { empty = false; });
  return empty;
}

// Nothing in it but empty directories: what a creation that was taken back, or nobody, left.
bool holds_nothing(int metadata) {
  bool nothing = true;
  for_each_name(metadata, [&](const std::string& name) {
    const base::UniqueFd fd(::openat(metadata, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd || !is_empty(fd.get())) nothing = false;
  });
  return nothing;
}

// Removes what a creation makes, and nothing else: a directory in which something lies stays.
void take_back(int root_fd) {
  {
    const base::UniqueFd metadata(
        ::openat(root_fd, metadata_directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!metadata) return;
    ::unlinkat(metadata.get(), identity_file, 0);
    ::unlinkat(metadata.get(), topology_file, 0);
    const base::UniqueFd temporary(
        ::openat(metadata.get(), temporary_directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (temporary) {
      for_each_name(temporary.get(), [&](const std::string& name) {
        if (name.starts_with(temporary_prefix)) ::unlinkat(temporary.get(), name.c_str(), 0);
      });
    }
    for (const char* name : directories) ::unlinkat(metadata.get(), name, AT_REMOVEDIR);
    ::unlinkat(metadata.get(), marker_file, 0);  // last: until here the next run may begin anew
  }
  ::unlinkat(root_fd, metadata_directory, AT_REMOVEDIR);
}

base::Result<void> write_file(int root_fd, const std::string& root_path, const char* name, std::string_view text) {
  const std::string where = in_metadata(root_path, name);
  auto metadata = open_metadata(root_fd, root_path);
  if (!metadata) return base::unexpected(metadata.error());
  auto temporary = open_directory(metadata->get(), temporary_directory, in_metadata(root_path, temporary_directory));
  if (!temporary) return base::unexpected(temporary.error());
  const std::string temporary_name = fmt::format("{}{}", temporary_prefix, base::make_uuid());
  base::UniqueFd fd(
      ::openat(temporary->get(), temporary_name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return base::unexpected(errno, where);
  base::Result<void> done = write_all(fd.get(), text, where);
  if (done) {
    if (const auto closed = fd.close(); !closed) done = base::unexpected(closed.error().code, where);
  }
  if (done && ::renameat(temporary->get(), temporary_name.c_str(), metadata->get(), name) != 0) {
    done = base::unexpected(errno, where);
  }
  if (done && ::fsync(metadata->get()) != 0) done = base::unexpected(errno, where);
  if (!done) ::unlinkat(temporary->get(), temporary_name.c_str(), 0);
  return done;
}

}  // namespace

base::Result<topology::Identity> read_identity(int root_fd, const std::string& root_path) {
  const std::string where = in_metadata(root_path, identity_file);
  const auto metadata = open_metadata(root_fd, root_path);
  if (!metadata) return base::unexpected(metadata.error());
  const auto text = read_file(metadata->get(), identity_file, where);
  if (!text) return base::unexpected(text.error());
  return topology::parse_identity(*text, where);
}

base::Result<topology::Topology> read_topology(int root_fd, const std::string& root_path) {
  const std::string where = in_metadata(root_path, topology_file);
  const auto metadata = open_metadata(root_fd, root_path);
  if (!metadata) return base::unexpected(metadata.error());
  const auto text = read_file(metadata->get(), topology_file, where);
  if (!text) return base::unexpected(text.error());
  return topology::parse_topology(*text, where);
}

base::Result<void> write_identity(int root_fd, const std::string& root_path, const topology::Identity& identity) {
  return write_file(root_fd, root_path, identity_file, topology::format_identity(identity));
}

base::Result<void> write_topology(int root_fd, const std::string& root_path, const topology::Topology& topology) {
  return write_file(root_fd, root_path, topology_file, topology::format_topology(topology));
}

base::Result<Inspection> inspect(int root_fd, const std::string& root_path) {
  Inspection out;
  const auto metadata = open_metadata(root_fd, root_path);
  if (!metadata && metadata.error().code == ENOENT) return out;
  if (!metadata) return base::unexpected(metadata.error());
  auto identity = read_identity(root_fd, root_path);
  const auto creating = read_file(metadata->get(), marker_file, in_metadata(root_path, marker_file));
  if (creating) {
    out.state = Formatted::creating;
    out.creating_array = creating->substr(0, creating->find('\n'));
    if (identity) out.identity = std::move(*identity);
    return out;
  }
  if (creating.error().code != ENOENT) return base::unexpected(creating.error());
  if (identity) {
    out.state = Formatted::yes;
    out.identity = std::move(*identity);
    return out;
  }
  if (identity.error().code != ENOENT) return base::unexpected(identity.error());
  if (holds_nothing(metadata->get())) return out;
  return base::unexpected(
      base::config_error(fmt::format("{}/{} has content but no {}: it belongs to an array whose identity "
                                     "file was lost, or is not RainFS's; restore the file, or "
                                     "move the directory away",
                                     root_path, metadata_directory, identity_file)));
}

base::Result<Creation> Creation::begin(base::UniqueFd root, std::string root_path, const std::string& array_name) {
  Creation creation(std::move(root), std::move(root_path));
  const std::string where = creation.root_path_ + "/" + metadata_directory;
  if (::mkdirat(creation.root_.get(), metadata_directory, 0700) != 0 && errno != EEXIST) {
    creation.committed_ = true;  // nothing was made
    return base::unexpected(errno, where);
  }
  if (auto marked = creation.mark(array_name); !marked) {
    // Another program's creation must not be taken back by this one.
    creation.committed_ = marked.error().code == EBUSY;
    return base::unexpected(marked.error());
  }
  if (auto made = creation.make_directories(); !made) return base::unexpected(made.error());
  return creation;
}

base::Result<void> Creation::mark(const std::string& array_name) {
  const std::string where = in_metadata(root_path_, marker_file);
  const auto metadata = open_metadata(root_.get(), root_path_);
  if (!metadata) return base::unexpected(metadata.error());
  marker_.reset(::openat(metadata->get(), marker_file, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!marker_) return base::unexpected(errno, where);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  // An export without locks cannot tell; two administrators creating the same array at once is rare enough.
  if (::fcntl(marker_.get(), F_OFD_SETLK, &lock) != 0 && (errno == EAGAIN || errno == EACCES)) {
    return base::unexpected(EBUSY, fmt::format("{}: another rainfsctl is creating an array here", where));
  }
  if (::ftruncate(marker_.get(), 0) != 0) return base::unexpected(errno, where);
  auto written = write_all(marker_.get(), array_name + "\n", where);
  if (!written) return written;
  if (::fsync(metadata->get()) != 0 || ::fsync(root_.get()) != 0) return base::unexpected(errno, where);
  return {};
}

base::Result<void> make_private_directories(int root_fd, const std::string& root_path) {
  const auto metadata = open_metadata(root_fd, root_path);
  if (!metadata) return base::unexpected(metadata.error());
  for (const char* name : directories) {
    if (::mkdirat(metadata->get(), name, 0700) != 0 && errno != EEXIST) {
      return base::unexpected(errno, in_metadata(root_path, name));
    }
  }
  return {};
}

base::Result<void> Creation::make_directories() {
  const auto metadata = open_metadata(root_.get(), root_path_);
  if (!metadata) return base::unexpected(metadata.error());
  if (::fchmod(metadata->get(), 0700) != 0) return base::unexpected(errno, root_path_ + "/" + metadata_directory);
  // What an interrupted creation left is from another attempt, with other UUIDs.
  ::unlinkat(metadata->get(), identity_file, 0);
  ::unlinkat(metadata->get(), topology_file, 0);
  if (auto made = make_private_directories(root_.get(), root_path_); !made) return made;
  const auto temporary = open_temporary();
  if (!temporary) return base::unexpected(temporary.error());
  for_each_name(temporary->get(), [&](const std::string& name) {
    if (name.starts_with(temporary_prefix)) ::unlinkat(temporary->get(), name.c_str(), 0);
  });
  if (::fsync(metadata->get()) != 0) return base::unexpected(errno, root_path_ + "/" + metadata_directory);
  return {};
}

Creation::~Creation() {
  if (!root_ || committed_) return;
  take_back(root_.get());
}

base::Result<base::UniqueFd> Creation::open_temporary() const {
  const auto metadata = open_metadata(root_.get(), root_path_);
  if (!metadata) return base::unexpected(metadata.error());
  return open_directory(metadata->get(), temporary_directory, in_metadata(root_path_, temporary_directory));
}

base::Result<void> Creation::finish() {
  return remove_marker(root_.get(), root_path_);
}

base::Result<void> remove_marker(int root_fd, const std::string& root_path) {
  const std::string where = in_metadata(root_path, marker_file);
  const auto metadata = open_metadata(root_fd, root_path);
  if (!metadata) return base::unexpected(metadata.error());
  if (::unlinkat(metadata->get(), marker_file, 0) != 0 && errno != ENOENT) return base::unexpected(errno, where);
  if (::fsync(metadata->get()) != 0) return base::unexpected(errno, where);
  return {};
}

}  // namespace rainfs::nas
