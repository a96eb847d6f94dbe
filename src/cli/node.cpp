// SPDX-License-Identifier: Apache-2.0
#include "node.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>

#include "rainfs/log/log.hpp"
#include "rainfs/topology/from_config.hpp"
#include "reload.hpp"

namespace rainfs::cli {

namespace {

constexpr std::size_t largest_topology_bytes = 1 << 20;

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "node";
}

}  // namespace

std::map<std::string, std::string> local_paths(const config::Config& config, const config::NodeConfig& node) {
  std::map<std::string, std::string> paths;
  for (const auto& rack : config.racks) {
    for (const auto& exp : rack.exports) paths[exp.name] = exp.path;
  }
  for (const auto& witness : config.witnesses) paths[witness.name] = witness.path;
  for (const auto& [name, path] : node.paths) paths[name] = path;
  return paths;
}

base::Result<topology::Topology> discover_topology(const config::Config& config,
                                                   const std::map<std::string, std::string>& paths,
                                                   nas::EngineFactory& factory, base::Clock& clock) {
  struct Candidate {
    std::string name, path;
    std::unique_ptr<io::Engine> engine;
    io::OperationPtr open, read;
  };
  std::vector<Candidate> candidates;
  io::Batch opens;
  for (const auto& [name, path] : paths) {
    Candidate candidate{name, path, factory.make_engine(name), nullptr, nullptr};
    candidate.open = std::make_shared<io::Operation>(io::Kind::open_root);
    candidate.open->text = path;
    opens.add(*candidate.engine, candidate.open);
    candidates.push_back(std::move(candidate));
  }
  opens.run(clock, config.deadlines.probe);
  io::Batch reads;
  for (Candidate& candidate : candidates) {
    if (!candidate.open->done() || candidate.open->error != 0) continue;
    candidate.read = std::make_shared<io::Operation>(io::Kind::read_file);
    candidate.read->file = candidate.open->handle;
    candidate.read->path = ".rainfs/array.yaml";
    candidate.read->length = largest_topology_bytes;
    reads.add(candidate.read);
  }
  reads.run(clock, config.deadlines.probe);

  base::Result<topology::Topology> best = base::unexpected(base::config_error(""));
  std::string reasons;
  for (Candidate& candidate : candidates) {
    const std::string where = candidate.path + "/.rainfs/array.yaml";
    if (!candidate.read) {
      reasons += fmt::format("\n  {} at {}: {}", candidate.name, candidate.path,
                             candidate.open->done() ? base::Error(candidate.open->error).message() : "does not answer");
      continue;
    }
    if (!candidate.read->done() || candidate.read->error != 0) {
      const bool none = candidate.read->done() && candidate.read->error == ENOENT;
      reasons += fmt::format("\n  {} at {}: {}", candidate.name, candidate.path,
                             none ? "no .rainfs/array.yaml there: not mounted, or `rainfsctl create` was not run"
                                  : "its array.yaml cannot be read");
      continue;
    }
    auto topology = topology::parse_topology(candidate.read->text, where);
    if (!topology) {
      reasons += "\n  " + topology.error().message();
      continue;
    }
    if (topology->array_name != config.array) {
      reasons += fmt::format("\n  {} belongs to array {}", candidate.path, topology->array_name);
      continue;
    }
    if (best && best->array_uuid != topology->array_uuid) {
      return base::unexpected(base::config_error(fmt::format(
          "{}: exports of two different arrays named {} are configured; give each array its own name and paths", where,
          config.array)));
    }
    if (!best || topology->version > best->version) best = std::move(*topology);
  }
  // Handles go before the engines they belong to.
  for (Candidate& candidate : candidates) {
    if (candidate.read && candidate.read->done()) candidate.read = nullptr;
    if (candidate.open->done()) candidate.open = nullptr;
  }
  if (!best) {
    return base::unexpected(base::config_error(fmt::format(
        "array {}: none of its exports can be used; mount them, or run `rainfsctl create {}` for a new array:{}",
        config.array, config.file, reasons)));
  }
  return best;
}

nas::ArrayOptions array_options(const config::Config& config, const topology::Topology& topology,
                                const std::map<std::string, std::string>& paths) {
  nas::ArrayOptions options;
  options.deadlines = deadlines_of(config);
  for (const topology::Export& exp : topology.exports) {
    const auto known = paths.find(exp.name);
    options.local_paths.push_back(known != paths.end() ? known->second : exp.path);
  }
  return options;
}

base::Result<std::unique_ptr<Node>> Node::assemble(const Setup& setup) {
  base::Clock& clock = base::Clock::system();
  std::unique_ptr<Node> node(new Node);
  node->factory_ = nas::make_system_engines();
  const auto paths = local_paths(setup.config, setup.node);
  auto topology = discover_topology(setup.config, paths, *node->factory_, clock);
  if (!topology) return base::Unexpected{topology.error()};

  nas::ArrayOptions options = array_options(setup.config, *topology, paths);
  options.rack = !setup.options.rack.empty() ? setup.options.rack : setup.node.rack;
  node->name_ = !setup.options.node.empty() ? setup.options.node
                : !setup.node.node.empty()  ? setup.node.node
                                            : host_name();
  options.node_name = node->name_;
  if (!options.rack.empty()) {
    bool known = false;
    for (const topology::Rack& rack : topology->racks) known |= rack.name == options.rack;
    if (!known) {
      return base::unexpected(base::config_error(
          fmt::format("rack {} is none of array {}'s; see its array.yaml", options.rack, setup.config.array)));
    }
  }
  for (const std::string& difference : topology::differences(setup.config, *topology)) {
    log::warning("file-differs",
                 "{}: {}; the array's holds (rainfsctl update, replicas, add, drain or retire change it)",
                 setup.config.file, difference);
  }
  node->array_ = std::make_unique<nas::Array>(std::make_shared<const topology::Topology>(std::move(*topology)),
                                              std::move(options), *node->factory_, clock);
  // Two daemons of one host, or one after the other, are two nodes to the ledger.
  const std::string instance = node->name_ + "-" + base::make_uuid().substr(0, 8);
  node->ledger_ = std::make_unique<ledger::Ledger>(*node->array_, instance);
  tree::TreeOptions tree_options;
  tree_options.read_only = setup.options.read_only;
  tree_options.reads = reads_of(setup);
  tree_options.strict_coherence = setup.coherence() == config::Coherence::strict;
  if (!tree_options.strict_coherence) tree_options.directory_look = setup.attribute_timeout() / 4;
  node->tree_ = std::make_unique<tree::Tree>(*node->array_, *node->ledger_, instance, tree_options);
  node->array_->poll();
  node->array_->start_monitor();
  node->tree_->start_upkeep();
  return node;
}

Node::~Node() {
  if (array_) array_->stop_monitor();
}

}  // namespace rainfs::cli
