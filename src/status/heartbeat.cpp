// SPDX-License-Identifier: Apache-2.0
#include "rainfs/status/heartbeat.hpp"

#include <fmt/format.h>

#include "private_files.hpp"

namespace rainfs::status {

namespace {

io::OperationPtr make(io::Kind kind, std::string path) {
  auto operation = std::make_shared<io::Operation>(kind);
  operation->path = std::move(path);
  return operation;
}

std::string file_of(const std::string& node) { return fmt::format("{}/{}", nodes_directory, node); }

}  // namespace

Heartbeat::Heartbeat(nas::Array& array, std::string node, std::string mount_point, std::string version)
    : array_(array),
      node_(std::move(node)),
      mount_point_(std::move(mount_point)),
      version_(std::move(version)),
      since_s_(array.clock().realtime().tv_sec) {}

Heartbeat::~Heartbeat() {
  if (!marking_) return;
  marking_.reset();
  withdraw();
}

void Heartbeat::start() {
  marking_.emplace(mark_interval, [this] {
    io::prepare_thread();
    mark();
  });
}

std::string Heartbeat::text() const {
  NodeMark mark;
  mark.mount = {node_, mount_point_, version_, since_s_, 0, true};
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
  const std::string temporary = fmt::format("{}/.{}-{}", nodes_directory, node_, sequence_++ % 2);
  const std::string contents = text();
  const auto put = [&](base::ExportIndex) {
    auto operation = make(io::Kind::make_file, temporary);
    operation->text = contents;
    operation->mode = 0600;
    return operation;
  };
  const auto remove = [&](base::ExportIndex) { return make(io::Kind::unlink, temporary); };
  base::ExportSet targets = array_.holders_online();
  for (const base::ExportIndex index : array_.holders_online()) {
    if (array_.at(index).read_only()) targets.erase(index);
  }
  nas::Answers made = array_.metadata(targets, put);
  if (const auto missing = made.with_error(ENOENT); !missing.empty()) {
    array_.metadata(missing, [](base::ExportIndex) {
      auto operation = make(io::Kind::mkdir, nodes_directory);
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
    auto operation = make(io::Kind::rename, temporary);
    operation->path2 = file_of(node_);
    return operation;
  });
}

void Heartbeat::withdraw() {
  array_.metadata(array_.holders_online(), [&](base::ExportIndex) { return make(io::Kind::unlink, file_of(node_)); });
}

}  // namespace rainfs::status
