// SPDX-License-Identifier: Apache-2.0
// The objects of one mounted node, wired together: engines, array, ledger, tree. Made in one thread, torn
// down in the reverse order.
#pragma once

#include <memory>
#include <string>

#include "rainfs/cli/rainfs.hpp"
#include "rainfs/config/config.hpp"
#include "rainfs/tree/tree.hpp"

namespace rainfs::cli {

class Node {
 public:
  // Finds the array's topology on the exports that answer within the probe deadline (the highest version
  // holds) and polls them once. Errors say what is missing and what to do.
  static base::Result<std::unique_ptr<Node>> assemble(const Setup& setup);
  ~Node();

  // For whoever serves it; must go before the node does.
  std::unique_ptr<tree::Tree> take_tree() { return std::move(tree_); }
  nas::Array& array() { return *array_; }
  ledger::Ledger& ledger() { return *ledger_; }
  const std::string& name() const { return name_; }

 private:
  Node() = default;
  std::string name_;
  std::unique_ptr<nas::EngineFactory> factory_;
  std::unique_ptr<nas::Array> array_;
  std::unique_ptr<ledger::Ledger> ledger_;
  std::unique_ptr<tree::Tree> tree_;
};

// The topology of an array as its exports tell it, read through engines of their own so that a hung export
// costs one probe deadline. `paths` are the exports' local paths by name.
base::Result<topology::Topology> discover_topology(const config::Config& config,
                                                   const std::map<std::string, std::string>& paths,
                                                   nas::EngineFactory& factory, base::Clock& clock);
// How these exports are looked at: deadlines as configured, and where each is mounted here.
nas::ArrayOptions array_options(const config::Config& config, const topology::Topology& topology,
                                const std::map<std::string, std::string>& paths);
// Where each export of the configuration is mounted on this node.
std::map<std::string, std::string> local_paths(const config::Config& config, const config::NodeConfig& node);

}  // namespace rainfs::cli
