// SPDX-License-Identifier: Apache-2.0
// Strict reading of small YAML files: every key must be known and given once, every value of the right type,
// and all that is wrong is told at once, each with its line. For config and topology only.
// Not synchronised; nothing here throws.
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rainfs/base/result.hpp"
#include "rainfs/config/problems.hpp"

namespace rainfs::config {

// Files larger than this are not ours: the largest array has 64 exports.
inline constexpr std::size_t max_file_bytes = std::size_t{1} << 20;

struct Scalar {
  std::string text;
  int line = 0;
  bool quoted = false;
};

// One mapping while it is read. Each function that asks for a key makes the key known; finish() reports
// those that nobody asked for. Problems in a value are reported and then look like a missing value.
class Mapping {
 public:
  // `what` names it in messages: "export nas1".
  Mapping(const YAML::Node& node, int line, std::string what, Problems& problems);

  int line() const { return line_; }
  const std::string& what() const { return what_; }
  void rename(std::string what) { what_ = std::move(what); }
  // Line of a key, or of the mapping if it is not there.
  int line_of(std::string_view key) const;
  // Whether the key is there, with whatever value; makes it known.
  bool has(std::string_view key);
  // Like has(), and reports if not; `remedy` says what to write.
  bool require(std::string_view key, std::string_view remedy);

  std::optional<Scalar> scalar(std::string_view key);
  std::optional<std::uint64_t> number(std::string_view key, std::uint64_t low, std::uint64_t high);
  std::optional<bool> boolean(std::string_view key);
  // Index of the value in `words`.
  std::optional<std::size_t> choice(std::string_view key, std::initializer_list<std::string_view> words);
  std::optional<Mapping> mapping(std::string_view key, std::string what);
  // The items of a list: `what` names one item in messages.
  std::vector<Mapping> mappings(std::string_view key, std::string_view what);
  std::vector<Scalar> scalars(std::string_view key);
  // All pairs of a mapping with free keys.
  std::vector<std::pair<Scalar, Scalar>> pairs();

  void add_problem(std::string_view key, std::string text);
  void finish();

 private:
  struct Entry {
    std::string key;
    YAML::Node value;
    int line;
    bool known = false;
  };
  Entry* find(std::string_view key);
  std::optional<Scalar> as_scalar(const YAML::Node& node, int line, std::string_view key);
  std::optional<YAML::Node> sequence(std::string_view key);

  std::string what_;
  int line_;
  Problems* problems_;
  std::vector<Entry> entries_;
  std::vector<std::string> known_;  // all that were asked for, there or not
};

// The file's one document, which must be a mapping. `remedy` is what to do where it is no YAML at all.
std::optional<Mapping> load_mapping(std::string_view text, std::string what, Problems& problems,
                                    std::string_view remedy = "check indentation, quotes and brackets");

// A regular file of at most max_file_bytes.
base::Result<std::string> read_text_file(const std::string& path);

}  // namespace rainfs::config
