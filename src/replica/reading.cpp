// SPDX-License-Identifier: Apache-2.0
// Reading a file from one of its replicas, and from the next where that fails.
#include <xxhash.h>

#include <algorithm>

#include "rainfs/log/log.hpp"
#include "rainfs/replica/file.hpp"

namespace rainfs::replica {

namespace {

// A replica is read from last if it answers this many times slower than the fastest.
constexpr int slow_factor = 4;
constexpr base::Duration never_slow = std::chrono::milliseconds(5);

}  // namespace

void File::prefer_for_reading(std::string_view path) {
  const auto topology = context_.array.topology();
  const std::string& nearest = context_.array.options().rack;
  base::Duration fastest = base::Duration::max();
  for (const Replica& replica : replicas_) fastest = std::min(fastest, context_.array.at(replica.index).latency());
  const std::uint64_t spread = XXH3_64bits(path.data(), path.size());
  const auto cost = [&](const Replica& replica) {
    const nas::Export& exp = context_.array.at(replica.index);
    const bool slow = exp.latency() > never_slow && exp.latency() > fastest * slow_factor;
    const bool near = !nearest.empty() && topology->racks[topology->exports[replica.index].rack].name == nearest;
    return std::tuple(!exp.online(), slow, !near, (spread >> (replica.index % 32)) & 0xffff, replica.index);
  };
  if (replicas_.size() < 2) return;
  std::sort(replicas_.begin(), replicas_.end(), [&](const Replica& a, const Replica& b) { return cost(a) < cost(b); });
}

io::HandlePtr File::reader(const PathNow& path, ExportIndex& index, ExportSet tried) {
  ExportSet left_out, unverified;
  {
    const std::lock_guard lock(shared_->mutex);
    left_out = shared_->left_out;
    unverified = shared_->unverified;
  }
  // What is known to be different from the elected one only where nothing else can be read.
  for (const ExportSet avoided : {tried | left_out | unverified, tried | left_out}) {
    for (std::size_t i = 0; i < replicas_.size(); ++i) {  // the list itself never changes
      const ExportIndex candidate = replicas_[i].index;
      if (avoided.contains(candidate) || !context_.array.at(candidate).online()) continue;
      io::HandlePtr handle = handle_of(candidate);
      if (!handle && path) handle = handle_on(path(), candidate);
      if (!handle) continue;
      index = candidate;
      return handle;
    }
    if (unverified.empty()) break;
  }
  return nullptr;
}

// A descriptor that has outlived its mount, or hangs with it, is not asked again; the name leads to what has come in
// its place, where the file has one.
void File::let_go(ExportIndex index, const io::HandlePtr& handle, int error, const PathNow& path) {
  const bool dead = error == ESTALE || error == ENOTCONN || error == ESHUTDOWN || error == ETIMEDOUT;
  if (!dead || writable_ || !path || path().empty()) return;
  const std::lock_guard lock(mutex_);
  for (Replica& replica : replicas_) {
    if (replica.index == index && replica.handle == handle) replica.handle = nullptr;
  }
}

base::Result<std::size_t> File::read(const PathNow& path, off_t offset, std::size_t length,
                                     const std::shared_ptr<base::Buffer>& buffer) {
  ExportSet tried;
  std::shared_ptr<base::Buffer> target = buffer;
  while (true) {
    ExportIndex index = 0;
    io::HandlePtr handle = reader(path, index, tried);
    if (!handle) return base::unexpected(EIO, "no replica could be read");
    tried.insert(index);
    nas::Answers answers = context_.array.data(ExportSet::of(index), [&](ExportIndex) {
      auto operation = std::make_shared<io::Operation>(io::Kind::read);
      operation->file = handle;
      operation->offset = offset;
      operation->length = length;
      operation->buffer = target;
      return operation;
    });
    nas::Answer& answer = answers.list.front();
    if (answer.ok()) {
      const auto size = static_cast<std::size_t>(answer.operation->value);
      if (target != buffer) std::copy_n(target->data(), size, buffer->data());
      return size;
    }
    if (base::classify(answer.error) == base::ErrorClass::file) return base::unexpected(answer.error, "read");
    context_.meters.failovers.add();
    log::warning("read-failover", "reading /{} from export {} failed ({}): trying another replica", path(),
                 context_.array.at(index).name(), base::Error(answer.error).message());
    let_go(index, handle, answer.error, path);
    // The late answer of the hung export may still write into the buffer it was given.
    if (answer.error == ETIMEDOUT) target = base::Buffer::allocate(length);
  }
}

base::Result<std::size_t> File::read_to_pipe(const PathNow& path, off_t offset, std::size_t length, int pipe) {
  ExportIndex index = 0;
  const io::HandlePtr handle = reader(path, index, {});
  if (!handle || !handle->engine().completes_inline()) return base::unexpected(EOPNOTSUPP);
  const nas::Answers answers = context_.array.data(ExportSet::of(index), [&](ExportIndex) {
    auto operation = std::make_shared<io::Operation>(io::Kind::read_to_pipe);
    operation->file = handle;
    operation->offset = offset;
    operation->length = length;
    operation->flags = pipe;
    return operation;
  });
  const nas::Answer& answer = answers.list.front();
  if (!answer.ok()) return base::unexpected(answer.error, "read");
  return static_cast<std::size_t>(answer.operation->value);
}

base::Result<off_t> File::seek(const PathNow& path, off_t offset, int whence) {
  ExportSet tried;
  while (true) {
    ExportIndex index = 0;
    io::HandlePtr handle = reader(path, index, tried);
    if (!handle) return base::unexpected(EIO, "seek");
    tried.insert(index);
    nas::Answers answers = context_.array.metadata(ExportSet::of(index), [&](ExportIndex) {
      auto operation = std::make_shared<io::Operation>(io::Kind::seek);
      operation->file = handle;
      operation->offset = offset;
      operation->flags = whence;
      return operation;
    });
    nas::Answer& answer = answers.list.front();
    if (answer.ok()) return answer.operation->value;
    if (base::classify(answer.error) != base::ErrorClass::absent || answer.error == ENXIO) {
      return base::unexpected(answer.error, "seek");  // ENXIO: beyond the end
    }
  }
}

}  // namespace rainfs::replica
