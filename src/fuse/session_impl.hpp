// SPDX-License-Identifier: Apache-2.0
// What the parts of a session share: callbacks get it as libfuse's userdata.
#pragma once

#include <fuse3/fuse_lowlevel.h>

#include <atomic>

#include "callers.hpp"
#include "context.hpp"
#include "handles.hpp"
#include "lock_waiters.hpp"
#include "passthrough.hpp"
#include "rainfs/fuse/session.hpp"
#include "reply_pipe.hpp"
#include "ring_entry.hpp"

struct fuse_init_out;  // linux/fuse.h

namespace rainfs::fuse {

class Session::Impl {
 public:
  Impl(tree::FileSystem& file_system_in, const Options& options_in, int device_in)
      : file_system(file_system_in),
        options(options_in),
        device(device_in),
        lock_waiters(options.most_lock_waiters),
        passthrough(device) {}

  tree::FileSystem& file_system;
  const Options options;
  const int device;  // owned by `session`
  fuse_session* session = nullptr;
  std::atomic<bool> initialised{false};
  std::atomic<bool> ended{false};
  std::uint64_t offered = 0;  // the kernel's INIT flags; written before any other request is processed
  std::atomic<bool> over_io_uring{false};
  Callers callers;
  LockWaiters lock_waiters;
  Passthrough passthrough;
  HandleTable<FileHandle> files;
  HandleTable<DirectoryHandle> directories;

  fuse_entry_param parameter_of(const tree::Entry& entry) const;

  // libfuse's replies on their way out: what it does not know is added here.
  ssize_t send(iovec* parts, int count) noexcept;
  // Takes notice of what a write to the device came to.
  ssize_t sent_through(ssize_t sent) noexcept;
};

// What the kernel can do and libfuse does not ask for; see init.cpp.
void agree(Session::Impl& session, fuse_conn_info& connection);
void amend_init_reply(Session::Impl& session, fuse_init_out& reply);
const fuse_lowlevel_ops& operations();

// One part of operations() each.
void add_name_operations(fuse_lowlevel_ops& table);
void add_attribute_operations(fuse_lowlevel_ops& table);
void add_file_operations(fuse_lowlevel_ops& table);
void add_directory_operations(fuse_lowlevel_ops& table);
void add_lock_operations(fuse_lowlevel_ops& table);

}  // namespace rainfs::fuse
