// SPDX-License-Identifier: Apache-2.0
#include "rainfs/tree/held_files.hpp"

namespace rainfs::tree {

namespace {
// For as long as a program may be kept waiting between two steps of an open(2) on a busy machine, and not too many.
constexpr base::Duration held_for = std::chrono::seconds(2);
constexpr std::size_t most_held = 256;
}  // namespace

void HeldFiles::add(std::unique_ptr<OpenFile> file, std::uint64_t bytes, base::TimePoint now) {
  const std::lock_guard lock(mutex_);
  held_.push_back({std::move(file), bytes, now});
  bytes_ += bytes;
}

void HeldFiles::take_first(Files& files) {
  bytes_ -= held_.front().bytes;
  files.push_back(std::move(held_.front().file));
  held_.pop_front();
}

HeldFiles::Files HeldFiles::due(base::TimePoint now) {
  Files files;
  const std::lock_guard lock(mutex_);
  while (!held_.empty() && (held_.front().since < now - held_for || held_.size() > most_held || bytes_ > most_bytes))
    take_first(files);
  return files;
}

HeldFiles::Files HeldFiles::all() {
  Files files;
  const std::lock_guard lock(mutex_);
  while (!held_.empty()) take_first(files);
  return files;
}

}  // namespace rainfs::tree
