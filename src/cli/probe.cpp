// SPDX-License-Identifier: Apache-2.0
#include "probe.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "rainfs/base/ids.hpp"
#include "rainfs/base/unique_fd.hpp"

namespace rainfs::cli {

namespace {

constexpr std::uint64_t ns_per_s = 1'000'000'000;

// Finest first: 100 ns is NTFS and SMB, 1 s old ext formats, 2 s FAT.
constexpr std::array<std::uint64_t, 9> granularities{1,          100,         1'000,    10'000,      1'000'000,
                                                     10'000'000, 100'000'000, ns_per_s, 2 * ns_per_s};

base::Result<std::uint32_t> find_granularity(int directory, const std::string& name, const std::string& where) {
  // An odd second and nine different digits: no coarser granularity keeps them.
  constexpr std::uint64_t second = 1'234'567'891;
  constexpr std::uint64_t nanosecond = 123'456'789;
  base::UniqueFd fd(::openat(directory, name.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return base::unexpected(errno, where);
  const struct timespec times[2] = {{static_cast<time_t>(second), nanosecond},
                                    {static_cast<time_t>(second), nanosecond}};
  if (::futimens(fd.get(), times) != 0) return base::unexpected(errno, where + ": setting a file's times");
  if (const auto closed = fd.close(); !closed) return base::unexpected(closed.error().code, where);
  struct statx found {};
  if (::statx(directory, name.c_str(), AT_STATX_FORCE_SYNC | AT_SYMLINK_NOFOLLOW, STATX_MTIME, &found) != 0) {
    return base::unexpected(errno, where);
  }
  const std::uint64_t set = second * ns_per_s + nanosecond;
  const std::uint64_t read = static_cast<std::uint64_t>(found.stx_mtime.tv_sec) * ns_per_s + found.stx_mtime.tv_nsec;
  for (const std::uint64_t granularity : granularities) {
    if (read == set - set % granularity) return static_cast<std::uint32_t>(granularity);
  }
  return base::unexpected(
      base::config_error(fmt::format("{}: a file's time was set but reads back as another, so that equal "
                                     "replicas cannot be told; check the mount's "
                                     "options, or use another file system there",
                                     where)));
}

bool can_lock(int fd) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_len = 1;
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

base::Result<Abilities> probe_with(int directory, const std::string& name, const std::string& linked,
                                   const std::string& where) {
  Abilities out;
  const base::UniqueFd fd(::openat(directory, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return base::unexpected(errno, where + ": making a file");
  if (::write(fd.get(), "x", 1) != 1 || ::fsync(fd.get()) != 0)
    return base::unexpected(errno, where + ": writing a file");
  const auto granularity = find_granularity(directory, name, where);
  if (!granularity) return base::unexpected(granularity.error());
  out.time_granularity_ns = *granularity;
  out.xattrs = ::fsetxattr(fd.get(), "user.rainfs.probe", "1", 1, 0) == 0;
  out.hard_links = ::linkat(directory, name.c_str(), directory, linked.c_str(), 0) == 0;
  out.unnamed = static_cast<bool>(base::UniqueFd(::openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)));
  out.locks = can_lock(fd.get());
  constexpr uid_t somebody = 54321;
  struct stat st {};
  out.ownership = ::fchown(fd.get(), somebody, somebody) == 0 && ::fstat(fd.get(), &st) == 0 && st.st_uid == somebody;
  struct statvfs space {};
  if (::fstatvfs(directory, &space) != 0) return base::unexpected(errno, where + ": asking for its capacity");
  out.capacity_bytes = static_cast<std::uint64_t>(space.f_blocks) * space.f_frsize;
  out.free_bytes = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
  return out;
}

}  // namespace

base::Result<Abilities> probe(int directory, const std::string& prefix, const std::string& where) {
  const std::string name = prefix + base::make_uuid();
  const std::string linked = name + "-link";
  auto out = probe_with(directory, name, linked, where);
  ::unlinkat(directory, name.c_str(), 0);
  ::unlinkat(directory, linked.c_str(), 0);
  return out;
}

std::string format_granularity(std::uint32_t nanoseconds) {
  if (nanoseconds >= ns_per_s) return fmt::format("{} s", nanoseconds / ns_per_s);
  if (nanoseconds >= 1'000'000) return fmt::format("{} ms", nanoseconds / 1'000'000);
  if (nanoseconds >= 1'000) return fmt::format("{} us", nanoseconds / 1'000);
  return fmt::format("{} ns", nanoseconds);
}

}  // namespace rainfs::cli
