// SPDX-License-Identifier: Apache-2.0
#include "ring_entry.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include "rainfs/base/waiting.hpp"
#include "rainfs/fuse/options.hpp"

namespace rainfs::fuse {

namespace {

// The owner asks for its completions itself, so nothing interrupts it at work.
constexpr unsigned ring_flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
constexpr unsigned ring_size = 2;

}  // namespace

unsigned RingEntry::queues() {
  // "0-7": there are gaps on no machine that Linux knows of; the last number counts.
  std::ifstream possible("/sys/devices/system/cpu/possible");
  std::string text;
  if (!std::getline(possible, text)) return 0;
  const std::size_t last = text.find_last_of("-,");
  try {
    return static_cast<unsigned>(std::stoul(last == std::string::npos ? text : text.substr(last + 1))) + 1;
  } catch (const std::exception&) {
    return 0;
  }
}

base::Result<void> RingEntry::probe() {
  io_uring ring{};
  if (const int error = ::io_uring_queue_init(ring_size, &ring, ring_flags); error != 0)
    return base::unexpected(-error, "io_uring");
  ::io_uring_queue_exit(&ring);
  return {};
}

base::Result<std::unique_ptr<RingEntry>> RingEntry::make(int device, unsigned queue) {
  std::unique_ptr<RingEntry> entry(new RingEntry(device, queue));
  entry->payload_ = base::Buffer::allocate(largest_transfer);
  entry->parts_[0] = {&entry->headers_, sizeof(entry->headers_)};
  entry->parts_[1] = {entry->payload_->data(), entry->payload_->size()};
  if (const int error = ::io_uring_queue_init(ring_size, &entry->ring_, ring_flags); error != 0)
    return base::unexpected(-error, "io_uring");
  entry->has_ring_ = true;
  ::io_uring_register_ring_fd(&entry->ring_);  // saves a little per request
  entry->submit(kernel::ring_register);
  if (const int submitted = ::io_uring_submit(&entry->ring_); submitted < 0)
    return base::unexpected(-submitted, "io_uring");
  // What is refused is refused at once; a request that has come already stays where it is.
  io_uring_cqe* completion = nullptr;
  if (::io_uring_peek_cqe(&entry->ring_, &completion) == 0 && completion->res < 0)
    return base::unexpected(-completion->res, "registering with the kernel");
  return entry;
}

RingEntry::~RingEntry() {
  if (has_ring_) ::io_uring_queue_exit(&ring_);
}

void RingEntry::submit(std::uint32_t operation) noexcept {
  io_uring_sqe* const sqe = ::io_uring_get_sqe(&ring_);  // never full: there is one at a time
  if (sqe == nullptr) return;
  std::memset(sqe, 0, 2 * sizeof(*sqe));
  sqe->opcode = IORING_OP_URING_CMD;
  sqe->fd = device_;
  sqe->cmd_op = operation;
  if (operation == kernel::ring_register) {
    sqe->addr = reinterpret_cast<std::uintptr_t>(parts_);
    sqe->len = 2;
  }
  kernel::RingCommand command{};
  command.commit_id = headers_.entry.commit_id;
  command.queue = static_cast<std::uint16_t>(queue_);
  std::memcpy(sqe->cmd, &command, sizeof(command));
}

int RingEntry::receive(std::byte* request, std::size_t room) noexcept {
  if (replied_.exchange(false, std::memory_order_acquire)) submit(kernel::ring_commit_and_fetch);
  const int waited = ::io_uring_submit_and_wait(&ring_, 1);
  if (waited < 0 && waited != -EINTR && waited != -EAGAIN) return waited;
  io_uring_cqe* completion = nullptr;
  if (::io_uring_peek_cqe(&ring_, &completion) != 0) return 0;
  const int result = completion->res;
  ::io_uring_cqe_seen(&ring_, completion);
  if (result < 0) return result;
  return flatten(request, room);
}

// The device's form of a request: header, the operation's own header, and the rest one behind the other.
int RingEntry::flatten(std::byte* request, std::size_t room) noexcept {
  fuse_in_header header{};
  std::memcpy(&header, headers_.in_out, sizeof(header));
  const std::size_t payload = headers_.entry.payload_size;
  const std::size_t operation = header.len - sizeof(header) - payload;  // too large if one of them is wrong
  if (header.len < sizeof(header) || operation > sizeof(headers_.operation) || payload > payload_->size() ||
      header.len > room) {
    header.len = 0;  // no request is: Session::process() refuses it
    std::memcpy(request, &header, sizeof(header));
    return sizeof(header);
  }
  std::memcpy(request, &header, sizeof(header));
  std::memcpy(request + sizeof(header), headers_.operation, operation);
  std::memcpy(request + sizeof(header) + operation, payload_->data(), payload);
  return static_cast<int>(header.len);
}

ssize_t RingEntry::put(const iovec* parts, int count) noexcept {
  std::memcpy(headers_.in_out, parts[0].iov_base, std::min(parts[0].iov_len, sizeof(headers_.in_out)));
  std::size_t size = 0;
  for (int i = 1; i < count; ++i) {
    if (parts[i].iov_len > payload_->size() - size) {
      errno = EINVAL;
      return -1;
    }
    if (parts[i].iov_base != payload_->data() + size)
      std::memcpy(payload_->data() + size, parts[i].iov_base, parts[i].iov_len);
    size += parts[i].iov_len;
  }
  headers_.entry.payload_size = static_cast<std::uint32_t>(size);
  replied_.store(true, std::memory_order_release);
  replied_.notify_one();
  return static_cast<ssize_t>(parts[0].iov_len + size);
}

void RingEntry::wait_for_reply() const noexcept {
  const base::Waiting waiting;
  replied_.wait(false, std::memory_order_acquire);
}

}  // namespace rainfs::fuse
