// SPDX-License-Identifier: Apache-2.0
// Operations on open directories.
#include <algorithm>
#include <string>
#include <vector>

#include "kernel.hpp"
#include "request.hpp"

namespace rainfs::fuse {

namespace {

void on_opendir(fuse_req_t raw, fuse_ino_t node, fuse_file_info* info) {
  answer(raw, [&](Request& request) {
    auto opened = request.file_system().open_directory(node, request.caller());
    if (!opened) {
      request.error(opened.error());
      return;
    }
    auto handle = std::make_unique<DirectoryHandle>();
    handle->node = node;
    handle->directory = std::move(*opened);
    DirectoryHandle& kept = request.session().directories.add(std::move(handle));
    info->fh = number_of(&kept);
    if (!request.opened(*info)) request.session().directories.remove(kept);
  });
}

void on_releasedir(fuse_req_t raw, fuse_ino_t, fuse_file_info* info) {
  answer(raw, [&](Request& request) {
    request.session().directories.remove(handle_of<DirectoryHandle>(info->fh));
    request.error(0);
  });
}

void on_fsyncdir(fuse_req_t raw, fuse_ino_t node, int, fuse_file_info*) {
  answer(raw, [&](Request& request) { request.done(request.file_system().sync_directory(node)); });
}

// One reply to READDIR or READDIRPLUS, filled up to the size the kernel asked for.
class Listing {
 public:
  Listing(Request& request, DirectoryHandle& directory, std::size_t size, bool plus)
      : request_(request),
        directory_(directory),
        size_(std::min(size, largest_transfer)),
        plus_(plus),
        buffer_(request.context().worker->reply_buffer(size_)) {
    if (!plus_) return;
    caller_ = request.caller();
    looked_up_.reserve(size_ / FUSE_NAME_OFFSET_DIRENTPLUS);  // recording a counted node must not throw
  }

  void fill(std::uint64_t offset) {
    const std::lock_guard lock(directory_.mutex);
    read_ = request_.file_system().read_directory(*directory_.directory, offset,
                                                  [this](const tree::ListedEntry& entry) { return take(entry); });
  }

  // Once it is sent the directory may be closed and gone: nothing of it is used any more.
  void reply() {
    // What is there already is delivered; the error comes again with the next call, if it stays.
    if (!read_ && used_ == 0) {
      request_.error(read_.error());
      return;
    }
    if (!request_.data(buffer_->data(), used_)) {
      for (const tree::NodeId node : looked_up_) request_.file_system().forget(node, 1);
    }
  }

 private:
  char* end() { return reinterpret_cast<char*>(buffer_->data()) + used_; }

  bool take(const tree::ListedEntry& entry) {
    name_.assign(entry.name);
    struct stat known {};
    known.st_ino = entry.inode;
    known.st_mode = static_cast<mode_t>(entry.type) << 12;  // DTTOIF
    const std::size_t room = size_ - used_;
    const auto next = static_cast<off_t>(entry.offset);
    if (!plus_) {
      const std::size_t needed = fuse_add_direntry(request_.raw(), end(), room, name_.c_str(), &known, next);
      if (needed > room) return false;
      used_ += needed;
      return true;
    }
    // Asked before it is looked up: an entry that does not fit must not be counted.
    const std::size_t needed = fuse_add_direntry_plus(request_.raw(), nullptr, 0, name_.c_str(), nullptr, 0);
    if (needed > room) return false;
    const fuse_entry_param parameter = look_up(known);
    fuse_add_direntry_plus(request_.raw(), end(), room, name_.c_str(), &parameter, next);
    used_ += needed;
    return true;
  }

  // Node 0 says that nothing is known but name, inode and type: for "." and "..", which are not counted, and for
  // what has gone or cannot be asked at this moment.
  fuse_entry_param look_up(const struct stat& known) {
    fuse_entry_param parameter{};
    parameter.attr = known;
    if (name_ == "." || name_ == "..") return parameter;
    const auto found = request_.file_system().lookup(directory_.node, name_, caller_);
    if (!found) return parameter;
    looked_up_.push_back(found->node);
    return request_.session().parameter_of(*found);
  }

  Request& request_;
  DirectoryHandle& directory_;
  const std::size_t size_;
  const bool plus_;
  const std::shared_ptr<base::Buffer>& buffer_;
  tree::Caller caller_;
  base::Result<void> read_;
  std::size_t used_ = 0;
  std::string name_;
  std::vector<tree::NodeId> looked_up_;
};

void list(fuse_req_t raw, std::size_t size, off_t offset, fuse_file_info* info, bool plus) {
  answer(raw, [&](Request& request) {
    Listing listing(request, handle_of<DirectoryHandle>(info->fh), size, plus);
    listing.fill(static_cast<std::uint64_t>(offset));
    listing.reply();
  });
}

void on_readdir(fuse_req_t raw, fuse_ino_t, std::size_t size, off_t offset, fuse_file_info* info) {
  list(raw, size, offset, info, false);
}

void on_readdirplus(fuse_req_t raw, fuse_ino_t, std::size_t size, off_t offset, fuse_file_info* info) {
  list(raw, size, offset, info, true);
}

}  // namespace

void add_directory_operations(fuse_lowlevel_ops& table) {
  table.opendir = on_opendir;
  table.releasedir = on_releasedir;
  table.fsyncdir = on_fsyncdir;
  table.readdir = on_readdir;
  table.readdirplus = on_readdirplus;
}

}  // namespace rainfs::fuse
