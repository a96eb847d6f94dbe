// SPDX-License-Identifier: Apache-2.0
#include "background.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "rainfs/log/log.hpp"

namespace rainfs::cli {

namespace {

constexpr char ready_word = '+';
constexpr char failed_word = '-';
constexpr std::size_t longest_message = 64 * 1024;

std::string read_all(int fd) {
  std::string text;
  char buffer[1024];
  while (text.size() < longest_message) {
    const ssize_t count = ::read(fd, buffer, sizeof(buffer));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    text.append(buffer, static_cast<std::size_t>(count));
  }
  return text;
}

void write_all(int fd, const std::string& text) {
  for (std::size_t written = 0; written < text.size();) {
    const ssize_t count = ::write(fd, text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;  // the parent is gone: nobody to tell
    written += static_cast<std::size_t>(count);
  }
}

int await_word(int fd, pid_t child, int failure_status) {
  const std::string word = read_all(fd);
  if (!word.empty() && word[0] == ready_word) return 0;
  if (!word.empty()) {
    std::fprintf(stderr, "rainfs: %s\n", word.c_str() + 1);
  } else {
    int status = 0;
    ::waitpid(child, &status, 0);
    std::fprintf(stderr, "rainfs: the daemon ended before it could serve (%s %d)\n",
                 WIFSIGNALED(status) ? "signal" : "status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
  }
  return failure_status;
}

// systemd's stream protocol: a header of seven lines, then one line per message with a <priority>.
base::UniqueFd journal_stream(const std::string& identifier) {
  base::UniqueFd stream(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, "/run/systemd/journal/stdout");
  if (!stream || ::connect(stream.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return {};
  constexpr int default_priority = 6;
  // identifier, unit, default priority, priorities are prefixed, not to syslog, kmsg or console
  const std::string header = fmt::format("{}\n\n{}\n1\n0\n0\n0\n", identifier, default_priority);
  if (::send(stream.get(), header.data(), header.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(header.size()))
    return {};
  return stream;
}

void replace(int descriptor, int by) {
  if (by >= 0) ::dup2(by, descriptor);
}

}  // namespace

base::Result<Background> Background::start(int failure_status) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return base::unexpected(errno, "pipe");
  const base::UniqueFd reader(ends[0]);
  base::UniqueFd writer(ends[1]);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return base::unexpected(errno, "fork");
  Background background;
  if (child > 0) {
    writer.reset();
    background.exit_status_ = await_word(reader.get(), child, failure_status);
    return background;
  }
  ::setsid();
  [[maybe_unused]] const int moved = ::chdir("/");  // hold no directory of the caller's
  background.report_ = std::move(writer);
  return background;
}

void Background::ready() {
  const base::UniqueFd nowhere(::open("/dev/null", O_RDWR | O_CLOEXEC));
  replace(STDIN_FILENO, nowhere.get());
  replace(STDOUT_FILENO, nowhere.get());
  write_all(report_.get(), std::string(1, ready_word));
  report_.reset();
}

void Background::failed(const std::string& message) {
  write_all(report_.get(), failed_word + message);
  report_.reset();
}

void redirect_log(const std::string& identifier, const std::string& file) {
  if (const base::UniqueFd journal = journal_stream(identifier)) {
    log::use_journal_prefixes(true);
    replace(STDERR_FILENO, journal.get());
    return;
  }
  base::UniqueFd target(::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640));
  if (!target) {
    log::warning("log-file", "{}: {}; nothing is logged from now on", file, ::strerrordesc_np(errno));
    target.reset(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  }
  replace(STDERR_FILENO, target.get());
}

}  // namespace rainfs::cli
