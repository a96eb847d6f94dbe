// SPDX-License-Identifier: Apache-2.0
// Errors as values: Result<T> holds a T or an Error; shaped like std::expected so that it can become it.
// Value types: no thread rules. Never throws of its own.
#pragma once

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace rainfs::base {

// Whose fault an errno is, which decides what is done about it.
enum class ErrorClass : std::uint8_t {
  file,      // the answer about this file: ENOENT, EEXIST, EACCES, ... ; passed on
  absent,    // the export's fault: EIO, ESTALE, ETIMEDOUT, ...; another replica is asked
  no_space,  // ENOSPC, EDQUOT: the export is full (for this user)
  resource,  // this node's fault: EMFILE, ENFILE, ENOMEM; says nothing of the export
  config,    // wrong input of an administrator; context says where and what to do
};

// Sorts an errno that an operation on an export returned; the list of export faults is docs/protocol.md's.
ErrorClass classify(int error_number) noexcept;

// What a user's call is told: an export's fault is EIO, whatever name the export had for it; but that an export
// is read-only is worth saying.
inline int told(int error_number) noexcept {
  return error_number != EROFS && classify(error_number) == ErrorClass::absent ? EIO : error_number;
}

struct Error {
  int code = EIO;  // errno
  ErrorClass kind = ErrorClass::file;
  std::string context;  // what was tried on what, for the log; may be empty on hot paths

  Error() = default;
  explicit Error(int code_in, std::string context_in = {})
      : code(code_in), kind(classify(code_in)), context(std::move(context_in)) {}
  Error(int code_in, ErrorClass kind_in, std::string context_in)
      : code(code_in), kind(kind_in), context(std::move(context_in)) {}

  // "context: No such file or directory"
  std::string message() const;
};

// An error of input: no errno of its own, the text is the whole message.
Error config_error(std::string text);

struct Unexpected {
  Error error;
};
inline Unexpected unexpected(Error error) {
  return Unexpected{std::move(error)};
}
inline Unexpected unexpected(int code, std::string context = {}) {
  return Unexpected{Error(code, std::move(context))};
}

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Unexpected u) : state_(std::in_place_index<1>, std::move(u.error)) {}

  bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const { return std::get<1>(state_); }
  Error& error() { return std::get<1>(state_); }
  template <typename U>
  T value_or(U&& other) const& {
    return has_value() ? value() : static_cast<T>(std::forward<U>(other));
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Unexpected u) : failed_(true), error_(std::move(u.error)) {}
  bool has_value() const noexcept { return !failed_; }
  explicit operator bool() const noexcept { return !failed_; }
  const Error& error() const { return error_; }
  Error& error() { return error_; }

 private:
  bool failed_ = false;
  Error error_{};
};

}  // namespace rainfs::base
