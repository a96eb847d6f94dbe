// SPDX-License-Identifier: Apache-2.0
#include "rainfs/fuse/session.hpp"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <numeric>
#include <string>

#include "kernel.hpp"
#include "rainfs/log/log.hpp"
#include "request.hpp"

namespace rainfs::fuse {

namespace {

constexpr std::size_t page_size = 4096;
// A request is received so that what follows the headers of a WRITE begins a page.
constexpr std::size_t write_headers = sizeof(fuse_in_header) + sizeof(fuse_write_in);
constexpr std::size_t request_start = page_size - write_headers;
constexpr std::size_t request_room = write_headers + largest_transfer;
constexpr std::size_t request_buffer_size = request_start + request_room;

void log_libfuse(enum fuse_log_level level, const char* format, va_list arguments) {
  std::array<char, 512> text{};
  std::vsnprintf(text.data(), text.size(), format, arguments);
  std::string_view line(text.data());
  while (!line.empty() && line.back() == '\n') line.remove_suffix(1);
  const auto ours =
      std::clamp(static_cast<int>(level), static_cast<int>(log::Level::error), static_cast<int>(log::Level::debug));
  log::print(static_cast<log::Level>(ours), "libfuse", "{}", line);
}

// libfuse wants it, and never calls it: requests are received by Session::receive().
ssize_t never_read(int, void*, std::size_t, void*) {
  errno = EINVAL;
  return -1;
}

ssize_t send_through(int, iovec* parts, int count, void* session) {
  return static_cast<Session::Impl*>(session)->send(parts, count);
}

// For each part of a reply the kernel looks up the page it lies in: a short reply is put together in `room` first.
std::size_t put_together(const iovec* parts, int count, std::array<std::byte, 256>& room) noexcept {
  std::size_t size = 0;
  for (const iovec* part = parts; part != parts + count; ++part) {
    if (part->iov_len > room.size() - size) return 0;
    if (part->iov_len > 0) std::memcpy(room.data() + size, part->iov_base, part->iov_len);
    size += part->iov_len;
  }
  return size;
}

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

const std::shared_ptr<base::Buffer>& Worker::reply_buffer(std::size_t size) {
  if (!reply_ || reply_.use_count() > 1 || reply_->size() < size) {
    reply_.reset();
    // Address space costs nothing, and pages come as they are touched.
    reply_ = base::Buffer::allocate(std::max(size, largest_transfer));
  }
  return reply_;
}

Worker::Worker() = default;
Worker::~Worker() = default;
Worker::Worker(Worker&&) noexcept = default;

ReplyPipe* Worker::reply_pipe() {
  if (!pipe_ && !no_pipe_) pipe_ = ReplyPipe::make();
  no_pipe_ = !pipe_;
  return pipe_.get();
}

void Worker::drop_reply_pipe() noexcept {
  pipe_.reset();
}

fuse_entry_param Session::Impl::parameter_of(const tree::Entry& entry) const {
  fuse_entry_param parameter{};
  parameter.ino = entry.node;
  parameter.generation = entry.generation;
  parameter.attr = entry.attributes;
  parameter.attr_timeout = options.attribute_timeout_s;
  parameter.entry_timeout = options.entry_timeout_s;
  return parameter;
}

ssize_t Session::Impl::send(iovec* parts, int count) noexcept {
  const auto* header = static_cast<const fuse_out_header*>(parts[0].iov_base);
  const Context* context = Context::current;
  // Notifications have unique 0; a lock granted meanwhile by another thread has no context.
  if (context != nullptr && header->unique == context->unique && header->error == 0 && count > 1) {
    iovec& last = parts[count - 1];
    if (context->opcode == FUSE_INIT && last.iov_len >= sizeof(fuse_init_out)) {
      amend_init_reply(*this, *static_cast<fuse_init_out*>(last.iov_base));
    } else if ((context->open_flags != 0 || context->backing_id != 0) && last.iov_len >= sizeof(fuse_open_out)) {
      // The reply to OPEN is a fuse_open_out, that to CREATE ends with one.
      auto* reply =
          reinterpret_cast<fuse_open_out*>(static_cast<char*>(last.iov_base) + last.iov_len - sizeof(fuse_open_out));
      reply->open_flags |= context->open_flags;
      reply->padding = static_cast<std::uint32_t>(context->backing_id);
    }
  }
  if (context != nullptr && context->ring_entry != nullptr && header->unique == context->unique)
    return context->ring_entry->put(parts, count);
  std::array<std::byte, 256> room;  // not set to zero: this is a hot path
  iovec whole{room.data(), put_together(parts, count, room)};
  if (whole.iov_len > 0) {
    parts = &whole;
    count = 1;
  }
  ssize_t sent = 0;
  do {
    sent = ::writev(device, parts, count);
  } while (sent < 0 && errno == EINTR);
  return sent_through(sent);
}

ssize_t Session::Impl::sent_through(ssize_t sent) noexcept {
  if (sent < 0 && (errno == ENODEV || errno == ENOTCONN || errno == EPIPE || errno == ECONNABORTED)) {
    // The connection is gone and with it whoever waits: the same as a caller that was killed, which is how
    // libfuse reads ENOENT (and keeps silent about).
    ended = true;
    errno = ENOENT;
  }
  return sent;
}

void report_exception(Request& request) noexcept {
  int code = EIO;
  try {
    throw;
  } catch (const std::bad_alloc&) {
    code = ENOMEM;
    log::error("out-of-memory", "a request could not be answered: out of memory");
  } catch (const std::exception& failure) {
    log::error("request-exception", "a request ended unexpectedly: {}", failure.what());
  } catch (...) {
    log::error("request-exception", "a request ended unexpectedly");
  }
  if (!request.answered()) request.error(code);
}

base::Result<std::unique_ptr<Session>> Session::create(tree::FileSystem& file_system, const Options& options,
                                                       base::UniqueFd device) {
  static std::once_flag once;
  std::call_once(once, [] { fuse_set_log_func(log_libfuse); });
  auto impl = std::make_unique<Impl>(file_system, options, device.get());
  char name[] = "rainfs";
  char* arguments[] = {name, nullptr};
  fuse_args args = {1, arguments, 0};
  impl->session = fuse_session_new(&args, &operations(), sizeof(fuse_lowlevel_ops), impl.get());
  fuse_opt_free_args(&args);  // libfuse has put copies there
  if (impl->session == nullptr) return base::unexpected(ENOMEM, "libfuse session");
  static const fuse_custom_io custom = {send_through, never_read, nullptr, nullptr};
  if (const int error = fuse_session_custom_io(impl->session, &custom, device.get()); error != 0) {
    fuse_session_destroy(impl->session);
    impl->session = nullptr;
    return base::unexpected(-error, "libfuse session");
  }
  static_cast<void>(device.release());  // fuse_session_destroy() closes it
  return std::unique_ptr<Session>(new Session(std::move(impl)));
}

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Session::~Session() {
  if (!impl_->lock_waiters.end_all(std::chrono::seconds(60))) {
    static_cast<void>(impl_.release());  // a thread is stuck in the file system and will use it
    return;
  }
  if (impl_->session != nullptr) fuse_session_destroy(impl_->session);
}

bool Session::initialised() const noexcept {
  return impl_->initialised;
}
const std::string& Session::mount_point() const noexcept {
  return impl_->options.mount_point;
}

bool Session::over_io_uring() const noexcept {
  return impl_->over_io_uring;
}
base::Result<void> Session::make_ring_entry(Worker& worker, unsigned queue) const {
  auto entry = RingEntry::make(impl_->device, queue);
  if (!entry) return base::Unexpected{entry.error()};
  worker.ring_entry_ = std::move(*entry);
  return {};
}

void Session::give_up_io_uring() noexcept {
  impl_->over_io_uring = false;
  // What the kernel cannot take, an entry for a queue that there is not, makes it give up too.
  static_cast<void>(RingEntry::make(impl_->device, RingEntry::no_queue));
}

unsigned Session::open_files() const noexcept {
  return static_cast<unsigned>(impl_->files.size());
}

Received Session::receive(Worker& worker) {
  if (!worker.request_ || worker.request_.use_count() > 1) {
    worker.request_.reset();
    worker.request_ = base::Buffer::allocate(request_buffer_size);
  }
  if (impl_->ended) return Received::ended;
  std::byte* const start = worker.request_->data() + request_start;
  if (worker.ring_entry_) return receive_from_ring(worker, start);
  const ssize_t length = ::read(impl_->device, start, request_room);
  if (length > 0) {
    worker.length_ = static_cast<std::size_t>(length);
    if (worker.length_ < sizeof(fuse_in_header)) return Received::nothing;
    const std::uint32_t opcode = reinterpret_cast<const fuse_in_header*>(start)->opcode;
    return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET ? Received::forget : Received::request;
  }
  if (length < 0) {
    // ENOENT: the caller was killed before we took its request.
    if (errno == EINTR || errno == EAGAIN || errno == ENOENT) {
      return impl_->ended ? Received::ended : Received::nothing;
    }
    if (errno != ENODEV && errno != ECONNRESET && errno != ECONNABORTED) {
      log::error("fuse-device", "reading requests failed: {}", ::strerrordesc_np(errno));
    }
  }
  impl_->ended = true;
  return Received::ended;
}

Received Session::receive_from_ring(Worker& worker, std::byte* start) noexcept {
  const int length = worker.ring_entry_->receive(start, request_room);
  if (impl_->ended) return Received::ended;  // what came may be of another file than the device
  if (length > 0) {
    worker.length_ = static_cast<std::size_t>(length);
    return Received::request;
  }
  if (length == 0) return Received::nothing;
  // ENOTCONN and ECONNABORTED: unmounted, or aborted.
  if (length == -ENOTCONN || length == -ECONNABORTED || length == -ECANCELED) return Received::ended;
  log::error("fuse-io-uring", "the kernel has not taken a reply: {}", ::strerrordesc_np(-length));
  return Received::refused;
}

void Session::refuse(const void* request, std::size_t length, RingEntry* entry) noexcept {
  if (length < sizeof(fuse_in_header)) return;
  fuse_out_header reply{sizeof(fuse_out_header), -EIO, static_cast<const fuse_in_header*>(request)->unique};
  iovec part{&reply, sizeof(reply)};
  static_cast<void>(entry != nullptr ? entry->put(&part, 1) : impl_->send(&part, 1));
}

void Session::process(Worker& worker, Activity* activity) noexcept {
  void* const start = worker.request_->data() + request_start;
  Context context;
  context.worker = &worker;
  context.ring_entry = worker.ring_entry_.get();
  if (!inspect(start, worker.length_, context)) {
    log::error("fuse-request", "a request of {} bytes makes no sense", worker.length_);
    refuse(start, worker.length_, context.ring_entry);
    return;
  }
  context.request = worker.request_;
  const auto* header = static_cast<const fuse_in_header*>(start);
  if (context.opcode == FUSE_INIT && worker.length_ >= sizeof(*header) + offsetof(fuse_init_in, flags2)) {
    const auto* body = reinterpret_cast<const fuse_init_in*>(header + 1);
    impl_->offered = body->flags;
    if ((body->flags & FUSE_INIT_EXT) != 0) impl_->offered |= std::uint64_t{body->flags2} << 32;
  }
  if (activity != nullptr) {
    activity->node.store(header->nodeid, std::memory_order_relaxed);
    activity->since_ns.store(now_ns(), std::memory_order_relaxed);
    activity->opcode.store(context.opcode, std::memory_order_release);
  }
  Context::current = &context;
  fuse_buf buffer{};
  buffer.size = worker.length_;
  buffer.mem = start;
  fuse_session_process_buf(impl_->session, &buffer);
  Context::current = nullptr;
  if (activity != nullptr) activity->opcode.store(0, std::memory_order_release);
  // The entry can take no other request before it has given back an answer to this one.
  if (context.ring_entry != nullptr && !context.handed_over && !context.ring_entry->replied()) {
    log::error("fuse-request", "request {} was left without an answer", context.opcode);
    refuse(start, worker.length_, context.ring_entry);
  }
  if (context.opcode == FUSE_INIT) impl_->initialised = true;
}

void Session::abort() noexcept {
  impl_->ended = true;
  // The number stays taken, so that late replies go nowhere instead of into a stranger's file; with the last
  // reader gone the kernel sees the device closed, and aborts the connection.
  const base::UniqueFd nowhere(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (nowhere) ::dup3(nowhere.get(), impl_->device, O_CLOEXEC);
}

bool Session::end_lock_waits(std::chrono::milliseconds bound) noexcept {
  return impl_->lock_waiters.end_all(bound);
}

void Session::release_open_files() noexcept {
  while (const std::unique_ptr<FileHandle> handle = impl_->files.remove_any()) {
    impl_->passthrough.closed(handle->node, handle->passthrough);
    try {
      impl_->file_system.release(std::move(handle->file), std::nullopt);
    } catch (...) {
      log::error("release", "an open file could not be released at the end");
    }
  }
  while (impl_->directories.remove_any()) {
  }
}

}  // namespace rainfs::fuse
