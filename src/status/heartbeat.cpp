// SPDX-License-Identifier: Apache-2.0
#include "rainfs/status/heartbeat.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "private_files.hpp"
#include "rainfs/status/gather.hpp"

namespace rainfs::status {

namespace {

// A node may have mounted the array twice. No two mount points of a node have the same name here but by intent.
std::string name_of(const std::string& node, std::string mount_point) {
  std::replace(mount_point.begin(), mount_point.end(), '/', '-');
  constexpr std::size_t longest = 200;
  if (mount_point.size() > longest) mount_point.erase(0, mount_point.size() - longest);
  return node + mount_point;
}

}  // namespace

Heartbeat::Heartbeat(nas::Array& array, std::string node, std::string mount_point, std::string version,
                     std::function<Traffic()> traffic)
    : array_(array),
      node_(std::move(node)),
      name_(name_of(node_, mount_point)),
      mount_point_(std::move(mount_point)),
      version_(std::move(version)),
      since_s_(array.clock().realtime().tv_sec),
      traffic_(std::move(traffic)),
      counted_at_(array.clock().now()) {}

Heartbeat::~Heartbeat() {
  if (!marking_) return;
  marking_.reset();
  withdraw();
}

void Heartbeat::start() {
  marking_.emplace(mark_interval, [this] {
    io::prepare_thread();
    sample();
    mark();
    array_.mark_seen();
    Report found = gather(array_, Marks::left_out);
    const std::lock_guard lock(mutex_);
    found_ = std::move(found);
  });
}

void Heartbeat::sample() {
  const Traffic now = traffic_();
  const base::TimePoint at = array_.clock().now();
  const std::lock_guard lock(mutex_);
  const double seconds = std::chrono::duration<double>(at - counted_at_).count();
  if (seconds < 1) return;  // the first beat comes at once
  const auto rate = [&](std::uint64_t after, std::uint64_t before) {
    return static_cast<std::uint64_t>(static_cast<double>(after - before) / seconds);
  };
  samples_.push_back({array_.clock().realtime().tv_sec, rate(now.read_bytes, counted_.read_bytes),
                      rate(now.written_bytes, counted_.written_bytes)});
  if (samples_.size() > most_samples) samples_.pop_front();
  counted_ = now;
  counted_at_ = at;
}

std::vector<Throughput> Heartbeat::throughput() const {
  const std::lock_guard lock(mutex_);
  return {samples_.begin(), samples_.end()};
}

Report Heartbeat::found() const {
  const std::lock_guard lock(mutex_);
  return found_;
}

std::string Heartbeat::text() const {
  NodeMark mark;
  mark.mount = {node_, mount_point_, version_, since_s_, 0, true};
  if (const auto samples = throughput(); !samples.empty()) {
    mark.mount.read_bytes_per_s = samples.back().read_bytes_per_s;
    mark.mount.written_bytes_per_s = samples.back().written_bytes_per_s;
  }
  const auto topology = array_.topology();
  for (const base::ExportIndex index : topology->fact_holders()) {
    const nas::Export& exp = array_.at(index);
    if (!exp.online()) mark.absent_since_s[exp.name()] = exp.absent_since().tv_sec;
  }
  return format_mark(mark);
}

void Heartbeat::mark() {
  // Made beside and renamed, so that a reader never meets half a file. Nothing is synced: what a crash of a NAS
  // takes away is made anew in half a minute.
  const std::string temporary = fmt::format("{}/.{}-{}", nodes_directory, name_, sequence_++ % 2);
  const std::string contents = text();
  const auto put = [&](base::ExportIndex) {
    auto operation = io::new_operation(io::Kind::make_file, temporary);
    operation->text = contents;
    operation->mode = 0600;
    return operation;
  };
  const auto remove = [&](base::ExportIndex) { return io::new_operation(io::Kind::unlink, temporary); };
  nas::Answers made = array_.metadata(array_.writable(array_.holders_online()), put);
  if (const auto missing = made.with_error(ENOENT); !missing.empty()) {
    array_.metadata(missing, [](base::ExportIndex) {
      auto operation = io::new_operation(io::Kind::mkdir, nodes_directory);
      operation->mode = 0700;
      return operation;
    });
    for (nas::Answer& answer : array_.metadata(missing, put)) *made.of(answer.index) = std::move(answer);
  }
  if (const auto left = made.with_error(EEXIST); !left.empty()) {  // by a daemon that was killed
    array_.metadata(left, remove);
    for (nas::Answer& answer : array_.metadata(left, put)) *made.of(answer.index) = std::move(answer);
  }
  array_.metadata(made.ok(), [&](base::ExportIndex) {
    auto operation = io::new_operation(io::Kind::rename, temporary);
    operation->path2 = fmt::format("{}/{}", nodes_directory, name_);
    return operation;
  });
}

void Heartbeat::withdraw() {
  array_.metadata(array_.holders_online(), [&](base::ExportIndex) {
    return io::new_operation(io::Kind::unlink, fmt::format("{}/{}", nodes_directory, name_));
  });
}

}  // namespace rainfs::status
