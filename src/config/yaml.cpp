// SPDX-License-Identifier: Apache-2.0
#include "rainfs/config/yaml.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "rainfs/base/unique_fd.hpp"
#include "rainfs/config/values.hpp"

namespace rainfs::config {

namespace {

// Levenshtein distance, for "did you mean".
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

bool is_utf8(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80                   ? 1
                               : lead >= 0xc2 && lead < 0xe0 ? 2
                               : lead >= 0xe0 && lead < 0xf0 ? 3
                               : lead >= 0xf0 && lead < 0xf5 ? 4
                                                             : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (std::size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

std::string shown(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 80)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  if (text.size() > 80) out += "...";
  return out;
}

int line_of_node(const YAML::Node& node, int otherwise) {
  const YAML::Mark mark = node.Mark();
  return mark.is_null() || mark.line < 0 ? otherwise : mark.line + 1;
}

std::string_view kind_of(const YAML::Node& node) {
  if (node.IsMap()) return "a mapping";
  if (node.IsSequence()) return "a list";
  if (node.IsScalar()) return "a single value";
  return "nothing";
}

}  // namespace

void Problems::add(int line, std::string text) {
  items_.push_back({line, std::move(text)});
}

std::string Problems::line_of(const Item& item) const {
  if (item.line <= 0) return fmt::format("{}: {}", where_, item.text);
  return fmt::format("{}:{}: {}", where_, item.line, item.text);
}

std::vector<Problems::Item> Problems::sorted() const {
  std::vector<Item> items = items_;
  std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) { return a.line < b.line; });
  return items;
}

base::Error Problems::all() const {
  std::string text;
  std::size_t count = 0;
  for (const Item& item : sorted()) {
    if (count == most_shown) {
      text += fmt::format("\n{}: and {} more", where_, items_.size() - most_shown);
      break;
    }
    if (count++ > 0) text += '\n';
    text += line_of(item);
  }
  return base::config_error(std::move(text));
}

base::Error Problems::first() const {
  return base::config_error(items_.empty() ? std::string{} : line_of(sorted().front()));
}

Mapping::Mapping(const YAML::Node& node, int line, std::string what, Problems& problems)
    : what_(std::move(what)), line_(line), problems_(&problems) {
  if (!node.IsMap()) return;
  for (const auto& pair : node) {
    const int key_line = line_of_node(pair.first, line);
    if (!pair.first.IsScalar()) {
      problems_->add(key_line, fmt::format("a key of {} is {}; keys are plain words", what_, kind_of(pair.first)));
      continue;
    }
    // The library keeps both of two equal keys and answers with the first: nobody means that.
    const auto same = std::find_if(entries_.begin(), entries_.end(),
                                   [&](const Entry& entry) { return entry.key == pair.first.Scalar(); });
    if (same != entries_.end()) {
      problems_->add(key_line, fmt::format("'{}' is given twice in {} (first on line {}); remove one", shown(same->key),
                                           what_, same->line));
      continue;
    }
    entries_.push_back({pair.first.Scalar(), pair.second, key_line});
  }
}

Mapping::Entry* Mapping::find(std::string_view key) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) known_.emplace_back(key);
  for (Entry& entry : entries_) {
    if (entry.key != key) continue;
    entry.known = true;
    return &entry;
  }
  return nullptr;
}

int Mapping::line_of(std::string_view key) const {
  for (const Entry& entry : entries_) {
    if (entry.key == key) return entry.line;
  }
  return line_;
}

bool Mapping::has(std::string_view key) {
  return find(key) != nullptr;
}

bool Mapping::require(std::string_view key, std::string_view remedy) {
  if (has(key)) return true;
  problems_->add(line_, fmt::format("{} has no '{}'; {}", what_, key, remedy));
  return false;
}

void Mapping::add_problem(std::string_view key, std::string text) {
  problems_->add(line_of(key), std::move(text));
}

std::optional<Scalar> Mapping::as_scalar(const YAML::Node& node, int line, std::string_view key) {
  if (node.IsScalar() && !node.Scalar().empty()) {
    return Scalar{node.Scalar(), line_of_node(node, line), node.Tag() == "!"};
  }
  problems_->add(line, fmt::format("'{}' of {} is {}; write one value after the colon", key, what_,
                                   node.IsScalar() ? "empty" : kind_of(node)));
  return std::nullopt;
}

std::optional<Scalar> Mapping::scalar(std::string_view key) {
  const Entry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  return as_scalar(entry->value, entry->line, key);
}

std::optional<std::uint64_t> Mapping::number(std::string_view key, std::uint64_t low, std::uint64_t high) {
  const auto value = scalar(key);
  if (!value) return std::nullopt;
  const auto number = parse_number(value->text);
  if (number && *number >= low && *number <= high) return *number;
  problems_->add(value->line, fmt::format("'{}' of {} is '{}'; write a whole number from {} to {}", key, what_,
                                          shown(value->text), low, high));
  return std::nullopt;
}

std::optional<bool> Mapping::boolean(std::string_view key) {
  const auto index = choice(key, {"false", "true"});
  if (!index) return std::nullopt;
  return *index == 1;
}

std::optional<std::size_t> Mapping::choice(std::string_view key, std::initializer_list<std::string_view> words) {
  const auto value = scalar(key);
  if (!value) return std::nullopt;
  const auto* const found = std::find(words.begin(), words.end(), value->text);
  if (found != words.end()) return static_cast<std::size_t>(found - words.begin());
  problems_->add(value->line,
                 fmt::format("'{}' of {} is '{}'; write {}", key, what_, shown(value->text), fmt::join(words, " or ")));
  return std::nullopt;
}

std::optional<Mapping> Mapping::mapping(std::string_view key, std::string what) {
  const Entry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  if (!entry->value.IsMap()) {
    problems_->add(entry->line, fmt::format("'{}' of {} is {}; write a mapping: {}: {{ key: value, ... }}", key, what_,
                                            kind_of(entry->value), key));
    return std::nullopt;
  }
  return Mapping(entry->value, entry->line, std::move(what), *problems_);
}

std::optional<YAML::Node> Mapping::sequence(std::string_view key) {
  const Entry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  if (entry->value.IsSequence()) return entry->value;
  problems_->add(entry->line, fmt::format("'{}' of {} is {}; write a list, each item after '- '", key, what_,
                                          kind_of(entry->value)));
  return std::nullopt;
}

std::vector<Mapping> Mapping::mappings(std::string_view key, std::string_view what) {
  std::vector<Mapping> out;
  const auto list = sequence(key);
  if (!list) return out;
  std::size_t number = 0;
  for (const auto& item : *list) {
    const int line = line_of_node(item, line_of(key));
    ++number;
    if (!item.IsMap()) {
      problems_->add(line,
                     fmt::format("{} {} is {}; write a mapping: - {{ key: value, ... }}", what, number, kind_of(item)));
      continue;
    }
    out.emplace_back(item, line, fmt::format("{} {}", what, number), *problems_);
  }
  return out;
}

std::vector<Scalar> Mapping::scalars(std::string_view key) {
  std::vector<Scalar> out;
  const auto list = sequence(key);
  if (!list) return out;
  for (const auto& item : *list) {
    if (auto value = as_scalar(item, line_of_node(item, line_of(key)), key)) out.push_back(std::move(*value));
  }
  return out;
}

std::vector<std::pair<Scalar, Scalar>> Mapping::pairs() {
  std::vector<std::pair<Scalar, Scalar>> out;
  for (Entry& entry : entries_) {
    entry.known = true;
    if (auto value = as_scalar(entry.value, entry.line, entry.key)) {
      out.emplace_back(Scalar{entry.key, entry.line, false}, std::move(*value));
    }
  }
  return out;
}

void Mapping::finish() {
  for (const Entry& entry : entries_) {
    if (entry.known) continue;
    std::string_view nearest;
    std::size_t least = 3;  // more than two letters off is another word
    for (const std::string& word : known_) {
      const std::size_t off = entry.key.size() > 64 ? least : distance(entry.key, word);
      if (off < least && off < word.size()) {
        least = off;
        nearest = word;
      }
    }
    const std::string remedy = nearest.empty() ? fmt::format("known here: {}", fmt::join(known_, ", "))
                                               : fmt::format("did you mean '{}'?", nearest);
    problems_->add(entry.line, fmt::format("unknown key '{}' in {}; {}", shown(entry.key), what_, remedy));
  }
}

std::optional<Mapping> load_mapping(std::string_view text, std::string what, Problems& problems,
                                    std::string_view remedy) {
  if (text.size() > max_file_bytes) {
    problems.add(0, fmt::format("larger than {} bytes; this is not {}", max_file_bytes, what));
    return std::nullopt;
  }
  if (text.find('\0') != std::string_view::npos || !is_utf8(text)) {
    problems.add(0, fmt::format("not text in UTF-8; this is not {}, or it is damaged", what));
    return std::nullopt;
  }
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(std::string(text));
    if (documents.empty() || documents.front().IsNull()) {
      problems.add(0, fmt::format("empty; this is not {}, or it is damaged", what));
      return std::nullopt;
    }
    if (documents.size() > 1) {
      problems.add(line_of_node(documents[1], 0),
                   "a second document begins here; remove the line '---' and what follows");
      return std::nullopt;
    }
    if (!documents.front().IsMap()) {
      problems.add(
          line_of_node(documents.front(), 0),
          fmt::format("{} and not a mapping; {} consists of lines 'key: value'", kind_of(documents.front()), what));
      return std::nullopt;
    }
    return Mapping(documents.front(), 1, std::move(what), problems);
  } catch (const YAML::Exception& e) {
    problems.add(e.mark.is_null() ? 0 : e.mark.line + 1, fmt::format("not valid YAML: {}; {}", e.msg, remedy));
  } catch (const std::exception& e) {
    problems.add(0, fmt::format("not valid YAML: {}; {}", e.what(), remedy));
  }
  return std::nullopt;
}

base::Result<std::string> read_text_file(const std::string& path) {
  base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return base::unexpected(errno, path);
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return base::unexpected(errno, path);
  if (S_ISDIR(st.st_mode)) return base::unexpected(EISDIR, path);
  if (!S_ISREG(st.st_mode)) return base::unexpected(base::config_error(path + ": not a regular file"));
  std::string text;
  std::array<char, 65536> buffer{};
  for (;;) {
    const ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return base::unexpected(errno, path);
    if (n == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(n));
    if (text.size() > max_file_bytes) {
      return base::unexpected(
          base::config_error(fmt::format("{}: larger than {} bytes; not a file of RainFS", path, max_file_bytes)));
    }
  }
}

}  // namespace rainfs::config
