// SPDX-License-Identifier: Apache-2.0
#include "reload.hpp"

#include <fmt/format.h>

#include "node.hpp"
#include "rainfs/topology/from_config.hpp"

namespace rainfs::cli {

base::Result<Setup> read_again(const Setup& running, const topology::Topology& topology) {
  auto config = config::load_config(running.config.file);
  if (!config) return base::unexpected(config.error());
  auto node = config::load_node_config(std::string(config::default_directory) + "/node.yaml");
  if (!node) return base::unexpected(node.error());
  Setup now{std::move(*config), std::move(*node), running.options, running.mount_point};
  std::vector<std::string> refused = not_changeable(running, now);
  for (std::string& difference : topology::differences(now.config, topology)) refused.push_back(std::move(difference));
  if (refused.empty()) return now;
  std::string text = "nothing was changed:";
  for (const std::string& reason : refused) text += "\n" + reason;
  return base::unexpected(base::config_error(std::move(text)));
}

std::vector<std::string> not_changeable(const Setup& mounted, const Setup& now) {
  std::vector<std::string> out;
  const auto same = [&](bool equal, std::string_view what) {
    if (!equal) out.push_back(fmt::format("{} was changed: that needs a new mount", what));
  };
  same(mounted.config.array == now.config.array, "array");
  same(mounted.config.coherence == now.config.coherence, "coherence");
  same(local_paths(mounted.config, mounted.node) == local_paths(now.config, now.node), "an export's path");
  same(mounted.node.node == now.node.node, "node.yaml: node");
  same(mounted.node.rack == now.node.rack, "node.yaml: rack");
  same(mounted.node.attr_timeout == now.node.attr_timeout, "node.yaml: attr_timeout");
  same(mounted.node.entry_timeout == now.node.entry_timeout, "node.yaml: entry_timeout");
  return out;
}

nas::Deadlines deadlines_of(const config::Config& config) {
  return {config.deadlines.metadata, config.deadlines.data, config.deadlines.probe};
}

tree::Reads reads_of(const Setup& setup) {
  switch (setup.options.reads.value_or(setup.config.reads)) {
    case config::Reads::managed:
      return tree::Reads::managed;
    case config::Reads::passthrough:
      return tree::Reads::passthrough;
    case config::Reads::automatic:
      break;
  }
  return tree::Reads::automatic;
}

}  // namespace rainfs::cli
