// SPDX-License-Identifier: Apache-2.0
#include "identity.hpp"

#include <grp.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace rainfs::io {

namespace {

// Who the daemon is. It never changes its own identity after it has started.
struct Own {
  uid_t uid;
  gid_t gid;
  std::vector<gid_t> groups;

  Own() : uid(static_cast<uid_t>(::setfsuid(-1))), gid(static_cast<gid_t>(::setfsgid(-1))) {
    const int count = ::getgroups(0, nullptr);
    groups.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    const int got = ::getgroups(static_cast<int>(groups.size()), groups.data());
    groups.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  }
};
const Own& own() {
  static const Own self;
  return self;
}

thread_local int prepared = -1;  // 0, or the errno of failing; -1: not tried

int prepare() noexcept {
  if (prepared >= 0) return prepared;
  prepared = ::unshare(CLONE_FS) == 0 ? 0 : errno;
  // The mode that the daemon asks for on its own behalf is the mode it means.
  if (prepared == 0) ::umask(0);
  return prepared;
}

// The primary group counts as a member of the list, whether it is named there or not.
bool same_groups(const std::vector<gid_t>& a, const std::vector<gid_t>& b, gid_t primary) {
  if (a == b) return true;
  const auto covers = [primary](const std::vector<gid_t>& all, const std::vector<gid_t>& some) {
    return std::all_of(some.begin(), some.end(), [&](gid_t group) {
      return group == primary || std::find(all.begin(), all.end(), group) != all.end();
    });
  };
  return covers(a, b) && covers(b, a);
}

// The raw call: glibc's setgroups() changes every thread of the process.
int set_groups(const std::vector<gid_t>& groups) {
  return ::syscall(SYS_setgroups, groups.size(), groups.data()) == 0 ? 0 : errno;
}

// These calls report no error: what they were before the next call tells whether they worked.
bool set_uid(uid_t uid) {
  ::setfsuid(uid);
  return static_cast<uid_t>(::setfsuid(-1)) == uid;
}
bool set_gid(gid_t gid) {
  ::setfsgid(gid);
  return static_cast<gid_t>(::setfsgid(-1)) == gid;
}

}  // namespace

void prepare_thread() { prepare(); }

ActingAs::ActingAs(const Credentials* credentials, bool creates) noexcept {
  if (creates) {
    error_ = prepare();
    if (error_ != 0) return;
  }
  if (credentials == nullptr) return;
  error_ = take(*credentials);
  if (error_ != 0) {
    give_back();
    return;
  }
  if (creates && credentials->umask != 0) {
    ::umask(credentials->umask & 0777);
    umask_changed_ = true;
  }
}

ActingAs::~ActingAs() { give_back(); }

int ActingAs::take(const Credentials& wanted) noexcept {
  const Own& self = own();
  if (wanted.gid != self.gid || !same_groups(wanted.groups, self.groups, self.gid)) {
    if (const int error = set_groups(wanted.groups); error != 0) return error;
    groups_changed_ = true;
  }
  if (wanted.gid != self.gid) {
    gid_changed_ = true;
    if (!set_gid(wanted.gid)) return EPERM;
  }
  if (wanted.uid != self.uid) {  // last: it takes capabilities away
    uid_changed_ = true;
    if (!set_uid(wanted.uid)) return EPERM;
  }
  return 0;
}

void ActingAs::give_back() noexcept {
  const Own& self = own();
  bool good = true;
  if (umask_changed_) ::umask(0);
  if (uid_changed_) good = set_uid(self.uid);
  if (gid_changed_) good = set_gid(self.gid) && good;
  if (groups_changed_) good = set_groups(self.groups) == 0 && good;
  umask_changed_ = uid_changed_ = gid_changed_ = groups_changed_ = false;
  // A thread left with a user's identity would do the daemon's work as that user, or another user's.
  if (!good) std::abort();
}

}  // namespace rainfs::io
