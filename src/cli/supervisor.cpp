// SPDX-License-Identifier: Apache-2.0
#include "supervisor.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <sstream>

#include "rainfs/base/unique_fd.hpp"
#include "rainfs/fuse/server.hpp"
#include "rainfs/log/log.hpp"

namespace rainfs::cli {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::seconds;

constexpr int tick_ms = 200;
constexpr seconds stop_patience{35};   // the server's own graces, added
constexpr seconds abort_patience{3};   // for a core dump
constexpr seconds corpse_patience{1};  // from its end to that of its threads, where none is stuck

sigset_t taken_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGABRT, SIGCHLD}) ::sigaddset(&set, signal);
  return set;
}

// The status in wait(2)'s form of a process whose first thread has ended while another one is stuck.
std::optional<int> corpse_status(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  std::string state, last;
  fields >> state;
  for (std::string field; fields >> field;) last = field;
  if (state != "Z") return std::nullopt;
  return std::atoi(last.c_str());
}

class Supervisor {
 public:
  Supervisor(std::string mount_point, int failure, pid_t child, base::UniqueFd mounted)
      : mount_point_(std::move(mount_point)), failure_(failure), child_(child), mounted_(std::move(mounted)) {}
  int watch();

 private:
  void take(int signal);
  void kill_in(seconds patience) { kill_at_ = std::min(kill_at_, Clock::now() + patience); }
  int ended(int status) const;
  std::optional<int> look();

  const std::string mount_point_;
  const int failure_;
  const pid_t child_;
  base::UniqueFd mounted_;           // a byte in it: the mount is the child's
  std::function<void()> end_mount_;  // empty until the child has mounted
  bool killed_ = false;
  Clock::time_point kill_at_ = Clock::time_point::max();
  std::optional<Clock::time_point> corpse_since_;
};

void Supervisor::take(int signal) {
  switch (signal) {
    case SIGCHLD:
      return;
    case SIGABRT:  // the service manager's watchdog
      log::error("watchdog", "the server does not answer: it is ended");
      if (end_mount_) end_mount_();
      ::kill(child_, SIGABRT);
      ::kill(child_, SIGCONT);  // one that was stopped takes no other signal
      kill_in(abort_patience);
      return;
    case SIGHUP:
      ::kill(child_, SIGHUP);
      return;
    default:
      ::kill(child_, signal);
      kill_in(stop_patience);
  }
}

int Supervisor::ended(int status) const {
  if (end_mount_) end_mount_();
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  log::error("server-ended", "the server was ended by signal {}", WTERMSIG(status));
  return failure_;
}

// The status to end with, if it is time to.
std::optional<int> Supervisor::look() {
  char byte = 0;
  if (!end_mount_ && ::read(mounted_.get(), &byte, 1) == 1) end_mount_ = fuse::end_of_mount(mount_point_);
  int status = 0;
  if (::waitpid(child_, &status, WNOHANG) == child_) return ended(status);
  const auto now = Clock::now();
  if (const auto left = corpse_status(child_)) {
    if (!corpse_since_) corpse_since_ = now;
    if (now - *corpse_since_ >= corpse_patience) {
      log::error("left-behind", "process {} has ended but for operations on an export that hangs", child_);
      return ended(*left);
    }
    return std::nullopt;
  }
  if (now < kill_at_) return std::nullopt;
  if (killed_) {
    log::error("left-behind", "process {} cannot be ended", child_);
    return failure_;
  }
  log::error("kill", "the server does not end: it is killed");
  if (end_mount_) end_mount_();
  ::kill(child_, SIGKILL);
  killed_ = true;
  kill_at_ = now + abort_patience;
  return std::nullopt;
}

int Supervisor::watch() {
  const sigset_t set = taken_signals();
  const base::UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  while (true) {
    pollfd ready{signals.get(), POLLIN, 0};
    ::poll(&ready, 1, tick_ms);
    for (signalfd_siginfo info{}; ::read(signals.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info));) {
      take(static_cast<int>(info.ssi_signo));
    }
    if (const auto status = look()) return *status;
  }
}

}  // namespace

int supervise(const std::string& mount_point, int failure,
              const std::function<int(const std::function<void()>& mounted)>& serve) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return failure;
  base::UniqueFd reader(ends[0]), writer(ends[1]);
  const sigset_t set = taken_signals();
  sigset_t before;
  ::pthread_sigmask(SIG_BLOCK, &set, &before);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return failure;
  if (child > 0) return Supervisor(mount_point, failure, child, std::move(reader)).watch();
  // Without the one who can end the mount, the mount ends in order.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(failure);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::unsetenv("WATCHDOG_PID");  // it is the child that must show to be alive
  const int status = serve([&] { [[maybe_unused]] const ssize_t told = ::write(writer.get(), "m", 1); });
  std::fflush(nullptr);
  ::_exit(status);
}

}  // namespace rainfs::cli
