// SPDX-License-Identifier: Apache-2.0
#include "look.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "apart.hpp"
#include "mounts.hpp"
#include "node.hpp"
#include "rainfs/base/unique_fd.hpp"
#include "rainfs/status/gather.hpp"

namespace rainfs::cli {

namespace {

constexpr base::Duration mount_bound = std::chrono::seconds(20);
constexpr base::Duration margin = std::chrono::seconds(5);  // for a busy machine

std::string config_of_array(const std::string& array) {
  const std::string file = fmt::format("{}/{}.yaml", config::default_directory, array);
  return ::access(file.c_str(), R_OK) == 0 ? file : std::string{};
}

base::Result<std::string> read_whole(const std::string& path) {
  const base::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return base::unexpected(errno, path);
  std::string text;
  std::array<char, 65536> buffer{};
  while (true) {
    const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::unexpected(errno, path);
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

base::Result<status::Report> through_mount(const std::string& mount_point) {
  const std::string file = mount_point + "/.rainfs/status.json";
  auto text = do_apart([&] { return read_whole(file); }, mount_bound);
  if (!text && text.error().code == ETIMEDOUT) {
    return base::unexpected(base::config_error(fmt::format(
        "the mount at {} does not answer; its daemon's log says more (journalctl -u 'rainfs@*')", mount_point)));
  }
  if (!text) return base::unexpected(text.error());
  return status::from_json(*text);
}

status::Report nothing_reached(const config::Config& config, std::string why) {
  status::Report report;
  report.array = config.array;
  report.time_s = base::Clock::system().realtime().tv_sec;
  report.replicas = config.defaults.replicas;
  report.racks = static_cast<unsigned>(config.racks.size());
  report.health = status::Health::unavailable;
  report.problems.push_back({status::Health::unavailable, std::move(why), "None of the array's data can be used.",
                             "Mount the exports at the paths of the array's file; check the NAS and the network."});
  return report;
}

base::Result<std::string> gather_directly(const config::Config& config, const config::NodeConfig& node) {
  log::set_level(log::Level::error);
  base::Clock& clock = base::Clock::system();
  const auto paths = local_paths(config, node);
  // Left alone at the end: destroying them might wait for what hangs, and the process ends anyway.
  auto* const factory = nas::make_system_engines().release();
  auto topology = discover_topology(config, paths, *factory, clock);
  if (!topology) return status::to_json(nothing_reached(config, topology.error().message()));
  nas::ArrayOptions options = array_options(config, *topology, paths);
  auto* const array = new nas::Array(std::make_shared<const topology::Topology>(std::move(*topology)),
                                     std::move(options), *factory, clock);
  array->poll();
  return status::to_json(status::gather(*array));
}

base::Result<status::Report> at_exports(const std::string& file) {
  auto config = config::load_config(file);
  if (!config) return base::unexpected(config.error());
  auto node = config::load_node_config(std::string(config::default_directory) + "/node.yaml");
  if (!node) return base::unexpected(node.error());
  // Finding the topology and polling are two rounds each; then come the rounds of the report.
  const base::Duration bound = 4 * config->deadlines.probe + 3 * config->deadlines.metadata + margin;
  auto text = do_apart([&] { return gather_directly(*config, *node); }, bound);
  if (!text && text.error().code == ETIMEDOUT) {
    return base::unexpected(base::config_error(fmt::format("array {}: its exports do not answer", config->array)));
  }
  if (!text) return base::unexpected(text.error());
  return status::from_json(*text);
}

}  // namespace

std::string as_mount_point(const std::string& path) {
  std::error_code failed;
  std::string whole = std::filesystem::absolute(path, failed).lexically_normal();
  while (whole.size() > 1 && whole.back() == '/') whole.pop_back();
  return whole;
}

base::Result<Target> find_target(const std::string& operand) {
  const auto mounts = read_mounts();
  if (!mounts) return base::unexpected(mounts.error());
  const std::string point = as_mount_point(operand);
  for (const Mount& mount : *mounts) {
    if (mount.is_rainfs() && mount.point == point) return Target{point, config_of_array(mount.source)};
  }
  const std::string file = config::config_path(operand);
  if (::access(file.c_str(), F_OK) != 0) {
    return base::unexpected(base::config_error(
        fmt::format("{}: neither a RainFS mount point of this node nor an array (there is no {})", operand, file)));
  }
  // An array's name, and it is mounted here: the daemon knows more than the exports tell.
  if (operand.find('/') == std::string::npos && file != operand) {
    for (const Mount& mount : *mounts) {
      if (mount.is_rainfs() && mount.source == operand) return Target{mount.point, file};
    }
  }
  return Target{{}, std::filesystem::absolute(file).string()};
}

base::Result<std::vector<Target>> all_targets() {
  const auto mounts = read_mounts();
  if (!mounts) return base::unexpected(mounts.error());
  std::vector<Target> targets;
  std::vector<std::string> known;
  for (const Mount& mount : *mounts) {
    if (!mount.is_rainfs()) continue;
    targets.push_back({mount.point, config_of_array(mount.source)});
    known.push_back(targets.back().config_file);
  }
  std::error_code failed;
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(config::default_directory, failed)) {
    const std::filesystem::path& path = entry.path();
    if (path.extension() == ".yaml" && path.filename() != "node.yaml") files.push_back(path);
  }
  std::sort(files.begin(), files.end());
  for (const std::string& file : files) {
    if (std::find(known.begin(), known.end(), file) == known.end()) targets.push_back({{}, file});
  }
  if (targets.empty()) {
    return base::unexpected(base::config_error(
        fmt::format("nothing of RainFS is mounted here, and {} has no array; name a file", config::default_directory)));
  }
  return targets;
}

base::Result<status::Report> look(const Target& target) {
  if (target.mount_point.empty()) return at_exports(target.config_file);
  auto report = through_mount(target.mount_point);
  if (report || target.config_file.empty()) return report;
  auto direct = at_exports(target.config_file);
  if (!direct) return report;
  direct->problems.insert(
      direct->problems.begin(),
      {status::Health::degraded,
       fmt::format("the mount at {} could not be asked: {}", target.mount_point, report.error().message()),
       "What follows was found at the exports.",
       fmt::format("As root: look at the daemon's log; umount -l {0} and mount {0} clear a dead "
                   "mount.",
                   target.mount_point)});
  direct->health = std::max(direct->health, status::Health::degraded);
  return direct;
}

}  // namespace rainfs::cli
