// SPDX-License-Identifier: Apache-2.0
// A callable that is called before the call it is passed to returns: std::function without an allocation.
// Refers to the callable and must not outlive it. As thread-safe as what it refers to.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace rainfs::base {

// What can be referred to by a FunctionRef, which is not to hide the copying of one.
template <typename Callable, typename Reference, typename R, typename... Arguments>
concept Referable =
    !std::is_same_v<std::remove_cvref_t<Callable>, Reference> && std::is_invocable_r_v<R, Callable&, Arguments...>;

template <typename Signature>
class FunctionRef;

template <typename R, typename... Arguments>
class FunctionRef<R(Arguments...)> {
 public:
  template <Referable<FunctionRef, R, Arguments...> Callable>
  FunctionRef(Callable&& callable) noexcept  // NOLINT(bugprone-forwarding-reference-overload): see Referable
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
        call_([](void* object, Arguments... arguments) -> R {
          return (*static_cast<std::remove_reference_t<Callable>*>(object))(std::forward<Arguments>(arguments)...);
        }) {}

  R operator()(Arguments... arguments) const { return call_(object_, std::forward<Arguments>(arguments)...); }

 private:
  void* object_;
  R (*call_)(void*, Arguments...);
};

}  // namespace rainfs::base
