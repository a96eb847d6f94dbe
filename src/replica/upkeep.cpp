// SPDX-License-Identifier: Apache-2.0
#include "rainfs/replica/upkeep.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <map>

#include "rainfs/log/log.hpp"

namespace rainfs::replica {

namespace {

using io::Kind;

// Slots of all processes of all nodes lie in one directory: each has a name of its own.
std::string slot_name(nas::Array& array) {
  static const std::string process = base::make_uuid().substr(0, 8);
  static std::atomic<std::uint64_t> sequence{0};
  return fmt::format("{}-{}-{}-{}", array.options().node_name, process, array.clock().realtime().tv_sec,
                     sequence.fetch_add(1));
}

std::string today(nas::Array& array) {
  const struct timespec now = array.clock().realtime();
  struct tm parts {};
  ::gmtime_r(&now.tv_sec, &parts);
  char date[16] = "";
  std::strftime(date, sizeof date, "%F", &parts);
  return date;
}

io::OperationPtr private_directory_at(const std::string& path) {
  auto operation = new_operation(Kind::mkdir, path);
  operation->mode = 0700;
  return operation;
}

// Times and rates of these belong to the export's own machinery, not to the file.
bool belongs_to_file(std::string_view name) {
  return name.starts_with("user.") || name.starts_with("trusted.") || name.starts_with("system.posix_acl_") ||
         name == "security.capability";
}

io::OperationPtr about(const Attributed& what, Kind kind) {
  auto operation = new_operation(kind, what.file ? std::string{} : what.path);
  operation->file = what.file;
  return operation;
}

base::Result<std::map<std::string, std::string>> read_xattrs(Context& context, const Attributed& what) {
  std::map<std::string, std::string> found;
  Done listed = perform_on(context.array, what.index, about(what, Kind::list_xattr));
  if (listed.error == EOPNOTSUPP) return found;
  if (!listed.ok()) return base::unexpected(listed.error, "listing extended attributes");
  const std::string& names = listed.operation->text;
  for (std::size_t at = 0; at < names.size(); at += std::string_view(names.c_str() + at).size() + 1) {
    const std::string name = names.c_str() + at;
    if (!belongs_to_file(name)) continue;
    auto get = about(what, Kind::get_xattr);
    get->name = name;
    Done got = perform_on(context.array, what.index, get);
    if (got.error == ENODATA || got.error == EOPNOTSUPP) continue;
    if (!got.ok()) return base::unexpected(got.error, "reading an extended attribute");
    found[name] = std::move(got.operation->text);
  }
  return found;
}

}  // namespace

Done perform_on(nas::Array& array, ExportIndex index, io::OperationPtr operation) {
  nas::Answers answers = array.metadata(ExportSet::of(index), [&](ExportIndex) { return operation; });
  return {answers.list.front().error, answers.list.front().operation};
}

Done perform_data_on(nas::Array& array, ExportIndex index, io::OperationPtr operation) {
  nas::Answers answers = array.data(ExportSet::of(index), [&](ExportIndex) { return operation; });
  return {answers.list.front().error, answers.list.front().operation};
}

base::Result<std::string> move_aside(Context& context, ExportIndex index, const std::string& path, Aside where,
                                     std::uint64_t inode) {
  nas::Array& array = context.array;
  const std::string day = fmt::format(".rainfs/{}/{}", where == Aside::trash ? "trash" : "conflicts", today(array));
  const std::string slot = day + "/" + slot_name(array);
  Done made = perform_on(array, index, private_directory_at(slot));
  if (made.error == ENOENT) {
    perform_on(array, index, private_directory_at(replica::parent_of(day)));
    perform_on(array, index, private_directory_at(day));
    made = perform_on(array, index, private_directory_at(slot));
  }
  if (!made.ok()) return base::unexpected(made.error, slot);
  const auto take_back = [&] {
    perform_on(array, index, new_operation(Kind::unlink, slot + "/path"));
    perform_on(array, index, new_operation(Kind::rmdir, slot));
  };
  auto note = new_operation(Kind::make_file, slot + "/path");
  note->text = path;
  note->mode = 0600;
  if (const Done noted = perform_on(array, index, note); !noted.ok()) {
    take_back();
    return base::unexpected(noted.error, slot);
  }
  auto move = new_operation(Kind::rename, path);
  move->path2 = slot + "/contents";
  const Done moved = perform_on(array, index, move);
  if (!moved.ok()) {
    if (moved.error != ETIMEDOUT) take_back();
    return base::unexpected(moved.error, path);
  }
  if (inode != 0) {
    const Done now = perform_on(array, index, new_operation(Kind::stat, slot + "/contents"));
    if (now.ok() && now.operation->stat.stx_ino != inode) {
      auto back = new_operation(Kind::link, slot + "/contents");
      back->path2 = path;
      // Another file took the name a moment ago. If a third one has it by now, this one was overwritten.
      if (perform_on(array, index, back).ok()) {
        perform_on(array, index, new_operation(Kind::unlink, slot + "/contents"));
        take_back();
        return base::unexpected(ESTALE, path);
      }
    }
  }
  log::notice("moved-aside", "/{} on export {} was superseded and lies in {} now", path, array.at(index).name(), slot);
  return slot;
}

base::Result<std::uint64_t> xattr_digest(Context& context, const Attributed& what) {
  auto found = read_xattrs(context, what);
  if (!found) return base::Unexpected{found.error()};
  std::string all;
  for (const auto& [name, value] : *found) all += fmt::format("{} {} {}", name, value.size(), value);
  return XXH3_64bits(all.data(), all.size());
}

base::Result<bool> copy_xattrs(Context& context, const Attributed& from, const Attributed& to, bool only_compare) {
  auto wanted = read_xattrs(context, from);
  if (!wanted) return base::Unexpected{wanted.error()};
  auto there = read_xattrs(context, to);
  if (!there) return base::Unexpected{there.error()};
  if (*wanted == *there) return false;
  if (only_compare) return true;
  for (const auto& [name, value] : *there) {
    if (wanted->contains(name)) continue;
    auto remove = about(to, Kind::remove_xattr);
    remove->name = name;
    const Done removed = perform_on(context.array, to.index, remove);
    if (!removed.ok() && removed.error != ENODATA) return base::unexpected(removed.error, "removing " + name);
  }
  for (const auto& [name, value] : *wanted) {
    const auto same = there->find(name);
    if (same != there->end() && same->second == value) continue;
    auto set = about(to, Kind::set_xattr);
    set->name = name;
    set->text = value;
    const Done done = perform_on(context.array, to.index, set);
    if (!done.ok()) return base::unexpected(done.error, "setting " + name);
  }
  return true;
}

base::Result<void> ensure_directory(Context& context, ExportIndex index, const std::string& path) {
  if (path.empty()) return {};
  const Done there = perform_on(context.array, index, new_operation(Kind::stat, path));
  if (there.ok()) return S_ISDIR(there.operation->stat.stx_mode) ? base::Result<void>{} : base::unexpected(ENOTDIR);
  if (there.error != ENOENT) return base::unexpected(there.error);
  LocateOptions everywhere;
  everywhere.everywhere = true;
  auto location = locate(context, path, everywhere);
  if (!location) return base::Unexpected{location.error()};
  if (location->verdict.finding == Finding::absent) return base::unexpected(ENOENT);
  if (!S_ISDIR(location->elected().stx_mode)) return base::unexpected(ENOTDIR);
  const std::string above = parent_of(path);
  auto parent = ensure_directory(context, index, above);
  if (!parent) return parent;

  const struct statx stat = merged_directory_stat(*location);
  const Done parent_stat = perform_on(context.array, index, new_operation(Kind::stat, above));
  auto make = new_operation(Kind::mkdir, path);
  make->mode = stat.stx_mode & 07777;
  const Done made = perform_on(context.array, index, make);
  if (made.error == EEXIST) return {};  // another one made it meanwhile, and gives it what it needs
  if (!made.ok()) return base::unexpected(made.error);
  (void)copy_xattrs(context, {location->verdict.elected, path, nullptr}, {index, path, nullptr});
  auto set = new_operation(Kind::set_attributes, path);
  io::Attributes& attributes = set->attributes;
  attributes.valid = io::Attributes::mode_set | io::Attributes::uid_set | io::Attributes::gid_set |
                     io::Attributes::atime_set | io::Attributes::mtime_set;
  attributes.mode = stat.stx_mode & 07777;
  attributes.uid = stat.stx_uid;
  attributes.gid = stat.stx_gid;
  attributes.atime = {stat.stx_atime.tv_sec, stat.stx_atime.tv_nsec};
  attributes.mtime = {stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec};
  const Done done = perform_on(context.array, index, set);
  if (parent_stat.ok()) {
    const struct statx& before = parent_stat.operation->stat;
    auto restore = new_operation(Kind::set_attributes, above);
    restore->attributes.valid = io::Attributes::mtime_set;
    restore->attributes.mtime = {before.stx_mtime.tv_sec, before.stx_mtime.tv_nsec};
    perform_on(context.array, index, restore);
  }
  if (!done.ok()) return base::unexpected(done.error);
  return {};
}

}  // namespace rainfs::replica
