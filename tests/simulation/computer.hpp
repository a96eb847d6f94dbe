// SPDX-License-Identifier: Apache-2.0
// One simulated computer with a mounted file system, and what a program on it can do through its kernel.
//
// Owns the node's array, ledger and tree; a killed node leaves them behind untouched. Every call runs in an
// activity of the world and may throw Killed.
#pragma once

#include "rainfs/ledger/ledger.hpp"
#include "rainfs/scrub/scrub.hpp"
#include "rainfs/tree/tree.hpp"
#include "simulated/exports.hpp"

namespace rainfs::simulation {

using simulated::Exports;
using simulated::Machine;
using simulated::World;

// A version of a file's contents; what names nothing and what names a directory are versions of their own.
using Version = int;
inline constexpr Version absent = 0;
inline constexpr Version directory = -1;

std::string contents_of(Version version);
// What was read: one version's whole contents, or pieces of several.
struct Contents {
  Version whole = absent;  // absent: no version's whole contents
  std::vector<Version> pieces;
};
Contents recognise(const std::string& bytes);

// What `rainfsctl create` leaves on the exports of an array.
void make_exports(Exports& exports, const topology::Topology& topology);

class Computer {
 public:
  Computer(World& world, Exports& exports, std::shared_ptr<const topology::Topology> topology, std::string name,
           base::Duration skew);

  void mount();  // polls once, then regularly; the tree is there when it returns
  bool mounted() const { return tree_ != nullptr; }
  Machine& machine() { return machine_; }
  nas::Array& array() { return *array_; }
  const std::string& name() const { return machine_.name; }
  // Ready to serve as well as it can: the last poll found every export.
  bool sees_all() const;

  // What system calls give: 0 or an errno.
  int read(const std::string& path, std::string& bytes);
  int stat(const std::string& path, struct stat& out);
  enum class How { overwrite, exclusive, resized };  // resized: truncated and allocated by hand
  int write(const std::string& path, Version version, How how, bool sync);
  int remove(const std::string& path, bool directory);
  int make_directory(const std::string& path);
  int rename(const std::string& from, const std::string& to, unsigned flags);
  int link(const std::string& from, const std::string& to);
  enum class Attribute { mode, owner, times, extended };
  int change_attribute(const std::string& path, Attribute what, unsigned value);
  int list(const std::string& path, std::vector<std::string>& names);
  int replicas(const std::string& path, std::string& description);

 private:
  struct Reached;
  int walk(const std::string& path, Reached& reached);
  int write_once(const std::string& path, Version version, How how, bool sync);
  int stat_once(const std::string& path, struct stat& out);
  int read_once(const std::string& path, std::string& bytes);
  int put(tree::OpenFile& file, Version version, bool sync);
  int resize(tree::OpenFile& file, tree::NodeId node, std::size_t size);

  World& world_;
  Machine machine_;
  simulated::NodeClock clock_;
  simulated::EngineFactory factory_;
  std::unique_ptr<nas::Array> array_;
  std::unique_ptr<ledger::Ledger> ledger_;
  std::unique_ptr<tree::Tree> tree_;
};

// A computer on which rainfs-scrub runs. What it says when it is killed nobody hears.
class Repairer {
 public:
  Repairer(World& world, Exports& exports, std::shared_ptr<const topology::Topology> topology, std::string name,
           base::Duration skew);
  // One run, in an activity that ends with the whole machine.
  base::Result<int> run(const scrub::Options& options);
  Machine& machine() { return machine_; }
  const std::string& name() const { return machine_.name; }
  bool over = false;
  int status = -1;                                                // when over: the scrub's, or -1 for none
  const std::vector<std::string>& left() const { return left_; }  // what it could not repair, and why

 private:
  World& world_;
  Machine machine_;
  simulated::NodeClock clock_;
  simulated::EngineFactory factory_;
  std::unique_ptr<nas::Array> array_;
  std::unique_ptr<ledger::Ledger> ledger_;
  std::vector<std::string> left_;
};

}  // namespace rainfs::simulation
