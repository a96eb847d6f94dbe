// SPDX-License-Identifier: Apache-2.0
// Opening and writing; reading is in reading.cpp, the commit in commit.cpp.
#include "rainfs/replica/file.hpp"

#include <algorithm>

#include "rainfs/log/log.hpp"

namespace rainfs::replica {

namespace {

// Flags that say something about a descriptor on a replica. O_APPEND would make pwrite ignore its offset,
// O_DIRECT would ask for aligned buffers, O_SYNC is a commit after each write.
constexpr int kept_flags = O_ACCMODE;

io::OperationPtr open_operation(const std::string& path, int flags, const io::CredentialsPtr& credentials) {
  auto operation = std::make_shared<io::Operation>(io::Kind::open);
  operation->path = path;
  operation->flags = flags | O_NOFOLLOW | O_NONBLOCK;
  operation->credentials = credentials;
  return operation;
}

}  // namespace

File::File(Context& context, int flags, SharedStatePtr shared, const topology::Rules& rules)
    : context_(context),
      flags_(flags),
      writable_((flags & O_ACCMODE) != O_RDONLY),
      readable_((flags & O_ACCMODE) != O_WRONLY),
      shared_(std::move(shared)),
      rules_(rules),
      scrub_polls_(context.array.scrub_polls()) {}

base::Result<std::unique_ptr<File>> File::open(Context& context, const std::string& path, Location location, int flags,
                                               const io::CredentialsPtr& credentials, SharedStatePtr shared) {
  std::unique_ptr<File> file(new File(context, flags, std::move(shared), location.rules));
  const Verdict& verdict = location.verdict;
  // An unsettled file is written to everywhere, so that no replica falls further behind.
  const ExportSet credible = location.evidence.present - location.evidence.blamed;
  ExportSet members = file->writable_ && !verdict.agreed ? credible : verdict.good;
  {
    const std::lock_guard lock(file->shared_->mutex);
    members = members - file->shared_->left_out;
  }
  for (const ExportIndex index : members) {
    file->replicas_.push_back({index, nullptr, location.stat_of(index)->stx_ino});
  }
  file->prefer_for_reading(path);

  int error = EIO;
  ExportSet untried = members;
  while (!untried.empty()) {
    ExportSet round = untried;
    if (!file->writable_) {
      for (const Replica& replica : file->replicas_) {
        if (untried.contains(replica.index)) {
          round = ExportSet::of(replica.index);
          break;
        }
      }
    }
    untried = untried - round;
    nas::Answers answers = context.array.metadata(
        round, [&](ExportIndex) { return open_operation(path, flags & kept_flags, credentials); });
    bool opened = false;
    for (nas::Answer& answer : answers) {
      Replica& replica = *std::find_if(file->replicas_.begin(), file->replicas_.end(),
                                       [&](const Replica& r) { return r.index == answer.index; });
      if (!answer.ok()) {
        error = answer.error;
        continue;
      }
      // Replaced between the stat and the open: whoever called looks again.
      if (answer.operation->stat.stx_ino != replica.inode) return base::unexpected(EAGAIN);
      replica.handle = std::move(answer.operation->handle);
      opened = true;
    }
    if (opened && !file->writable_) break;
    // Renamed or removed between the stat and the open: likewise.
    if (!answers.with_error(ENOENT).empty()) return base::unexpected(EAGAIN);
    const ExportSet refused = answers.answered() - answers.ok();
    if (!refused.empty()) return base::unexpected(answers.of(*refused.begin())->error);  // EACCES, ETXTBSY
    if (opened) break;
  }
  ExportSet have;
  for (const Replica& replica : file->replicas_) {
    if (replica.handle) have.insert(replica.index);
  }
  if (have.empty()) return base::unexpected(base::told(error));
  if (file->writable_) {
    const std::lock_guard lock(file->shared_->mutex);
    file->shared_->left_out |= location.evidence.present - have;
    // Fewer than R were found: the others may be where nobody answered, and will be behind from now on.
    if (!verdict.agreed) file->shared_->left_out |= location.not_reached;
    file->shared_->writing |= have;
    if (!verdict.agreed) file->shared_->unverified |= have - verdict.good;
  }
  if ((flags & O_TRUNC) != 0 && file->writable_) {
    auto truncated = file->truncate(0);
    if (!truncated) return base::Unexpected{truncated.error()};
  }
  return file;
}

std::unique_ptr<File> File::adopt(Context& context, std::vector<Replica> replicas, int flags, SharedStatePtr shared,
                                  const topology::Rules& rules) {
  std::unique_ptr<File> file(new File(context, flags, std::move(shared), rules));
  file->replicas_ = std::move(replicas);
  if (file->writable_) {
    const std::lock_guard lock(file->shared_->mutex);
    for (const Replica& replica : file->replicas_) file->shared_->writing.insert(replica.index);
  }
  return file;
}

ExportSet File::usable() const {
  ExportSet set;
  const std::lock_guard lock(shared_->mutex);
  const std::lock_guard mine(mutex_);
  for (const Replica& replica : replicas_) {
    if (replica.handle && !shared_->left_out.contains(replica.index)) set.insert(replica.index);
  }
  return set;
}

bool File::local() const {
  const std::lock_guard lock(mutex_);
  return std::all_of(replicas_.begin(), replicas_.end(), [](const Replica& replica) {
    return replica.handle && replica.handle->engine().completes_inline();
  });
}

io::HandlePtr File::handle_of(ExportIndex index) const {
  const std::lock_guard lock(mutex_);
  for (const Replica& replica : replicas_) {
    if (replica.index == index) return replica.handle;
  }
  return nullptr;
}

void File::hold_all(const std::string& path) {
  for (const Replica& replica : replicas_) {
    if (context_.array.at(replica.index).online()) handle_on(path, replica.index);
  }
}

base::Result<std::unique_ptr<File>> File::reopen(int flags, const io::CredentialsPtr& credentials) {
  std::vector<Replica> replicas;
  const ExportSet targets = usable();
  nas::Answers answers = context_.array.metadata(targets, [&](ExportIndex index) {
    auto operation = std::make_shared<io::Operation>(io::Kind::open);
    operation->file = handle_of(index);
    operation->flags = flags & kept_flags;
    operation->credentials = credentials;
    return operation;
  });
  int error = EIO;
  for (nas::Answer& answer : answers) {
    if (answer.ok()) {
      replicas.push_back({answer.index, std::move(answer.operation->handle), answer.operation->stat.stx_ino});
    } else {
      error = answer.error;
    }
  }
  if (replicas.empty() || replicas.size() < targets.size()) return base::unexpected(base::told(error));
  auto file = adopt(context_, std::move(replicas), flags, shared_, rules_);
  if ((flags & O_TRUNC) != 0 && file->writable()) {
    auto truncated = file->truncate(0);
    if (!truncated) return base::Unexpected{truncated.error()};
  }
  return file;
}

nas::Answers File::to_all(Make make, base::Duration deadline) {
  const ExportSet targets = usable();
  return context_.array.fan_out(
      targets,
      [&](ExportIndex index) {
        const std::lock_guard lock(mutex_);
        const auto it =
            std::find_if(replicas_.begin(), replicas_.end(), [&](const Replica& r) { return r.index == index; });
        auto operation = make(*it);
        operation->file = it->handle;
        return operation;
      },
      deadline);
}

// Nobody knows what these hold; one of them is as good as any, and the others have to be compared with it.
void File::doubt(ExportSet suspects, ExportIndex except) {
  suspects.erase(except);
  const std::lock_guard lock(shared_->mutex);
  shared_->unverified |= suspects;
}

base::Result<void> File::settle(nas::Answers& answers, const char* what) {
  const ExportSet good = answers.ok();
  ExportSet bad, tried;
  bool same_progress = true;
  const nas::Answer* furthest = nullptr;
  int file_error = 0;
  int space_error = 0;
  for (const nas::Answer& answer : answers) {
    if (answer.ok()) continue;
    bad.insert(answer.index);
    if (answer.operation || answer.error == ETIMEDOUT) tried.insert(answer.index);
    if (answer.operation) {
      if (furthest != nullptr && furthest->operation->value != answer.operation->value) same_progress = false;
      if (furthest == nullptr || furthest->operation->value < answer.operation->value) furthest = &answer;
      // On a full export a part of the range may have been allocated; nothing says how much.
      if (answer.operation->kind == io::Kind::allocate) same_progress = false;
    }
    const base::ErrorClass kind = base::classify(answer.error);
    if (kind == base::ErrorClass::no_space) space_error = answer.error;
    if (kind == base::ErrorClass::file || kind == base::ErrorClass::resource) file_error = answer.error;
  }
  if (bad.empty() && !good.empty()) return {};
  if (good.empty()) {
    // On all: the result itself. Nothing is left out, the replicas still agree with each other, unless an
    // export failed or missed its deadline, or one had room for more of it than another.
    if (file_error == 0 && space_error == 0) {
      if (!tried.empty()) doubt(bad, *bad.begin());
      return base::unexpected(EIO, what);
    }
    const ExportSet unknown = answers.failed() - answers.with_error(ENOSPC) - answers.with_error(EDQUOT);
    if (space_error != 0 && !same_progress) doubt(bad - unknown, furthest->index);
    const std::lock_guard lock(shared_->mutex);
    if (!unknown.empty()) shared_->left_out |= unknown;
    return base::unexpected(space_error != 0 ? space_error : file_error, what);
  }
  const auto topology = context_.array.topology();
  for (const nas::Answer& answer : answers) {
    if (answer.ok()) continue;
    log::warning("replica-left-out", "{} on export {} failed ({}); going on with {} of {} replicas", what,
                 topology->exports[answer.index].name, base::Error(answer.error).message(), good.size(),
                 rules_.replicas);
  }
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->left_out |= bad;
  }
  if (good.size() < rules_.min_replicas) return base::unexpected(EIO, "fewer than min_replicas copies");
  return {};
}

void File::changed() {
  const std::lock_guard lock(shared_->mutex);
  shared_->unsealed = shared_->unflushed = shared_->unsynced = true;
  shared_->mtime = context_.array.clock().realtime();
  shared_->changed_at = context_.array.clock().now();
  ++shared_->changes;
}

base::Result<off_t> File::append_at(off_t offset, std::size_t length, base::Duration trusted_for) {
  const base::TimePoint now = context_.array.clock().now();
  bool trusted = false;
  {
    const std::lock_guard lock(shared_->mutex);
    trusted = now < shared_->end_seen_at + trusted_for;
  }
  off_t seen = 0;
  if (!trusted) {
    nas::Answers answers = to_all([](const Replica&) { return std::make_shared<io::Operation>(io::Kind::stat); },
                                  context_.array.deadlines().metadata);
    if (answers.ok().empty()) return base::unexpected(EIO, "no replica tells its size");
    for (const nas::Answer& answer : answers) {
      if (answer.ok()) seen = std::max(seen, static_cast<off_t>(answer.operation->stat.stx_size));
    }
  }
  const std::lock_guard lock(shared_->mutex);
  if (!trusted) shared_->end_seen_at = now;
  // Only what this node has not written itself: its own appends may be under way side by side, each with its place.
  if (seen > shared_->own_end) shared_->foreign_end = seen;
  const bool behind = shared_->foreign_end > offset;
  const off_t at = behind ? shared_->foreign_end : offset;
  const off_t end = at + static_cast<off_t>(length);
  if (behind) shared_->foreign_end = end;
  shared_->own_end = std::max(shared_->own_end, end);
  return at;
}

void SharedState::wrote_until(off_t end) {
  const std::lock_guard lock(mutex);
  own_end = std::max(own_end, end);
}

void SharedState::cut_at(off_t end) {
  const std::lock_guard lock(mutex);
  own_end = end;
  foreign_end = 0;
}

void SharedState::forget_end() {
  const std::lock_guard lock(mutex);
  end_seen_at = {};
}

base::Result<std::size_t> File::write(off_t offset, std::size_t length, const std::shared_ptr<base::Buffer>& buffer,
                                      std::size_t buffer_offset) {
  nas::Answers answers = to_all(
      [&](const Replica&) {
        auto operation = std::make_shared<io::Operation>(io::Kind::write);
        operation->offset = offset;
        operation->length = length;
        operation->buffer = buffer;
        operation->buffer_offset = buffer_offset;
        return operation;
      },
      context_.array.deadlines().data);
  changed();
  shared_->wrote_until(offset + static_cast<off_t>(length));
  auto settled = settle(answers, "write");
  if (!settled) return base::Unexpected{settled.error()};
  return length;
}

base::Result<void> File::allocate(int mode, off_t offset, off_t length) {
  nas::Answers answers = to_all(
      [&](const Replica&) {
        auto operation = std::make_shared<io::Operation>(io::Kind::allocate);
        operation->flags = mode;
        operation->offset = offset;
        operation->length = static_cast<std::size_t>(length);
        return operation;
      },
      context_.array.deadlines().data);
  changed();
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0) shared_->wrote_until(offset + length);
  return settle(answers, "fallocate");
}

base::Result<void> File::truncate(off_t size) {
  io::Attributes attributes;
  attributes.valid = io::Attributes::size_set;
  attributes.size = size;
  auto done = set_attributes(attributes);
  changed();
  shared_->cut_at(size);
  if (!done) return base::Unexpected{done.error()};
  return {};
}

io::HandlePtr File::handle_on(const std::string& path, ExportIndex index) {
  std::uint64_t inode = 0;
  {
    const std::lock_guard lock(mutex_);
    for (const Replica& replica : replicas_) {
      if (replica.index != index) continue;
      if (replica.handle) return replica.handle;
      inode = replica.inode;
    }
  }
  if (inode == 0 || path.empty()) return nullptr;
  // Opened late and by the daemon's own right: the caller's was checked at the first open.
  nas::Answers answers = context_.array.metadata(ExportSet::of(index),
                                                 [&](ExportIndex) { return open_operation(path, O_RDONLY, nullptr); });
  nas::Answer& answer = answers.list.front();
  if (!answer.ok()) return nullptr;
  const std::lock_guard lock(mutex_);
  for (Replica& replica : replicas_) {
    if (replica.index != index) continue;
    if (answer.operation->stat.stx_ino != inode) {
      replica.inode = 0;  // another file has taken its place: not asked for again
      return nullptr;
    }
    if (!replica.handle) replica.handle = std::move(answer.operation->handle);
    return replica.handle;
  }
  return nullptr;
}

base::Result<std::size_t> File::copy_from(File& from, const std::string& from_path, off_t from_offset, off_t offset,
                                          std::size_t length) {
  const ExportSet targets = usable();
  std::vector<std::pair<ExportIndex, io::HandlePtr>> sources;
  for (const ExportIndex index : targets) {
    io::HandlePtr source = from.handle_on(from_path, index);
    {
      const std::lock_guard lock(from.shared_->mutex);
      if ((from.shared_->left_out | from.shared_->unverified).contains(index)) source = nullptr;
    }
    if (!source) return base::unexpected(EOPNOTSUPP);
    sources.emplace_back(index, std::move(source));
  }
  nas::Answers answers = context_.array.data(targets, [&](ExportIndex index) {
    auto operation = std::make_shared<io::Operation>(io::Kind::copy_range);
    operation->file = std::find_if(sources.begin(), sources.end(), [&](auto& s) { return s.first == index; })->second;
    const std::lock_guard lock(mutex_);
    operation->other =
        std::find_if(replicas_.begin(), replicas_.end(), [&](auto& r) { return r.index == index; })->handle;
    operation->offset = from_offset;
    operation->offset2 = offset;
    operation->length = length;
    return operation;
  });
  changed();
  // All must have copied the same; one that did less is treated as failed, unless all just met the end.
  std::int64_t most = 0;
  for (const nas::Answer& answer : answers) {
    if (answer.ok()) most = std::max(most, answer.operation->value);
  }
  for (nas::Answer& answer : answers) {
    if (answer.ok() && answer.operation->value < most) answer.error = EIO;
  }
  shared_->wrote_until(offset + most);
  auto settled = settle(answers, "copy_file_range");
  if (!settled) return base::Unexpected{settled.error()};
  return static_cast<std::size_t>(most);
}

}  // namespace rainfs::replica
