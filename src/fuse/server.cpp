// SPDX-License-Identifier: Apache-2.0
#include "rainfs/fuse/server.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <future>
#include <optional>
#include <thread>

#include "mount.hpp"
#include "rainfs/base/service_manager.hpp"
#include "rainfs/fuse/session.hpp"
#include "rainfs/log/log.hpp"
#include "ring_entry.hpp"
#include "threads.hpp"
#include "workers.hpp"

namespace rainfs::fuse {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds init_timeout{10000};  // the kernel sends INIT at once; a machine may be very busy
constexpr milliseconds wake_interval{50};
constexpr unsigned least_threads_of_queue = 8;

sigset_t served_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&set, signal);
  return set;
}

// Half the time within which systemd wants to hear from us; none if it does not.
std::optional<milliseconds> watchdog_interval() {
  const char* const period = std::getenv("WATCHDOG_USEC");
  const char* const process = std::getenv("WATCHDOG_PID");
  if (period == nullptr || (process != nullptr && std::strtol(process, nullptr, 10) != ::getpid())) return std::nullopt;
  const long long microseconds = std::strtoll(period, nullptr, 10);
  if (microseconds <= 0) return std::nullopt;
  return std::max(milliseconds(microseconds / 2000), milliseconds(1));
}

// Runs `work` in a thread of its own; false if it is not done in time (it goes on by itself).
template <typename Work>
bool done_within(milliseconds bound, Work work) {
  auto done = std::make_shared<std::promise<void>>();
  std::future<void> finished = done->get_future();
  std::thread([done, work = std::move(work)] {
    prepare_request_thread("rainfs-stop");
    work();
    done->set_value();
  }).detach();
  return finished.wait_for(bound) == std::future_status::ready;
}

}  // namespace

class Server::Impl {
 public:
  Impl(tree::FileSystem& file_system, Options options_in)
      : options(std::move(options_in)),
        file_system_(file_system),
        stop_asked(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~Impl() {
    if (session && !finished) {
      // Threads may be using it: it is left to them and to the end of the process.
      static_cast<void>(session.release());
      for (auto& pool : pools) static_cast<void>(pool.release());
    }
  }

  base::Result<void> mount();
  Ended serve(const std::function<void()>& on_hangup);

  const Options options;
  tree::FileSystem& file_system_;
  base::UniqueFd stop_asked;
  std::optional<Mount> mounted;
  std::unique_ptr<Session> session;
  // The device's, whose end is the connection's, and those of the queues of io_uring, where that was agreed.
  std::vector<std::unique_ptr<Workers>> pools;
  bool finished = false;  // no thread uses the session

 private:
  void start_queues();
  bool ended_within(milliseconds bound);
  std::vector<std::string> in_work() const;
  void wake() noexcept;
  void take_signal(int descriptor, const std::function<void()>& on_hangup);
  void begin_stop();
  void hurry();
  milliseconds next_timeout() const;
  bool is_stuck();
  Ended finish();

  enum class Stage { serving, unmounting, aborting };
  Stage stage_ = Stage::serving;
  Clock::time_point stage_ends_{};
  std::optional<milliseconds> watchdog_;
  bool stuck_ = false;
};

base::Result<void> Server::Impl::mount() {
  base::UniqueFd device;
  auto made = Mount::make(options, device);
  if (!made) return base::unexpected(made.error());
  mounted = std::move(*made);
  const auto fail = [this](base::Error error) -> base::Result<void> {
    static_cast<void>(mounted->detach());
    return base::unexpected(std::move(error));
  };
  auto created = Session::create(file_system_, options, std::move(device));
  if (!created) return fail(created.error());
  session = std::move(*created);
  pools.push_back(std::make_unique<Workers>(*session, options.most_threads, options.running_threads));
  Workers& of_device = *pools.back();
  if (const auto started = of_device.start(); !started) return fail(started.error());
  const auto until = Clock::now() + init_timeout;
  while (!session->initialised()) {
    if (of_device.ended() || Clock::now() > until) {
      return fail(base::Error(EPROTO, "the kernel and RainFS did not agree on the FUSE protocol"));
    }
    std::this_thread::sleep_for(milliseconds(1));
  }
  if (session->over_io_uring()) start_queues();
  mounted->raise_read_ahead(options.read_ahead_kib);
  return {};
}

void Server::Impl::start_queues() {
  const unsigned count = RingEntry::queues();
  const unsigned most = std::max(options.most_threads / std::max(count, 1U), least_threads_of_queue);
  for (unsigned number = 0; number < count; ++number) {
    pools.push_back(std::make_unique<Workers>(*session, most, RingQueue{number}));
    if (pools.back()->start()) continue;
    pools.pop_back();
    session->give_up_io_uring();
    return;
  }
  if (count == 0) {
    session->give_up_io_uring();
  } else {
    log::info("fuse-io-uring", "requests come over io_uring, by {} queues", count);
  }
}

// The kernel has ended the connection: threads that still wait, for a lock or for a request, are told so.
bool Server::Impl::ended_within(milliseconds bound) {
  const auto until = Clock::now() + bound;
  for (;;) {
    const bool all = std::all_of(pools.begin(), pools.end(), [](const auto& pool) { return pool->ended(); });
    if (all || Clock::now() >= until) return all;
    session->end_lock_waits(milliseconds(0));
    wake();
    std::this_thread::sleep_for(milliseconds(5));
  }
}

void Server::Impl::wake() noexcept {
  for (const auto& pool : pools) pool->wake();
}

std::vector<std::string> Server::Impl::in_work() const {
  std::vector<std::string> lines;
  for (const auto& pool : pools) {
    for (std::string& line : pool->in_work()) lines.push_back(std::move(line));
  }
  return lines;
}

void Server::Impl::begin_stop() {
  if (stage_ != Stage::serving) {
    hurry();  // asked twice: no more patience with open files
    return;
  }
  stage_ = Stage::unmounting;
  stage_ends_ = Clock::now() + options.busy_grace;
  base::notify_service_manager("STOPPING=1");
  log::info("stopping", "unmounting {}", options.mount_point);
  // Unmounting writes back what is mapped: it may take as long as the exports do, so not in this thread.
  std::thread([mount = *mounted] {
    const auto unmounted = mount.unmount();
    if (unmounted) return;
    log::notice("unmount-busy", "{}; what is open stays served for a short while", unmounted.error().message());
    if (const auto detached = mount.detach(); !detached) log::error("unmount", "{}", detached.error().message());
  }).detach();
}

void Server::Impl::hurry() {
  if (stage_ == Stage::aborting) return;
  stage_ = Stage::aborting;
  stage_ends_ = Clock::now() + options.exit_grace;
  log::notice("abort", "{} is still in use: the connection is ended", options.mount_point);
  mounted->end();
  session->abort();
}

void Server::Impl::take_signal(int descriptor, const std::function<void()>& on_hangup) {
  signalfd_siginfo taken{};
  if (::read(descriptor, &taken, sizeof(taken)) != static_cast<ssize_t>(sizeof(taken))) return;
  if (taken.ssi_signo == SIGHUP) {
    if (on_hangup) on_hangup();
  } else {
    begin_stop();
  }
}

milliseconds Server::Impl::next_timeout() const {
  milliseconds timeout = watchdog_.value_or(milliseconds(60000));
  if (stage_ == Stage::aborting) timeout = std::min(timeout, wake_interval);
  if (stage_ != Stage::serving) {
    const auto left = std::chrono::duration_cast<milliseconds>(stage_ends_ - Clock::now()) + milliseconds(1);
    timeout = std::clamp(left, milliseconds(0), timeout);
  }
  return timeout;
}

// All threads at one request for longer than any may take: nobody is served any more, and nothing will change that.
bool Server::Impl::is_stuck() {
  const bool stuck = std::any_of(pools.begin(), pools.end(),
                                 [&](const auto& pool) { return pool->all_busy_for() > options.stuck_after; });
  if (stuck && !stuck_) {
    for (const std::string& line : in_work()) log::error("stuck", "does not end: {}", line);
    log::error("stuck", "all {} threads for requests are taken up and none of them ends: this is a fault of RainFS's",
               options.most_threads);
  }
  stuck_ = stuck;
  return stuck;
}

Ended Server::Impl::serve(const std::function<void()>& on_hangup) {
  const sigset_t signals = served_signals();
  const base::UniqueFd signal(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  watchdog_ = watchdog_interval();
  const Workers& of_device = *pools.front();
  while (!of_device.ended()) {
    std::array<pollfd, 3> waited = {
        {{signal.get(), POLLIN, 0}, {stop_asked.get(), POLLIN, 0}, {of_device.ended_descriptor(), POLLIN, 0}}};
    const int ready = ::poll(waited.data(), waited.size(), static_cast<int>(next_timeout().count()));
    if (ready < 0 && errno != EINTR) log::error("poll", "waiting for signals failed");
    if (!is_stuck() && watchdog_) base::notify_service_manager("WATCHDOG=1");
    if (ready > 0 && waited[0].revents != 0) take_signal(signal.get(), on_hangup);
    if (ready > 0 && waited[1].revents != 0) {
      std::uint64_t count = 0;
      [[maybe_unused]] const ssize_t got = ::read(stop_asked.get(), &count, sizeof(count));
      begin_stop();
    }
    if (stage_ == Stage::unmounting && Clock::now() >= stage_ends_) hurry();
    if (stage_ == Stage::aborting) {
      wake();
      if (Clock::now() >= stage_ends_) break;
    }
  }
  return finish();
}

Ended Server::Impl::finish() {
  if (stage_ == Stage::serving) base::notify_service_manager("STOPPING=1");
  // The connection may have been ended with the mount still there (abort): nobody can use it any more.
  static_cast<void>(mounted->detach());
  const bool ended = pools.front()->ended() && ended_within(options.exit_grace);
  for (const std::string& line : in_work()) log::error("unfinished", "left behind: {}", line);
  if (!ended) return Ended::unfinished;
  if (!session->end_lock_waits(options.exit_grace)) {
    log::error("unfinished", "left behind: a wait for a lock");
    return Ended::unfinished;
  }
  if (const unsigned left = session->open_files(); left > 0) {
    log::notice("open-at-end", "{} files were open at the end: closing them", left);
    if (!done_within(options.exit_grace, [this] { session->release_open_files(); })) {
      log::error("unfinished", "left behind: {} open files", session->open_files());
      return Ended::unfinished;
    }
  }
  session->release_open_files();  // directories
  finished = true;
  return Ended::clean;
}

base::Result<std::unique_ptr<Server>> Server::create(tree::FileSystem& file_system, Options options) {
  auto impl = std::make_unique<Impl>(file_system, std::move(options));
  if (!impl->stop_asked) return base::unexpected(errno, "eventfd");
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

base::Result<void> Server::mount() {
  return impl_->mount();
}
Ended Server::serve(const std::function<void()>& on_hangup) {
  return impl_->serve(on_hangup);
}

bool Server::over_io_uring() const noexcept {
  return impl_->session != nullptr && impl_->session->over_io_uring();
}

void Server::stop() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(impl_->stop_asked.get(), &one, sizeof(one));
}

void block_signals() {
  const sigset_t set = served_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  // A client of the notify socket or of a log pipe may go away.
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, nullptr);
}

}  // namespace rainfs::fuse
