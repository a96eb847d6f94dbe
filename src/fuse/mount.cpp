// SPDX-License-Identifier: Apache-2.0
#include "mount.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <sstream>

#include "rainfs/fuse/server.hpp"
#include "rainfs/log/log.hpp"
#include "reply_pipe.hpp"

namespace rainfs::fuse {

namespace {

constexpr int probe_timeout_ms = 5000;

// The device of what is mounted, from what the kernel knows by itself: no request is sent.
std::optional<dev_t> device_at(const std::string& path) {
  struct statx found {};
  if (::statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &found) !=
      0) {
    return std::nullopt;
  }
  return makedev(found.stx_dev_major, found.stx_dev_minor);
}

bool write_word(const base::UniqueFd& file, std::string_view word) {
  return ::write(file.get(), word.data(), word.size()) == static_cast<ssize_t>(word.size());
}

bool write_word(const std::string& path, std::string_view word) {
  const base::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return fd && write_word(fd, word);
}

// mountinfo writes space, tab, newline and backslash as three octal digits.
std::string unescape(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

struct Mounted {
  std::string type;  // empty: nothing is mounted there
  unsigned minor = 0;
};

// What is mounted at a path, as the kernel lists it; the last one is on top.
Mounted mounted_at(const std::string& mount_point) {
  std::ifstream file("/proc/self/mountinfo");
  Mounted found;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string id, parent, device, root, point, word;
    words >> id >> parent >> device >> root >> point;
    while (words >> word && word != "-") {
    }
    if (unescape(point) != mount_point || !(words >> word)) continue;
    found = {word, static_cast<unsigned>(std::atoi(device.substr(device.find(':') + 1).c_str()))};
  }
  return found;
}

std::string type_at(const std::string& mount_point) {
  return mounted_at(mount_point).type;
}

enum class Probe { alive, dead, silent };

// Asks what is mounted by a child, which may get stuck there for good.
Probe probe(const std::string& path) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Probe::silent;
  const base::UniqueFd reader(ends[0]);
  base::UniqueFd writer(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return Probe::silent;
  if (child == 0) {
    struct stat found {};
    const char answer =
        ::stat(path.c_str(), &found) == 0 ? 'a' : (errno == ENOTCONN || errno == ECONNABORTED ? 'd' : 'a');
    [[maybe_unused]] const ssize_t written = ::write(writer.get(), &answer, 1);
    ::_exit(0);
  }
  writer.reset();
  pollfd ready{reader.get(), POLLIN, 0};
  char answer = 0;
  if (::poll(&ready, 1, probe_timeout_ms) != 1 || ::read(reader.get(), &answer, 1) != 1) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, WNOHANG);
    return Probe::silent;
  }
  ::waitpid(child, nullptr, 0);
  return answer == 'd' ? Probe::dead : Probe::alive;
}

}  // namespace

base::Result<unsigned long> kernel_flags(const std::vector<std::string>& words) {
  static constexpr std::array<std::pair<std::string_view, unsigned long>, 9> known = {
      {{"ro", MS_RDONLY},
       {"nodev", MS_NODEV},
       {"nosuid", MS_NOSUID},
       {"noexec", MS_NOEXEC},
       {"sync", MS_SYNCHRONOUS},
       {"dirsync", MS_DIRSYNC},
       {"noatime", MS_NOATIME},
       {"nodiratime", MS_NODIRATIME},
       {"nosymfollow", MS_NOSYMFOLLOW}}};
  unsigned long flags = 0;
  for (const std::string& word : words) {
    const auto* const found = std::find_if(known.begin(), known.end(), [&](const auto& k) { return k.first == word; });
    if (found == known.end()) return base::unexpected(base::config_error("mount option '" + word + "' is unknown"));
    flags |= found->second;
  }
  return flags;
}

base::Result<std::string> resolve_mount_point(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  const std::size_t slash = trimmed.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : (slash == 0 ? "/" : trimmed.substr(0, slash));
  const std::string name = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
  // A symbolic link, "." and ".." must be followed after all; none of them can be a dead mount itself.
  std::array<char, 2> ignored{};
  const bool link = ::readlink(trimmed.c_str(), ignored.data(), ignored.size()) >= 0;
  const bool whole = name.empty() || name == "." || name == ".." || link;
  char* const resolved = ::realpath(whole ? trimmed.c_str() : parent.c_str(), nullptr);
  if (resolved == nullptr) return base::unexpected(errno, path);
  std::string result(resolved);
  std::free(resolved);
  if (whole) return result;
  if (result != "/") result += '/';
  return result + name;
}

base::Result<void> clear_mount_point(const std::string& mount_point) {
  // Dead mounts may lie on each other; a bound, so that something that cannot be detached does not keep us here.
  for (int layer = 0; layer < 16 && type_at(mount_point) == mount_type; ++layer) {
    switch (probe(mount_point)) {
      case Probe::alive:
        return base::unexpected(base::Error(EBUSY, base::ErrorClass::config,
                                            fmt::format("{}: a RainFS array is mounted there already", mount_point)));
      case Probe::silent:
        return base::unexpected(
            base::Error(EBUSY, base::ErrorClass::config,
                        fmt::format("{}: a RainFS mount is there and does not answer; end its daemon, or umount -f {}",
                                    mount_point, mount_point)));
      case Probe::dead:
        log::notice("stale-mount", "{}: taking away the mount of a daemon that is gone", mount_point);
        if (::umount2(mount_point.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
          return base::unexpected(errno, "detaching the dead mount at " + mount_point);
        }
    }
  }
  struct stat found {};
  if (::stat(mount_point.c_str(), &found) != 0) return base::unexpected(errno, "mount point " + mount_point);
  if (!S_ISDIR(found.st_mode)) return base::unexpected(ENOTDIR, "mount point " + mount_point);
  return {};
}

std::function<void()> end_of_mount(const std::string& mount_point) {
  const std::optional<Mount> mount = Mount::at(mount_point);
  if (!mount) return {};
  return [mount] { mount->end(); };
}

base::Result<void> remount(const std::string& mount_point, unsigned long mount_flags) {
  if (type_at(mount_point) != mount_type) {
    return base::unexpected(base::config_error(mount_point + ": no RainFS array is mounted there"));
  }
  if (::mount(nullptr, mount_point.c_str(), nullptr, MS_REMOUNT | mount_flags, nullptr) != 0) {
    return base::unexpected(errno, "remounting " + mount_point);
  }
  return {};
}

Mount::Mount(std::string mount_point, dev_t device)
    : mount_point_(std::move(mount_point)),
      device_(device),
      abort_(std::make_shared<base::UniqueFd>(
          ::open(fmt::format("/sys/fs/fuse/connections/{}/abort", minor(device)).c_str(), O_WRONLY | O_CLOEXEC))) {
  if (!present()) abort_ = std::make_shared<base::UniqueFd>();  // it may be another's that has the number now
}

std::optional<Mount> Mount::at(const std::string& mount_point) {
  const Mounted mounted = mounted_at(mount_point);
  if (mounted.type != mount_type) return std::nullopt;
  return Mount(mount_point, makedev(0, mounted.minor));
}

base::Result<Mount> Mount::make(const Options& options, base::UniqueFd& device) {
  device.reset(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!device) {
    return base::unexpected(errno, errno == ENOENT || errno == ENODEV || errno == ENXIO
                                       ? "/dev/fuse (is the fuse kernel module there? modprobe fuse)"
                                       : "/dev/fuse");
  }
  const std::string data = fmt::format("fd={},rootmode={:o},user_id={},group_id={},default_permissions,max_read={}{}",
                                       device.get(), static_cast<unsigned>(S_IFDIR), ::getuid(), ::getgid(),
                                       ReplyPipe::most_bytes(), options.allow_other ? ",allow_other" : "");
  if (::mount(options.source.c_str(), options.mount_point.c_str(), mount_type, options.mount_flags, data.c_str()) !=
      0) {
    const int error = errno;
    device.reset();
    return base::unexpected(
        error, fmt::format("mounting on {}{}", options.mount_point, error == EPERM ? " (only root can)" : ""));
  }
  const std::optional<dev_t> mounted = device_at(options.mount_point);
  if (!mounted) {
    const int error = errno;
    ::umount2(options.mount_point.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
    device.reset();
    return base::unexpected(error, options.mount_point);
  }
  return Mount(options.mount_point, *mounted);
}

bool Mount::present() const noexcept {
  return device_at(mount_point_) == device_;
}

base::Result<void> Mount::unmount() const noexcept {
  if (!present()) return {};
  if (::umount2(mount_point_.c_str(), UMOUNT_NOFOLLOW) != 0) return base::unexpected(errno, mount_point_);
  return {};
}

base::Result<void> Mount::detach() const noexcept {
  if (!present()) return {};
  if (::umount2(mount_point_.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
    return base::unexpected(errno, mount_point_);
  }
  return {};
}

void Mount::end() const noexcept {
  // Forced, so that the connection ends in the same step.
  if (present()) ::umount2(mount_point_.c_str(), MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW);
  // Where it is detached already programs may still wait in it.
  if (*abort_) static_cast<void>(write_word(*abort_, "1"));
}

void Mount::raise_read_ahead(unsigned kib) const noexcept {
  if (kib == 0) return;
  // INIT can only lower it; where sysfs is read-only (a container) the kernel's default stays.
  const std::string path = fmt::format("/sys/class/bdi/{}:{}/read_ahead_kb", major(device_), minor(device_));
  const unsigned request_kib = static_cast<unsigned>(ReplyPipe::most_bytes() / 1024);
  if (kib > request_kib) kib -= kib % request_kib;
  if (!write_word(path, std::to_string(kib))) log::info("read-ahead", "{}: cannot be written", path);
}

}  // namespace rainfs::fuse
