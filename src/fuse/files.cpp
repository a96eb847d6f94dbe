// SPDX-License-Identifier: Apache-2.0
// Operations on open files.
#include <fcntl.h>

#include "kernel.hpp"
#include "request.hpp"

namespace rainfs::fuse {

namespace {

tree::OpenFile& open_file(const fuse_file_info& info) {
  return *handle_of<FileHandle>(info.fh).file;
}

void release_handle(Session::Impl& session, FileHandle& handle, std::optional<std::uint64_t> flock_owner) {
  const std::unique_ptr<FileHandle> taken = session.files.remove(handle);
  session.passthrough.closed(taken->node, taken->passthrough);
  session.file_system.release(std::move(taken->file), flock_owner);
}

// Makes a handle of what the file system opened and says in `info` and the context how the kernel is to use it.
// Null where it cannot be had (the file is then released): the kernel has this file open directly.
FileHandle* keep_open(Request& request, tree::NodeId node, tree::Opened opened, fuse_file_info& info) {
  Session::Impl& session = request.session();
  const Passthrough::Answer direct = session.passthrough.opened(node, opened.passthrough_fd);
  if (direct.refused) {
    session.file_system.release(std::move(opened.file), std::nullopt);
    return nullptr;
  }
  auto handle = std::make_unique<FileHandle>();
  handle->node = node;
  handle->file = std::move(opened.file);
  handle->passthrough = direct.backing_id != 0;
  if (handle->passthrough) {
    request.context().backing_id = direct.backing_id;
    request.context().open_flags = kernel::open_passthrough;
  }
  // There is no cache to keep with passthrough; the kernel fails an open that asks for both.
  info.keep_cache = opened.keep_cache && !handle->passthrough ? 1 : 0;
  info.direct_io = opened.direct_io && !handle->passthrough ? 1 : 0;
  info.noflush = opened.no_flush ? 1 : 0;
  FileHandle& kept = session.files.add(std::move(handle));
  info.fh = number_of(&kept);
  return &kept;
}

void on_open(fuse_req_t raw, fuse_ino_t node, fuse_file_info* info) {
  answer(raw, [&](Request& request) {
    auto opened = request.file_system().open(node, info->flags & ~(O_CREAT | O_EXCL), request.context().kill_privileges,
                                             request.caller());
    if (!opened) {
      request.error(opened.error());
      return;
    }
    FileHandle* const handle = keep_open(request, node, std::move(*opened), *info);
    if (handle == nullptr) {
      request.error(ETXTBSY);
    } else if (!request.opened(*info)) {
      release_handle(request.session(), *handle, std::nullopt);
    }
  });
}

// O_CREAT|O_TRUNC may meet a file that another node made, with setuid: truncating must clear it. A file made
// by this call has what its caller asked for.
void clear_privileges_of_existing(Request& request, tree::Created& created, mode_t asked, const tree::Caller& caller) {
  constexpr mode_t privileges = S_ISUID | S_ISGID;
  struct stat& attributes = created.entry.attributes;
  if ((attributes.st_mode & ~asked & privileges) == 0) return;
  const auto cleared = request.file_system().set_attributes(created.entry.node, io::Attributes{},
                                                            created.opened.file.get(), true, caller);
  if (cleared) attributes = *cleared;
}

void on_create(fuse_req_t raw, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* info) {
  answer(raw, [&](Request& request) {
    tree::FileSystem& file_system = request.file_system();
    const tree::Caller caller = request.caller();
    const bool unnamed = request.context().unnamed;
    auto created = unnamed ? file_system.create_unnamed(parent, info->flags, mode, caller)
                           : file_system.create(parent, name, info->flags, mode, caller);
    if (!created) {
      request.error(created.error());
      return;
    }
    if (request.context().kill_privileges && !unnamed) clear_privileges_of_existing(request, *created, mode, caller);
    const tree::NodeId node = created->entry.node;
    const fuse_entry_param entry = request.session().parameter_of(created->entry);
    FileHandle* const handle = keep_open(request, node, std::move(created->opened), *info);
    if (handle == nullptr) {
      request.error(ETXTBSY);
      file_system.forget(node, 1);
    } else if (!request.created(entry, *info)) {
      release_handle(request.session(), *handle, std::nullopt);
      file_system.forget(node, 1);
    }
  });
}

// Below that the pages are copied faster than moved.
constexpr std::size_t least_moved_bytes = std::size_t{64} << 10;

// Replies with the pages of the file themselves, where they can be had; to a ring with a copy of them. False: nothing
// was replied.
bool move_data(Request& request, FileHandle& handle, std::size_t size, off_t offset) {
  Worker& worker = *request.context().worker;
  if (size < least_moved_bytes || size > ReplyPipe::most_bytes() || !handle.moves.load(std::memory_order_relaxed))
    return false;
  ReplyPipe* const pipe = worker.reply_pipe();
  if (pipe == nullptr) return false;
  RingEntry* const entry = request.context().ring_entry;
  const fuse_out_header header{static_cast<std::uint32_t>(sizeof(header) + size), 0, request.context().unique};
  const std::size_t ahead = entry == nullptr ? sizeof(header) : 0;  // of the data, in the pipe
  const bool begun = ahead == 0 || pipe->put(&header, ahead);
  const auto count = begun ? request.file_system().read_to_pipe(*handle.file, offset, size, pipe->entrance())
                           : base::Result<std::size_t>(base::unexpected(EIO));
  if (count && *count == size && entry == nullptr) {
    // A pipe of which not all was taken (the caller was killed) is of no use any more.
    if (request.session().sent_through(pipe->send(request.session().device, header.len)) != header.len)
      worker.drop_reply_pipe();
    request.none();  // the reply went past libfuse
    return true;
  }
  if (!count) {
    if (count.error().code == EOPNOTSUPP) handle.moves.store(false, std::memory_order_relaxed);
    worker.drop_reply_pipe();
    return false;
  }
  // What comes through a pipe is complete when it is taken, and so may lie where a ring's reply goes: a read may still
  // write into its buffer long after it has been given up.
  base::Buffer& buffer = entry != nullptr ? entry->reply_room() : *worker.reply_buffer(ahead + size);
  if (!pipe->take(buffer.data(), ahead + *count)) {
    worker.drop_reply_pipe();
    return false;
  }
  request.data(buffer.data() + ahead, *count);
  return true;
}

void on_read(fuse_req_t raw, fuse_ino_t, std::size_t size, off_t offset, fuse_file_info* info) {
  answer(raw, [&](Request& request) {
    if (move_data(request, handle_of<FileHandle>(info->fh), size, offset)) return;
    const std::shared_ptr<base::Buffer>& buffer = request.context().worker->reply_buffer(size);
    const auto count = request.file_system().read(open_file(*info), offset, size, buffer);
    if (count) {
      request.data(buffer->data(), std::min(*count, size));
    } else {
      request.error(count.error());
    }
  });
}

void on_write(fuse_req_t raw, fuse_ino_t, const char* bytes, std::size_t size, off_t offset, fuse_file_info* info) {
  answer(raw, [&](Request& request) {
    const Context& context = request.context();
    const std::shared_ptr<base::Buffer>& buffer = context.request;
    const auto start = static_cast<std::size_t>(reinterpret_cast<const std::byte*>(bytes) - buffer->data());
    const tree::WriteMode mode{context.kill_privileges, (info->flags & O_APPEND) != 0 && info->writepage == 0};
    const auto count = request.file_system().write(open_file(*info), offset, size, buffer, start, mode);
    if (count) {
      request.written(*count);
    } else {
      request.error(count.error());
    }
  });
}

void on_flush(fuse_req_t raw, fuse_ino_t, fuse_file_info* info) {
  answer(raw, [&](Request& request) { request.done(request.file_system().flush(open_file(*info), info->lock_owner)); });
}

void on_release(fuse_req_t raw, fuse_ino_t, fuse_file_info* info) {
  answer(raw, [&](Request& request) {
    release_handle(request.session(), handle_of<FileHandle>(info->fh),
                   info->flock_release ? std::optional<std::uint64_t>(info->lock_owner) : std::nullopt);
    request.error(0);
  });
}

void on_fsync(fuse_req_t raw, fuse_ino_t, int data_only, fuse_file_info* info) {
  answer(raw, [&](Request& request) { request.done(request.file_system().sync(open_file(*info), data_only != 0)); });
}

// fallocate and copy_file_range change contents as write(2) does, but the kernel sends no word about setuid with
// them: it is cleared for everyone but root. (A file without it costs nothing: no attribute is to be set.)
void clear_privileges_of_changed(Request& request, tree::NodeId node, tree::OpenFile& file) {
  if (request.uid() == 0) return;
  static_cast<void>(request.file_system().set_attributes(node, io::Attributes{}, &file, true, request.caller()));
}

void on_fallocate(fuse_req_t raw, fuse_ino_t node, int mode, off_t offset, off_t length, fuse_file_info* info) {
  answer(raw, [&](Request& request) {
    const auto allocated = request.file_system().allocate(open_file(*info), mode, offset, length);
    if (allocated) clear_privileges_of_changed(request, node, open_file(*info));
    request.done(allocated);
  });
}

void on_lseek(fuse_req_t raw, fuse_ino_t, off_t offset, int whence, fuse_file_info* info) {
  answer(raw, [&](Request& request) {
    const auto position = request.file_system().seek(open_file(*info), offset, whence);
    if (position) {
      request.position(*position);
    } else {
      request.error(position.error());
    }
  });
}

void on_copy_file_range(fuse_req_t raw, fuse_ino_t, off_t from_offset, fuse_file_info* from, fuse_ino_t to_node,
                        off_t to_offset, fuse_file_info* to, std::size_t length, int flags) {
  answer(raw, [&](Request& request) {
    if (flags != 0) {
      request.error(EINVAL);
      return;
    }
    const auto count =
        request.file_system().copy_range(open_file(*from), from_offset, open_file(*to), to_offset, length);
    if (!count) {
      request.error(count.error());
      return;
    }
    clear_privileges_of_changed(request, to_node, open_file(*to));
    request.written(*count);
  });
}

}  // namespace

void add_file_operations(fuse_lowlevel_ops& table) {
  table.open = on_open;
  table.create = on_create;
  table.read = on_read;
  table.write = on_write;
  table.flush = on_flush;
  table.release = on_release;
  table.fsync = on_fsync;
  table.fallocate = on_fallocate;
  table.lseek = on_lseek;
  table.copy_file_range = on_copy_file_range;
}

}  // namespace rainfs::fuse
