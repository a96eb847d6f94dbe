// SPDX-License-Identifier: Apache-2.0
// Simulated exports, the faults they may have, and the engines through which simulated machines reach them.
//
// Every operation takes its time, meets the export in whatever condition it then is, and is completed once -
// or never, if its machine was killed: then it may still happen. One thread (the world's).
#pragma once

#include <array>
#include <deque>
#include <set>

#include "rainfs/nas/export.hpp"
#include "storage.hpp"
#include "world.hpp"

namespace rainfs::simulated {

enum class Condition : std::uint8_t {
  fine,
  failing,  // every operation fails with `error`; some happened all the same
  hung,     // operations wait until it is fine again
  bare,     // unmounted: an empty directory lies at its path; what is open stays usable
};
const char* name_of(Condition condition);

// One computer: what runs on it may be killed at any of its I/Os.
struct Machine {
  std::string name;
  bool alive = true;
  std::uint64_t operations = 0;   // submitted so far
  std::uint64_t killed_at = 0;    // dies when it submits this one; 0: does not
  unsigned killed_at_change = 0;  // dies when it submits so many more changes of users' names; 0: does not
  std::set<std::string> cut_off;  // exports that it does not reach
  bool repairs = false;           // may destroy nothing but copies that a repairer made
};
inline constexpr const char* repairer = "scrub";  // their names begin with it

struct Export {
  Export(World& world, std::string name_in, base::Duration skew);
  std::string path() const { return "/nas/" + name; }

  std::string name;
  Storage storage, mount_point;
  Condition condition = Condition::fine;
  int error = ENOTCONN;
  bool full = false;
  bool read_only = false;
  bool sluggish = false;     // answers late, but within every deadline
  unsigned incarnation = 0;  // handles of an earlier one are stale
  bool disturbed() const { return condition != Condition::fine || full || read_only; }
};

// Chances of each operation, in 1/1000.
struct Faults {
  unsigned error = 0;       // fails with EIO, without effect
  unsigned late_error = 0;  // fails with EIO, done all the same
  unsigned torn = 0;        // a write: part of it is done, EIO
  unsigned slow = 0;        // takes longer than any deadline
};

// Lies of failing exports, for tests that must fail.
struct Lies {
  bool nothing_there = false;   // a failing export says that nothing is there
  bool no_late_errors = false;  // what fails while writing is reported done
  bool any_identity = false;    // an empty directory looks like the export
};

class Exports {
 public:
  explicit Exports(World& world) : world_(world) {}

  Export& add(const std::string& name, base::Duration skew);
  Export& at(std::size_t index) { return *exports_[index]; }
  const Export& at(std::size_t index) const { return *exports_[index]; }
  Export* of_path(const std::string& path);
  std::size_t size() const { return exports_.size(); }

  // Nothing that is held by a hung export happens any more: before the machines go.
  void end() { held_.clear(); }
  void set(Export& exp, Condition condition, int error = ENOTCONN);
  // The server restarts: what was not durable is lost, all handles are stale.
  void restart(Export& exp);
  void fault(const std::string& what);  // notes one, and tells it
  bool disturbed() const;
  // Operations that change something, of a World::task(), which have not happened yet and may.
  unsigned unfinished(std::uint64_t task) const;
  std::int64_t last_fault_ns() const { return last_fault_ns_; }
  std::uint64_t faults_injected() const { return faults_injected_; }

  Faults faults;
  Lies lies;
  // Called when a repairer destroys a user's file.
  std::function<void(const Machine&, const Export&, const std::string& operation, const char* how)> destroyed;
  // Of everything that happened, in its order: equal for equal histories.
  std::uint64_t fingerprint() const { return fingerprint_; }
  // Sees each operation when it is submitted.
  std::function<void(const Machine&, const io::Operation&)> submitted;
  // Lies for tests that must fail: sees each operation before it is done; true if it has answered it.
  std::function<bool(const Machine&, const Export&, io::Operation&)> tamper;

  std::unique_ptr<io::Engine> make_engine(Machine& machine, const std::string& name);

 private:
  class Engine;
  struct Open {
    Export* exp = nullptr;
    unsigned incarnation = 0;
    bool on_mount_point = false;
    InodePtr inode;
  };
  struct Flight {
    Engine* engine;
    Machine* machine;
    Export* exp;
    io::OperationPtr operation;
    std::uint64_t task;
    bool changes;
  };
  void submit(Engine& engine, Machine& machine, Export& exp, io::OperationPtr operation);
  void land(const std::shared_ptr<Flight>& flight);
  void finish(Flight& flight, int error);
  int perform(Flight& flight, Export& exp, io::Operation& op);
  int open_root(Flight& flight, Export& exp, io::Operation& op);
  int hand_over(Flight& flight, Open open, io::Operation& op);
  const Open* open_of(const io::HandlePtr& handle) const;

  World& world_;
  std::vector<std::unique_ptr<Export>> exports_;
  std::deque<std::shared_ptr<Flight>> held_;  // by hung exports
  std::map<int, Open> handles_;
  int next_handle_ = 1;
  std::map<std::uint64_t, unsigned> unfinished_;
  std::int64_t last_fault_ns_ = -1;
  std::uint64_t faults_injected_ = 0;
  std::uint64_t fingerprint_ = 0;
};

class EngineFactory final : public nas::EngineFactory {
 public:
  EngineFactory(Exports& exports, Machine& machine) : exports_(exports), machine_(machine) {}
  std::unique_ptr<io::Engine> make_engine(const std::string& export_name) override {
    return exports_.make_engine(machine_, export_name);
  }
  io::HandlePtr adopt(const io::HandlePtr& root, const struct statfs&) override { return root; }

 private:
  Exports& exports_;
  Machine& machine_;
};

}  // namespace rainfs::simulated
