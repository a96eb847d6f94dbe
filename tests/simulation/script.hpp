// SPDX-License-Identifier: Apache-2.0
// The stage for scenes that are played on purpose: exports "a", "b", ... each in a rack of its own, nodes and repairers
// that are started when the scene says so, and operations that fail when it says so. A scene is one activity of the
// world, and alone on it.
#pragma once

#include <fmt/format.h>

#include <vector>

#include "computer.hpp"
#include "rainfs/placement/placement.hpp"

namespace rainfs::simulation {

class Script {
 public:
  static constexpr base::Duration until_noticed = std::chrono::seconds(5);

  explicit Script(unsigned racks, bool witness = false) : world_(1), exports_(world_) {
    topology::Topology topology;
    topology.array_name = "scripted";
    topology.array_uuid = "00000000-0000-4000-8000-000000000000";
    for (unsigned i = 0; i < racks + (witness ? 1 : 0); ++i) {
      topology::Export exp;
      exp.name = i < racks ? std::string(1, static_cast<char>('a' + i)) : "witness";
      exp.uuid = fmt::format("00000000-0000-4000-8000-{:012}", i + 1);
      exp.rack = i;
      exp.witness = i == racks;
      exp.path = "/nas/" + exp.name;
      exp.weight = 1000;
      topology.racks.push_back({"rack-" + exp.name});
      topology.exports.push_back(exp);
      exports_.add(exp.name, {});
    }
    placement::derive_weights(topology);
    make_exports(exports_, topology);
    topology_ = std::make_shared<const topology::Topology>(std::move(topology));
  }
  ~Script() {
    world_.end();
    exports_.end();
  }

  Exports& exports() { return exports_; }
  simulated::Storage& storage(std::size_t index) { return exports_.at(index).storage; }
  const topology::Topology& topology() const { return *topology_; }
  void settle(base::Duration time = until_noticed) { world_.sleep(time); }

  Computer& boot(std::set<std::string> cut_off = {}) {
    computers_.push_back(std::make_unique<Computer>(world_, exports_, topology_,
                                                    fmt::format("node{}", computers_.size()), base::Duration(0)));
    computers_.back()->machine().cut_off = std::move(cut_off);
    computers_.back()->mount();
    return *computers_.back();
  }
  void scrub(bool deep = false, std::chrono::seconds grace = std::chrono::seconds(1)) {
    repairers_.push_back(std::make_unique<Repairer>(
        world_, exports_, topology_, fmt::format("{}{}", simulated::repairer, repairers_.size()), base::Duration(0)));
    Repairer& repairer = *repairers_.back();
    world_.start(
        repairer.name(), [] { return true; },
        [&repairer, deep, grace] {
          scrub::Options options;
          options.deep = deep;
          options.grace = grace;
          (void)repairer.run(options);
          repairer.over = true;
        },
        World::End::whole);
    world_.sleep_until([&] { return repairer.over; }, std::chrono::seconds(1));
  }
  // A name in a directory ("d/" or "") whose home is these exports, in this order.
  std::string name_at(const std::string& home, const std::string& above = "") const {
    for (int i = 0;; ++i) {
      std::string name = fmt::format("{}{}{}", above, home, i);
      const placement::Order order = placement::order(name, *topology_);
      std::string there;
      for (const base::ExportIndex index : order) there += topology_->exports[index].name;
      if (there.starts_with(home)) return name;
    }
  }

  // Plays it; gives what went wrong.
  std::string play(const std::function<void(Script&)>& body) {
    bool over = false;
    world_.start(
        "script", [] { return true; },
        [&] {
          body(*this);
          over = true;
        });
    world_.run(longest_ns, [&] { return over || !wrong_.empty(); });
    return over || !wrong_.empty() ? wrong_ : "it does not come to an end";
  }
  // On how many exports something has this name.
  unsigned copies(const std::string& name) {
    unsigned count = 0;
    for (std::size_t i = 0; i < exports_.size(); ++i) count += storage(i).find(name) ? 1 : 0;
    return count;
  }
  // Operations fail with the error that this gives, 0 for none, until the next call; null: none does any more.
  using Fails = std::function<int(const Machine&, const simulated::Export&, const io::Operation&)>;
  void fail(Fails fails) {
    exports_.tamper = nullptr;
    if (!fails) return;
    exports_.tamper = [fails = std::move(fails)](const Machine& machine, const simulated::Export& exp,
                                                 io::Operation& op) {
      const int error = fails(machine, exp, op);
      if (error != 0) op.error = error;
      return error != 0;
    };
  }
  void expect_nothing_destroyed() {
    exports_.destroyed = [this](const Machine&, const simulated::Export& exp, const std::string& operation,
                                const char* how) {
      expect(false, fmt::format("the scrubber destroys a file on {}: {} ({})", exp.name, operation, how));
    };
  }
  void expect(bool right, const std::string& what) {
    if (!right && wrong_.empty()) wrong_ = what;
  }

 private:
  static constexpr std::int64_t longest_ns = 3'600'000'000'000;

  World world_;
  Exports exports_;
  std::shared_ptr<const topology::Topology> topology_;
  std::vector<std::unique_ptr<Computer>> computers_;
  std::vector<std::unique_ptr<Repairer>> repairers_;
  std::string wrong_;
};

constexpr auto overwrite = Computer::How::overwrite;

// Whether this version is what a file reads as.
inline bool reads(Computer& node, const std::string& path, Version version) {
  std::string bytes;
  return node.read(path, bytes) == 0 && recognise(bytes).whole == version;
}

struct Scene {
  const char* name;
  unsigned racks;
  bool witness;
  void (*body)(Script&);
};
extern const std::vector<Scene> rename_scenes;  // what is left half renamed, and who comes across it

}  // namespace rainfs::simulation
