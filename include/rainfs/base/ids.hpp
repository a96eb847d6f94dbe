// SPDX-License-Identifier: Apache-2.0
// Small identities every layer shares. Value types.
#pragma once

#include <bit>
#include <cstdint>
#include <string>

namespace rainfs::base {

// An export's place in the array's list; never reused while the array lives (retired exports keep theirs).
using ExportIndex = std::uint8_t;
// An array has at most 64 exports and witnesses together: sets of them are one machine word.
inline constexpr unsigned max_exports = 64;

class ExportSet {
 public:
  constexpr ExportSet() = default;
  constexpr explicit ExportSet(std::uint64_t bits) : bits_(bits) {}
  static constexpr ExportSet of(ExportIndex index) { return ExportSet(std::uint64_t{1} << index); }
  static constexpr ExportSet first(unsigned count) {
    return ExportSet(count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1);
  }
  constexpr bool contains(ExportIndex index) const { return ((bits_ >> index) & 1) != 0; }
  constexpr void insert(ExportIndex index) { bits_ |= std::uint64_t{1} << index; }
  constexpr void erase(ExportIndex index) { bits_ &= ~(std::uint64_t{1} << index); }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr unsigned size() const { return static_cast<unsigned>(std::popcount(bits_)); }
  constexpr std::uint64_t bits() const { return bits_; }
  friend constexpr ExportSet operator|(ExportSet a, ExportSet b) { return ExportSet(a.bits_ | b.bits_); }
  friend constexpr ExportSet operator&(ExportSet a, ExportSet b) { return ExportSet(a.bits_ & b.bits_); }
  friend constexpr ExportSet operator-(ExportSet a, ExportSet b) { return ExportSet(a.bits_ & ~b.bits_); }
  ExportSet& operator|=(ExportSet other) {
    bits_ |= other.bits_;
    return *this;
  }
  friend constexpr bool operator==(ExportSet, ExportSet) = default;

  // for (ExportIndex index : set)
  class Iterator {
   public:
    constexpr explicit Iterator(std::uint64_t rest) : rest_(rest) {}
    constexpr ExportIndex operator*() const { return static_cast<ExportIndex>(std::countr_zero(rest_)); }
    constexpr Iterator& operator++() {
      rest_ &= rest_ - 1;
      return *this;
    }
    friend constexpr bool operator==(Iterator, Iterator) = default;

   private:
    std::uint64_t rest_;
  };
  constexpr Iterator begin() const { return Iterator(bits_); }
  constexpr Iterator end() const { return Iterator(0); }

 private:
  std::uint64_t bits_ = 0;
};

// A random UUID (RFC 4122 version 4) in its usual text form.
std::string make_uuid();
bool is_uuid(const std::string& text);

}  // namespace rainfs::base
