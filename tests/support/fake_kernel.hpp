// SPDX-License-Identifier: Apache-2.0
// Plays the kernel for a fuse::Session over a socket pair: sends requests as Linux does and reads the replies. The
// session's side runs in the same thread, so that each step is the test's. Needs a message boundary-keeping socket.
#pragma once

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "rainfs/fuse/session.hpp"

namespace rainfs::test {

struct Reply {
  bool any = false;
  int error = 0;
  std::string body;

  template <typename T>
  T as(std::size_t offset = 0) const {
    T value{};
    if (offset + sizeof(T) <= body.size()) std::memcpy(&value, body.data() + offset, sizeof(T));
    return value;
  }
};

template <typename T>
std::string bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}
inline std::string c_string(std::string_view text) {
  return std::string(text) + '\0';
}

class FakeKernel {
 public:
  explicit FakeKernel(tree::FileSystem& file_system, fuse::Options options = {}) {
    int ends[2] = {-1, -1};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    end_.reset(ends[0]);
    session_ = std::move(fuse::Session::create(file_system, options, base::UniqueFd(ends[1]))).value();
  }

  std::uint32_t uid = 0, gid = 0;
  fuse::Worker worker;

  fuse::Session& session() { return *session_; }

  // Sends a request; its unique number.
  std::uint64_t send(std::uint32_t opcode, std::uint64_t node, const std::string& body) {
    fuse_in_header header{};
    header.len = static_cast<std::uint32_t>(sizeof(header) + body.size());
    header.opcode = opcode;
    header.unique = next_ += 2;  // odd numbers are interrupts
    header.nodeid = node;
    header.uid = uid;
    header.gid = gid;
    header.pid = static_cast<std::uint32_t>(::getpid());
    const std::string message = bytes_of(header) + body;
    if (::send(end_.get(), message.data(), message.size(), 0) != static_cast<ssize_t>(message.size())) std::abort();
    return header.unique;
  }
  void send_raw(const std::string& message) {
    if (::send(end_.get(), message.data(), message.size(), 0) != static_cast<ssize_t>(message.size())) std::abort();
  }
  // The session takes one request and works on it.
  void step() { step(worker); }
  void step(fuse::Worker& by) {
    const fuse::Received received = session_->receive(by);
    if (received == fuse::Received::request || received == fuse::Received::forget) session_->process(by);
  }
  Reply receive(int timeout_ms = 0) {
    pollfd ready{end_.get(), POLLIN, 0};
    Reply reply;
    if (::poll(&ready, 1, timeout_ms) != 1) return reply;
    std::string buffer(1 << 17, '\0');
    const ssize_t count = ::recv(end_.get(), buffer.data(), buffer.size(), 0);
    if (count < static_cast<ssize_t>(sizeof(fuse_out_header))) return reply;
    fuse_out_header header{};
    std::memcpy(&header, buffer.data(), sizeof(header));
    reply.any = true;
    reply.error = -header.error;
    reply.body = buffer.substr(sizeof(header), static_cast<std::size_t>(count) - sizeof(header));
    return reply;
  }
  Reply call(std::uint32_t opcode, std::uint64_t node, const std::string& body) {
    send(opcode, node, body);
    step();
    return receive();
  }
  // Nobody takes replies any more.
  void hang_up() { end_.reset(); }

  Reply init(std::uint64_t flags = ~std::uint64_t{0}) {
    fuse_init_in body{};
    body.major = FUSE_KERNEL_VERSION;
    body.minor = FUSE_KERNEL_MINOR_VERSION;
    body.max_readahead = 128 * 1024;
    body.flags = static_cast<std::uint32_t>(flags) & ~static_cast<std::uint32_t>(FUSE_INIT_RESERVED);
    body.flags2 = static_cast<std::uint32_t>(flags >> 32);
    return call(FUSE_INIT, 0, bytes_of(body));
  }
  Reply lookup(std::uint64_t parent, std::string_view name) { return call(FUSE_LOOKUP, parent, c_string(name)); }
  Reply create(std::uint64_t parent, std::string_view name, std::uint32_t flags, std::uint32_t mode,
               std::uint32_t open_flags = 0, std::uint32_t opcode = FUSE_CREATE) {
    const fuse_create_in body{flags, mode | S_IFREG, 0, open_flags};
    return call(opcode, parent, bytes_of(body) + c_string(name));
  }
  Reply write(std::uint64_t node, std::uint64_t handle, const std::string& data, std::uint32_t write_flags = 0) {
    fuse_write_in body{};
    body.fh = handle;
    body.size = static_cast<std::uint32_t>(data.size());
    body.write_flags = write_flags;
    return call(FUSE_WRITE, node, bytes_of(body) + data);
  }
  Reply release(std::uint64_t node, std::uint64_t handle) {
    fuse_release_in body{};
    body.fh = handle;
    return call(FUSE_RELEASE, node, bytes_of(body));
  }

 private:
  base::UniqueFd end_;
  std::unique_ptr<fuse::Session> session_;
  std::uint64_t next_ = 0;
};

}  // namespace rainfs::test
