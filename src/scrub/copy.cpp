// SPDX-License-Identifier: Apache-2.0
#include "copy.hpp"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace rainfs::scrub {

namespace {

constexpr std::size_t kernel_copy_bytes = 16 << 20;    // of one copy_file_range
constexpr std::size_t pipelined_copy_bytes = 4 << 20;  // of one read or write; two of each are in flight
constexpr std::size_t small_copy_bytes = 256 << 10;    // less in one read and one write
constexpr std::size_t compare_bytes = 1 << 20;
constexpr std::size_t sum_bytes = 2 << 20;

struct Range {
  off_t begin, end;
};

// The next part that is not a hole; empty at the end.
base::Result<Range> next_data(Session& session, const OpenReplica& file, off_t at) {
  const auto size = static_cast<off_t>(file.stat.stx_size);
  if (at >= size) return Range{size, size};
  // No fewer blocks than bytes: there are no holes to look for.
  if (file.stat.stx_blocks * 512 >= file.stat.stx_size) return Range{at, size};
  const auto seek = [&](off_t from, int whence) {
    auto operation = new_operation(Kind::seek, "");
    operation->file = file.file;
    operation->offset = from;
    operation->flags = whence;
    return perform_on(session.array, file.index, operation);
  };
  const replica::Done data = seek(at, SEEK_DATA);
  if (data.error == ENXIO) return Range{size, size};
  if (data.error == EINVAL || data.error == EOPNOTSUPP) return Range{at, size};
  if (!data.ok()) return base::unexpected(data.error, "seek");
  const replica::Done hole = seek(data.operation->value, SEEK_HOLE);
  if (!hole.ok()) return base::unexpected(hole.error, "seek");
  return Range{data.operation->value, std::min<off_t>(hole.operation->value, size)};
}

base::Result<void> copy_in_kernel(Session& session, const OpenReplica& from, const OpenReplica& to, Range range) {
  while (range.begin < range.end) {
    if (session.stopped()) return base::unexpected(EINTR);
    auto copy = new_operation(Kind::copy_range, "");
    copy->file = from.file;
    copy->other = to.file;
    copy->offset = copy->offset2 = range.begin;
    copy->length = std::min<std::size_t>(session.rate.portion(kernel_copy_bytes),
                                         static_cast<std::size_t>(range.end - range.begin));
    session.rate.take(copy->length);
    const replica::Done done = perform_data_on(session.array, from.index, copy);
    if (!done.ok()) return base::unexpected(done.error, "copying");
    if (done.operation->value == 0) return base::unexpected(EAGAIN, "the source became shorter");
    range.begin += done.operation->value;
    session.counters.bytes_copied += static_cast<std::uint64_t>(done.operation->value);
  }
  return {};
}

// Reads ahead while it writes, so that both exports are busy.
base::Result<void> copy_pipelined(Session& session, const OpenReplica& from, const OpenReplica& to, Range range) {
  std::shared_ptr<base::Buffer> reading = base::Buffer::allocate(pipelined_copy_bytes);
  std::shared_ptr<base::Buffer> writing = base::Buffer::allocate(pipelined_copy_bytes);
  off_t write_at = range.begin;
  std::size_t to_write = 0;
  while (range.begin < range.end || to_write > 0) {
    if (session.stopped()) return base::unexpected(EINTR);
    io::Batch batch;
    io::OperationPtr read, write;
    if (range.begin < range.end) {
      read = new_operation(Kind::read, "");
      read->file = from.file;
      read->buffer = reading;
      read->offset = range.begin;
      read->length = std::min<std::size_t>(session.rate.portion(pipelined_copy_bytes),
                                           static_cast<std::size_t>(range.end - range.begin));
      session.rate.take(read->length);
      batch.add(read);
    }
    if (to_write > 0) {
      write = new_operation(Kind::write, "");
      write->file = to.file;
      write->buffer = writing;
      write->offset = write_at;
      write->length = to_write;
      batch.add(write);
    }
    batch.run(session.array.clock(), session.array.options().deadlines.data);
    if (read && !read->done())
      return session.array.at(from.index).missed_deadline(), base::unexpected(ETIMEDOUT, "reading");
    if (write && !write->done())
      return session.array.at(to.index).missed_deadline(), base::unexpected(ETIMEDOUT, "writing");
    if (read && read->error != 0) return base::unexpected(read->error, "reading");
    if (write && write->error != 0) {
      session.array.at(to.index).reported(write->error, false);
      return base::unexpected(write->error, "writing");
    }
    session.counters.bytes_copied += to_write;
    to_write = 0;
    if (read) {
      if (read->value == 0) return base::unexpected(EAGAIN, "the source became shorter");
      write_at = range.begin;
      to_write = static_cast<std::size_t>(read->value);
      range.begin += read->value;
      std::swap(reading, writing);
    }
  }
  return {};
}

// The kernel's own way would cost more calls than it saves.
base::Result<void> copy_small(Session& session, const OpenReplica& from, const OpenReplica& to) {
  const std::size_t size = from.stat.stx_size;
  session.rate.take(size);
  thread_local std::shared_ptr<base::Buffer> kept;  // memory that is given back and taken anew is dear
  // One that an operation without an answer may still use is that one's.
  if (!kept || kept.use_count() > 1) kept = base::Buffer::allocate(small_copy_bytes);
  auto read = new_operation(Kind::read, "");
  read->file = from.file;
  read->buffer = kept;
  read->length = size;
  const replica::Done got = perform_data_on(session.array, from.index, read);
  if (!got.ok()) return base::unexpected(got.error, "reading");
  if (static_cast<std::size_t>(got.operation->value) != size)
    return base::unexpected(EAGAIN, "the source became shorter");
  auto write = new_operation(Kind::write, "");
  write->file = to.file;
  write->buffer = read->buffer;
  write->length = size;
  const replica::Done put = perform_data_on(session.array, to.index, write);
  if (!put.ok()) return base::unexpected(put.error, "writing");
  session.counters.bytes_copied += size;
  return {};
}

io::OperationPtr read_operation(const OpenReplica& file, off_t offset, const std::shared_ptr<base::Buffer>& buffer) {
  auto read = new_operation(Kind::read, "");
  read->file = file.file;
  read->buffer = buffer;
  read->offset = offset;
  read->length = compare_bytes;
  return read;
}

}  // namespace

base::Result<OpenReplica> open_replica(Session& session, ExportIndex index, const std::string& path) {
  auto open = new_operation(Kind::open, path);
  open->flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME;
  replica::Done done = perform_on(session.array, index, open);
  if (done.error == EPERM) {  // a root-squashed export
    open = new_operation(Kind::open, path);
    open->flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK;
    done = perform_on(session.array, index, open);
  }
  if (!done.ok()) return base::unexpected(done.error, "opening");
  return OpenReplica{index, std::move(done.operation->handle), done.operation->stat};
}

base::Result<void> copy_contents(Session& session, const OpenReplica& from, const OpenReplica& to) {
  const auto size = static_cast<off_t>(from.stat.stx_size);
  if (size == 0) return {};
  const bool holes = from.stat.stx_blocks * 512 < from.stat.stx_size;
  if (!holes && from.stat.stx_size <= small_copy_bytes) return copy_small(session, from, to);
  const bool local = from.file->engine().completes_inline() && to.file->engine().completes_inline();
  off_t at = 0;
  while (at < size) {
    auto range = next_data(session, from, at);
    if (!range) return base::Unexpected{range.error()};
    if (range->begin >= size) break;
    auto copied = local ? copy_in_kernel(session, from, to, *range) : copy_pipelined(session, from, to, *range);
    if (!copied) return copied;
    at = range->end;
  }
  if (at == size) return {};
  auto truncate = new_operation(Kind::set_attributes, "");
  truncate->file = to.file;
  truncate->attributes.valid = io::Attributes::size_set;
  truncate->attributes.size = size;
  const replica::Done done = perform_on(session.array, to.index, truncate);
  if (!done.ok()) return base::unexpected(done.error, "setting the size");
  return {};
}

base::Result<bool> same_contents(Session& session, const OpenReplica& a, const OpenReplica& b) {
  if (a.stat.stx_size != b.stat.stx_size) return false;
  auto left = base::Buffer::allocate(compare_bytes);
  auto right = base::Buffer::allocate(compare_bytes);
  off_t at = 0;
  while (true) {
    if (session.stopped()) return base::unexpected(EINTR);
    // What is a hole in both is equal.
    auto in_a = next_data(session, a, at);
    auto in_b = next_data(session, b, at);
    if (!in_a) return base::Unexpected{in_a.error()};
    if (!in_b) return base::Unexpected{in_b.error()};
    at = std::min(in_a->begin, in_b->begin);
    if (at >= static_cast<off_t>(a.stat.stx_size)) return true;
    session.rate.take(2 * compare_bytes);
    io::Batch batch;
    const io::OperationPtr one = read_operation(a, at, left);
    const io::OperationPtr other = read_operation(b, at, right);
    batch.add(one);
    batch.add(other);
    batch.run(session.array.clock(), session.array.options().deadlines.data);
    for (const auto& [file, operation] : {std::pair{&a, &one}, std::pair{&b, &other}}) {
      if (!(*operation)->done()) {
        session.array.at(file->index).missed_deadline();
        return base::unexpected(ETIMEDOUT, "reading");
      }
      if ((*operation)->error != 0) {
        return base::unexpected(
            base::Error((*operation)->error, "export " + session.name_of(file->index) + ": reading"));
      }
    }
    session.counters.bytes_read += static_cast<std::uint64_t>(one->value + other->value);
    if (one->value != other->value) return false;
    if (one->value == 0) return true;
    if (std::memcmp(left->data(), right->data(), static_cast<std::size_t>(one->value)) != 0) return false;
    at += one->value;
  }
}

base::Result<bool> same_contents(Session& session, const std::string& path, ExportIndex a, ExportIndex b) {
  auto left = open_replica(session, a, path);
  if (!left) return base::Unexpected{left.error()};
  auto right = open_replica(session, b, path);
  if (!right) return base::Unexpected{right.error()};
  return same_contents(session, *left, *right);
}

base::Result<Sum> sum_of(Session& session, const OpenReplica& file) {
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
  if (!state) return base::unexpected(ENOMEM);
  XXH3_128bits_reset(state.get());
  auto buffer = base::Buffer::allocate(std::min<std::size_t>(session.rate.portion(sum_bytes), file.stat.stx_size + 1));
  off_t at = 0;
  while (true) {
    if (session.stopped()) return base::unexpected(EINTR);
    auto read = new_operation(Kind::read, "");
    read->file = file.file;
    read->buffer = buffer;
    read->offset = at;
    read->length = buffer->size();
    session.rate.take(std::min<std::uint64_t>(read->length, file.stat.stx_size));
    const replica::Done done = perform_data_on(session.array, file.index, read);
    if (!done.ok()) return base::unexpected(done.error, "reading");
    const auto size = static_cast<std::size_t>(done.operation->value);
    if (size == 0) break;
    XXH3_128bits_update(state.get(), buffer->data(), size);
    session.counters.bytes_read += size;
    at += static_cast<off_t>(size);
    if (size < buffer->size()) break;
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return Sum{hash.high64, hash.low64};
}

}  // namespace rainfs::scrub
