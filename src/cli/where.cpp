// SPDX-License-Identifier: Apache-2.0
// rainfsctl where: asks the daemon, through an extended attribute, where the replicas of paths lie.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <sstream>

#include "command.hpp"
#include "mounts.hpp"
#include "rainfs/base/result.hpp"
#include "rainfs/config/values.hpp"
#include "table.hpp"

namespace rainfs::cli {

namespace {

namespace po = boost::program_options;

// The kernel lets user attributes through for files and directories only; for the rest root asks for the
// other.
constexpr const char* attribute = "user.rainfs.replicas";
constexpr const char* attribute_for_root = "trusted.rainfs.replicas";
constexpr std::size_t most_bytes = 65536;  // XATTR_SIZE_MAX

bool in_rainfs(const std::string& path, const struct stat& st) {
  const auto mounts = read_mounts();
  if (!mounts) return false;
  for (const Mount& mount : *mounts) {
    if (mount.is_rainfs() && mount.device == st.st_dev) return true;
  }
  return false;
}

base::Result<std::string> ask(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0) return base::unexpected(errno, path);
  const bool ordinary = S_ISREG(st.st_mode) || S_ISDIR(st.st_mode);
  std::string text(most_bytes, '\0');
  const ssize_t n = ::lgetxattr(path.c_str(), ordinary ? attribute : attribute_for_root, text.data(), text.size());
  if (n >= 0) {
    text.resize(static_cast<std::size_t>(n));
    return text;
  }
  const int code = errno;
  if (!in_rainfs(path, st)) {
    return base::unexpected(
        base::config_error(path + ": is not in a RainFS mount; give a path beneath the mount point, not of an export"));
  }
  if (!ordinary && (code == ENODATA || code == EPERM)) {
    return base::unexpected(
        base::config_error(path + ": is neither a file nor a directory, for which only root can ask"));
  }
  return base::unexpected(code, path);
}

// "SECONDS.NANOSECONDS" as local time; any other text as it is.
std::string format_time(const std::string& text) {
  const std::size_t point = text.find('.');
  const auto seconds = config::parse_number(text.substr(0, point));
  if (!seconds || point == std::string::npos) return text;
  const auto when = static_cast<std::time_t>(*seconds);
  struct tm parts {};
  char date[64] = "";
  if (::localtime_r(&when, &parts) == nullptr || std::strftime(date, sizeof date, "%F %T", &parts) == 0) return text;
  return date + text.substr(point);
}

struct Answer {
  std::string verdict;
  Table table{{"EXPORT", "RACK", "STATE", "SIZE", "MODIFIED"}};
};

// First line the verdict, then EXPORT RACK STATE SIZE MTIME of each replica.
base::Result<Answer> parse(const std::string& text, const std::string& path) {
  std::istringstream lines(text);
  Answer out;
  if (!std::getline(lines, out.verdict) ||
      (out.verdict != "agree" && out.verdict != "disagree" && out.verdict != "degraded")) {
    return base::unexpected(
        base::config_error(path + ": the mount's answer is not understood; update rainfsctl or the mount's daemon"));
  }
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::vector<std::string> row;
    for (std::string word; words >> word;) row.push_back(std::move(word));
    if (row.empty()) continue;
    row.resize(std::max<std::size_t>(row.size(), 5));
    row[4] = format_time(row[4]);
    out.table.add(std::move(row));
  }
  return out;
}

int run(const Command& self, const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  int status = exit_done;
  const auto values =
      parse_arguments(self, arguments, po::options_description("Options"), 1, SIZE_MAX, out, err, status);
  if (!values) return status;
  for (const std::string& path : operands_of(*values)) {
    auto text = ask(path);
    auto answer = text ? parse(*text, path) : base::Result<Answer>(base::unexpected(text.error()));
    if (!answer) {
      complain(self, answer.error().message(), err);
      status = exit_failed;
      continue;
    }
    out << path << ": " << answer->verdict << '\n';
    answer->table.print(out, "  ");
    if (answer->verdict != "agree") status = exit_failed;
  }
  return status;
}

}  // namespace

const Command where_command{
    "where", "PATH...", "show which exports and racks hold the replicas of paths",
    "For each PATH in a RainFS mount: whether its replicas agree (agree), do not (disagree), or are too few\n"
    "(degraded), and of each replica its export and rack, whether it is good, stale, blamed, missing or "
    "absent,\n"
    "its size and its modification time.\n\n"
    "Exit status: 0 if all agree, 1 if any does not or could not be asked about, 2 for wrong usage.",
    run};

}  // namespace rainfs::cli
