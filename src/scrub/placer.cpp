// SPDX-License-Identifier: Apache-2.0
#include "placer.hpp"

namespace rainfs::scrub {

namespace {
std::uint64_t bytes_of(const Placer::File& file) {
  std::uint64_t bytes = 0;
  for (const auto& built : file.replicas) bytes += built->placement.source_stat.stx_size;
  return bytes;
}
}  // namespace

void Placer::add(File file) {
  {
    const std::lock_guard lock(mutex_);
    bytes_ += bytes_of(file);
    files_.push_back(std::move(file));
    const bool seen = session_.lease->seen();
    if (files_.size() < (seen ? group_files : most_files) && bytes_ < (seen ? group_bytes : most_bytes)) return;
  }
  finish(take());
}

// A group of what has been waiting longest.
std::deque<Placer::File> Placer::take() {
  std::deque<File> group;
  std::uint64_t bytes = 0;
  const std::lock_guard lock(mutex_);
  while (!files_.empty() && group.size() < group_files && bytes < group_bytes) {
    bytes += bytes_of(files_.front());
    group.push_back(std::move(files_.front()));
    files_.pop_front();
  }
  bytes_ -= bytes;
  return group;
}

void Placer::finish(std::deque<File> files) {
  std::vector<Building*> replicas;
  for (const File& file : files) {
    for (const auto& built : file.replicas) replicas.push_back(built.get());
  }
  put_in_place(session_, replicas);
  for (File& file : files) {
    bool all = true;
    for (const auto& built : file.replicas) all = all && built->result;
    if (all) {
      session_.found(Finding::repaired, file.replicas.front()->placement.path, file.text);
    } else {
      file.replicas.clear();
      file.again();
    }
  }
}

void Placer::flush(Pool& pool) {
  while (true) {
    auto group = std::make_shared<std::deque<File>>(take());
    if (group->empty()) break;
    pool.add([this, group] { finish(std::move(*group)); });
  }
  pool.wait_until_idle();
}

}  // namespace rainfs::scrub
