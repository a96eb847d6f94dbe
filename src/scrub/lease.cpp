// SPDX-License-Identifier: Apache-2.0
#include "lease.hpp"

#include <fmt/format.h>
#include <stdio.h>
#include <unistd.h>

#include <array>

#include "rainfs/log/log.hpp"
#include "rainfs/replica/upkeep.hpp"

namespace rainfs::scrub {

namespace {

using base::ExportIndex;
using base::ExportSet;
using io::Kind;
using replica::new_operation;
using replica::perform_on;

constexpr const char* folder = ".rainfs/scrub";
constexpr const char* announcement = ".rainfs/scrub/announced";
constexpr base::Duration beat_interval = std::chrono::seconds(3);
constexpr base::Duration announce_interval = std::chrono::seconds(1);
constexpr std::int64_t stale_after_s = 30;
constexpr base::Duration trusted_for = std::chrono::seconds(20);  // without a heartbeat that went through
// Nodes poll about every second. A poll that meets a newly hung export takes two probe deadlines longer.
constexpr base::Duration seen_after = std::chrono::milliseconds(2500);

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "node";
}

// Seconds since a file was changed, by its own export's clock: a new file tells what time it is there.
base::Result<std::int64_t> age_of(nas::Array& array, ExportIndex index, const std::string& path) {
  const std::string probe = ".rainfs/tmp/clock-" + base::make_uuid();
  auto make = new_operation(Kind::make_file, probe);
  make->mode = 0600;
  const replica::Done made = perform_on(array, index, make);
  if (!made.ok()) return base::unexpected(made.error, probe);
  perform_on(array, index, new_operation(Kind::unlink, probe));
  const replica::Done there = perform_on(array, index, new_operation(Kind::stat, path));
  if (!there.ok()) return base::unexpected(there.error, path);
  return made.operation->stat.stx_mtime.tv_sec - there.operation->stat.stx_mtime.tv_sec;
}

std::string whose(nas::Array& array, ExportIndex index, const std::string& path) {
  auto read = new_operation(Kind::read_file, path);
  read->length = 4096;
  const replica::Done done = perform_on(array, index, read);
  if (!done.ok()) return "another node";
  const std::string& text = done.operation->text;
  return text.substr(text.find(' ') + 1, text.find('\n') - text.find(' ') - 1);
}

std::vector<std::string> leases_on(nas::Array& array, ExportIndex index) {
  std::vector<std::string> names;
  const replica::Done listed = perform_on(array, index, new_operation(Kind::read_directory, folder));
  if (!listed.ok()) return names;
  for (const io::DirectoryEntry& entry : listed.operation->entries) {
    if (entry.name.starts_with("lease-")) names.push_back(entry.name);
  }
  return names;
}

}  // namespace

Lease::Lease(nas::Array& array, unsigned shard, unsigned shards)
    : array_(array),
      shards_(shards),
      tag_(base::make_uuid().substr(0, 13)),
      file_(fmt::format("{}/lease-{}of{}", folder, shard + 1, shards)),
      text_(fmt::format("{} node {}, process {}\n", tag_, host_name(), ::getpid())) {}

base::Result<std::unique_ptr<Lease>> Lease::acquire(nas::Array& array, unsigned shard, unsigned shards) {
  std::unique_ptr<Lease> lease(new Lease(array, shard, shards));
  const ExportSet holders = array.holders_online();
  if (holders.empty()) return base::unexpected(EIO, "no export can be reached");
  for (const ExportIndex index : holders) {  // in the same order on every node: the first decides
    auto taken = lease->take(index);
    if (taken) taken = lease->check_others(index);
    if (!taken && taken.error().code == EBUSY) return base::Unexpected{taken.error()};
    if (!taken) log::warning("scrub-lease", "export {}: {}", array.at(index).name(), taken.error().message());
  }
  if (lease->held_.empty()) return base::unexpected(EIO, "the scrub's lease could be written to no export");
  lease->beaten_ns_ = array.clock().now().time_since_epoch().count();
  lease->announced_since_ns_ = lease->beaten_ns_.load();
  lease->announce();
  lease->thread_ = std::thread([raw = lease.get()] {
    io::prepare_thread();
    raw->keep();
  });
  return lease;
}

base::Result<void> Lease::take(ExportIndex index) {
  for (int attempt = 0; attempt < 3; ++attempt) {
    auto make = new_operation(Kind::make_file, file_);
    make->text = text_;
    make->mode = 0600;
    make->flags = 1;
    replica::Done made = perform_on(array_, index, make);
    if (made.error == ENOENT) {
      auto directory = new_operation(Kind::mkdir, folder);
      directory->mode = 0700;
      perform_on(array_, index, directory);
      continue;
    }
    if (made.ok()) {
      held_[index] = made.operation->stat.stx_ino;
      return {};
    }
    if (made.error != EEXIST) return base::unexpected(made.error, file_);
    const std::string owner = whose(array_, index, file_);
    auto age = age_of(array_, index, file_);
    if (!age && age.error().code == ENOENT) continue;
    if (!age) return base::Unexpected{age.error()};
    if (*age < stale_after_s) {
      return base::unexpected(
          base::Error(EBUSY, base::ErrorClass::config,
                      "another scrub is running (" + owner + "); it can be watched with rainfsctl status"));
    }
    // Two who find the same dead lease must not each remove the other's fresh one.
    const std::string aside = fmt::format("{}/dead-{}-{}", folder, tag_, attempt);
    auto away = new_operation(Kind::rename, file_);
    away->path2 = aside;
    perform_on(array_, index, away);
    if (whose(array_, index, aside) != owner) {
      auto back = new_operation(Kind::link, aside);
      back->path2 = file_;
      perform_on(array_, index, back);
    } else {
      log::notice("scrub-lease-taken", "the lease of a scrub that died ({}) on export {} is taken over", owner,
                  array_.at(index).name());
    }
    perform_on(array_, index, new_operation(Kind::unlink, aside));
  }
  return base::unexpected(EBUSY, file_);
}

// A whole run and shards, or shards of different counts, exclude each other.
base::Result<void> Lease::check_others(ExportIndex index) {
  const std::string count = fmt::format("of{}", shards_);
  for (const std::string& name : leases_on(array_, index)) {
    const std::string path = std::string(folder) + "/" + name;
    if (path == file_ || (shards_ > 1 && name.ends_with(count))) continue;
    auto age = age_of(array_, index, path);
    if (!age) continue;
    if (*age < stale_after_s) {
      return base::unexpected(base::Error(EBUSY, base::ErrorClass::config,
                                          "another scrub is running (" + whose(array_, index, path) + ")"));
    }
    perform_on(array_, index, new_operation(Kind::unlink, path));
  }
  return {};
}

void Lease::announce() {
  nas::Answers answers = array_.metadata(array_.holders_online(), [&](ExportIndex) {
    auto make = new_operation(Kind::make_file, announcement);
    make->mode = 0600;
    make->text = text_;
    return make;
  });
  // Newly made anywhere: nodes may not have seen it there, and it may be all that they can see.
  if (!answers.ok().empty()) announced_since_ns_ = array_.clock().now().time_since_epoch().count();
}

void Lease::beat() {
  for (const ExportIndex index : array_.holders_online()) {
    if (!held_.contains(index)) {
      // It came back: a scrub that could only reach this export may be at work.
      auto taken = take(index);
      if (!taken && taken.error().code == EBUSY) {
        log::error("scrub-lease-lost", "{}", taken.error().message());
        lost_ = true;
      }
      continue;
    }
    auto touch = new_operation(Kind::set_attributes, file_);
    touch->attributes.valid = io::Attributes::mtime_set | io::Attributes::atime_set;
    touch->attributes.mtime.tv_nsec = touch->attributes.atime.tv_nsec = UTIME_NOW;
    const replica::Done done = perform_on(array_, index, touch);
    if (done.error == ENOENT || (done.ok() && done.operation->stat.stx_ino != held_[index])) {
      log::error("scrub-lease-lost", "the lease on export {} was taken over: this scrub ends", array_.at(index).name());
      held_.erase(index);
      lost_ = true;
    } else if (done.ok()) {
      beaten_ns_ = array_.clock().now().time_since_epoch().count();
    }
  }
}

void Lease::keep() {
  base::TimePoint next_beat = array_.clock().now() + beat_interval;
  std::unique_lock lock(mutex_);
  while (!stopping_ && !lost_) {
    wake_.wait_for(lock, announce_interval, [this] { return stopping_; });
    if (stopping_) break;
    lock.unlock();
    announce();
    if (array_.clock().now() >= next_beat) {
      beat();
      next_beat = array_.clock().now() + beat_interval;
    }
    lock.lock();
  }
}

base::TimePoint Lease::seen_at() const {
  const base::Duration polling =
      array_.holders_online() == array_.topology()->fact_holders()
          ? seen_after
          : std::max(seen_after, std::chrono::seconds(1) + 2 * array_.options().deadlines.probe);
  return base::TimePoint(base::Duration(announced_since_ns_.load())) + polling;
}

// Stopped for a while, say: somebody may have taken the lease over.
bool Lease::fresh() const {
  return array_.clock().now() - base::TimePoint(base::Duration(beaten_ns_.load())) < trusted_for;
}

bool Lease::seen() const {
  return !lost_ && array_.clock().now() >= seen_at() && fresh();
}

bool Lease::wait_until_seen() {
  while (!lost_) {
    if (seen()) return true;
    array_.clock().sleep(std::max<base::Duration>(seen_at() - array_.clock().now(), std::chrono::milliseconds(20)));
  }
  return false;
}

Lease::~Lease() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (const auto& [index, inode] : held_) perform_on(array_, index, new_operation(Kind::unlink, file_));
  if (held_.empty()) return;
  for (const ExportIndex index : array_.holders_online()) {
    if (!leases_on(array_, index).empty()) continue;
    perform_on(array_, index, new_operation(Kind::unlink, announcement));
    if (leases_on(array_, index).empty()) continue;
    auto make = new_operation(Kind::make_file, announcement);  // one has just begun
    make->mode = 0600;
    perform_on(array_, index, make);
  }
}

std::set<std::string> lease_tags(nas::Array& array) {
  std::set<std::string> tags;
  for (const ExportIndex index : array.holders_online()) {
    for (const std::string& name : leases_on(array, index)) {
      auto read = new_operation(Kind::read_file, std::string(folder) + "/" + name);
      read->length = 4096;
      const replica::Done done = perform_on(array, index, read);
      if (done.ok()) tags.insert(done.operation->text.substr(0, done.operation->text.find(' ')));
    }
  }
  return tags;
}

bool is_running(nas::Array& array) {
  for (const ExportIndex index : array.holders_online()) {
    for (const std::string& name : leases_on(array, index)) {
      auto age = age_of(array, index, std::string(folder) + "/" + name);
      if (age && *age < stale_after_s) return true;
    }
  }
  return false;
}

}  // namespace rainfs::scrub
