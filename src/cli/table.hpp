// SPDX-License-Identifier: Apache-2.0
// Columns of text under their headings. Not synchronised.
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace rainfs::cli {

class Table {
 public:
  explicit Table(std::vector<std::string> headings) : rows_{std::move(headings)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  void print(std::ostream& out, std::string_view indent = "") const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// Control characters, with which a name could make a line its own, as \xNN.
std::string printable(const std::string& text);

}  // namespace rainfs::cli
