// SPDX-License-Identifier: Apache-2.0
// The plain programs that benchmarks compare with: they know nothing of RainFS and do the least work.
//
//   bench_io write SIZE_BYTES PATH...     one thread per path writes SIZE bytes in blocks of 1 MiB
//                                         -> seconds without and with the fsync at the end
//   bench_io read PATH                    reads once in blocks of 1 MiB -> seconds
//   bench_io forget PATH...               drops what the page cache holds of the files
//   bench_io create|stat|list|unlink DIR FILES DIRECTORIES PROCESSES
//                                         FILES small files of 1 KiB in DIRECTORIES folders -> seconds
//   bench_io hold DIR FILES DIRECTORIES OPEN
//                                         looks all files up, keeps OPEN of them open, says "ready" and
//                                         waits for the end of its standard input
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t block_bytes = 1 << 20;
constexpr std::size_t small_file_bytes = 1 << 10;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "bench_io: %s: %s\n", what.c_str(), std::strerror(errno));
  std::_Exit(1);
}

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Not zeros: file systems and disks may treat those specially.
std::vector<unsigned char> pattern(std::size_t size_bytes) {
  std::vector<unsigned char> data(size_bytes);
  std::uint32_t state = 12345;
  for (auto& byte : data) byte = static_cast<unsigned char>((state = state * 1664525U + 1013904223U) >> 24);
  return data;
}

void write_all(int fd, const unsigned char* data, std::size_t size_bytes, const std::string& path) {
  while (size_bytes > 0) {
    const ssize_t written = ::write(fd, data, size_bytes);
    if (written < 0) fail("write " + path);
    data += written;
    size_bytes -= static_cast<std::size_t>(written);
  }
}

int write_files(std::uint64_t size_bytes, const std::vector<std::string>& paths) {
  const auto data = pattern(block_bytes);
  std::vector<int> fds;
  for (const auto& path : paths) {
    fds.push_back(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (fds.back() < 0) fail("open " + path);
  }
  const auto on_each = [&](const std::function<void(std::size_t)>& work) {
    std::vector<std::thread> threads;
    for (std::size_t i = 1; i < fds.size(); ++i) threads.emplace_back(work, i);
    work(0);
    for (auto& thread : threads) thread.join();
  };
  const auto start = Clock::now();
  on_each([&](std::size_t i) {
    for (std::uint64_t left = size_bytes; left > 0;) {
      const std::size_t count = left < block_bytes ? static_cast<std::size_t>(left) : block_bytes;
      write_all(fds[i], data.data(), count, paths[i]);
      left -= count;
    }
  });
  const double written = seconds_since(start);
  on_each([&](std::size_t i) {
    if (::fsync(fds[i]) != 0 || ::close(fds[i]) != 0) fail("fsync " + paths[i]);
  });
  std::printf("%.6f %.6f\n", written, seconds_since(start));
  return 0;
}

int read_file(const std::string& path) {
  std::vector<unsigned char> buffer(block_bytes);
  const auto start = Clock::now();
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("open " + path);
  while (true) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0) fail("read " + path);
    if (count == 0) break;
  }
  ::close(fd);
  std::printf("%.6f\n", seconds_since(start));
  return 0;
}

int forget_files(const std::vector<std::string>& paths) {
  for (const auto& path : paths) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail("open " + path);
    ::fsync(fd);  // dirty pages would stay
    if (const int error = ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); error != 0) {
      errno = error;
      fail("fadvise " + path);
    }
    ::close(fd);
  }
  return 0;
}

struct Tree {
  std::string top;
  int files;
  int directories;

  std::string directory(int number) const { return top + "/d" + std::to_string(number); }
  std::string file(int number) const { return directory(number % directories) + "/file-" + std::to_string(number); }
};

void create_one(const Tree& tree, int number) {
  static const auto data = pattern(small_file_bytes);
  const std::string path = tree.file(number);
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) fail("create " + path);
  write_all(fd, data.data(), data.size(), path);
  if (::close(fd) != 0) fail("close " + path);
}

void stat_one(const Tree& tree, int number) {
  struct stat found {};
  if (::lstat(tree.file(number).c_str(), &found) != 0) fail("stat " + tree.file(number));
}

void unlink_one(const Tree& tree, int number) {
  if (::unlink(tree.file(number).c_str()) != 0) fail("unlink " + tree.file(number));
}

// What ls -l does: the names, and the attributes of each.
void list_one(const Tree& tree, int number) {
  const std::string path = tree.directory(number);
  DIR* const directory = ::opendir(path.c_str());
  if (directory == nullptr) fail("opendir " + path);
  while (const dirent* entry = ::readdir(directory)) {
    struct stat found {};
    if (::fstatat(::dirfd(directory), entry->d_name, &found, AT_SYMLINK_NOFOLLOW) != 0) fail("stat " + path);
  }
  ::closedir(directory);
}

// Runs `work` for 0..count-1, dealt out to processes; the time is that of the slowest.
int in_processes(int count, int processes, const std::function<void(int)>& work) {
  const auto start = Clock::now();
  std::vector<pid_t> children;
  for (int p = 0; p < processes; ++p) {
    const pid_t child = ::fork();
    if (child < 0) fail("fork");
    if (child == 0) {
      for (int i = p; i < count; i += processes) work(i);
      std::_Exit(0);
    }
    children.push_back(child);
  }
  bool good = true;
  for (const pid_t child : children) {
    int status = 0;
    if (::waitpid(child, &status, 0) < 0 || status != 0) good = false;
  }
  std::printf("%.6f\n", seconds_since(start));
  return good ? 0 : 1;
}

int hold(const Tree& tree, int open_files) {
  std::vector<int> fds;
  for (int i = 0; i < tree.files; ++i) stat_one(tree, i);
  for (int i = 0; i < open_files; ++i) {
    fds.push_back(::open(tree.file(i).c_str(), O_RDONLY | O_CLOEXEC));
    if (fds.back() < 0) fail("open " + tree.file(i));
  }
  std::puts("ready");
  std::fflush(stdout);
  return std::getchar() == EOF ? 0 : 1;
}

int metadata(const std::string& what, const Tree& tree, int processes) {
  if (what == "create") {
    for (int i = 0; i < tree.directories; ++i) {
      if (::mkdir(tree.directory(i).c_str(), 0755) != 0 && errno != EEXIST) fail("mkdir " + tree.directory(i));
    }
    return in_processes(tree.files, processes, [&](int i) { create_one(tree, i); });
  }
  if (what == "stat") return in_processes(tree.files, processes, [&](int i) { stat_one(tree, i); });
  if (what == "unlink") return in_processes(tree.files, processes, [&](int i) { unlink_one(tree, i); });
  if (what == "list") return in_processes(tree.directories, processes, [&](int i) { list_one(tree, i); });
  if (what == "hold") return hold(tree, processes);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() >= 3 && words[0] == "write") {
    return write_files(std::strtoull(words[1].c_str(), nullptr, 10), {words.begin() + 2, words.end()});
  }
  if (words.size() == 2 && words[0] == "read") return read_file(words[1]);
  if (words.size() >= 2 && words[0] == "forget") return forget_files({words.begin() + 1, words.end()});
  if (words.size() == 5) {
    const Tree tree{words[1], std::atoi(words[2].c_str()), std::atoi(words[3].c_str())};
    if (tree.files > 0 && tree.directories > 0) return metadata(words[0], tree, std::atoi(words[4].c_str()));
  }
  std::fputs("usage: see the head of bench_io.cpp\n", stderr);
  return 2;
}
