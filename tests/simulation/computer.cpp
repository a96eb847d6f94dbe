// SPDX-License-Identifier: Apache-2.0
#include "computer.hpp"

#include <fmt/format.h>

#include <cstring>
#include <set>

namespace rainfs::simulation {

namespace {
constexpr std::size_t piece_bytes = 16;
constexpr base::Duration poll_interval = std::chrono::seconds(1);
constexpr int lookups_again = 3;  // the kernel looks a name up again that turned out stale

tree::Caller caller() {
  tree::Caller who;
  who.credentials = std::make_shared<io::Credentials>();
  return who;
}
}  // namespace

void make_exports(Exports& exports, const topology::Topology& topology) {
  for (std::size_t i = 0; i < exports.size(); ++i) {
    simulated::Storage& storage = exports.at(i).storage;
    storage.put(".rainfs/export.yaml", topology::format_identity(topology::identity_of(topology, topology.exports[i])));
    for (const char* name : {"ledger", "trash", "conflicts", "tmp", "scrub", "intents"})
      storage.put(fmt::format(".rainfs/{}/", name), "");
  }
}

std::string contents_of(Version version) {
  std::string text;
  const int pieces = 1 + version * 7 % 9;
  for (int i = 0; i < pieces; ++i) text += fmt::format("{:08}-{:06}\n", version, i);
  return text;
}

Contents recognise(const std::string& bytes) {
  Contents contents;
  std::set<Version> versions;
  for (std::size_t at = 0; at < bytes.size(); at += piece_bytes) {
    const std::string piece = bytes.substr(at, piece_bytes);
    versions.insert(piece.find_first_not_of('\0') == std::string::npos ? absent : std::atoi(piece.c_str()));
  }
  contents.pieces.assign(versions.begin(), versions.end());
  if (versions.size() == 1 && contents.pieces[0] > 0 && bytes == contents_of(contents.pieces[0])) {
    contents.whole = contents.pieces[0];
  }
  return contents;
}

// Nodes looked up on the way to a path; forgotten when it goes out of scope.
struct Computer::Reached {
  explicit Reached(tree::Tree& tree_in) : tree(tree_in) {}
  ~Reached() {
    for (const tree::NodeId node : nodes) tree.forget(node, 1);
  }
  tree::Tree& tree;
  std::vector<tree::NodeId> nodes;
  tree::NodeId parent = tree::root_node;
  std::string leaf;
  std::optional<tree::Entry> entry;  // nothing: the last name does not exist
};

Computer::Computer(World& world, Exports& exports, std::shared_ptr<const topology::Topology> topology, std::string name,
                   base::Duration skew)
    : world_(world), machine_{std::move(name)}, clock_(world, skew), factory_(exports, machine_) {
  nas::ArrayOptions options;
  options.tell_put_back = false;  // no export is put back here, and no heartbeat has exports remember one another
  options.node_name = machine_.name;
  array_ = std::make_unique<nas::Array>(std::move(topology), options, factory_, clock_);
  ledger_ = std::make_unique<ledger::Ledger>(*array_, machine_.name);
}

void Computer::mount() {
  array_->poll();
  tree::TreeOptions options;
  options.directory_look = std::chrono::milliseconds(250);
  tree_ = std::make_unique<tree::Tree>(*array_, *ledger_, machine_.name, options);
  world_.start(
      machine_.name + " poll", [this] { return machine_.alive; },
      [this] {
        while (true) {
          clock_.sleep(poll_interval);
          array_->poll();
        }
      });
}

bool Computer::sees_all() const {
  return array_->holders_online() == array_->topology()->fact_holders();
}

int Computer::walk(const std::string& path, Reached& reached) {
  std::size_t begin = 0;
  while (true) {
    const std::size_t slash = path.find('/', begin);
    reached.leaf = path.substr(begin, slash == std::string::npos ? slash : slash - begin);
    auto entry = tree_->lookup(reached.parent, reached.leaf, caller());
    if (!entry && (entry.error().code != ENOENT || slash != std::string::npos)) return entry.error().code;
    reached.entry.reset();
    if (entry) {
      reached.nodes.push_back(entry->node);
      reached.entry = *entry;
    }
    if (slash == std::string::npos) return 0;
    if (!S_ISDIR(entry->attributes.st_mode)) return ENOTDIR;
    reached.parent = entry->node;
    begin = slash + 1;
  }
}

int Computer::stat(const std::string& path, struct stat& out) {
  int error = ESTALE;
  for (int i = 0; i < lookups_again && error == ESTALE; ++i) error = stat_once(path, out);
  return error == ESTALE ? ENOENT : error;
}

int Computer::stat_once(const std::string& path, struct stat& out) {
  Reached reached(*tree_);
  if (const int error = walk(path, reached); error != 0) return error;
  if (!reached.entry) return ENOENT;
  auto attributes = tree_->get_attributes(reached.entry->node);
  if (!attributes) return attributes.error().code;
  out = *attributes;
  return 0;
}

int Computer::read_once(const std::string& path, std::string& bytes) {
  Reached reached(*tree_);
  if (const int error = walk(path, reached); error != 0) return error;
  if (!reached.entry) return ENOENT;
  if (S_ISDIR(reached.entry->attributes.st_mode)) return EISDIR;
  auto opened = tree_->open(reached.entry->node, O_RDONLY, false, caller());
  if (!opened) return opened.error().code;
  const auto buffer = base::Buffer::allocate(4096);
  auto size = tree_->read(*opened->file, 0, buffer->size(), buffer);
  if (size) bytes.assign(reinterpret_cast<const char*>(buffer->data()), *size);
  tree_->release(std::move(opened->file), std::nullopt);
  return size ? 0 : size.error().code;
}

int Computer::read(const std::string& path, std::string& bytes) {
  int error = ESTALE;
  for (int i = 0; i < lookups_again && error == ESTALE; ++i) error = read_once(path, bytes);
  return error;
}

int Computer::put(tree::OpenFile& file, Version version, bool sync) {
  const std::string bytes = contents_of(version);
  const std::size_t half = bytes.size() / 2 / piece_bytes * piece_bytes;
  const auto buffer = base::Buffer::allocate(4096);
  std::memcpy(buffer->data(), bytes.data(), bytes.size());
  for (const auto& [offset, length] : {std::pair(std::size_t{0}, half), std::pair(half, bytes.size() - half)}) {
    if (length == 0) continue;
    auto written = tree_->write(file, static_cast<off_t>(offset), length, buffer, offset, {});
    if (!written) return written.error().code;
    if (*written != length) return EIO;
  }
  if (sync) {
    auto synced = tree_->sync(file, false);
    if (!synced) return synced.error().code;
  }
  auto flushed = tree_->flush(file, 1);
  return flushed ? 0 : flushed.error().code;
}

int Computer::resize(tree::OpenFile& file, tree::NodeId node, std::size_t size) {
  auto allocated = tree_->allocate(file, 0, 0, static_cast<off_t>(size));
  if (!allocated) return allocated.error().code;
  io::Attributes attributes;
  attributes.valid = io::Attributes::size_set;
  attributes.size = static_cast<off_t>(size);
  auto truncated = tree_->set_attributes(node, attributes, &file, false, caller());
  return truncated ? 0 : truncated.error().code;
}

int Computer::write_once(const std::string& path, Version version, How how, bool sync) {
  Reached reached(*tree_);
  if (const int error = walk(path, reached); error != 0) return error;
  std::unique_ptr<tree::OpenFile> file;
  if (reached.entry) {
    if (how == How::exclusive) return EEXIST;
    if (S_ISDIR(reached.entry->attributes.st_mode)) return EISDIR;
    auto opened =
        tree_->open(reached.entry->node, how == How::resized ? O_WRONLY : O_WRONLY | O_TRUNC, false, caller());
    if (!opened) return opened.error().code;
    file = std::move(opened->file);
    if (how == How::resized) {
      if (const int error = resize(*file, reached.entry->node, contents_of(version).size()); error != 0) {
        tree_->release(std::move(file), std::nullopt);
        return error;
      }
    }
  } else {
    const int flags = O_WRONLY | O_CREAT | O_TRUNC | (how == How::exclusive ? O_EXCL : 0);
    auto created = tree_->create(reached.parent, reached.leaf, flags, 0644, caller());
    if (!created) return created.error().code;
    reached.nodes.push_back(created->entry.node);
    file = std::move(created->opened.file);
  }
  const int error = put(*file, version, sync);
  tree_->release(std::move(file), std::nullopt);
  return error;
}

int Computer::write(const std::string& path, Version version, How how, bool sync) {
  int error = ESTALE;
  for (int i = 0; i < lookups_again && error == ESTALE; ++i) error = write_once(path, version, how, sync);
  return error;
}

int Computer::remove(const std::string& path, bool directory) {
  Reached reached(*tree_);
  if (const int error = walk(path, reached); error != 0) return error;
  if (!reached.entry) return ENOENT;
  const bool is_directory = S_ISDIR(reached.entry->attributes.st_mode);
  if (is_directory != directory) return directory ? ENOTDIR : EISDIR;
  auto removed = directory ? tree_->remove_directory(reached.parent, reached.leaf, caller())
                           : tree_->unlink(reached.parent, reached.leaf, caller());
  return removed ? 0 : removed.error().code;
}

int Computer::make_directory(const std::string& path) {
  Reached reached(*tree_);
  if (const int error = walk(path, reached); error != 0) return error;
  if (reached.entry) return EEXIST;
  auto made = tree_->make_directory(reached.parent, reached.leaf, 0755, caller());
  if (!made) return made.error().code;
  reached.nodes.push_back(made->node);
  return 0;
}

int Computer::rename(const std::string& from, const std::string& to, unsigned flags) {
  Reached old_name(*tree_), new_name(*tree_);
  if (const int error = walk(from, old_name); error != 0) return error;
  if (const int error = walk(to, new_name); error != 0) return error;
  if (!old_name.entry) return ENOENT;
  auto renamed = tree_->rename(old_name.parent, old_name.leaf, new_name.parent, new_name.leaf, flags, caller());
  return renamed ? 0 : renamed.error().code;
}

int Computer::link(const std::string& from, const std::string& to) {
  Reached old_name(*tree_), new_name(*tree_);
  if (const int error = walk(from, old_name); error != 0) return error;
  if (const int error = walk(to, new_name); error != 0) return error;
  if (!old_name.entry) return ENOENT;
  if (new_name.entry) return EEXIST;
  auto linked = tree_->link(old_name.entry->node, new_name.parent, new_name.leaf, caller());
  if (!linked) return linked.error().code;
  new_name.nodes.push_back(linked->node);
  return 0;
}

int Computer::change_attribute(const std::string& path, Attribute what, unsigned value) {
  Reached reached(*tree_);
  if (const int error = walk(path, reached); error != 0) return error;
  if (!reached.entry) return ENOENT;
  if (what == Attribute::extended) {
    auto set = tree_->set_xattr(reached.entry->node, "user.value", std::to_string(value), 0, caller());
    return set ? 0 : set.error().code;
  }
  io::Attributes attributes;
  switch (what) {
    case Attribute::mode:
      attributes.valid = io::Attributes::mode_set;
      attributes.mode = 0600 + value % 64;
      break;
    case Attribute::owner:
      attributes.valid = io::Attributes::uid_set | io::Attributes::gid_set;
      attributes.uid = attributes.gid = 1000 + value % 64;
      break;
    default:
      attributes.valid = io::Attributes::mtime_set | io::Attributes::atime_set;
      attributes.mtime = attributes.atime = {1'000'000'000 + static_cast<time_t>(value), 0};
  }
  auto changed = tree_->set_attributes(reached.entry->node, attributes, nullptr, false, caller());
  return changed ? 0 : changed.error().code;
}

int Computer::list(const std::string& path, std::vector<std::string>& names) {
  Reached reached(*tree_);
  tree::NodeId node = tree::root_node;
  if (!path.empty()) {
    if (const int error = walk(path, reached); error != 0) return error;
    if (!reached.entry) return ENOENT;
    if (!S_ISDIR(reached.entry->attributes.st_mode)) return ENOTDIR;
    node = reached.entry->node;
  }
  auto opened = tree_->open_directory(node, caller());
  if (!opened) return opened.error().code;
  auto listed = tree_->read_directory(**opened, 0, [&](const tree::ListedEntry& entry) {
    if (entry.name != "." && entry.name != "..") names.emplace_back(entry.name);
    return true;
  });
  return listed ? 0 : listed.error().code;
}

int Computer::replicas(const std::string& path, std::string& description) {
  Reached reached(*tree_);
  if (const int error = walk(path, reached); error != 0) return error;
  if (!reached.entry) return ENOENT;
  auto text = tree_->get_xattr(reached.entry->node, "user.rainfs.replicas", caller());
  if (!text) return text.error().code;
  description = *text;
  return 0;
}

Repairer::Repairer(World& world, Exports& exports, std::shared_ptr<const topology::Topology> topology, std::string name,
                   base::Duration skew)
    : world_(world), machine_{std::move(name)}, clock_(world, skew), factory_(exports, machine_) {
  machine_.repairs = true;
  nas::ArrayOptions options;
  options.tell_put_back = false;  // no export is put back here, and no heartbeat has exports remember one another
  options.node_name = machine_.name;
  array_ = std::make_unique<nas::Array>(std::move(topology), options, factory_, clock_);
  ledger_ = std::make_unique<ledger::Ledger>(*array_, machine_.name);
}

base::Result<int> Repairer::run(const scrub::Options& options) {
  left_.clear();
  array_->poll();
  array_->start_monitor();
  replica::Context context{*array_, *ledger_};
  scrub::Scrub scrub(context, options,
                     [this](scrub::Finding finding, const std::string& path, const std::string& text) {
                       world_.tell(fmt::format("  {}: {} /{}: {}", machine_.name, scrub::name_of(finding), path, text));
                       if (finding == scrub::Finding::left || finding == scrub::Finding::in_use)
                         left_.push_back(fmt::format("/{}: {}", path, text));
                     });
  auto status = scrub.run();
  array_->stop_monitor();
  return status;
}

}  // namespace rainfs::simulation
