// SPDX-License-Identifier: Apache-2.0
#include "identity.hpp"

#include <grp.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <new>

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

// What the thread is now.
struct Now {
  int prepared = -1;     // 0, or the errno of failing; -1: not tried
  bool keeps = false;    // leaves the identity of the last operation
  bool foreign = false;  // not the daemon's uid, gid or groups; these below are valid
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t umask = 0;
  std::vector<gid_t> groups;
};
thread_local Now now;

// It matters only where something is made, and there only those of its bits that what is made has: whatever is made
// says which it needs, and none is set back.
void set_umask_for(mode_t made, mode_t umask) {
  if ((made & (now.umask ^ umask)) == 0) return;
  ::umask(umask);
  now.umask = umask;
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

// A thread inherits what the thread that started it was at that moment, which may be a user.
void be_the_daemon() noexcept {
  const Own& self = own();
  std::array<gid_t, 1> one{};
  const int count = ::getgroups(0, nullptr);
  const bool known = count == 0 || (count == 1 && ::getgroups(1, one.data()) == 1);  // longer lists are set anew
  const bool same =
      known && static_cast<std::size_t>(count) == self.groups.size() && (count == 0 || one[0] == self.groups[0]);
  const bool groups_good = same || set_groups(self.groups) == 0 || ::geteuid() != 0;
  const bool good = set_uid(self.uid) && set_gid(self.gid) && groups_good;
  if (!good) std::abort();
}

int prepare() noexcept {
  if (now.prepared >= 0) return now.prepared;
  be_the_daemon();
  now.prepared = ::unshare(CLONE_FS) == 0 ? 0 : errno;
  // The mode that the daemon asks for on its own behalf is the mode it means.
  if (now.prepared == 0) ::umask(0);
  return now.prepared;
}

// Each change makes the kernel copy the thread's credentials, which is most of what a short operation costs:
// only what differs is set.
int become(uid_t uid, gid_t gid, const std::vector<gid_t>& groups) {
  const Own& self = own();
  if (!now.foreign) {
    if (uid == self.uid && gid == self.gid && same_groups(groups, self.groups, gid)) return 0;
    now.uid = self.uid;
    now.gid = self.gid;
    now.groups = self.groups;
    now.foreign = true;
  }
  if (gid != now.gid || !same_groups(groups, now.groups, gid)) {
    std::vector<gid_t> copy = groups;  // before the call: nothing may throw between it and the note of it
    if (const int error = set_groups(groups); error != 0) return error;
    now.groups = std::move(copy);
  }
  if (gid != now.gid) {
    now.gid = gid;
    if (!set_gid(gid)) return EPERM;
  }
  if (uid != now.uid) {  // last: it takes capabilities away
    now.uid = uid;
    if (!set_uid(uid)) return EPERM;
  }
  return 0;
}

void give_back() noexcept {
  if (!now.foreign) return;
  const Own& self = own();
  const bool good = (now.uid == self.uid || set_uid(self.uid)) && (now.gid == self.gid || set_gid(self.gid)) &&
                    (now.groups == self.groups || set_groups(self.groups) == 0);
  // A thread left with a user's identity would do the daemon's work as that user, or another user's.
  if (!good) std::abort();
  now.foreign = false;
}

}  // namespace

void prepare_thread() {
  prepare();
}

void keep_identity() {
  prepare();
  now.keeps = true;
}

ActingAs::ActingAs(const Credentials* credentials, bool creates, mode_t made) noexcept {
  if (const int error = prepare(); error != 0 && creates) {
    error_ = error;
    return;
  }
  if (creates) set_umask_for(made & 0777, credentials == nullptr ? 0 : credentials->umask & 0777);
  if (credentials == nullptr) {
    if (now.keeps) give_back();
    return;
  }
  try {
    error_ = become(credentials->uid, credentials->gid, credentials->groups);
  } catch (const std::bad_alloc&) {
    error_ = ENOMEM;
  }
  if (error_ != 0) give_back();
}

ActingAs::~ActingAs() {
  if (!now.keeps) give_back();
}

}  // namespace rainfs::io
