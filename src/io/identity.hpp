// SPDX-License-Identifier: Apache-2.0
// The file system identity of the calling thread: fsuid, fsgid, supplementary groups, umask. Only the
// thread's own is touched, never the process's: other threads keep theirs.
#pragma once

#include "rainfs/io/operation.hpp"

namespace rainfs::io {

// Acts as `credentials` (null: the daemon) until destroyed, or, in a thread that keeps identities, until the
// next one. With a file system uid other than 0 the kernel drops the capabilities that override permissions
// by itself (credentials(7), capabilities(7)).
class ActingAs {
 public:
  // `creates`: what is done in the meantime makes files, of mode `made`, so the umask matters.
  ActingAs(const Credentials* credentials, bool creates, mode_t made) noexcept;
  ~ActingAs();
  ActingAs(const ActingAs&) = delete;
  ActingAs& operator=(const ActingAs&) = delete;
  int error() const { return error_; }  // errno if the identity could not be taken; then it is the daemon's

 private:
  int error_ = 0;
};

}  // namespace rainfs::io
