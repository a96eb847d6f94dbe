// SPDX-License-Identifier: Apache-2.0
// The commit point of an open file: all replicas flushed, one mtime set on all of them, facts for what is
// missing to R. And attribute changes by descriptor.
#include <algorithm>

#include "rainfs/log/log.hpp"
#include "rainfs/replica/commit_facts.hpp"
#include "rainfs/replica/file.hpp"

namespace rainfs::replica {

base::Result<void> File::commit(const std::string& path, Durability durability) {
  std::uint64_t changes = 0;
  bool flush = false;
  bool seal_needed = false;
  {
    const std::lock_guard lock(shared_->mutex);
    changes = shared_->changes;
    flush = durability == Durability::flush ? shared_->unflushed : shared_->unsynced;
    seal_needed = shared_->unsealed;
  }
  if (!writable_) {
    // Nothing of its own to commit. fsync of a descriptor opened for reading still syncs what others wrote
    // on this node: the tree calls commit on a writer for that.
    return {};
  }
  if (!flush && !seal_needed) return {};
  if (flush) {
    nas::Answers answers = to_all(
        [&](const Replica&) {
          auto operation =
              std::make_shared<io::Operation>(durability == Durability::flush ? io::Kind::flush : io::Kind::fsync);
          operation->flags = durability == Durability::data ? 1 : 0;
          return operation;
        },
        context_.array.deadlines().data);
    auto settled = settle(answers, durability == Durability::flush ? "flush" : "fsync");
    if (!settled) return settled;
  }
  if (!path.empty()) notice_repairs(path);
  // An export whose ledger is known to be non-empty may have missed another node's write to this file.
  if (!path.empty() && !(usable() & context_.array.blamed_somewhere()).empty()) {
    const ledger::Testimony testimony = context_.ledger.ask(path);
    const ExportSet blamed = usable() & testimony.blamed;
    if (blamed == usable()) return base::unexpected(EIO, "every replica is blamed");
    const std::lock_guard lock(shared_->mutex);
    shared_->left_out |= blamed;
  }
  if (seal_needed) {
    // Sealed they look equal: that they may not be must be known before.
    bool doubted = false;
    {
      const std::lock_guard lock(shared_->mutex);
      doubted = !(shared_->unverified - shared_->left_out).empty();
    }
    if (doubted && !path.empty()) {
      auto remembered = remember(path);
      if (!remembered) return remembered;
    }
    auto sealed = seal();
    if (!sealed) return sealed;
  }
  if (!path.empty()) {
    auto remembered = remember(path);
    if (!remembered) return remembered;
  }
  const std::lock_guard lock(shared_->mutex);
  if (shared_->changes == changes) {
    shared_->unsealed = shared_->unflushed = false;
    if (durability != Durability::flush) shared_->unsynced = false;
  }
  return {};
}

void File::notice_repairs(const std::string& path) {
  nas::Array& array = context_.array;
  const std::uint64_t polls = array.scrub_polls();
  if (!array.scrub_announced() && polls == scrub_polls_) return;
  const ExportSet using_now = usable();
  nas::Answers answers = array.metadata(array.topology()->data_exports(), [&](ExportIndex) {
    auto stat = std::make_shared<io::Operation>(io::Kind::stat);
    stat->path = path;
    stat->flags = AT_STATX_FORCE_SYNC;
    return stat;
  });
  ExportSet in_place;
  ExportSet others;
  for (const Replica& replica : replicas_) {
    const nas::Answer* answer = answers.of(replica.index);
    if (!using_now.contains(replica.index) || answer == nullptr) continue;
    if (answer->ok() && answer->operation->stat.stx_ino == replica.inode) {
      in_place.insert(replica.index);
    } else if (answer->ok() || answer->error == ENOENT) {
      others.insert(replica.index);
    }
  }
  others |= answers.ok() - using_now;
  // None in its place: the name leads to another file by now, which is nobody's repair.
  if (in_place.empty()) return;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->left_out |= others;
  }
  scrub_polls_ = polls;
}

base::Result<void> File::seal() {
  io::Attributes attributes;
  attributes.valid = io::Attributes::mtime_set;
  {
    const std::lock_guard lock(shared_->mutex);
    attributes.mtime = shared_->mtime;
  }
  const auto granularity = static_cast<long>(context_.array.topology()->time_granularity_ns);
  if (granularity > 1) attributes.mtime.tv_nsec -= attributes.mtime.tv_nsec % granularity;
  nas::Answers answers = set_on_all(attributes, false);
  return settle(answers, "sealing");
}

base::Result<void> File::remember(const std::string& path) {
  ExportSet left_out;
  ExportSet unverified;
  {
    const std::lock_guard lock(shared_->mutex);
    left_out = shared_->left_out;
    unverified = shared_->unverified - left_out;
  }
  const ExportSet good = usable() - unverified;
  auto recorded =
      record_shortfall(context_, path, good.empty() ? usable() : good, left_out, unverified, ledger::Why::missed_write);
  if (!recorded) return base::Unexpected{recorded.error()};
  return {};
}

base::Result<struct statx> File::stat() {
  ExportSet tried;
  while (true) {
    ExportIndex index = 0;
    io::HandlePtr handle = reader({}, index, tried);
    if (!handle) return base::unexpected(EIO, "no replica could be asked");
    tried.insert(index);
    nas::Answers answers = context_.array.metadata(ExportSet::of(index), [&](ExportIndex) {
      auto operation = std::make_shared<io::Operation>(io::Kind::stat);
      operation->file = handle;
      return operation;
    });
    nas::Answer& answer = answers.list.front();
    if (answer.ok()) return answer.operation->stat;
  }
}

nas::Answers File::set_on_all(const io::Attributes& attributes, bool with_stat) {
  return to_all(
      [&](const Replica&) {
        auto operation = std::make_shared<io::Operation>(io::Kind::set_attributes);
        operation->attributes = attributes;
        operation->flags = with_stat ? 0 : 1;
        return operation;
      },
      context_.array.deadlines().metadata);
}

base::Result<struct statx> File::set_attributes(const io::Attributes& attributes) {
  nas::Answers answers = set_on_all(attributes, true);
  auto settled = settle(answers, "setting attributes");
  if (!settled) return base::Unexpected{settled.error()};
  for (const nas::Answer& answer : answers) {
    if (answer.ok()) return answer.operation->stat;
  }
  return base::unexpected(EIO);
}

}  // namespace rainfs::replica
