// SPDX-License-Identifier: Apache-2.0
// rainfsctl trash: what repair put aside on the exports: listed, put back, removed.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <memory>

#include "change.hpp"
#include "rainfs/config/values.hpp"
#include "table.hpp"

namespace rainfs::cli {

namespace {

namespace po = boost::program_options;

constexpr std::size_t largest_path_bytes = 64 * 1024;

base::UniqueFd open_at(int directory, const std::string& path) {
  return base::UniqueFd(::openat(directory, path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

std::vector<std::string> names_at(int directory, const std::string& path) {
  std::vector<std::string> names;
  base::UniqueFd fd = open_at(directory, path);
  if (!fd) return names;
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd.release()), ::closedir);
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// One thing that was put aside.
struct Slot {
  const Reached* exp = nullptr;
  std::string kind, day, name;
  std::string path;  // where it lay
  struct stat attributes {};
  std::string folder() const { return ".rainfs/" + kind + "/" + day + "/" + name; }
  std::string id() const { return kind + "/" + day + "/" + name; }
};

std::string read_path(int root, const std::string& folder) {
  const base::UniqueFd fd(::openat(root, (folder + "/path").c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return {};
  std::string text(largest_path_bytes, '\0');
  const ssize_t size = ::read(fd.get(), text.data(), text.size());
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  return text;
}

std::vector<Slot> find_slots(const ArrayAtHand& array) {
  std::vector<Slot> slots;
  for (const Reached& exp : array.exports) {
    for (const char* kind : {"conflicts", "trash"}) {
      const std::string top = std::string(".rainfs/") + kind;
      for (const std::string& day : names_at(exp.root.get(), top)) {
        for (const std::string& name : names_at(exp.root.get(), fmt::format("{}/{}", top, day))) {
          Slot slot{&exp, kind, day, name, {}, {}};
          if (::fstatat(exp.root.get(), (slot.folder() + "/contents").c_str(), &slot.attributes, AT_SYMLINK_NOFOLLOW) !=
              0)
            continue;
          slot.path = read_path(exp.root.get(), slot.folder());
          slots.push_back(std::move(slot));
        }
      }
    }
  }
  return slots;
}

bool remove_all(int directory, const std::string& path) {
  if (::unlinkat(directory, path.c_str(), 0) == 0 || errno == ENOENT) return true;
  for (const std::string& name : names_at(directory, path)) remove_all(directory, fmt::format("{}/{}", path, name));
  return ::unlinkat(directory, path.c_str(), AT_REMOVEDIR) == 0;
}

int list(const ArrayAtHand& array, const std::vector<std::string>& prefixes, std::ostream& out) {
  Table table({"EXPORT", "SLOT", "SIZE", "PATH"});
  std::size_t count = 0;
  for (const Slot& slot : find_slots(array)) {
    const bool wanted = prefixes.empty() || std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& p) {
                          const std::string bare = p.starts_with('/') ? p.substr(1) : p;
                          return slot.path == bare || slot.path.starts_with(bare + "/");
                        });
    if (!wanted) continue;
    ++count;
    table.add({array.topology.exports[slot.exp->index].name, slot.id(),
               S_ISDIR(slot.attributes.st_mode)
                   ? "-"
                   : config::format_size(static_cast<std::uint64_t>(slot.attributes.st_size)),
               "/" + printable(slot.path)});
  }
  if (count > 0) table.print(out);
  return exit_done;
}

base::Result<void> restore(const ArrayAtHand& array, const Slot& slot, const std::string& to) {
  // Anywhere but where something lies: it would become one more version of that.
  for (const Reached& exp : array.exports) {
    struct stat st {};
    if (array.topology.exports[exp.index].witness) continue;
    if (::fstatat(exp.root.get(), to.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0) {
      return base::unexpected(
          base::config_error(fmt::format("/{}: there is something on export {}; give another name with --to", to,
                                         array.topology.exports[exp.index].name)));
    }
  }
  if (!array.unreached.empty()) {
    return base::unexpected(
        base::config_error("not all exports can be reached: whether the name is free cannot be told"));
  }
  const std::size_t slash = to.rfind('/');
  if (slash != std::string::npos && !open_at(slot.exp->root.get(), to.substr(0, slash))) {
    return base::unexpected(base::config_error(fmt::format(
        "/{}: no such directory on the export; make it in the mount first, or use --to", to.substr(0, slash))));
  }
  const int root = slot.exp->root.get();
  const std::string contents = slot.folder() + "/contents";
  if (::renameat2(root, contents.c_str(), root, to.c_str(), RENAME_NOREPLACE) != 0) {
    // NFS does not know the flag: a link never replaces what somebody has made meanwhile, and a directory only an empty
    // one.
    const bool directory = S_ISDIR(slot.attributes.st_mode);
    const bool unknown = errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS;
    if (!unknown || (directory ? ::renameat(root, contents.c_str(), root, to.c_str())
                               : ::linkat(root, contents.c_str(), root, to.c_str(), 0)) != 0) {
      return base::unexpected(errno, "/" + to);
    }
  }
  remove_all(root, slot.folder());
  return {};
}

// The date so many days ago, as the directories of the trash are called.
base::Result<std::string> day_before(const std::string& text) {
  constexpr std::uint64_t most_days = 36500;
  const auto days = config::parse_number(text);
  if (!days || *days > most_days) {
    return base::unexpected(
        base::config_error(fmt::format("'{}' is no number of days; write 0 to {}", text, most_days)));
  }
  const std::time_t then = std::time(nullptr) - static_cast<std::time_t>(*days) * 24 * 3600;
  struct tm parts {};
  char date[16] = "";
  ::gmtime_r(&then, &parts);
  std::strftime(date, sizeof date, "%F", &parts);
  return std::string(date);
}

int run(const Command& self, const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  po::options_description options("Options");
  options.add_options()("yes,y", "do not ask")("to", po::value<std::string>(), "restore: the path to put it at")(
      "days", po::value<std::string>(), "empty: only what is older than so many days")("conflicts",
                                                                                       "empty: conflicts too");
  int status = exit_done;
  const auto values = parse_arguments(self, arguments, options, 2, SIZE_MAX, out, err, status);
  if (!values) return status;
  const auto operands = operands_of(*values);
  const Fail fail{self, err};
  const std::string& action = operands[0];
  if (action != "list" && action != "restore" && action != "empty") {
    complain(self, "list, restore or empty?", err);
    return exit_usage;
  }
  std::string before = "9999-99-99";
  if (values->count("days") != 0) {
    const auto day = day_before((*values)["days"].as<std::string>());
    if (!day) {
      complain(self, "--days: " + day.error().message(), err);
      return exit_usage;
    }
    before = *day;
  }
  auto array = open_array(operands[1]);
  if (!array) return fail(array.error());
  const std::vector<std::string> rest(operands.begin() + 2, operands.end());
  if (action == "list") return list(*array, rest, out);
  const std::vector<Slot> slots = find_slots(*array);
  if (action == "restore") {
    if (rest.empty() || (rest.size() > 1 && values->count("to") != 0)) {
      complain(self, "restore: which SLOT? as rainfsctl trash list shows it", err);
      return exit_usage;
    }
    for (const std::string& id : rest) {
      const auto slot = std::find_if(slots.begin(), slots.end(), [&](const Slot& s) { return s.id() == id; });
      if (slot == slots.end()) return fail(base::config_error(id + ": no such slot on the exports at hand"));
      std::string to = values->count("to") != 0 ? (*values)["to"].as<std::string>() : slot->path;
      while (to.starts_with('/')) to.erase(0, 1);
      if (config::normalize_path("/" + to).empty() || to.empty() || to.starts_with(".rainfs"))
        return fail(base::config_error(to + ": not a path in the array"));
      if (auto restored = restore(*array, *slot, to); !restored) return fail(restored.error());
      out << fmt::format("/{} is back; rainfs-scrub {} /{} gives it all its replicas.\n", printable(to), operands[1],
                         printable(to));
    }
    return exit_done;
  }
  const auto goes = [&](const Slot& slot) {
    return slot.day < before && (slot.kind == "trash" || values->count("conflicts") != 0);
  };
  const auto count = std::count_if(slots.begin(), slots.end(), goes);
  if (!agreed(self, fmt::format("{} things are removed from the trash for good.\n", count), values->count("yes") != 0,
              out, err))
    return exit_failed;
  for (const Slot& slot : slots) {
    if (!goes(slot)) continue;
    if (!remove_all(slot.exp->root.get(), slot.folder())) {
      complain(self, slot.id() + ": could not be removed", err);
      status = exit_failed;
    }
    ::unlinkat(slot.exp->root.get(), (".rainfs/" + slot.kind + "/" + slot.day).c_str(), AT_REMOVEDIR);
  }
  return status;
}

}  // namespace

const Command trash_command{
    "trash", "list|restore|empty ARRAY [PATH...|SLOT...]", "what repair put aside: list it, put it back, remove it",
    "list shows what lies in the trash and in the conflicts of the exports at hand, all of it or what was at PATHs.\n"
    "restore puts SLOTs back to where they were, or --to another path. empty removes what is in the trash, which\n"
    "rainfs-scrub does by itself after the time that the array's file says.",
    run};

}  // namespace rainfs::cli
