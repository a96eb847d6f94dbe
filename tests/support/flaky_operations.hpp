// SPDX-License-Identifier: Apache-2.0
// What the operations of the flaky NAS have in common: its nodes and rules, doing what the rules leave of an
// operation, and acting for the caller. Any thread may call anything.
#pragma once

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 312
#endif
#include <dirent.h>
#include <fuse3/fuse_lowlevel.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "flaky_nodes.hpp"
#include "flaky_rules.hpp"

namespace flaky {

Rules& rules();
Nodes& nodes();

inline int result_of(long value) {
  return value < 0 ? -errno : static_cast<int>(value);
}

// Does what the rules leave of an operation. `work` gives a result or a negative errno.
template <typename Work>
int obey(const char* operation, const std::string& path, Work work, const std::string& other = "") {
  const Decision decision = rules().decide(operation, path, other);
  if (decision.action == Action::fail) return -static_cast<int>(decision.argument);
  const int result = work();
  return decision.action == Action::late_error && result >= 0 ? -static_cast<int>(decision.argument) : result;
}

// The same for operations whose answer is a success or an errno.
template <typename Work>
void answer(fuse_req_t request, const char* operation, const std::string& path, Work work,
            const std::string& other = "") {
  fuse_reply_err(request, -std::min(0, obey(operation, path, work, other)));
}

// What is made belongs to the caller and has the caller's umask, unless a default ACL or a setgid directory
// above says otherwise: then the directory below decides.
class AsCaller {
 public:
  explicit AsCaller(fuse_req_t request);
  ~AsCaller();
  AsCaller(const AsCaller&) = delete;
  AsCaller& operator=(const AsCaller&) = delete;

  // 0 or a negative errno.
  int give(int parent, const char* name, mode_t mode) const;

 private:
  const fuse_ctx* caller_;
};

// Looks a name up for an answer. 0 or a negative errno.
int entry_of(fuse_ino_t parent, const char* name, fuse_entry_param& entry);

struct OpenFile {
  int fd = -1;
  DIR* directory = nullptr;  // of opened directories
  off_t offset = 0;          // where `directory` stands
};

inline OpenFile* handle(const fuse_file_info* info) {
  return reinterpret_cast<OpenFile*>(info->fh);
}
inline void remember(fuse_file_info* info, OpenFile* file) {
  info->fh = reinterpret_cast<std::uint64_t>(file);
}

// Fill the table: what works on open files and directories, and what works on names and attributes.
void add_file_operations(fuse_lowlevel_ops& table);
void add_name_operations(fuse_lowlevel_ops& table);

}  // namespace flaky
