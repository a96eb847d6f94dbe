// SPDX-License-Identifier: Apache-2.0
#include "candidates.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <memory>

namespace rainfs::cli {

namespace {

std::string why(int code) {
  return base::Error(code).message();
}

// Where the directory lies, and whether something of RainFS's is in the way.
bool locate(Candidate& candidate, const std::vector<Mount>& mounts, config::Problems& problems) {
  const int line = candidate.config->line;
  const std::unique_ptr<char, void (*)(void*)> real(::realpath(candidate.path.c_str(), nullptr), std::free);
  if (real == nullptr) {
    problems.add(line, fmt::format("{}: {}: {}; check the path", candidate.title(), candidate.path, why(errno)));
    return false;
  }
  candidate.real_path = real.get();
  const Mount* mount = mount_of(mounts, candidate.real_path);
  if (mount != nullptr) {
    candidate.device = mount->device;
    candidate.inner_path = mount->root == "/" ? "" : mount->root;
    candidate.inner_path += candidate.real_path.substr(mount->point == "/" ? 0 : mount->point.size());
    if (mount->is_rainfs()) {
      problems.add(line, fmt::format("{}: {} lies in the RainFS mount {}; give the path of the NAS export itself",
                                     candidate.title(), candidate.path, mount->point));
      return false;
    }
  }
  for (const Mount& other : mounts) {
    if (!other.is_rainfs() || !is_beneath(other.point, candidate.real_path)) continue;
    problems.add(line, fmt::format("{}: the RainFS mount {} lies in {}, so that the array would contain "
                                   "itself; unmount it or move the "
                                   "export",
                                   candidate.title(), other.point, candidate.path));
    return false;
  }
  return true;
}

bool open_one(Candidate& candidate, const std::vector<Mount>& mounts, config::Problems& problems) {
  const int line = candidate.config->line;
  candidate.root.reset(::open(candidate.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!candidate.root) {
    const int code = errno;
    const char* remedy = code == ENOENT    ? "make the directory, or mount the NAS there"
                         : code == ENOTDIR ? "an export is a directory; correct the path"
                         : code == EACCES || code == EPERM
                             ? "run as root, and export the directory to root of this node"
                             : "check that the NAS is there and mounted";
    problems.add(line, fmt::format("{}: {}: {}; {}", candidate.title(), candidate.path, why(code), remedy));
    return false;
  }
  if (::fstat(candidate.root.get(), &candidate.attributes) != 0) {
    problems.add(line,
                 fmt::format("{}: {}: {}; check that the NAS is there", candidate.title(), candidate.path, why(errno)));
    return false;
  }
  if (!locate(candidate, mounts, problems)) return false;
  auto inspection = nas::inspect(candidate.root.get(), candidate.path);
  if (!inspection) {
    const bool remedied = inspection.error().kind == base::ErrorClass::config;
    problems.add(line, fmt::format("{}: {}{}", candidate.title(), inspection.error().message(),
                                   remedied ? "" : "; run as root, and check the export's permissions"));
    return false;
  }
  candidate.inspection = std::move(*inspection);
  return true;
}

void check_pair(const Candidate& a, const Candidate& b, config::Problems& problems) {
  const int line = b.config->line;
  if (a.attributes.st_dev == b.attributes.st_dev && a.attributes.st_ino == b.attributes.st_ino) {
    problems.add(
        line, fmt::format("{}: {} is the same directory as {} of {} (line {}); each export is a directory of its own",
                          b.title(), b.path, a.path, a.config->name, a.config->line));
    return;
  }
  const auto inside = [](const Candidate& inner, const Candidate& outer) {
    return is_beneath(inner.real_path, outer.real_path) ||
           (inner.device == outer.device && is_beneath(inner.inner_path, outer.inner_path));
  };
  for (const auto& [inner, outer] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
    if (!inside(*inner, *outer)) continue;
    problems.add(inner->config->line,
                 fmt::format("{}: {} lies in {} of {} (line {}), where its files would appear as the other's; give "
                             "each a directory of its own",
                             inner->title(), inner->path, outer->path, outer->config->name, outer->config->line));
    return;
  }
}

}  // namespace

std::vector<Candidate> open_candidates(const config::Config& config, const config::NodeConfig& node,
                                       const std::vector<Mount>& mounts, config::Problems& problems) {
  std::vector<Candidate> out;
  std::vector<bool> usable;
  const auto add = [&](const config::ExportConfig& e, bool witness) {
    Candidate candidate;
    candidate.config = &e;
    candidate.witness = witness;
    const auto local = node.paths.find(e.name);
    candidate.path = local == node.paths.end() ? e.path : local->second;
    usable.push_back(open_one(candidate, mounts, problems));
    out.push_back(std::move(candidate));
  };
  for (const config::RackConfig& rack : config.racks) {
    for (const config::ExportConfig& e : rack.exports) add(e, false);
  }
  for (const config::ExportConfig& e : config.witnesses) add(e, true);
  for (std::size_t i = 0; i < out.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (usable[i] && usable[k]) check_pair(out[k], out[i], problems);
    }
  }
  return out;
}

bool holds_files(const Candidate& candidate) {
  const int again = ::openat(candidate.root.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* const directory = again >= 0 ? ::fdopendir(again) : nullptr;
  if (directory == nullptr) return true;  // what is not known is taken for the worse
  bool found = false;
  while (const dirent* entry = ::readdir(directory)) {
    const std::string_view name = entry->d_name;
    found = found || (name != "." && name != ".." && name != ".rainfs" && name != "lost+found");
  }
  ::closedir(directory);
  return found;
}

}  // namespace rainfs::cli
