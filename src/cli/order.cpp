// SPDX-License-Identifier: Apache-2.0
// rainfsctl log-level and reload: orders to the daemons of this node, through the control file of their mounts.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <thread>

#include "apart.hpp"
#include "command.hpp"
#include "look.hpp"
#include "mounts.hpp"
#include "rainfs/base/unique_fd.hpp"
#include "rainfs/log/log.hpp"

namespace rainfs::cli {

namespace {

constexpr base::Duration order_bound = std::chrono::seconds(20);

// What the control file's text says: "key: value" lines, the last order's may be several.
struct Control {
  std::string text;
  std::string line(std::string_view key) const {
    const std::size_t at = text.find("\n" + std::string(key) + ": ");
    if (at == std::string::npos) return {};
    const std::size_t begin = at + 1 + key.size() + 2;
    return text.substr(begin, text.find('\n', begin) - begin);
  }
  std::string outcome() const {
    constexpr std::string_view key = "\nlast order: ";
    const std::size_t begin = text.find(key);
    const std::size_t end = text.find("\norders: ");
    if (begin == std::string::npos || end == std::string::npos || end < begin) return "it was refused";
    return text.substr(begin + key.size(), end - begin - key.size());
  }
};

Control read_control(const std::string& file) {
  const base::UniqueFd control(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 16384> text{};
  const ssize_t count = control ? ::read(control.get(), text.data(), text.size()) : 0;
  return {"\n" + std::string(text.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0)))};
}

// The kernel lets nobody write to a file of a read-only mount: its daemon is told by a signal.
base::Result<std::string> reload_by_signal(const std::string& file) {
  const Control before = read_control(file);
  const int pid = std::atoi(before.line("pid").c_str());
  if (pid <= 1 || ::kill(pid, SIGHUP) != 0) return base::unexpected(pid <= 1 ? ESRCH : errno, "the daemon");
  while (true) {  // until do_apart() loses its patience
    const Control now = read_control(file);
    if (now.line("orders taken") != before.line("orders taken")) {
      if (now.outcome() == "reload: done") return std::string{};
      return base::unexpected(base::config_error(now.outcome()));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

base::Result<std::string> give(const std::string& mount_point, const std::string& order) {
  const std::string file = mount_point + "/.rainfs/control";
  const base::UniqueFd control(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (!control) {
    if (errno == EROFS && order == "reload") return reload_by_signal(file);
    if (errno == EROFS) {
      return base::unexpected(
          base::config_error("it is mounted read-only and takes no orders; set log_level in /etc/rainfs/node.yaml, "
                             "then rainfsctl reload"));
    }
    return base::unexpected(errno, file);
  }
  if (::write(control.get(), order.data(), order.size()) < 0) {
    const int code = errno;
    return base::unexpected(code == EINVAL ? base::config_error(read_control(file).outcome())
                                           : base::Error(code, file));
  }
  return std::string{};
}

base::Result<std::vector<std::string>> mount_points(const std::vector<std::string>& operands) {
  const auto mounts = read_mounts();
  if (!mounts) return base::unexpected(mounts.error());
  std::vector<std::string> points;
  for (const std::string& operand : operands) {
    const std::size_t before = points.size();
    for (const Mount& mount : *mounts) {
      if (mount.is_rainfs() && (mount.source == operand || mount.point == as_mount_point(operand))) {
        points.push_back(mount.point);
      }
    }
    if (points.size() == before) {
      return base::unexpected(base::config_error(operand + ": no such array or mount point on this node"));
    }
  }
  if (operands.empty()) {
    for (const Mount& mount : *mounts) {
      if (mount.is_rainfs()) points.push_back(mount.point);
    }
    if (points.empty()) return base::unexpected(base::config_error("nothing of RainFS is mounted on this node"));
  }
  return points;
}

int order(const Command& self, const std::string& text, const std::vector<std::string>& operands, std::ostream& out,
          std::ostream& err) {
  const auto points = mount_points(operands);
  if (!points) {
    complain(self, points.error().message(), err);
    return exit_failed;
  }
  int status = exit_done;
  for (const std::string& point : *points) {
    const auto given = do_apart([&] { return give(point, text); }, order_bound);
    if (given) {
      out << fmt::format("{}: {}: done\n", point, text);
      continue;
    }
    complain(self,
             fmt::format("{}: {}", point,
                         given.error().code == ETIMEDOUT ? "the daemon does not answer" : given.error().message()),
             err);
    status = exit_failed;
  }
  return status;
}

int run_log_level(const Command& self, const std::vector<std::string>& arguments, std::ostream& out,
                  std::ostream& err) {
  int status = exit_done;
  const auto values = parse_arguments(self, arguments, boost::program_options::options_description("Options"), 1,
                                      SIZE_MAX, out, err, status);
  if (!values) return status;
  std::vector<std::string> operands = operands_of(*values);
  const std::string level = operands.front();
  operands.erase(operands.begin());
  log::Level parsed{};
  if (!log::parse_level(level, parsed)) {
    complain(self, level + ": no such level; error, warning, notice, info or debug", err);
    return exit_usage;
  }
  return order(self, "log-level " + level, operands, out, err);
}

int run_reload(const Command& self, const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  int status = exit_done;
  const auto values = parse_arguments(self, arguments, boost::program_options::options_description("Options"), 0,
                                      SIZE_MAX, out, err, status);
  if (!values) return status;
  return order(self, "reload", operands_of(*values), out, err);
}

}  // namespace

const Command log_level_command{
    "log-level", "LEVEL [ARRAY|MOUNTPOINT]...", "change what daemons of this node log",
    "LEVEL is error, warning, notice, info or debug. Without operands: all RainFS mounts of this node. It holds until\n"
    "the daemon ends or reloads.\n\n"
    "Exit status: 0 done, 1 a daemon could not be told, 2 wrong usage.",
    run_log_level};

const Command reload_command{
    "reload", "[ARRAY|MOUNTPOINT]...", "have daemons of this node read their files again",
    "The daemon reads the array's file and /etc/rainfs/node.yaml again, and obeys the new deadlines, reads (for files\n"
    "that are opened from then on) and log level. If anything in them is wrong, or was changed that needs a new mount\n"
    "or another command, nothing is changed, and it is said what. Without operands: all RainFS mounts of this node.\n"
    "SIGHUP to the daemon does the same.\n\n"
    "Exit status: 0 done, 1 refused or the daemon could not be told, 2 wrong usage.",
    run_reload};

}  // namespace rainfs::cli
