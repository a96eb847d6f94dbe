// SPDX-License-Identifier: Apache-2.0
#include "mounts.hpp"

#include <sys/sysmacros.h>

#include <fstream>
#include <sstream>

#include "rainfs/base/paths.hpp"

namespace rainfs::cli {

namespace {

// Blanks and backslashes stand there as three octal digits after a backslash.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto digit = [&](std::size_t at) { return text[at] >= '0' && text[at] <= '7'; };
    if (text[i] == '\\' && i + 3 < text.size() && digit(i + 1) && digit(i + 2) && digit(i + 3)) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

std::vector<Mount> parse_mounts(std::string_view mountinfo) {
  std::vector<Mount> out;
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    // id parent major:minor root point options [tags...] - type source options
    std::istringstream fields(line);
    std::string id;
    std::string parent;
    std::string device;
    Mount mount;
    std::string field;
    if (!(fields >> id >> parent >> device >> mount.root >> mount.point >> field)) continue;
    while (fields >> field && field != "-") {
    }
    if (!(fields >> mount.type)) continue;
    fields >> mount.source;
    unsigned major_number = 0;
    unsigned minor_number = 0;
    if (std::sscanf(device.c_str(), "%u:%u", &major_number, &minor_number) != 2) continue;
    mount.device = makedev(major_number, minor_number);
    mount.root = unescape(mount.root);
    mount.point = unescape(mount.point);
    mount.source = unescape(mount.source);
    out.push_back(std::move(mount));
  }
  return out;
}

base::Result<std::vector<Mount>> read_mounts() {
  std::ifstream file("/proc/self/mountinfo");
  std::ostringstream text;
  text << file.rdbuf();
  if (!file || text.str().empty()) return base::unexpected(EIO, "/proc/self/mountinfo");
  return parse_mounts(text.str());
}

bool is_beneath(std::string_view path, std::string_view directory) {
  if (directory == "/") return path.starts_with('/');
  return base::is_within(path, directory);
}

const Mount* mount_of(const std::vector<Mount>& mounts, std::string_view real_path) {
  const Mount* best = nullptr;
  for (const Mount& mount : mounts) {
    if (is_beneath(real_path, mount.point) && (best == nullptr || mount.point.size() >= best->point.size()))
      best = &mount;
  }
  return best;
}

}  // namespace rainfs::cli
