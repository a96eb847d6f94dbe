// SPDX-License-Identifier: Apache-2.0
#include "workers.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <list>
#include <mutex>
#include <thread>

#include "kernel.hpp"
#include "rainfs/log/log.hpp"
#include "threads.hpp"

namespace rainfs::fuse {

namespace {
// A thread too many ends when there have been enough for so long.
constexpr auto linger = std::chrono::seconds(10);
}  // namespace

struct Workers::Shared : std::enable_shared_from_this<Workers::Shared> {
  struct Thread {
    pthread_t id{};
    Activity activity;
  };

  Shared(Session& session_in, unsigned most_in, unsigned most_idle_in)
      : session(session_in), most(most_in), most_idle(most_idle_in), ended(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  Session& session;
  const unsigned most;
  const unsigned most_idle;
  const base::UniqueFd ended;
  std::atomic<unsigned> receiving{0};
  // When the last one waiting was needed. The kernel wakes those that wait in turn, so each one too many costs cold
  // caches; but one that ends and is started again at once costs more.
  std::atomic<std::chrono::steady_clock::rep> short_at{0};
  mutable std::mutex mutex;   // guards what follows
  std::list<Thread> threads;  // started and not ended
  bool closing = false;       // one has seen the end: no new ones

  bool add();
  bool no_longer_short() const;
  void run(std::list<Thread>::iterator self) noexcept;
  void serve(Activity& activity);
};

bool Workers::Shared::no_longer_short() const {
  const std::chrono::steady_clock::time_point short_last{std::chrono::steady_clock::duration(short_at.load())};
  return std::chrono::steady_clock::now() > short_last + linger;
}

bool Workers::Shared::add() {
  const std::lock_guard lock(mutex);
  if (closing || threads.size() >= most) return false;
  threads.emplace_back();
  const auto self = std::prev(threads.end());
  try {
    std::thread([shared = shared_from_this(), self] { shared->run(self); }).detach();
  } catch (const std::system_error& failure) {
    threads.erase(self);
    log::warning("fuse-threads", "no further thread for requests: {}", failure.what());
    return false;
  }
  return true;
}

void Workers::Shared::run(std::list<Thread>::iterator self) noexcept {
  prepare_request_thread("rainfs-fuse");
  {
    const std::lock_guard lock(mutex);
    self->id = ::pthread_self();
  }
  try {
    serve(self->activity);
  } catch (const std::bad_alloc&) {
    log::error("out-of-memory", "a thread for requests ended: out of memory");
  }
  const std::lock_guard lock(mutex);
  threads.erase(self);
  if (threads.empty()) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(ended.get(), &one, sizeof(one));
  }
}

void Workers::Shared::serve(Activity& activity) {
  Worker worker;
  for (;;) {
    ++receiving;
    Received received = Received::ended;
    try {
      received = session.receive(worker);
    } catch (...) {
      --receiving;
      throw;
    }
    const unsigned others = --receiving;
    if (received == Received::ended) {
      const std::lock_guard lock(mutex);
      closing = true;
      return;
    }
    if (received == Received::nothing) continue;
    if (others == 0 && received == Received::request) {
      short_at = std::chrono::steady_clock::now().time_since_epoch().count();
      add();
    }
    session.process(worker, &activity);
    if (receiving >= most_idle && no_longer_short()) return;
  }
}

Workers::Workers(Session& session, unsigned most, unsigned most_idle)
    : shared_(std::make_shared<Shared>(session, std::max(most, 2U), std::max(most_idle, 1U))) {}

Workers::~Workers() = default;

base::Result<void> Workers::start() {
  if (!shared_->ended) return base::unexpected(EMFILE, "eventfd");
  if (!shared_->add()) return base::unexpected(EAGAIN, "starting a thread");
  return {};
}

int Workers::ended_descriptor() const noexcept { return shared_->ended.get(); }

bool Workers::ended() const noexcept { return count() == 0; }

unsigned Workers::count() const noexcept {
  const std::lock_guard lock(shared_->mutex);
  return static_cast<unsigned>(shared_->threads.size());
}

void Workers::wake() noexcept {
  const std::lock_guard lock(shared_->mutex);
  shared_->closing = true;
  for (const Shared::Thread& thread : shared_->threads) {
    if (thread.id != pthread_t{}) ::pthread_kill(thread.id, wake_signal());
  }
}

std::vector<std::string> Workers::in_work() const {
  static constexpr const char* names[] = {
      "?",       "LOOKUP",   "FORGET",   "GETATTR", "SETATTR",  "READLINK",  "SYMLINK", "?",           "MKNOD",
      "MKDIR",   "UNLINK",   "RMDIR",    "RENAME",  "LINK",     "OPEN",      "READ",    "WRITE",       "STATFS",
      "RELEASE", "?",        "FSYNC",    "SETXATTR", "GETXATTR", "LISTXATTR", "REMOVEXATTR", "FLUSH",  "INIT",
      "OPENDIR", "READDIR",  "RELEASEDIR", "FSYNCDIR", "GETLK",  "SETLK",     "SETLKW",  "ACCESS",      "CREATE"};
  std::vector<std::string> lines;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const std::lock_guard lock(shared_->mutex);
  for (const Shared::Thread& thread : shared_->threads) {
    const std::uint32_t opcode = thread.activity.opcode.load(std::memory_order_acquire);
    if (opcode == 0) continue;
    const auto since = now - std::chrono::nanoseconds(thread.activity.since_ns.load());
    lines.push_back(fmt::format("{} of node {} for {:.1f} s",
                                opcode < std::size(names) ? std::string(names[opcode]) : fmt::format("request {}", opcode),
                                thread.activity.node.load(), std::chrono::duration<double>(since).count()));
  }
  return lines;
}

std::chrono::nanoseconds Workers::all_busy_for() const noexcept {
  const std::chrono::nanoseconds now = std::chrono::steady_clock::now().time_since_epoch();
  const std::lock_guard lock(shared_->mutex);
  if (shared_->threads.size() < shared_->most) return {};
  std::chrono::nanoseconds shortest = std::chrono::nanoseconds::max();
  for (const Shared::Thread& thread : shared_->threads) {
    if (thread.activity.opcode.load(std::memory_order_acquire) == 0) return {};
    shortest = std::min(shortest, now - std::chrono::nanoseconds(thread.activity.since_ns.load()));
  }
  return shortest;
}

}  // namespace rainfs::fuse
