// SPDX-License-Identifier: Apache-2.0
#include "callers.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <optional>
#include <string>
#include <string_view>

#include "rainfs/base/unique_fd.hpp"

namespace rainfs::fuse {

namespace {

// Whole contents of a small file of /proc; a process may have 65,536 groups of up to 11 characters.
std::optional<std::string> read_status(pid_t pid) {
  const base::UniqueFd fd(::open(fmt::format("/proc/{0}/task/{0}/status", pid).c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  std::string text;
  constexpr std::size_t largest = 1 << 20;
  std::size_t used = 0;
  while (used < largest) {
    text.resize(used + 4096);
    const ssize_t count = ::read(fd.get(), text.data() + used, 4096);
    if (count <= 0) break;
    used += static_cast<std::size_t>(count);
  }
  text.resize(used);
  return text;
}

std::optional<std::vector<gid_t>> groups_of(pid_t pid) {
  const std::optional<std::string> status = read_status(pid);
  if (!status) return std::nullopt;
  const std::size_t start = status->find("\nGroups:");
  if (start == std::string::npos) return std::nullopt;
  std::string_view rest = std::string_view(*status).substr(start + 8);
  rest = rest.substr(0, rest.find('\n'));
  std::vector<gid_t> groups;
  while (!rest.empty()) {
    if (rest.front() == ' ' || rest.front() == '\t') {
      rest.remove_prefix(1);
      continue;
    }
    gid_t group = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), group);
    if (error != std::errc{}) break;
    groups.push_back(group);
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
  }
  return groups;
}

}  // namespace

io::CredentialsPtr Callers::credentials(uid_t uid, gid_t gid, pid_t pid, mode_t umask) {
  if (uid == 0) pid = 0;  // all of root's processes are alike
  const std::size_t hash = (static_cast<std::size_t>(uid) * 31 + gid) * 31 + static_cast<std::size_t>(pid) * 7 + umask;
  const std::size_t place = hash % places;
  std::mutex& mutex = mutexes_[place % locks];
  const auto now = std::chrono::steady_clock::now();
  {
    const std::lock_guard lock(mutex);
    const Known& known = known_[place];
    if (known.credentials && known.uid == uid && known.gid == gid && known.pid == pid && known.umask == umask &&
        now < known.until) {
      return known.credentials;
    }
  }
  io::Credentials made{uid, gid, umask, {}};
  if (uid != 0) {
    auto groups = groups_of(pid);
    if (!groups) return std::make_shared<const io::Credentials>(std::move(made));
    made.groups = std::move(*groups);
  }
  auto credentials = std::make_shared<const io::Credentials>(std::move(made));
  const std::lock_guard lock(mutex);
  known_[place] = Known{uid, gid, pid, umask, now + believed_for, credentials};
  return credentials;
}

}  // namespace rainfs::fuse
