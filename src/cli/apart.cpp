// SPDX-License-Identifier: Apache-2.0
#include "apart.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "rainfs/base/unique_fd.hpp"

namespace rainfs::cli {

namespace {

constexpr char good_word = '+';
constexpr char bad_word = '-';
constexpr std::size_t longest_text = 64 << 20;

void write_all(int fd, const std::string& text) {
  for (std::size_t written = 0; written < text.size();) {
    const ssize_t count = ::write(fd, text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;  // nobody waits any more
    written += static_cast<std::size_t>(count);
  }
}

[[noreturn]] void be_apart(int answer, const std::function<base::Result<std::string>()>& work) {
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (null >= 0) ::dup2(null, standard);
  }
  ::setsid();  // a terminal's interrupt is for the one who waits
  std::string text;
  try {
    auto result = work();
    text = result ? good_word + *result : bad_word + result.error().message();
  } catch (const std::exception& e) {
    text = std::string(1, bad_word) + e.what();
  }
  write_all(answer, text);
  // By hand: the kernel closes a process's descriptors only when its last thread is gone, and one may be stuck.
  ::close(answer);
  // Not exit(): threads and descriptors may be stuck, and are none of the caller's business.
  ::_exit(EXIT_SUCCESS);
}

}  // namespace

base::Result<std::string> do_apart(const std::function<base::Result<std::string>()>& work, base::Duration bound) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return base::unexpected(errno, "pipe");
  const base::UniqueFd read_end(ends[0]);
  base::UniqueFd write_end(ends[1]);
  const pid_t between = ::fork();
  if (between < 0) return base::unexpected(errno, "fork");
  if (between == 0) {
    // Twice, so that init and not the caller has to bury it.
    const pid_t apart = ::fork();
    if (apart == 0) be_apart(write_end.get(), work);
    ::_exit(apart < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
  }
  write_end.reset();
  int status = 0;
  while (::waitpid(between, &status, 0) < 0 && errno == EINTR) {
  }
  const base::Deadline due = base::Deadline::in(base::Clock::system(), bound);
  std::string text;
  std::array<char, 65536> buffer{};
  while (text.size() < longest_text) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(due.at() - base::Clock::system().now());
    if (left.count() <= 0) return base::unexpected(ETIMEDOUT);
    pollfd waited{read_end.get(), POLLIN, 0};
    const int ready = ::poll(&waited, 1, static_cast<int>(std::min<std::int64_t>(left.count(), 60000)));
    if (ready < 0 && errno != EINTR) return base::unexpected(errno, "poll");
    if (ready <= 0) continue;
    const ssize_t count = ::read(read_end.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
  if (text.empty()) return base::unexpected(EIO, "it ended without an answer");
  if (text.front() == bad_word) return base::unexpected(base::config_error(text.substr(1)));
  return text.substr(1);
}

}  // namespace rainfs::cli
