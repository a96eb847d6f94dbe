// SPDX-License-Identifier: Apache-2.0
// The text of an intent, one `key: value` per line, and finding the intents there are.
#include "rainfs/replica/intent.hpp"
#include "rainfs/base/paths.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>

#include "rainfs/replica/upkeep.hpp"

namespace rainfs::replica {

namespace {

std::int64_t to_ns(const struct statx_timestamp& time) {
  return time.tv_sec * std::int64_t{1'000'000'000} + time.tv_nsec;
}

// Takes the text up to the next space.
std::string_view word(std::string_view& text) {
  const std::size_t end = std::min(text.find(' '), text.size());
  const std::string_view taken = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return taken;
}

template <typename Number>
bool number(std::string_view& text, Number& out) {
  const std::string_view digits = word(text);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  return error == std::errc{} && end == digits.data() + digits.size();
}

}  // namespace

Sight Sight::of(const struct statx& stat) {
  return {stat.stx_ino, (stat.stx_mask & STATX_BTIME) != 0 ? to_ns(stat.stx_btime) : 0, to_ns(stat.stx_ctime)};
}

bool Intent::concerns(std::string_view path) const {
  for (const std::string_view name : {std::string_view(from), std::string_view(to)}) {
    if (base::is_within(path, name) || base::is_within(name, path)) return true;
  }
  return false;
}

std::string Intent::format(const topology::Topology& topology) const {
  std::string text =
      fmt::format("operation: {}\nold: {}\nnew: {}\nkind: {}\ntime: {} {}\n", exchange ? "exchange" : "rename",
                  ledger::percent_encode(from), ledger::percent_encode(to), directory ? "directory" : "file",
                  time.tv_sec, time.tv_nsec);
  for (const auto& [key, set] :
       {std::pair("holder", holders), std::pair("unseen-old", unseen_from), std::pair("unseen-new", unseen_to)}) {
    for (const ExportIndex index : set) text += fmt::format("{}: {}\n", key, topology.exports[index].name);
  }
  for (const auto& [index, part] : parts) {
    for (const auto& [key, sight] : {std::pair("source", part.source), std::pair("target", part.target)}) {
      if (!sight) continue;
      text += fmt::format("{}: {} {} {} {}{}\n", key, topology.exports[index].name, sight->inode, sight->birth_ns,
                          sight->changed_ns, sight->believed ? "" : " stale");
    }
  }
  return text + "end:\n";
}

base::Result<Intent> Intent::parse(std::string_view text, const topology::Topology& topology) {
  Intent intent;
  bool good = true, complete = false, from = false, to = false;
  while (good && !text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) break;
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    const std::string_view key = word(line);
    if (key == "operation:") intent.exchange = line == "exchange";
    if (key == "kind:") intent.directory = line == "directory";
    if (key == "old:") from = ledger::percent_decode(line, intent.from);
    if (key == "new:") to = ledger::percent_decode(line, intent.to);
    if (key == "time:") good = number(line, intent.time.tv_sec) && number(line, intent.time.tv_nsec);
    if (key == "end:") complete = true;
    ExportSet* const set = key == "holder:"       ? &intent.holders
                           : key == "unseen-old:" ? &intent.unseen_from
                           : key == "unseen-new:" ? &intent.unseen_to
                                                  : nullptr;
    if (set == nullptr && key != "source:" && key != "target:") continue;
    const auto index = topology.export_named(word(line));
    if (!index) continue;  // retired and forgotten
    if (set != nullptr) {
      set->insert(*index);
      continue;
    }
    Sight sight;
    good = number(line, sight.inode) && number(line, sight.birth_ns) && number(line, sight.changed_ns);
    sight.believed = line != "stale";
    (key == "source:" ? intent.parts[*index].source : intent.parts[*index].target) = sight;
  }
  if (!good || !complete || !from || !to) return base::unexpected(EBADMSG, "a damaged intent");
  return intent;
}

IntentList list_intents(nas::Array& array) {
  const nas::Answers answers = array.metadata(
      array.holders_online(), [](ExportIndex) { return new_operation(io::Kind::read_directory, intents_directory); });
  IntentList found;
  found.answered = answers.ok() | answers.with_error(ENOENT);  // it is made with the first intent
  for (const nas::Answer& answer : answers) {
    if (!answer.ok()) continue;
    for (const io::DirectoryEntry& entry : answer.operation->entries) found.holders[entry.name].insert(answer.index);
  }
  return found;
}

base::Result<std::vector<Intent>> read_intents(nas::Array& array) {
  const auto topology = array.topology();
  std::vector<Intent> intents;
  std::size_t read = 0;
  for (const auto& [name, holders] : list_intents(array).holders) {
    if (++read > most_intents) break;
    int error = 0;
    for (const ExportIndex holder : holders) {  // what one does not give the next may
      auto operation = new_operation(io::Kind::read_file, fmt::format("{}/{}", intents_directory, name));
      operation->length = largest_intent_bytes;
      const Done done = perform_on(array, holder, operation);
      if (!done.ok()) {
        if (done.error != ENOENT) error = done.error;
        continue;
      }
      error = 0;
      auto intent = Intent::parse(done.operation->text, *topology);
      if (!intent) break;  // nothing had begun when its node died
      intent->name = name;
      intent->holders |= holders;
      intents.push_back(std::move(*intent));
      break;
    }
    if (error != 0) return base::unexpected(EIO, name);
  }
  return intents;
}

bool being_exchanged(nas::Array& array, std::string_view path) {
  const auto intents = read_intents(array);
  return !intents || std::any_of(intents->begin(), intents->end(), [&](const Intent& intent) {
    return intent.exchange && (base::is_within(path, intent.from) || base::is_within(path, intent.to));
  });
}

base::Result<std::set<std::string>> names_being_exchanged(nas::Array& array, std::string_view directory) {
  const auto intents = read_intents(array);
  if (!intents) return base::Unexpected{intents.error()};
  std::set<std::string> names;
  for (const Intent& intent : *intents) {
    for (const std::string& name : {intent.from, intent.to}) {
      if (!intent.exchange) continue;
      if (base::is_within(directory, name))
        return base::unexpected(EIO, "an exchange of the directory is not finished");
      if (parent_of(name) == directory) names.insert(name.substr(directory.empty() ? 0 : directory.size() + 1));
    }
  }
  return names;
}

}  // namespace rainfs::replica
