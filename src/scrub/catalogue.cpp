// SPDX-License-Identifier: Apache-2.0
#include "catalogue.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cstring>

#include "rainfs/log/log.hpp"
#include "resume.hpp"

namespace rainfs::scrub {

namespace {

constexpr const char* folder = ".rainfs/scrub";

// Each shard of a run has a catalogue of its own.
std::string shard_name(const Session& session) {
  return session.options.shards > 1 ? fmt::format("-{}of{}", session.options.shard + 1, session.options.shards) : "";
}

std::string unfinished_prefix(const Session& session) {
  return "unfinished" + shard_name(session) + ".";
}

std::string catalogue_file(const Session& session, int which, const Tag& unfinished = {}) {
  const std::string name =
      unfinished.empty() ? "catalogue" + shard_name(session) : unfinished_prefix(session) + unfinished;
  return fmt::format("{}/{}.{}", folder, name, which == 0 ? "xxh128" : "stamps");
}
constexpr std::size_t chunk_bytes = 1 << 20;

std::string_view directory_of(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash);
}

std::string escaped(const std::string& path) {
  std::string out;
  for (const char c : path) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      out += text[++i] == 'n' ? '\n' : text[i];
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

bool catalogued_before(std::string_view a, std::string_view b) {
  const std::string_view in_a = directory_of(a);
  const std::string_view in_b = directory_of(b);
  return in_a != in_b ? walked_before(in_a, in_b) : a < b;
}

std::string format_sum(const Sum& sum) {
  return fmt::format("{:016x}{:016x}", sum.high, sum.low);
}

std::optional<Sum> parse_sum(std::string_view text) {
  if (text.size() != 32) return std::nullopt;
  Sum sum;
  for (const auto& [part, value] : {std::pair{text.substr(0, 16), &sum.high}, std::pair{text.substr(16), &sum.low}}) {
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), *value, 16);
    if (error != std::errc{} || end != part.data() + part.size()) return std::nullopt;
  }
  return sum;
}

std::string format_line(const CatalogueEntry& entry) {
  // As xxhsum and the other sum programs do: only what would break the line is escaped, and then all of the name.
  if (entry.path.find('\n') == std::string::npos) return fmt::format("{}  {}\n", format_sum(entry.sum), entry.path);
  return fmt::format("\\{}  {}\n", format_sum(entry.sum), escaped(entry.path));
}

CatalogueReader::CatalogueReader(Session& session, ExportIndex index, const Tag& unfinished)
    : session_(session), index_(index) {
  for (int which = 0; which < 2; ++which) {
    auto open = new_operation(Kind::open, catalogue_file(session, which, unfinished));
    open->flags = O_RDONLY | O_NOFOLLOW;
    const replica::Done done = perform_on(session.array, index, open);
    if (done.ok()) streams_[which].file = done.operation->handle;
  }
  next();
}

bool CatalogueReader::line(int which, std::string& out) {
  Stream& stream = streams_[which];
  while (stream.file) {
    const std::size_t end = stream.text.find('\n', stream.at);
    if (end != std::string::npos) {
      out = stream.text.substr(stream.at, end - stream.at);
      stream.at = end + 1;
      return true;
    }
    stream.text.erase(0, stream.at);
    stream.at = 0;
    auto read = new_operation(Kind::read, "");
    read->file = stream.file;
    read->buffer = base::Buffer::allocate(chunk_bytes);
    read->length = chunk_bytes;
    read->offset = static_cast<off_t>(stream.offset);
    const replica::Done done = perform_data_on(session_.array, index_, read);
    if (!done.ok() || done.operation->value == 0) return false;
    const auto size = static_cast<std::size_t>(done.operation->value);
    stream.text.append(reinterpret_cast<const char*>(done.operation->buffer->data()), size);
    stream.offset += size;
  }
  return false;
}

bool CatalogueReader::next() {
  current_.reset();
  std::string sums, stamps;
  if (!line(0, sums) || !line(1, stamps)) return false;
  const bool marked = sums.starts_with('\\');
  if (marked) sums.erase(0, 1);
  CatalogueEntry entry;
  long long size = 0, mtime = 0;
  unsigned long long xattrs = 0;
  char hash[33] = "";
  const int read = std::sscanf(stamps.c_str(), "%32s %lld %lld %o %u %u %llx", hash, &size, &mtime, &entry.mode,
                               &entry.uid, &entry.gid, &xattrs);
  if (sums.size() < 35 || read != 7 || sums.compare(0, 32, hash) != 0) {
    log::warning("catalogue-damaged",
                 "the catalogue of export {} and its stamps do not fit together: read as far as they do",
                 session_.name_of(index_));
    return false;
  }
  const auto sum = parse_sum(std::string_view(sums).substr(0, 32));
  if (!sum) return false;
  entry.sum = *sum;
  entry.path = marked ? unescaped(std::string_view(sums).substr(34)) : sums.substr(34);
  entry.size = static_cast<std::uint64_t>(size);
  entry.mtime_ns = mtime;
  entry.xattrs = xattrs;
  current_ = std::move(entry);
  return true;
}

void CatalogueReader::take_while(const std::function<bool(const std::string& path)>& wanted, const Skipped& take) {
  while (current_ && wanted(current_->path)) {
    take(*current_);
    next();
  }
}

void CatalogueReader::skip_rest(const Skipped& skipped) {
  while (current_) {
    skipped(*current_);
    next();
  }
}

std::optional<CatalogueEntry> CatalogueReader::find(const std::string& path, const Skipped& skipped) {
  while (current_ && catalogued_before(current_->path, path)) {
    if (skipped) skipped(*current_);
    next();
  }
  if (current_ && current_->path == path) return current_;
  return std::nullopt;
}

CatalogueWriter::CatalogueWriter(Session& session, ExportIndex index, const Tag& tag)
    : session_(session), index_(index) {
  for (int which = 0; which < 2; ++which) {
    Stream& stream = streams_[which];
    stream.temporary = catalogue_file(session, which, tag);
    auto create = new_operation(Kind::open, stream.temporary);
    create->flags = O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW;
    create->mode = 0600;
    const replica::Done done = perform_on(session.array, index, create);
    if (!done.ok()) {
      failed_ = true;
      return;
    }
    stream.file = done.operation->handle;
  }
}

void CatalogueWriter::flush() {
  for (Stream& stream : streams_) {
    if (failed_ || stream.text.empty()) continue;
    auto write = new_operation(Kind::write, "");
    write->file = stream.file;
    write->buffer = base::Buffer::allocate(stream.text.size());
    std::memcpy(write->buffer->data(), stream.text.data(), stream.text.size());
    write->length = stream.text.size();
    write->offset = static_cast<off_t>(stream.offset);
    if (!perform_data_on(session_.array, index_, write).ok()) failed_ = true;
    stream.offset += stream.text.size();
    stream.text.clear();
  }
}

void CatalogueWriter::add(const CatalogueEntry& entry) {
  if (failed_) return;
  streams_[0].text += format_line(entry);
  streams_[1].text += fmt::format("{} {} {} {:o} {} {} {:x}\n", format_sum(entry.sum), entry.size, entry.mtime_ns,
                                  entry.mode, entry.uid, entry.gid, entry.xattrs);
  if (streams_[0].text.size() >= chunk_bytes) flush();
}

bool CatalogueWriter::sync() {
  flush();
  for (int which = 0; which < 2 && !failed_; ++which) {
    auto sync = new_operation(Kind::fsync, "");
    sync->file = streams_[which].file;
    if (!perform_data_on(session_.array, index_, sync).ok()) failed_ = true;
  }
  return !failed_;
}

bool CatalogueWriter::commit() {
  sync();
  for (int which = 0; which < 2 && !failed_; ++which) {
    auto move = new_operation(Kind::rename, streams_[which].temporary);
    move->path2 = catalogue_file(session_, which);
    if (!perform_on(session_.array, index_, move).ok()) failed_ = true;
  }
  return !failed_;
}

void CatalogueWriter::discard() {
  for (const Stream& stream : streams_)
    perform_on(session_.array, index_, new_operation(Kind::unlink, stream.temporary));
}

void remove_unfinished(Session& session, ExportIndex index, const Tag& but) {
  const replica::Done listed = perform_on(session.array, index, new_operation(Kind::read_directory, folder));
  if (!listed.ok()) return;
  const std::string prefix = unfinished_prefix(session);
  for (const io::DirectoryEntry& entry : listed.operation->entries) {
    if (!entry.name.starts_with(prefix) || (!but.empty() && entry.name.starts_with(prefix + but + "."))) continue;
    perform_on(session.array, index, new_operation(Kind::unlink, fmt::format("{}/{}", folder, entry.name)));
  }
}

}  // namespace rainfs::scrub
