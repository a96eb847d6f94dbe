// SPDX-License-Identifier: Apache-2.0
// All that is wrong with what one file says, told together. Not synchronised; never throws.
#pragma once

#include <string>
#include <vector>

#include "rainfs/base/result.hpp"

namespace rainfs::config {

// What is wrong with one file.
class Problems {
 public:
  explicit Problems(std::string where) : where_(std::move(where)) {}

  // Lines count from 1; 0 means the file as a whole. `text` says what is wrong and what to do about it.
  void add(int line, std::string text);
  bool empty() const { return items_.empty(); }
  // All of them by line, one on each line of the text (at most most_shown, then their number).
  base::Error all() const;
  base::Error first() const;

  static constexpr std::size_t most_shown = 100;

 private:
  struct Item {
    int line;
    std::string text;
  };
  std::string line_of(const Item& item) const;
  std::vector<Item> sorted() const;

  std::string where_;
  std::vector<Item> items_;
};

}  // namespace rainfs::config
