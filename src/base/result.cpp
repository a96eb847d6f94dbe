// SPDX-License-Identifier: Apache-2.0
#include "rainfs/base/result.hpp"

#include <cstring>

namespace rainfs::base {

ErrorClass classify(int error_number) noexcept {
  switch (error_number) {
    case EIO:
    case ESTALE:
    case ENOTCONN:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH:
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ETIMEDOUT:
    case ENXIO:
    case ENODEV:
    case ESHUTDOWN:
    case EREMOTEIO:
    case EUCLEAN:  // a file system that found itself damaged (ext4, xfs)
    case EBADMSG:
    case EROFS:  // an export that became read-only cannot take its part of a write
    case ECANCELED:
      return ErrorClass::absent;
    case ENOSPC:
    case EDQUOT:
      return ErrorClass::no_space;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return ErrorClass::resource;
    default:
      return ErrorClass::file;
  }
}

std::string Error::message() const {
  if (kind == ErrorClass::config) return context;
  const char* text = ::strerrordesc_np(code);
  std::string out = context.empty() ? std::string{} : context + ": ";
  return out + (text != nullptr ? text : "unknown error");
}

Error config_error(std::string text) {
  return Error(EINVAL, ErrorClass::config, std::move(text));
}

}  // namespace rainfs::base
