// SPDX-License-Identifier: Apache-2.0
// Open files.
#include <algorithm>

#include "rainfs/log/log.hpp"
#include "tree_internal.hpp"

namespace rainfs::tree {

namespace {
// A replica may be replaced between stat and open, by repair or by others: how often it is looked for anew.
constexpr int open_attempts = 50;
// As attributes are by default.
constexpr base::Duration end_trusted_for = std::chrono::seconds(1);
}  // namespace

std::string_view name_of(Reads reads) {
  switch (reads) {
    case Reads::managed:
      return "managed";
    case Reads::passthrough:
      return "passthrough";
    case Reads::automatic:
      return "auto";
  }
  return "?";
}

Tree::Tree(nas::Array& array, ledger::Ledger& ledger, std::string node_name, TreeOptions options)
    : array_(array),
      ledger_(ledger),
      context_{array, ledger},
      node_name_(std::move(node_name)),
      options_(std::move(options)),
      reads_(options_.reads) {}

Tree::~Tree() {
  upkeep_.reset();
  release_all(held_.all());
}

void Tree::release_all(HeldFiles::Files files) {
  for (std::unique_ptr<OpenFile>& file : files) release(std::move(file), std::nullopt);
}

OpenStatePtr Tree::open_state(NodeId id) {
  Node* node = NodeTable::from_id(id, nodes_);
  const std::lock_guard lock(nodes_.mutex());
  if (!node->open) node->open = std::make_shared<OpenState>();
  ++node->open->users;  // both are given back by release()
  ++node->pins;
  return node->open;
}

std::unique_ptr<Tree::OpenTreeFile> Tree::wrap(NodeId node, OpenStatePtr open, std::unique_ptr<replica::File> file,
                                               int flags) {
  auto wrapped = std::make_unique<OpenTreeFile>();
  wrapped->node = node;
  wrapped->flags = flags;
  wrapped->file = std::move(file);
  {
    const std::lock_guard lock(open->mutex);
    if (wrapped->file->writable()) {
      open->files.insert(open->files.begin(), wrapped->file);
      const std::lock_guard writers(writers_mutex_);
      writers_.try_emplace(node, open);
    } else {
      open->files.push_back(wrapped->file);
    }
  }
  wrapped->open = std::move(open);
  ++open_files_;
  return wrapped;
}

base::Result<std::unique_ptr<replica::File>> Tree::open_file(NodeId id, const std::string& first_path, int flags,
                                                             const OpenStatePtr& open, const Caller& caller,
                                                             bool& keep_cache) {
  Node* node = NodeTable::from_id(id, nodes_);
  for (int attempt = 0; attempt < open_attempts; ++attempt) {
    std::string path = first_path;
    const auto look = [&] { return find_node(id, path, nodes_.where(id), true, false, &caller); };
    auto location = (flags & O_ACCMODE) == O_RDONLY ? look() : find_to_change(path, look);
    if (!location) return base::Unexpected{location.error()};
    // Gone, or another file has the name now: ESTALE makes the kernel look the name up again.
    if (location->verdict.finding == replica::Finding::absent) return base::unexpected(ESTALE);
    const NodeTable::Found found = found_of(*location, path);
    if (found.type != node->type || !nodes_.identified(id, found.identities)) return base::unexpected(ESTALE);
    trust_writers(open, *location);
    const replica::Stamp stamp = replica::stamp_of(location->elected());
    {
      const std::lock_guard lock(nodes_.mutex());
      keep_cache = node->cached_mtime_ns == stamp.mtime_ns && node->cached_size == stamp.size;
      node->cached_mtime_ns = stamp.mtime_ns;
      node->cached_size = stamp.size;
    }
    nodes_.update(node, found);
    auto file = replica::File::open(context_, path, std::move(*location), flags, caller.credentials, open->shared);
    if (file || file.error().code != EAGAIN) return file;
  }
  return base::unexpected(EIO, "the file kept being replaced");
}

void Tree::choose_way(Opened& opened, OpenTreeFile& file) {
  const std::lock_guard lock(file.open->mutex);
  OpenState& open = *file.open;
  opened.direct_io = past_the_cache(file.flags);
  const bool only_reads = (file.flags & (O_ACCMODE | O_DIRECT)) == O_RDONLY;
  if (reads_ == Reads::passthrough && only_reads && !options_.strict_coherence && open.cached_opens == 0) {
    ExportIndex index = open.passthrough_export;
    if (open.passthrough_opens == 0) {
      const ExportSet usable = file.file->usable();
      if (!usable.empty()) index = *usable.begin();
    }
    // All that go past the daemon at one time must go to the same replica.
    const io::HandlePtr handle = file.file->usable().contains(index) ? file.file->handle_of(index) : nullptr;
    if (handle && handle->engine().completes_inline()) {
      opened.passthrough_fd = handle->number();
      opened.keep_cache = false;
      open.passthrough_export = index;
      ++open.passthrough_opens;
      file.passthrough = true;
      return;
    }
  }
  if (!opened.direct_io) {
    ++open.cached_opens;
    file.cached = true;
  }
}

bool Tree::past_the_cache(int flags) const {
  // What is only written is not worth caching: it would cost a copy, and the first attribute that changes
  // makes the kernel drop it. What is appended may go elsewhere than the kernel thinks.
  return options_.strict_coherence || (flags & (O_DIRECT | O_APPEND)) != 0 || (flags & O_ACCMODE) == O_WRONLY;
}

base::Result<std::unique_ptr<replica::File>> Tree::reopen_unnamed(OpenState& open, int flags, const Caller& caller) {
  FilePtr file = some_file(open, (flags & O_ACCMODE) != O_RDONLY);
  if (!file) file = some_file(open, false);
  if (!file) return base::unexpected(ESTALE);
  return file->reopen(flags, caller.credentials);
}

void Tree::trust_writers(const OpenStatePtr& open, replica::Location& location) {
  if (!open) return;
  const std::lock_guard lock(open->shared->mutex);
  const ExportSet trusted = (open->shared->writing - open->shared->left_out) & location.evidence.present;
  if (!open->shared->unsealed || trusted.empty()) return;
  location.verdict.finding = replica::Finding::present;
  location.verdict.good = trusted;
  location.verdict.stale = location.evidence.present - trusted;
  location.verdict.agreed = true;
  if (!trusted.contains(location.verdict.elected)) location.verdict.elected = *trusted.begin();
}

base::Result<void> Tree::commit_writers(const OpenStatePtr& open, const std::string& path) {
  if (!open) return {};
  {
    const std::lock_guard lock(open->shared->mutex);
    if (!open->shared->unsealed) return {};
  }
  const FilePtr writer = some_file(*open, true);
  return writer ? writer->commit(path, replica::File::Durability::flush) : base::Result<void>{};
}

// What a program is told of a file that it has written must be true after it has closed it: sealed at close, the file
// would have another ctime. Where sealing is cheap, and nothing has to be remembered with it.
void Tree::seal_for_stat(const OpenStatePtr& open, const std::string& path) {
  if (array_.repairs_under_way()) return;
  {
    const std::lock_guard lock(open->shared->mutex);
    if (!(open->shared->left_out | open->shared->unverified).empty()) return;
  }
  const FilePtr writer = some_file(*open, true);
  if (!writer || !writer->local()) return;
  if (auto sealed = writer->commit(path, replica::File::Durability::flush); !sealed) {
    log::info("not-sealed", "/{}: what was written could not be committed yet ({})", path, sealed.error().message());
  }
}

void Tree::seal_idle() {
  std::map<NodeId, OpenStatePtr> candidates;
  {
    const std::lock_guard lock(writers_mutex_);
    candidates = writers_;
  }
  const base::TimePoint idle_since = array_.clock().now() - idle_before_seal;
  for (const auto& [id, open] : candidates) {
    FilePtr writer;
    {
      const std::lock_guard lock(open->shared->mutex);
      if (!open->shared->unsealed || open->shared->changed_at > idle_since) continue;
    }
    Node* node = NodeTable::from_id(id, nodes_);
    {
      const std::lock_guard lock(open->mutex);
      writer = some_file_locked(*open, true);
      if (!writer) continue;  // closed meanwhile; otherwise the node is pinned until it is
      nodes_.pin(node);       // and from here on also if it is
    }
    const std::shared_ptr<void> unpin(nullptr, [&](void*) { nodes_.unpin(node); });
    auto committed = writer->commit(nodes_.path_of(id).value_or(""), replica::File::Durability::flush);
    if (!committed) {
      log::warning("idle-not-sealed", "/{}: what was written could not be committed yet ({})",
                   nodes_.path_of(id).value_or("(removed)"), committed.error().message());
    }
  }
}

void Tree::start_upkeep() {
  upkeep_.emplace(std::chrono::seconds(1), [this] {
    io::prepare_thread();
    seal_idle();
    release_all(held_.due(array_.clock().now()));
  });
}

base::Result<Opened> Tree::open(NodeId id, int flags, bool kill_privileges, const Caller& caller) {
  const bool writing = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
  if (writing && options_.read_only) return base::unexpected(EROFS);
  const auto path = nodes_.path_of(id);
  if (writing && path) (void)wait_for_renames(*path);
  if ((flags & O_TRUNC) != 0 && (flags & O_ACCMODE) == O_RDONLY && path) {
    // Allowed on Linux, but not with a descriptor that only reads.
    io::Attributes nothing;
    nothing.valid = io::Attributes::size_set;
    auto truncated = set_attributes(id, nothing, nullptr, kill_privileges, caller);
    if (!truncated) return base::Unexpected{truncated.error()};
    kill_privileges = false;
  }
  OpenStatePtr open = open_state(id);
  Opened opened;
  auto file =
      path ? open_file(id, *path, flags, open, caller, opened.keep_cache) : reopen_unnamed(*open, flags, caller);
  // Replaced this moment, but open here (perhaps just held for this): it is opened as a file without a name.
  if (!file && path && file.error().code == ESTALE) {
    opened.keep_cache = false;
    file = reopen_unnamed(*open, flags, caller);
  }
  if (!file) {
    auto unused = std::make_unique<OpenTreeFile>();
    unused->node = id;
    unused->open = std::move(open);
    ++open_files_;
    release(std::move(unused), std::nullopt);
    return base::Unexpected{file.error()};
  }
  auto wrapped = wrap(id, open, std::move(*file), flags);
  wrapped->credentials = caller.credentials;
  choose_way(opened, *wrapped);
  opened.file = std::move(wrapped);
  if (kill_privileges && (flags & O_TRUNC) != 0) {
    auto cleared = clear_privileges(id, caller.credentials);
    if (!cleared) {
      release(std::unique_ptr<OpenFile>(std::move(opened.file)), std::nullopt);
      return base::Unexpected{cleared.error()};
    }
  }
  return opened;
}

base::Result<std::size_t> Tree::read(OpenFile& file, off_t offset, std::size_t length,
                                     const std::shared_ptr<base::Buffer>& buffer) {
  auto& open = static_cast<OpenTreeFile&>(file);
  if (const auto locks = lock_state(open, false); locks && locks->lost()) return base::unexpected(EIO);
  return open.file->read([&] { return nodes_.path_of(open.node).value_or(""); }, offset, length, buffer);
}

base::Result<std::size_t> Tree::read_to_pipe(OpenFile& file, off_t offset, std::size_t length, int pipe) {
  auto& open = static_cast<OpenTreeFile&>(file);
  if (const auto locks = lock_state(open, false); locks && locks->lost()) return base::unexpected(EIO);
  return open.file->read_to_pipe([&] { return nodes_.path_of(open.node).value_or(""); }, offset, length, pipe);
}

base::Result<std::size_t> Tree::write(OpenFile& file, off_t offset, std::size_t length,
                                      const std::shared_ptr<base::Buffer>& buffer, std::size_t buffer_offset,
                                      WriteMode mode) {
  auto& open = static_cast<OpenTreeFile&>(file);
  if (const auto locks = lock_state(open, false); locks && locks->lost()) return base::unexpected(EIO);
  if (mode.kill_privileges) {
    auto cleared = clear_privileges(open.node, open.credentials);
    if (!cleared) return base::Unexpected{cleared.error()};
  }
  if (mode.append && (open.flags & O_APPEND) != 0) {
    // The kernel knows of other nodes' appends by what it has cached.
    const base::Duration trusted_for = options_.strict_coherence ? base::Duration::zero() : end_trusted_for;
    auto end = open.file->append_at(offset, length, trusted_for);
    if (!end) return base::Unexpected{end.error()};
    offset = *end;
  }
  auto written = open.file->write(offset, length, buffer, buffer_offset);
  if (!written) return written;
  if ((open.flags & (O_SYNC | O_DSYNC)) != 0) {
    auto synced = sync(file, (open.flags & O_SYNC) != O_SYNC);
    if (!synced) return base::Unexpected{synced.error()};
  }
  return written;
}

base::Result<void> Tree::flush(OpenFile& file, std::uint64_t lock_owner) {
  auto& open = static_cast<OpenTreeFile&>(file);
  base::Result<void> result;
  if (open.file->writable()) {
    result = open.file->commit(nodes_.path_of(open.node).value_or(""), replica::File::Durability::flush);
  }
  // POSIX: closing any descriptor of a file drops all of the process's record locks on it.
  if (const auto locks = lock_state(open, false)) locks->drop(lock_owner);
  return result;
}

base::Result<void> Tree::sync(OpenFile& file, bool data_only) {
  auto& open = static_cast<OpenTreeFile&>(file);
  const auto durability = data_only ? replica::File::Durability::data : replica::File::Durability::full;
  const std::string path = nodes_.path_of(open.node).value_or("");
  if (open.file->writable()) return open.file->commit(path, durability);
  // A descriptor opened for reading syncs what this node's writers wrote.
  const FilePtr writer = some_file(*open.open, true);
  return writer ? writer->commit(path, durability) : base::Result<void>{};
}

void Tree::release(std::unique_ptr<OpenFile> file, std::optional<std::uint64_t> flock_owner) {
  std::unique_ptr<OpenTreeFile> open(static_cast<OpenTreeFile*>(file.release()));
  // Open-file-description locks (fcntl F_OFD_SETLK) end here: no flush names their owner.
  for (const std::uint64_t owner : open->lock_owners) {
    if (const auto locks = lock_state(*open, false)) locks->drop(owner);
  }
  const std::atomic<bool> never{false};
  if (flock_owner && open->file) {
    auto dropped = set_flock(*open, *flock_owner, LOCK_UN, false, never);
    if (!dropped) log::debug("locks-not-dropped", "{}", dropped.error().message());
  }
  Node* node = NodeTable::from_id(open->node, nodes_);
  if (open->file && open->file->writable()) {
    // Writes after the last flush: from a mapping that outlived its descriptor, or a failed commit.
    auto committed = open->file->commit(nodes_.path_of(open->node).value_or(""), replica::File::Durability::flush);
    if (!committed) {
      log::error("commit-failed", "/{}: what was written could not be committed at close ({})",
                 nodes_.path_of(open->node).value_or("(removed)"), committed.error().message());
    }
  }
  if (open->file) {
    const std::lock_guard lock(open->open->mutex);
    std::erase(open->open->files, open->file);
    if (open->cached) --open->open->cached_opens;
    if (open->passthrough) --open->open->passthrough_opens;
    bool writers = false;
    for (const FilePtr& other : open->open->files) writers |= other->writable();
    if (!writers) {
      {
        const std::lock_guard all(writers_mutex_);
        writers_.erase(open->node);
      }
      const std::lock_guard state(open->open->shared->mutex);
      open->open->shared->writing = {};
    }
  }
  open->file.reset();
  --open_files_;
  const std::lock_guard lock(nodes_.mutex());
  // With the last one goes what is known of the replicas: the next open starts from the exports.
  if (--open->open->users == 0) node->open.reset();
  nodes_.unpin_locked(node);
}

base::Result<void> Tree::allocate(OpenFile& file, int mode, off_t offset, off_t length) {
  auto& open = static_cast<OpenTreeFile&>(file);
  return open.file->allocate(mode, offset, length);
}

base::Result<off_t> Tree::seek(OpenFile& file, off_t offset, int whence) {
  auto& open = static_cast<OpenTreeFile&>(file);
  return open.file->seek([&] { return nodes_.path_of(open.node).value_or(""); }, offset, whence);
}

base::Result<std::size_t> Tree::copy_range(OpenFile& from, off_t from_offset, OpenFile& to, off_t to_offset,
                                           std::size_t length) {
  auto& source = static_cast<OpenTreeFile&>(from);
  auto& target = static_cast<OpenTreeFile&>(to);
  const std::string path = nodes_.path_of(source.node).value_or("");
  return target.file->copy_from(*source.file, path, from_offset, to_offset, length);
}

}  // namespace rainfs::tree
