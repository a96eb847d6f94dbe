// SPDX-License-Identifier: Apache-2.0
#include "change.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iostream>

#include "rainfs/nas/identity.hpp"

extern char** environ;

namespace rainfs::cli {

namespace {
constexpr int status_left = 4;  // of rainfs-scrub: something could not be repaired
constexpr int most_scrubs = 3;
constexpr unsigned seconds_between_scrubs = 3;
}  // namespace

base::Result<ArrayAtHand> open_array(const std::string& name) {
  ArrayAtHand array;
  auto config = config::load_config(config::config_path(name));
  if (!config) return base::Unexpected{config.error()};
  array.config = std::move(*config);
  auto node = config::load_node_config(std::string(config::default_directory) + "/node.yaml");
  if (!node) return base::Unexpected{node.error()};
  array.node = std::move(*node);
  std::map<std::string, std::string> paths;
  for (const auto& rack : array.config.racks) {
    for (const auto& exp : rack.exports) paths[exp.name] = exp.path;
  }
  for (const auto& witness : array.config.witnesses) paths[witness.name] = witness.path;
  for (const auto& [export_name, path] : array.node.paths) paths[export_name] = path;

  // The newest topology first: it may name exports that the file does not know any more.
  bool found = false;
  for (const auto& [export_name, path] : paths) {
    const base::UniqueFd root(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root) continue;
    auto topology = nas::read_topology(root.get(), path);
    if (!topology || topology->array_name != array.config.array) continue;
    if (found && topology->array_uuid != array.topology.array_uuid) {
      return base::unexpected(base::config_error(fmt::format("{}: belongs to another array of the same name", path)));
    }
    if (!found || topology->version > array.topology.version) array.topology = std::move(*topology);
    found = true;
  }
  if (!found) {
    return base::unexpected(base::config_error(
        fmt::format("array {}: none of its exports can be read; mount them, or make the array with rainfsctl create",
                    array.config.array)));
  }
  for (std::size_t i = 0; i < array.topology.exports.size(); ++i) {
    const topology::Export& exp = array.topology.exports[i];
    if (exp.state == topology::State::retired) continue;
    Reached reached{i, paths.contains(exp.name) ? paths[exp.name] : exp.path, {}};
    reached.root.reset(::open(reached.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    auto identity = reached.root ? nas::read_identity(reached.root.get(), reached.path)
                                 : base::Result<topology::Identity>(base::unexpected(errno));
    if (identity && identity->array_uuid == array.topology.array_uuid && identity->export_uuid == exp.uuid) {
      array.exports.push_back(std::move(reached));
    } else {
      array.unreached.push_back(exp.name);
    }
  }
  return array;
}

const Reached* reached(const ArrayAtHand& array, std::size_t index) {
  const auto there =
      std::find_if(array.exports.begin(), array.exports.end(), [&](const Reached& r) { return r.index == index; });
  return there == array.exports.end() ? nullptr : &*there;
}

base::Result<void> write_change(ArrayAtHand& array) {
  std::size_t parts = 0;
  for (const topology::Export& exp : array.topology.exports) {
    if (exp.state != topology::State::retired) ++parts;
  }
  if (array.exports.size() * 2 <= parts) {
    return base::unexpected(
        base::config_error(fmt::format("only {} of {} exports can be reached (not: {}): a change must be on more than "
                                       "half of them to be found by every node; "
                                       "mount them first",
                                       array.exports.size(), parts, fmt::join(array.unreached, ", "))));
  }
  ++array.topology.version;
  std::size_t written = 0;
  base::Error last;
  for (const Reached& reached : array.exports) {
    auto done = nas::write_topology(reached.root.get(), reached.path, array.topology);
    if (done) {
      ++written;
    } else {
      last = done.error();
    }
  }
  if (written * 2 <= parts) return base::unexpected(last);
  return {};
}

bool agreed(const Command& self, const std::string& what, bool yes, std::ostream& out, std::ostream& err) {
  out << what << std::flush;
  if (yes) return true;
  if (::isatty(0) != 1) {
    complain(self, "nothing was done; say --yes to do it", err);
    return false;
  }
  out << "Go on? [y/N] " << std::flush;
  std::string answer;
  return std::getline(std::cin, answer) && (answer == "y" || answer == "Y" || answer == "yes");
}

int run_scrub(const std::vector<std::string>& arguments) {
  std::string program = "rainfs-scrub";
  std::array<char, 4096> self{};
  const ssize_t size = ::readlink("/proc/self/exe", self.data(), self.size() - 1);
  if (size > 0) {
    std::string beside(self.data(), static_cast<std::size_t>(size));
    beside = beside.substr(0, beside.rfind('/') + 1) + program;
    if (::access(beside.c_str(), X_OK) == 0) program = beside;
  }
  std::vector<std::string> words{program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  if (::posix_spawnp(&child, program.c_str(), nullptr, nullptr, argv.data(), environ) != 0) return 8;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return 8;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 8;
}

int scrub_until_clean(std::vector<std::string> arguments) {
  // The bracket in which replicas are placed is safe beside writers: the grace time only saves work.
  arguments.insert(arguments.end(), {"--grace", "2"});
  int status = 0;
  for (int attempt = 0; attempt < most_scrubs; ++attempt) {
    status = run_scrub(arguments);
    if ((status & ~1) != status_left) break;
    if (attempt + 1 < most_scrubs) ::sleep(seconds_between_scrubs);
  }
  return status;
}

base::Result<std::size_t> find_export(const topology::Topology& topology, const std::string& name) {
  if (const auto index = topology.export_named(name)) return *index;
  std::vector<std::string> names;
  for (const topology::Export& known : topology.exports) names.push_back(known.name);
  return base::unexpected(
      base::config_error(fmt::format("{}: no such export; the array has {}", name, fmt::join(names, ", "))));
}

}  // namespace rainfs::cli
