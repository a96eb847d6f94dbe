// SPDX-License-Identifier: Apache-2.0
// One request within its callback: who asks, and exactly one reply. Belongs to the callback's thread.
#pragma once

#include <new>
#include <string_view>
#include <utility>

#include "session_impl.hpp"

namespace rainfs::fuse {

class Request {
 public:
  explicit Request(fuse_req_t raw) : raw_(raw), session_(*static_cast<Session::Impl*>(fuse_req_userdata(raw))) {}

  fuse_req_t raw() const { return raw_; }
  Session::Impl& session() const { return session_; }
  tree::FileSystem& file_system() const { return session_.file_system; }
  Context& context() const { return *Context::current; }
  bool answered() const { return answered_; }
  uid_t uid() const { return fuse_req_ctx(raw_)->uid; }

  tree::Caller caller() const {
    const fuse_ctx& context = *fuse_req_ctx(raw_);
    return {session_.callers.credentials(context.uid, context.gid, context.pid, context.umask), context.pid};
  }

  // Replies. They return false if nobody waits for the answer any more (the caller was killed): what the
  // reply would have given away must then be taken back.
  bool error(int code) { return answer(fuse_reply_err(raw_, code)); }
  bool error(const base::Error& failure) { return error(failure.code); }
  bool done(const base::Result<void>& result) { return error(result ? 0 : result.error().code); }
  bool attributes(const struct stat& stat) {
    return answer(fuse_reply_attr(raw_, &stat, session_.options.attribute_timeout_s));
  }
  bool data(const void* bytes, std::size_t size) {
    return answer(fuse_reply_buf(raw_, static_cast<const char*>(bytes), size));
  }
  bool written(std::size_t count) { return answer(fuse_reply_write(raw_, count)); }
  bool position(off_t offset) { return answer(fuse_reply_lseek(raw_, offset)); }
  bool text(const char* target) { return answer(fuse_reply_readlink(raw_, target)); }
  bool statistics(const struct statvfs& value) { return answer(fuse_reply_statfs(raw_, &value)); }
  bool size(std::size_t value) { return answer(fuse_reply_xattr(raw_, value)); }
  bool lock(const struct flock& value) { return answer(fuse_reply_lock(raw_, &value)); }
  bool opened(const fuse_file_info& info) { return answer(fuse_reply_open(raw_, &info)); }
  bool created(const fuse_entry_param& entry, const fuse_file_info& info) {
    return answer(fuse_reply_create(raw_, &entry, &info));
  }
  void none() {
    answered_ = true;
    fuse_reply_none(raw_);
  }
  // The kernel counts the entry's node from this reply on: a reply that nobody takes is forgotten.
  void entry(const base::Result<tree::Entry>& result) {
    if (!result) {
      error(result.error());
      return;
    }
    const fuse_entry_param parameter = session_.parameter_of(*result);
    if (!answer(fuse_reply_entry(raw_, &parameter))) file_system().forget(result->node, 1);
  }
  // Another thread replies.
  void handed_over() {
    answered_ = true;
    context().handed_over = true;
  }

 private:
  bool answer(int result) {
    answered_ = true;
    return result == 0;
  }

  fuse_req_t raw_;
  Session::Impl& session_;
  bool answered_ = false;
};

// Runs a callback's body: no exception leaves it, and no request goes unanswered.
void report_exception(Request& request) noexcept;

template <typename Body>
void answer(fuse_req_t raw, Body&& body) noexcept {
  Request request(raw);
  try {
    body(request);
  } catch (...) {
    report_exception(request);
  }
}

}  // namespace rainfs::fuse
