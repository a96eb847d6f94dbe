// SPDX-License-Identifier: Apache-2.0
#include "rainfs/nas/export.hpp"

#include <linux/magic.h>
#include <sys/statvfs.h>

#include <array>

#include "rainfs/log/log.hpp"

namespace rainfs::nas {

namespace {

// File systems of local disks: their system calls do not hang by themselves, so they are made directly.
constexpr std::array<std::uint32_t, 8> local_file_systems = {
    0xEF53,      // ext2, ext3, ext4
    0x58465342,  // xfs
    0x9123683E,  // btrfs
    0x01021994,  // tmpfs
    0xF2F52010,  // f2fs
    0x2FC12FC1,  // zfs
    0x794C7630,  // overlayfs
    0xCA451A4E,  // bcachefs
};

constexpr base::Duration full_again_after = std::chrono::seconds(60);

// A deadline missed again within this time of its return counts as the same trouble.
constexpr base::Duration again_within = std::chrono::seconds(60);
constexpr base::Duration first_left_alone = std::chrono::seconds(5);
constexpr base::Duration longest_left_alone = std::chrono::seconds(60);

class SystemEngines final : public EngineFactory {
 public:
  std::unique_ptr<io::Engine> make_engine(const std::string& export_name) override {
    io::EngineOptions options;
    options.name = export_name;
    return io::make_remote_engine(options);
  }
  io::HandlePtr adopt(const io::HandlePtr& root, const struct statfs& filesystem) override {
    for (const std::uint32_t type : local_file_systems) {
      if (static_cast<std::uint32_t>(filesystem.f_type) != type) continue;
      if (const int inert = io::inert_root(root->number()); inert >= 0)
        return std::make_shared<io::Handle>(*direct_, inert, true);
      const int own = ::fcntl(root->number(), F_DUPFD_CLOEXEC, 3);
      if (own >= 0) return std::make_shared<io::Handle>(*direct_, own);
    }
    return root;
  }

 private:
  std::unique_ptr<io::Engine> direct_ = io::make_direct_engine();
};

// Errors after which nothing more is to be expected of the export until a probe succeeds; others (EIO,
// EROFS) may be about one file or one kind of operation and are handled where they occur.
bool means_gone(int error) {
  switch (error) {
    case ESTALE:
    case ENOTCONN:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETDOWN:
    case ENETUNREACH:
    case ECONNREFUSED:
    case ECONNRESET:
    case ECONNABORTED:
    case ETIMEDOUT:
    case ENODEV:
    case ESHUTDOWN:
      return true;
    default:
      return false;
  }
}

}  // namespace

std::unique_ptr<EngineFactory> make_system_engines() {
  return std::make_unique<SystemEngines>();
}

Work work_of(io::Kind kind) {
  switch (kind) {
    case io::Kind::read:
    case io::Kind::read_to_pipe:
    case io::Kind::read_file:
      return Work::read;
    case io::Kind::write:
    case io::Kind::allocate:
    case io::Kind::copy_range:
      return Work::write;
    case io::Kind::fsync:
    case io::Kind::sync_file_system:
    case io::Kind::flush:
    case io::Kind::make_file:
      return Work::sync;
    default:
      return Work::metadata;
  }
}

Export::Export(const topology::Export& info, base::ExportIndex index, std::string local_path, EngineFactory& factory,
               base::Clock& clock)
    : name_(info.name),
      index_(index),
      local_path_(std::move(local_path)),
      clock_(clock),
      engine_(factory.make_engine(info.name)),
      absent_since_(clock.realtime()) {}

void Export::missed_deadline() {
  // Only the first of those that wait for it at one time tells something new.
  if (online()) {
    const std::int64_t now = clock_.now().time_since_epoch().count();
    const std::int64_t before = missed_at_ns_.exchange(now);
    const std::int64_t alone = left_alone_ns_.load();
    const bool again = before != 0 && now - before < alone + base::Duration(again_within).count();
    left_alone_ns_ = !again       ? 0
                     : alone == 0 ? base::Duration(first_left_alone).count()
                                  : std::min(2 * alone, base::Duration(longest_left_alone).count());
  }
  lost("missed a deadline");
}

bool Export::on_probation() const {
  return clock_.now().time_since_epoch().count() < missed_at_ns_.load() + left_alone_ns_.load();
}

void Export::reported(int error, bool of_root) {
  if (error == ENOSPC || error == EDQUOT) out_of_space();
  if (base::classify(error) != base::ErrorClass::absent) return;
  failures_.fetch_add(1, std::memory_order_relaxed);
  if (of_root && means_gone(error)) lost(base::Error(error).message());
}

void Export::answered(base::Duration latency) {
  const std::int64_t old = latency_ns_.load(std::memory_order_relaxed);
  // The first answer is all that is known.
  const std::int64_t mean = old == 0 ? latency.count() : old + (latency.count() - old) / 16;
  latency_ns_.store(mean, std::memory_order_relaxed);
}

void Export::count(const io::Operation& operation) {
  const auto work = static_cast<std::size_t>(work_of(operation.kind));
  meters_.latency[work].observe(operation.taken);
  if (operation.error == 0) {
    if (operation.kind == io::Kind::read || operation.kind == io::Kind::read_to_pipe)
      meters_.read_bytes.add(static_cast<std::uint64_t>(operation.value));
    if (operation.kind == io::Kind::write) meters_.written_bytes.add(operation.length);
  } else if (base::classify(operation.error) != base::ErrorClass::file) {
    meters_.errors[work].add();
  }
}

void Export::count_missed(io::Kind kind) {
  meters_.missed_deadlines.add();
  meters_.errors[static_cast<std::size_t>(work_of(kind))].add();
}

bool Export::full() const {
  return below_reserve_.load(std::memory_order_relaxed) ||
         clock_.now().time_since_epoch().count() < full_until_ns_.load(std::memory_order_relaxed);
}

void Export::out_of_space() {
  if (!full()) log::warning("export-full", "export {} has no space left: new replicas go elsewhere", name_);
  full_until_ns_ = (clock_.now() + full_again_after).time_since_epoch().count();
}

Space Export::space() const {
  const std::lock_guard lock(mutex_);
  return space_;
}

std::string Export::absent_reason() const {
  const std::lock_guard lock(mutex_);
  return online() ? std::string{} : absent_reason_;
}

struct timespec Export::absent_since() const {
  const std::lock_guard lock(mutex_);
  return absent_since_;
}

void Export::found(io::HandlePtr root, const struct statfs& filesystem, std::uint32_t reserve_per_mille) {
  Space space;
  space.total_bytes = filesystem.f_blocks * static_cast<std::uint64_t>(filesystem.f_frsize);
  space.available_bytes = filesystem.f_bavail * static_cast<std::uint64_t>(filesystem.f_frsize);
  space.files = filesystem.f_files;
  space.files_free = filesystem.f_ffree;
  read_only_ = (filesystem.f_flags & ST_RDONLY) != 0;
  below_reserve_ =
      space.total_bytes > 0 && space.available_bytes / 1000 < space.total_bytes / 1000 * reserve_per_mille / 1000;
  {
    const std::lock_guard lock(mutex_);
    space_ = space;
    absent_reason_.clear();
  }
  if (root_.load() != root) root_.store(root);
  was_online_.store(true, std::memory_order_relaxed);
  if (!online_.exchange(true)) log::notice("export-online", "export {} at {} is online", name_, local_path_);
}

void Export::lost(std::string reason) {
  const bool was_online = online_.exchange(false);
  root_.store(nullptr);
  const std::lock_guard lock(mutex_);
  if (!was_online && absent_reason_ == reason) return;
  if (was_online) {
    absent_since_ = clock_.realtime();
    meters_.absences.add();
  }
  absent_reason_ = std::move(reason);
  log::warning("export-absent", "export {} at {} is absent: {}", name_, local_path_, absent_reason_);
}

}  // namespace rainfs::nas
