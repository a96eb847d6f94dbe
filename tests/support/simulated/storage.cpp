// SPDX-License-Identifier: Apache-2.0
#include "storage.hpp"

#include <dirent.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

namespace rainfs::simulated {

namespace {
constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::int64_t tick_ns = 4'000'000;  // a kernel's clock at 250 Hz

std::int64_t to_ns(const struct timespec& time) {
  return time.tv_sec * second_ns + time.tv_nsec;
}
struct statx_timestamp to_stamp(std::int64_t ns) {
  struct statx_timestamp stamp {};
  stamp.tv_sec = ns / second_ns;
  stamp.tv_nsec = static_cast<std::uint32_t>(ns % second_ns);
  return stamp;
}

bool is_users(std::string_view path) {
  return !path.empty() && path != ".rainfs" && !path.starts_with(".rainfs/");
}
}  // namespace

Storage::Storage(std::function<std::int64_t()> clock) : clock_(std::move(clock)) {
  root_ = std::make_shared<Inode>();
  root_->number = 1;
  root_->mode = S_IFDIR | 0755;
  root_->links = 2;
  root_->birth_ns = root_->atime_ns = root_->mtime_ns = root_->ctime_ns = tick();
}

std::int64_t Storage::tick() const {
  const std::int64_t now = clock_();
  return now - now % tick_ns;
}

int Storage::walk(const InodePtr& at, std::string_view path, Place& place) const {
  place.parent = at;
  place.inode = at;
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    place.leaf = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
    if (!place.inode) return ENOENT;
    if (!place.inode->is_directory()) return ENOTDIR;
    if (place.leaf.size() > 255) return ENAMETOOLONG;
    place.parent = place.inode;
    const auto found = place.parent->entries.find(place.leaf);
    place.inode = found == place.parent->entries.end() ? nullptr : found->second;
  }
  return 0;
}

InodePtr Storage::find(std::string_view path) const {
  Place place;
  return walk(root_, path, place) == 0 ? place.inode : nullptr;
}

int Storage::object(const io::Operation& op, const InodePtr& at, InodePtr& out) const {
  Place place;
  if (const int error = walk(at, op.path, place); error != 0) return error;
  out = place.inode;
  return out ? 0 : ENOENT;
}

InodePtr Storage::make(mode_t mode) {
  auto inode = std::make_shared<Inode>();
  const auto free =
      std::find_if(free_numbers_.begin(), free_numbers_.end(), [](auto& f) { return f.second.expired(); });
  if (free != free_numbers_.end()) {
    inode->number = free->first;
    free_numbers_.erase(free);
  } else {
    inode->number = next_number_++;
  }
  inode->mode = mode;
  inode->maker = actor;
  inode->links = S_ISDIR(mode) ? 2 : 1;
  inode->birth_ns = clock_();
  inode->atime_ns = inode->mtime_ns = inode->ctime_ns = tick();
  return inode;
}

void Storage::touch(Inode& directory) {
  directory.mtime_ns = directory.ctime_ns = tick();
}

void Storage::note_destroyed(const Inode& inode, const char* how) const {
  if (destroys && inode.seen && !inode.is_directory()) destroys(inode, how);
}

void Storage::drop_link(const InodePtr& inode) {
  if (inode->links == 1) note_destroyed(*inode, "removed for good");
  inode->ctime_ns = tick();
  inode->links = inode->is_directory() ? 0 : inode->links - 1;
  if (inode->links == 0) free_numbers_.emplace_back(inode->number, inode);
}

int Storage::add(io::Operation& op, const InodePtr& at, mode_t mode, InodePtr& made) {
  Place place;
  if (const int error = walk(at, op.path, place); error != 0) return error;
  if (place.inode) return EEXIST;
  if (place.parent->links == 0) return ENOENT;
  made = make(mode);
  if (op.credentials) {
    made->uid = op.credentials->uid;
    made->gid = op.credentials->gid;
    if (!S_ISLNK(mode)) made->mode &= ~op.credentials->umask;
  }
  if ((op.attributes.valid & io::Attributes::mtime_set) != 0) made->mtime_ns = to_ns(op.attributes.mtime);
  if ((op.attributes.valid & io::Attributes::atime_set) != 0) made->atime_ns = to_ns(op.attributes.atime);
  place.parent->entries[place.leaf] = made;
  made->seen = is_users(op.path);
  touch(*place.parent);
  fill(*made, op.stat);
  return 0;
}

int Storage::open(io::Operation& op, const InodePtr& at, bool room, InodePtr& opened) {
  Place place;
  if (const int error = walk(at, op.path, place); error != 0) return error;
  if (!place.inode && (op.flags & O_CREAT) == 0) return ENOENT;
  if (!place.inode) {
    if (!room) return ENOSPC;
    return add(op, at, S_IFREG | (op.mode & 07777), opened);
  }
  if ((op.flags & O_CREAT) != 0 && (op.flags & O_EXCL) != 0) return EEXIST;
  if (S_ISLNK(place.inode->mode)) return ELOOP;
  if (place.inode->is_directory() && (op.flags & O_ACCMODE) != O_RDONLY) return EISDIR;
  if (!place.inode->is_directory() && (op.flags & O_DIRECTORY) != 0) return ENOTDIR;
  opened = place.inode;
  fill(*opened, op.stat);
  return 0;
}

int Storage::link(io::Operation& op, const InodePtr& at, const InodePtr& other) {
  Place from, to;
  from.inode = other;
  if (!op.path.empty()) {
    if (const int error = walk(at, op.path, from); error != 0) return error;
  }
  if (!from.inode || from.inode->links == 0) return ENOENT;
  if (const int error = walk(at, op.path2, to); error != 0) return error;
  if (to.inode) return EEXIST;
  if (to.parent->links == 0) return ENOENT;
  if (from.inode->is_directory()) return EPERM;
  to.parent->entries[to.leaf] = from.inode;
  from.inode->seen |= is_users(op.path2);
  ++from.inode->links;
  from.inode->ctime_ns = tick();
  touch(*to.parent);
  fill(*from.inode, op.stat);
  return 0;
}

int Storage::rename(io::Operation& op, const InodePtr& at) {
  Place from, to;
  if (const int error = walk(at, op.path, from); error != 0) return error;
  if (const int error = walk(at, op.path2, to); error != 0) return error;
  if (!from.inode || to.parent->links == 0) return ENOENT;
  const bool exchange = (op.flags & RENAME_EXCHANGE) != 0;
  if (exchange && !to.inode) return ENOENT;
  if (to.inode && (op.flags & RENAME_NOREPLACE) != 0) return EEXIST;
  if (from.inode == to.inode) return 0;
  if (from.inode->is_directory() && (op.path2 + "/").starts_with(op.path + "/")) return EINVAL;
  if (exchange) {
    std::swap(from.parent->entries[from.leaf], to.parent->entries[to.leaf]);
    to.inode->ctime_ns = tick();
  } else {
    if (to.inode) {
      if (to.inode->is_directory() && !from.inode->is_directory()) return EISDIR;
      if (!to.inode->is_directory() && from.inode->is_directory()) return ENOTDIR;
      if (!to.inode->entries.empty()) return ENOTEMPTY;
      drop_link(to.inode);
    }
    to.parent->entries[to.leaf] = from.inode;
    from.inode->seen |= is_users(op.path2);
    from.parent->entries.erase(from.leaf);
  }
  from.inode->ctime_ns = tick();
  touch(*from.parent);
  touch(*to.parent);
  return 0;
}

int Storage::remove(io::Operation& op, const InodePtr& at) {
  Place place;
  if (const int error = walk(at, op.path, place); error != 0) return error;
  if (!place.inode) return ENOENT;
  if (op.kind == io::Kind::unlink && place.inode->is_directory()) return EISDIR;
  if (op.kind == io::Kind::rmdir && !place.inode->is_directory()) return ENOTDIR;
  if (!place.inode->entries.empty()) return ENOTEMPTY;
  place.parent->entries.erase(place.leaf);
  drop_link(place.inode);
  touch(*place.parent);
  return 0;
}

void Storage::remember_durable(const InodePtr& inode) {
  if (inode->durable) return;
  inode->durable = Inode::Durable{inode->data, inode->mtime_ns};
  unsynced_.push_back(inode);
}

int Storage::set_attributes(io::Operation& op, const InodePtr& at, bool room) {
  InodePtr inode;
  if (const int error = object(op, at, inode); error != 0) return error;
  const io::Attributes& wanted = op.attributes;
  const auto asked = [&](std::uint32_t bit) { return (wanted.valid & bit) != 0; };
  if (asked(io::Attributes::size_set)) {
    if (!S_ISREG(inode->mode)) return EINVAL;
    const auto size = static_cast<std::size_t>(wanted.size);
    if (size > inode->data.size() && !room) return ENOSPC;
    note_destroyed(*inode, "cut");
    inode->data.resize(size);
    inode->mtime_ns = tick();
  }
  if (asked(io::Attributes::uid_set) && wanted.uid != static_cast<uid_t>(-1)) inode->uid = wanted.uid;
  if (asked(io::Attributes::gid_set) && wanted.gid != static_cast<gid_t>(-1)) inode->gid = wanted.gid;
  if (asked(io::Attributes::mode_set)) inode->mode = (inode->mode & S_IFMT) | (wanted.mode & 07777);
  const auto time_of = [&](const struct timespec& time) { return time.tv_nsec == UTIME_NOW ? tick() : to_ns(time); };
  if (asked(io::Attributes::atime_set)) inode->atime_ns = time_of(wanted.atime);
  if (asked(io::Attributes::mtime_set)) inode->mtime_ns = time_of(wanted.mtime);
  inode->ctime_ns = tick();
  inode->durable.reset();
  fill(*inode, op.stat);
  return 0;
}

int Storage::attribute(io::Operation& op, const InodePtr& at) {
  InodePtr inode;
  if (const int error = object(op, at, inode); error != 0) return error;
  if (op.kind == io::Kind::list_xattr) {
    op.text.clear();
    for (const auto& [name, value] : inode->attributes) op.text.append(name.c_str(), name.size() + 1);
    return 0;
  }
  const auto known = inode->attributes.find(op.name);
  if (op.kind == io::Kind::set_xattr) {
    inode->attributes[op.name] = op.text;
  } else if (known == inode->attributes.end()) {
    return ENODATA;
  } else if (op.kind == io::Kind::get_xattr) {
    op.text = known->second;
    return 0;
  } else {
    inode->attributes.erase(known);
  }
  inode->ctime_ns = tick();
  return 0;
}

int Storage::list(io::Operation& op, const InodePtr& at) {
  InodePtr inode;
  if (const int error = object(op, at, inode); error != 0) return error;
  if (!inode->is_directory()) return ENOTDIR;
  op.entries.clear();
  for (const auto& [name, child] : inode->entries) {
    op.entries.push_back({name, child->number, static_cast<std::uint8_t>(IFTODT(child->mode))});
  }
  return 0;
}

void Storage::write(const InodePtr& at, std::size_t offset, const char* bytes, std::size_t length) {
  if (length == 0) return;
  note_destroyed(*at, "written over");
  at->maker = actor;
  remember_durable(at);
  if (at->data.size() < offset + length) at->data.resize(offset + length);
  std::memcpy(at->data.data() + offset, bytes, length);
  at->mtime_ns = at->ctime_ns = tick();
}

void Storage::tear(const io::Operation& op, const InodePtr& at, std::size_t length) {
  write(at, static_cast<std::size_t>(op.offset), reinterpret_cast<const char*>(op.buffer->data()) + op.buffer_offset,
        std::min(length, op.length));
}

int Storage::data(io::Operation& op, const InodePtr& at, const InodePtr& other, bool room) {
  const auto offset = static_cast<std::size_t>(op.offset);
  const std::size_t there = at->data.size() > offset ? at->data.size() - offset : 0;
  switch (op.kind) {
    case io::Kind::read: {
      if (at->is_directory()) return EISDIR;
      const std::size_t size = std::min(op.length, there);
      std::memcpy(op.buffer->data() + op.buffer_offset, at->data.data() + std::min(offset, at->data.size()), size);
      op.value = static_cast<std::int64_t>(size);
      return 0;
    }
    case io::Kind::write:
      if (!room && op.length > there) return ENOSPC;
      tear(op, at, op.length);
      op.value = static_cast<std::int64_t>(op.length);
      return 0;
    case io::Kind::copy_range: {
      const std::size_t size = std::min(op.length, there);
      if (!room) return ENOSPC;
      const std::string bytes = at->data.substr(std::min(offset, at->data.size()), size);
      write(other, static_cast<std::size_t>(op.offset2), bytes.data(), size);
      op.value = static_cast<std::int64_t>(size);
      return 0;
    }
    case io::Kind::fsync:
    case io::Kind::flush:
      at->durable.reset();
      return 0;
    case io::Kind::allocate: {
      if (op.flags != 0) return EOPNOTSUPP;
      if (op.length <= there) return 0;
      if (!room) return ENOSPC;
      const std::string zeros(op.length - there, '\0');
      write(at, at->data.size(), zeros.data(), zeros.size());
      return 0;
    }
    case io::Kind::seek:
      if (offset >= at->data.size()) return ENXIO;
      op.value = op.flags == SEEK_DATA ? op.offset : static_cast<std::int64_t>(at->data.size());
      return 0;
    default:
      return EINVAL;
  }
}

int Storage::perform(io::Operation& op, const InodePtr& at, const InodePtr& other, bool room, InodePtr& opened) {
  using io::Kind;
  InodePtr made;
  switch (op.kind) {
    case Kind::stat: {
      InodePtr inode;
      if (const int error = object(op, at, inode); error != 0) return error;
      fill(*inode, op.stat);
      return 0;
    }
    case Kind::open:
      return open(op, at, room, opened);
    case Kind::mkdir:
      return room ? add(op, at, S_IFDIR | (op.mode & 07777), made) : ENOSPC;
    case Kind::mknod:
      return room ? add(op, at, op.mode, made) : ENOSPC;
    case Kind::symlink: {
      const int error = room ? add(op, at, S_IFLNK | 0777, made) : ENOSPC;
      if (error != 0) return error;
      made->data = op.text;
      fill(*made, op.stat);
      return 0;
    }
    case Kind::readlink: {
      InodePtr inode;
      if (const int error = object(op, at, inode); error != 0) return error;
      if (!S_ISLNK(inode->mode)) return EINVAL;
      op.text = inode->data;
      return 0;
    }
    case Kind::make_file: {
      const int error = room ? add(op, at, S_IFREG | (op.mode & 07777), made) : ENOSPC;
      if (error != 0) return error;
      made->data = op.text;
      return 0;
    }
    case Kind::read_file: {
      InodePtr inode;
      if (const int error = object(op, at, inode); error != 0) return error;
      if (inode->is_directory()) return EISDIR;
      if (inode->data.size() > op.length) return EFBIG;
      op.text = inode->data;
      fill(*inode, op.stat);
      return 0;
    }
    case Kind::link:
      return link(op, at, other);
    case Kind::rename:
      return rename(op, at);
    case Kind::unlink:
    case Kind::rmdir:
      return remove(op, at);
    case Kind::set_attributes:
      return set_attributes(op, at, room);
    case Kind::get_xattr:
    case Kind::set_xattr:
    case Kind::list_xattr:
    case Kind::remove_xattr:
      return attribute(op, at);
    case Kind::read_directory:
      return list(op, at);
    case Kind::open_tmpfile:
      return EOPNOTSUPP;
    case Kind::lock:
    case Kind::flock:
      return 0;
    case Kind::test_lock:
      op.value = F_UNLCK;
      return 0;
    default:
      return data(op, at, other, room);
  }
}

void Storage::crash(const std::function<bool()>& lost) {
  for (const auto& weak : unsynced_) {
    const InodePtr inode = weak.lock();
    if (!inode || !inode->durable) continue;
    if (lost()) {
      inode->data = inode->durable->data;
      inode->mtime_ns = inode->durable->mtime_ns;
    }
    inode->durable.reset();
  }
  unsynced_.clear();
}

void Storage::put(const std::string& path, std::string text) {
  InodePtr at = root_;
  std::size_t begin = 0;
  for (std::size_t slash; (slash = path.find('/', begin)) != std::string::npos; begin = slash + 1) {
    InodePtr& child = at->entries[path.substr(begin, slash - begin)];
    if (!child) child = make(S_IFDIR | 0755);
    at = child;
  }
  const std::string leaf = path.substr(begin);
  if (leaf.empty()) return;
  at->entries[leaf] = make(S_IFREG | 0644);
  at->entries[leaf]->data = std::move(text);
}

void Storage::fill(const Inode& inode, struct statx& stat) const {
  stat = {};
  stat.stx_mask = STATX_BASIC_STATS | STATX_BTIME;
  stat.stx_ino = inode.number;
  stat.stx_mode = static_cast<std::uint16_t>(inode.mode);
  stat.stx_uid = inode.uid;
  stat.stx_gid = inode.gid;
  stat.stx_nlink = inode.links;
  stat.stx_size = inode.is_directory() ? 4096 : inode.data.size();
  stat.stx_blksize = 4096;
  stat.stx_blocks = (stat.stx_size + 511) / 512;
  stat.stx_btime = to_stamp(inode.birth_ns);
  stat.stx_atime = to_stamp(inode.atime_ns);
  stat.stx_mtime = to_stamp(inode.mtime_ns);
  stat.stx_ctime = to_stamp(inode.ctime_ns);
}

}  // namespace rainfs::simulated
