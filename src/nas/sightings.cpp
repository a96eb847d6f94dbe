// SPDX-License-Identifier: Apache-2.0
#include "rainfs/nas/sightings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "rainfs/nas/array.hpp"

namespace rainfs::nas {

std::string name_of(const Sighting& sighting) {
  return fmt::format("{}-{}", sighting.uuid, sighting.tick);
}

std::optional<Sighting> parse_sighting(std::string_view name) {
  const std::size_t dash = name.rfind('-');
  if (dash == std::string_view::npos) return std::nullopt;
  Sighting sighting{name.substr(0, dash)};
  const auto [end, error] = std::from_chars(name.data() + dash + 1, name.data() + name.size(), sighting.tick);
  if (error != std::errc{} || end != name.data() + name.size() || sighting.tick <= 0) return std::nullopt;
  return sighting;
}

namespace {

std::map<std::string_view, std::int64_t> newest_of_each(const std::vector<io::DirectoryEntry>& entries) {
  std::map<std::string_view, std::int64_t> newest;
  for (const io::DirectoryEntry& entry : entries) {
    const auto sighting = parse_sighting(entry.name);
    if (sighting) newest[sighting->uuid] = std::max(newest[sighting->uuid], sighting->tick);
  }
  return newest;
}

}  // namespace

void Sightings::take(ExportIndex holder, const std::vector<io::DirectoryEntry>& entries,
                     const topology::Topology& topology) {
  const auto newest = newest_of_each(entries);
  for (std::size_t i = 0; i < topology.exports.size(); ++i) {
    const auto there = newest.find(topology.exports[i].uuid);
    if (there == newest.end()) continue;
    std::int64_t& tick = (i == holder ? own_ : told_)[i];
    tick = std::max(tick, there->second);
  }
}

void Sightings::look_again(ExportIndex holder, const std::vector<io::DirectoryEntry>& entries,
                           const topology::Topology& topology) {
  const auto newest = newest_of_each(entries);
  const auto there = newest.find(topology.exports[holder].uuid);
  if (there != newest.end()) own_[holder] = std::max(own_[holder], there->second);
}

std::vector<std::string> superfluous_sightings(const std::vector<io::DirectoryEntry>& entries) {
  constexpr std::size_t kept = 2;
  std::map<std::string_view, std::set<std::int64_t>> ticks;
  for (const io::DirectoryEntry& entry : entries) {
    if (const auto sighting = parse_sighting(entry.name)) ticks[sighting->uuid].insert(sighting->tick);
  }
  std::vector<std::string> names;
  for (const auto& [uuid, of_one] : ticks) {
    for (auto tick = of_one.begin(); std::distance(tick, of_one.end()) > static_cast<std::ptrdiff_t>(kept); ++tick) {
      names.push_back(name_of({uuid, *tick}));
    }
  }
  return names;
}

namespace {

// Those on which the file is then, whoever made it.
ExportSet put(Array& array, ExportSet targets, base::FunctionRef<std::string(ExportIndex)> name) {
  const nas::Answers made = array.metadata(targets, [&](ExportIndex index) {
    auto operation = io::new_operation(io::Kind::make_file, fmt::format("{}/{}", sightings_directory, name(index)));
    operation->mode = 0600;
    return operation;
  });
  return made.ok() | made.with_error(EEXIST);
}

}  // namespace

void Array::mark_seen() {
  const std::int64_t tick = clock_.realtime().tv_sec / seconds_a_tick;
  const auto topology = topology_.load();
  const ExportSet targets = writable(holders_online());
  if (tick != seen_tick_) seen_marked_ = {};
  seen_tick_ = tick;
  if ((targets - seen_marked_).empty()) return;

  const auto list = [](ExportIndex) { return io::new_operation(io::Kind::read_directory, sightings_directory); };
  nas::Answers listed = metadata(targets, list);
  metadata(listed.with_error(ENOENT), [](ExportIndex) {
    auto operation = io::new_operation(io::Kind::mkdir, sightings_directory);
    operation->mode = 0700;
    return operation;
  });
  const auto name = [&](ExportIndex index) { return name_of({topology->exports[index].uuid, tick}); };
  const ExportSet marked = put(*this, targets, name);
  for (const ExportIndex about : marked) {
    put(*this, marked - ExportSet::of(about), [&](ExportIndex) { return name(about); });
  }
  seen_marked_ |= marked;
  for (const Answer& answer : listed) {
    if (!answer.ok()) continue;
    for (const std::string& old : superfluous_sightings(answer.operation->entries)) {
      metadata(ExportSet::of(answer.index), [&](ExportIndex) {
        return io::new_operation(io::Kind::unlink, fmt::format("{}/{}", sightings_directory, old));
      });
    }
  }
}

}  // namespace rainfs::nas
