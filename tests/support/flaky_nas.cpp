// SPDX-License-Identifier: Apache-2.0
// A NAS that misbehaves on command: a passthrough FUSE file system, good enough to be an export, with rules
// given at run time (see flaky_rules.hpp).
//
//   flaky_nas DIRECTORY MOUNTPOINT --control SOCKET
//
// It caches no names and no attributes, as a NAS that others write to as well. It runs in the foreground, as
// root, until it is unmounted or told SIGTERM. Locks are the kernel's: all users of one mount see each other.
// There is no O_TMPFILE.
#include "flaky_operations.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>

namespace flaky {

Rules& rules() {
  static Rules instance;
  return instance;
}

Nodes& nodes() {
  static Nodes instance;
  return instance;
}

AsCaller::AsCaller(fuse_req_t request) : caller_(fuse_req_ctx(request)) {
  thread_local const bool own_umask = ::unshare(CLONE_FS) == 0;
  if (own_umask) ::umask(caller_->umask);
}

AsCaller::~AsCaller() {
  ::umask(0);
}

int AsCaller::give(int parent, const char* name, mode_t mode) const {
  if (caller_->uid == 0 && caller_->gid == 0) return 0;
  struct stat made {};
  struct stat above {};
  if (::fstatat(parent, name, &made, AT_SYMLINK_NOFOLLOW) != 0 || ::fstatat(parent, "", &above, AT_EMPTY_PATH) != 0) {
    return -errno;
  }
  const gid_t group = (above.st_mode & S_ISGID) != 0 ? static_cast<gid_t>(-1) : caller_->gid;
  if (::fchownat(parent, name, caller_->uid, group, AT_SYMLINK_NOFOLLOW) != 0) return -errno;
  // chown took set-id bits of what was made executable.
  if ((mode & (S_ISUID | S_ISGID)) != 0 && S_ISREG(made.st_mode)) {
    return result_of(::fchmodat(parent, name, made.st_mode & 07777, 0));
  }
  return 0;
}

int entry_of(fuse_ino_t parent, const char* name, fuse_entry_param& entry) {
  entry = {};
  entry.generation = 1;
  return -nodes().look_up(parent, name, entry.ino, entry.attr);
}

}  // namespace flaky

namespace {

using flaky::nodes;
using flaky::rules;

std::string mount_point;

void nas_init(void*, fuse_conn_info* connection) {
  connection->want |= connection->capable & (FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK);
}

fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops table{};
  table.init = nas_init;
  flaky::add_name_operations(table);
  flaky::add_file_operations(table);
  return table;
}

// Operations may hang in any number of threads, so an orderly end cannot wait for them.
void end_now(int) {
  ::umount2(mount_point.c_str(), MNT_DETACH);
  ::_exit(0);
}

int serve(fuse_session* session) {
  if (fuse_session_mount(session, mount_point.c_str()) != 0) return 1;
  struct sigaction end {};
  end.sa_handler = end_now;
  ::sigaction(SIGTERM, &end, nullptr);
  ::sigaction(SIGINT, &end, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  fuse_loop_config* const config = fuse_loop_cfg_create();
  fuse_loop_cfg_set_max_threads(config, 1000);  // hung operations hold one each
  fuse_loop_cfg_set_idle_threads(config, 20);
  fuse_session_loop_mt(session, config);
  ::_exit(0);  // unmounted, or the connection was aborted: threads may still hang
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 || std::strcmp(argv[3], "--control") != 0) {
    std::fputs("usage: flaky_nas DIRECTORY MOUNTPOINT --control SOCKET\n", stderr);
    return 2;
  }
  mount_point = argv[2];
  const int root = ::open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0 || !nodes().start(root) || !rules().serve(argv[4])) {
    std::fprintf(stderr, "flaky_nas: %s or %s: %s\n", argv[1], argv[4], std::strerror(errno));
    return 1;
  }
  ::umask(0);
  char name[] = "flaky_nas";
  char options[] = "-oallow_other,default_permissions,dev,suid,fsname=flaky_nas";
  char* words[] = {name, options};
  fuse_args arguments = FUSE_ARGS_INIT(2, words);
  const fuse_lowlevel_ops table = operations();
  fuse_session* const session = fuse_session_new(&arguments, &table, sizeof table, nullptr);
  return session == nullptr ? 1 : serve(session);
}
