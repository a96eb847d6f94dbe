// SPDX-License-Identifier: Apache-2.0
#include "workers.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>

#include "kernel.hpp"
#include "rainfs/base/waiting.hpp"
#include "rainfs/log/log.hpp"
#include "ring_entry.hpp"
#include "threads.hpp"

namespace rainfs::fuse {

namespace {
constexpr auto linger = std::chrono::seconds(10);    // a thread that is not needed for so long ends
constexpr auto tick = std::chrono::milliseconds(2);  // of the supervisor
constexpr auto overdue = std::chrono::milliseconds(3);
constexpr auto pause_without_ring = std::chrono::seconds(1);
constexpr auto pause_without_memory = std::chrono::milliseconds(10);
constexpr auto forgets_gather = std::chrono::milliseconds(5);
constexpr auto slow_for_others = std::chrono::milliseconds(100);
constexpr unsigned ticks_to_rest = 25;  // one thread at least was receiving at each of them

unsigned running_or_default(unsigned running) {
  return running != 0 ? running : std::max(std::thread::hardware_concurrency(), 2U);
}
}  // namespace

struct Workers::Shared : std::enable_shared_from_this<Workers::Shared> {
  struct Thread final : base::Waiting::Observer {
    explicit Thread(Shared& shared_in) : shared(shared_in) {}
    void wait_begins() noexcept override {
      shared.uncount(*this);
      if (shared.receiving == 0) shared.wake_one();
    }
    void wait_ends() noexcept override { shared.count(*this); }

    Shared& shared;
    pthread_t id{};
    Activity activity;
    std::atomic<bool> counted{true};  // in `active`
    std::condition_variable unparked;
    bool parked = false;
  };

  Shared(Session& session_in, unsigned most_in, unsigned running_in, std::optional<RingQueue> queue_in)
      : session(session_in),
        most(most_in),
        running(std::min(running_or_default(running_in), most_in)),
        queue(queue_in),
        ended(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  Session& session;
  const unsigned most;
  const unsigned running;  // threads that are to receive or process at once
  const std::optional<RingQueue> queue;
  const base::UniqueFd ended;
  std::atomic<unsigned> receiving{0};
  std::atomic<unsigned> active{0};   // threads receiving or processing, but for those that wait or are overdue
  std::atomic<bool> watched{false};  // the supervisor is at work: set by whoever leaves no thread receiving
  std::atomic<unsigned> lent{0};     // threads that wait for another one's reply
  std::atomic<unsigned> unseen{0};   // entries a queue got that what waited there already may not be given to
  mutable std::mutex mutex;          // guards what follows
  std::list<Thread> threads;         // started and not ended
  std::vector<Thread*> parked;       // the last one is the warmest
  std::condition_variable supervise;
  bool closing = false;  // one has seen the end: no new ones

  void count(Thread& thread) noexcept {
    if (!thread.counted.exchange(true)) ++active;
  }
  void uncount(Thread& thread) noexcept {
    if (thread.counted.exchange(false)) --active;
  }
  bool add(bool at_start = false);  // these three: with the mutex
  bool wake_locked();
  void close();
  void wake_one() noexcept;
  bool park(Thread& self);
  void watch();
  void supervisor() noexcept;
  void run(std::list<Thread>::iterator self, bool at_start) noexcept;
  bool prepare(Worker& worker, bool at_start);
  void give_up();
  void have_queue_looked_at() noexcept;
  // The device has nothing but what is forgotten or interrupted.
  bool is_by_the_way() const noexcept { return !queue && session.over_io_uring(); }
  unsigned at_once() const noexcept { return is_by_the_way() ? 1 : running; }
  void serve(Thread& self, bool at_start);
};

bool Workers::Shared::add(bool at_start) {
  if (closing || threads.size() >= most + lent) return false;
  threads.emplace_back(*this);
  const auto self = std::prev(threads.end());
  ++active;
  try {
    std::thread([shared = shared_from_this(), self, at_start] { shared->run(self, at_start); }).detach();
  } catch (const std::system_error& failure) {
    --active;
    threads.erase(self);
    log::warning("fuse-threads", "no further thread for requests: {}", failure.what());
    return false;
  }
  return true;
}

bool Workers::Shared::wake_locked() {
  if (parked.empty()) return add();
  Thread& thread = *parked.back();
  parked.pop_back();
  thread.parked = false;
  count(thread);
  thread.unparked.notify_one();
  return true;
}

void Workers::Shared::wake_one() noexcept {
  try {
    const std::lock_guard lock(mutex);
    wake_locked();
  } catch (const std::bad_alloc&) {  // the supervisor tries again
  }
}

// False if the thread has not been needed for long, or is needed no more.
bool Workers::Shared::park(Thread& self) {
  std::unique_lock lock(mutex);
  if (closing) return false;
  parked.push_back(&self);
  self.parked = true;
  uncount(self);
  self.unparked.wait_for(lock, linger, [&] { return !self.parked || closing; });
  if (self.parked) std::erase(parked, &self);
  return !self.parked && !closing;
}

void Workers::Shared::watch() {
  if (watched.exchange(true)) return;
  const std::lock_guard lock(mutex);
  supervise.notify_one();
}

// Sees to it that requests are taken up however many threads do not end theirs. Rests while there is nothing to see to.
void Workers::Shared::supervisor() noexcept {
  unsigned calm = 0;
  std::unique_lock lock(mutex);
  while (!closing) {
    if (!watched) {
      supervise.wait(lock, [&] { return watched || closing; });
      continue;
    }
    if (supervise.wait_for(lock, tick, [&] { return closing; })) return;
    const std::chrono::nanoseconds now = std::chrono::steady_clock::now().time_since_epoch();
    bool busy = lent > 0;  // with what others in the queue may wait for
    bool slow = busy;
    for (Thread& thread : threads) {
      if (thread.activity.opcode.load(std::memory_order_acquire) == 0) continue;
      const auto since = now - std::chrono::nanoseconds(thread.activity.since_ns.load());
      busy = true;
      if (since > overdue) uncount(thread);
      if (since > slow_for_others) slow = true;
    }
    if (slow) {
      for (unsigned looks = unseen.exchange(0); looks > 0; --looks) have_queue_looked_at();
    }
    try {
      for (unsigned now_active = active; now_active < at_once() && wake_locked(); ++now_active) {
      }
    } catch (const std::bad_alloc&) {  // at the next tick
    }
    calm = receiving > 0 && !(busy && unseen > 0) ? calm + 1 : 0;
    if (calm < ticks_to_rest) continue;
    calm = 0;
    watched = false;
    if (receiving == 0) watched = true;  // whoever left it so has seen that we were watching
  }
}

void Workers::Shared::run(std::list<Thread>::iterator self, bool at_start) noexcept {
  prepare_request_thread("rainfs-fuse");
  {
    const std::lock_guard lock(mutex);
    self->id = ::pthread_self();
  }
  base::Waiting::observe(&*self);
  try {
    serve(*self, at_start);
  } catch (const std::bad_alloc&) {
    log::error("out-of-memory", "a thread for requests ended: out of memory");
  }
  base::Waiting::observe(nullptr);
  const std::lock_guard lock(mutex);
  uncount(*self);
  threads.erase(self);
  if (threads.empty() && !closing && queue) {
    watched = true;
    supervise.notify_one();
  } else if (threads.empty()) {
    close();
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(ended.get(), &one, sizeof(one));
  }
}

void Workers::Shared::close() {
  closing = true;  // the supervisor ends too
  for (Thread* thread : parked) thread->unparked.notify_one();
  supervise.notify_one();
}

// The kernel has no entry of this queue, and gets none.
void Workers::Shared::give_up() {
  session.give_up_io_uring();
  const std::lock_guard lock(mutex);
  close();
}

// The kernel (6.14 to 6.18 at least) gives a new entry only what is asked after it was registered; what waits already
// goes to an entry that gives back a reply. So each new one gets something to reply to, where that may take long
// otherwise (not always, as it keeps the mount busy meanwhile): one look for several would leave the others idle beside
// a queue. In a thread of its own, as it waits itself if something else came first.
void Workers::Shared::have_queue_looked_at() noexcept {
  try {
    std::thread([number = queue->number, path = session.mount_point()] {
      stay_on_processor(number);
      ::getxattr(path.c_str(), kernel::attribute_of_nobody, nullptr, 0);
    }).detach();
  } catch (const std::exception& failure) {
    log::warning("fuse-threads", "requests may wait for others: {}", failure.what());
  }
}

// Gives a thread of a queue its entry, and keeps the one that was there at the start on the queue's processor.
bool Workers::Shared::prepare(Worker& worker, bool at_start) {
  if (!queue) return true;
  if (const auto made = session.make_ring_entry(worker, queue->number); !made) {
    log::warning("fuse-io-uring", "no further thread for requests over io_uring: {}", made.error().message());
    if (at_start) {
      give_up();
    } else {
      std::this_thread::sleep_for(pause_without_ring);  // and then the supervisor tries again
    }
    return false;
  }
  if (at_start) {
    stay_on_processor(queue->number);
  } else {
    ++unseen;
  }
  return true;
}

void Workers::Shared::serve(Thread& self, bool at_start) {
  Worker worker;
  if (!prepare(worker, at_start)) return;
  for (;;) {
    ++receiving;
    Received received = Received::ended;
    try {
      received = session.receive(worker);
    } catch (const std::bad_alloc&) {
      --receiving;
      if (!queue) throw;
      std::this_thread::sleep_for(pause_without_memory);  // its entry may have been given a request already
      continue;
    }
    const unsigned others = --receiving;
    if (received == Received::ended) {
      const std::lock_guard lock(mutex);
      close();
      return;
    }
    if (received == Received::nothing) continue;
    if (received == Received::refused) return;  // the supervisor starts another one if there is none
    if (others == 0 && received == Received::request) watch();
    session.process(worker, &self.activity);
    if (RingEntry* const entry = worker.ring_entry(); entry != nullptr && !entry->replied()) {
      ++lent;
      entry->wait_for_reply();
      --lent;
    }
    count(self);
    if (!queue && active > at_once() && receiving > 0 && !park(self)) return;
    // While nobody waits at the device, what the kernel forgets gathers, and comes in one request.
    if (received == Received::forget && is_by_the_way()) std::this_thread::sleep_for(forgets_gather);
  }
}

Workers::Workers(Session& session, unsigned most, unsigned running)
    : shared_(std::make_shared<Shared>(session, std::max(most, 2U), running, std::nullopt)) {}

Workers::Workers(Session& session, unsigned most, RingQueue queue)
    : shared_(std::make_shared<Shared>(session, std::max(most, 2U), 1, queue)) {}

Workers::~Workers() = default;

base::Result<void> Workers::start() {
  if (!shared_->ended) return base::unexpected(EMFILE, "eventfd");
  const std::lock_guard lock(shared_->mutex);
  while (shared_->active < shared_->running) {
    if (!shared_->add(true)) return base::unexpected(EAGAIN, "starting a thread");
  }
  try {
    std::thread([shared = shared_] { shared->supervisor(); }).detach();
  } catch (const std::system_error&) {
    return base::unexpected(EAGAIN, "starting a thread");
  }
  return {};
}

int Workers::ended_descriptor() const noexcept {
  return shared_->ended.get();
}

bool Workers::ended() const noexcept {
  return count() == 0;
}

unsigned Workers::count() const noexcept {
  const std::lock_guard lock(shared_->mutex);
  return static_cast<unsigned>(shared_->threads.size());
}

void Workers::wake() noexcept {
  const std::lock_guard lock(shared_->mutex);
  shared_->close();
  for (const Shared::Thread& thread : shared_->threads) {
    if (thread.id != pthread_t{}) ::pthread_kill(thread.id, wake_signal());
  }
}

std::vector<std::string> Workers::in_work() const {
  static constexpr const char* names[] = {
      "?",       "LOOKUP",  "FORGET",     "GETATTR",  "SETATTR",  "READLINK",  "SYMLINK",     "?",      "MKNOD",
      "MKDIR",   "UNLINK",  "RMDIR",      "RENAME",   "LINK",     "OPEN",      "READ",        "WRITE",  "STATFS",
      "RELEASE", "?",       "FSYNC",      "SETXATTR", "GETXATTR", "LISTXATTR", "REMOVEXATTR", "FLUSH",  "INIT",
      "OPENDIR", "READDIR", "RELEASEDIR", "FSYNCDIR", "GETLK",    "SETLK",     "SETLKW",      "ACCESS", "CREATE"};
  std::vector<std::string> lines;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  const std::lock_guard lock(shared_->mutex);
  for (const Shared::Thread& thread : shared_->threads) {
    const std::uint32_t opcode = thread.activity.opcode.load(std::memory_order_acquire);
    if (opcode == 0) continue;
    const auto since = now - std::chrono::nanoseconds(thread.activity.since_ns.load());
    lines.push_back(
        fmt::format("{} of node {} for {:.1f} s",
                    opcode < std::size(names) ? std::string(names[opcode]) : fmt::format("request {}", opcode),
                    thread.activity.node.load(), std::chrono::duration<double>(since).count()));
  }
  return lines;
}

std::chrono::nanoseconds Workers::all_busy_for() const noexcept {
  const std::chrono::nanoseconds now = std::chrono::steady_clock::now().time_since_epoch();
  const std::lock_guard lock(shared_->mutex);
  if (shared_->threads.size() < shared_->most + shared_->lent) return {};
  std::chrono::nanoseconds shortest = std::chrono::nanoseconds::max();
  for (const Shared::Thread& thread : shared_->threads) {
    if (thread.activity.opcode.load(std::memory_order_acquire) == 0) return {};
    shortest = std::min(shortest, now - std::chrono::nanoseconds(thread.activity.since_ns.load()));
  }
  return shortest;
}

}  // namespace rainfs::fuse
