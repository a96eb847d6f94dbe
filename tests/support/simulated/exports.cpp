// SPDX-License-Identifier: Apache-2.0
#include "exports.hpp"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include <cstring>

namespace rainfs::simulated {

namespace {

using io::Kind;
constexpr std::int64_t fastest_ns = 50'000, slowest_ns = 1'500'000;
constexpr std::int64_t sluggish_ns = 40'000'000;
constexpr std::int64_t too_slow_ns = 16'000'000'000;  // behind every deadline
constexpr std::int64_t backlog_ns = 50'000'000;       // an export that is back works off what waited
constexpr unsigned done_though_failed = 150;          // of a failing export's operations, per mille
constexpr unsigned dropped_when_back = 300;
constexpr unsigned done_though_killed = 500;
constexpr std::size_t sector_bytes = 16;  // of which a torn write does some

bool changes(const io::Operation& op) {
  switch (op.kind) {
    case Kind::open:
      return (op.flags & (O_CREAT | O_TRUNC)) != 0;
    case Kind::mkdir:
    case Kind::mknod:
    case Kind::symlink:
    case Kind::link:
    case Kind::rename:
    case Kind::unlink:
    case Kind::rmdir:
    case Kind::set_attributes:
    case Kind::set_xattr:
    case Kind::remove_xattr:
    case Kind::write:
    case Kind::allocate:
    case Kind::copy_range:
    case Kind::make_file:
      return true;
    default:
      return false;
  }
}

std::string describe(const io::Operation& op) {
  static constexpr const char* names[] = {"open_root",      "stat",           "open",      "open_tmpfile",
                                          "mkdir",          "mknod",          "symlink",   "link",
                                          "rename",         "unlink",         "rmdir",     "readlink",
                                          "set_attributes", "get_xattr",      "set_xattr", "list_xattr",
                                          "remove_xattr",   "read_directory", "statfs",    "read",
                                          "write",          "fsync",          "flush",     "allocate",
                                          "seek",           "copy_range",     "lock",      "test_lock",
                                          "flock",          "make_file",      "read_file", "sync_file_system"};
  std::string text = fmt::format("{} {}", names[static_cast<unsigned>(op.kind)], op.path);
  if (!op.path2.empty()) text += " -> " + op.path2;
  return text;
}

}  // namespace

const char* name_of(Condition condition) {
  switch (condition) {
    case Condition::fine:
      return "fine";
    case Condition::failing:
      return "failing";
    case Condition::hung:
      return "hung";
    case Condition::bare:
      return "unmounted";
  }
  return "?";
}

Export::Export(World& world, std::string name_in, base::Duration skew)
    : name(std::move(name_in)),
      storage([&world, skew] { return World::epoch_ns + world.now_ns() + skew.count(); }),
      mount_point([] { return World::epoch_ns; }) {}

class Exports::Engine final : public io::Engine {
 public:
  Engine(Exports& exports, Machine& machine, Export& exp) : exports_(exports), machine_(machine), exp_(exp) {}
  void submit(io::OperationPtr operation) override { exports_.submit(*this, machine_, exp_, std::move(operation)); }
  bool completes_inline() const noexcept override { return false; }
  void release(int number) noexcept override { exports_.handles_.erase(number); }
  unsigned outstanding() const noexcept override { return 0; }
  void wait(io::BatchState& state, base::Deadline deadline) override { exports_.world_.wait(state, deadline); }

 private:
  Exports& exports_;
  Machine& machine_;
  Export& exp_;
};

std::unique_ptr<io::Engine> Exports::make_engine(Machine& machine, const std::string& name) {
  return std::make_unique<Engine>(*this, machine, *of_path("/nas/" + name));
}

Export& Exports::add(const std::string& name, base::Duration skew) {
  exports_.push_back(std::make_unique<Export>(world_, name, skew));
  return *exports_.back();
}

Export* Exports::of_path(const std::string& path) {
  for (const auto& exp : exports_) {
    if (exp->path() == path) return exp.get();
  }
  return nullptr;
}

void Exports::fault(const std::string& what) {
  last_fault_ns_ = world_.now_ns();
  ++faults_injected_;
  world_.tell("  ! " + what);
}

bool Exports::disturbed() const {
  for (const auto& exp : exports_) {
    if (exp->disturbed()) return true;
  }
  return !held_.empty();
}

unsigned Exports::unfinished(std::uint64_t task) const {
  const auto found = unfinished_.find(task);
  return found == unfinished_.end() ? 0 : found->second;
}

void Exports::set(Export& exp, Condition condition, int error) {
  fault(fmt::format("export {} is {}", exp.name, name_of(condition)));
  exp.condition = condition;
  exp.error = error;
  if (condition == Condition::bare && lies.any_identity) {
    exp.mount_point.put(".rainfs/export.yaml", exp.storage.find(".rainfs/export.yaml")->data);
    exp.mount_point.put(".rainfs/ledger/", "");
  }
  if (condition == Condition::hung) return;
  for (auto it = held_.begin(); it != held_.end();) {
    if ((*it)->exp != &exp) {
      ++it;
      continue;
    }
    const std::shared_ptr<Flight> flight = *it;
    it = held_.erase(it);
    if (world_.random().chance(dropped_when_back)) {
      world_.after(base::Duration(0), [this, flight] { finish(*flight, EIO); });
    } else {
      const auto delay = static_cast<std::int64_t>(world_.random().below(backlog_ns));
      world_.after(base::Duration(delay), [this, flight] { land(flight); });
    }
  }
}

void Exports::restart(Export& exp) {
  ++exp.incarnation;
  exp.storage.crash([this] { return world_.random().chance(500); });
  fault(fmt::format("export {} restarted", exp.name));
}

void Exports::submit(Engine& engine, Machine& machine, Export& exp, io::OperationPtr operation) {
  auto flight = std::make_shared<Flight>(Flight{&engine, &machine, &exp, std::move(operation), world_.task(), false});
  flight->changes = changes(*flight->operation);
  ++machine.operations;
  bool dies = machine.killed_at != 0 && machine.operations >= machine.killed_at;
  if (!machine.alive) world_.die();
  const bool of_users = flight->changes && !flight->operation->path.starts_with(".rainfs");
  if (of_users && machine.killed_at_change != 0) dies |= --machine.killed_at_change == 0;
  if (submitted) submitted(machine, *flight->operation);
  if (dies) {
    machine.alive = false;
    fault(fmt::format("{} is killed at its {}", machine.name, describe(*flight->operation)));
    if (!world_.random().chance(done_though_killed)) world_.die();
  }
  if (flight->changes) ++unfinished_[flight->task];
  std::int64_t delay = fastest_ns + static_cast<std::int64_t>(world_.random().below(slowest_ns));
  if (exp.sluggish) delay += static_cast<std::int64_t>(world_.random().below(sluggish_ns));
  if (faults.slow > 0 && world_.random().chance(faults.slow)) {
    delay += too_slow_ns;
    fault(fmt::format("{}: {} on {} is slow", machine.name, describe(*flight->operation), exp.name));
  }
  world_.after(base::Duration(delay), [this, flight] { land(flight); });
  if (dies) world_.die();
}

void Exports::finish(Flight& flight, int error) {
  if (flight.changes) --unfinished_[flight.task];
  for (const std::uint64_t part :
       {static_cast<std::uint64_t>(world_.now_ns()), static_cast<std::uint64_t>(flight.operation->kind),
        static_cast<std::uint64_t>(error), static_cast<std::uint64_t>(flight.machine->operations)}) {
    fingerprint_ = (fingerprint_ ^ part) * 0x100000001B3ull;
  }
  if (flight.machine->alive) {
    flight.operation->error = error;
    world_.tell(fmt::format("    {} {} {}: {}", flight.machine->name, flight.exp->name, describe(*flight.operation),
                            error == 0 ? "done" : ::strerrorname_np(error)));
    flight.operation->complete();
  }
  flight.operation = nullptr;
}

void Exports::land(const std::shared_ptr<Flight>& flight) {
  Export& exp = *flight->exp;
  io::Operation& op = *flight->operation;
  Random& random = world_.random();
  if (exp.condition == Condition::hung) {
    held_.push_back(flight);
    return;
  }
  if (!flight->machine->alive && !random.chance(done_though_killed)) return finish(*flight, 0);
  if (flight->machine->cut_off.contains(exp.name)) return finish(*flight, ENOTCONN);
  if (exp.condition == Condition::failing && lies.nothing_there) {
    const bool own = op.kind == Kind::open_root || op.path.starts_with(".rainfs");
    return finish(*flight, own ? perform(*flight, exp, op) : ENOENT);
  }
  if (exp.condition == Condition::failing) {
    if (flight->changes && random.chance(done_though_failed)) perform(*flight, exp, op);
    op.handle = nullptr;
    return finish(*flight, exp.error);
  }
  const bool may_fail = flight->machine->alive && op.kind != Kind::open_root;
  if (may_fail && random.chance(faults.error)) {
    fault(fmt::format("{}: {} on {} fails", flight->machine->name, describe(op), exp.name));
    const bool writing =
        op.kind == Kind::write || op.kind == Kind::flush || op.kind == Kind::fsync || op.kind == Kind::sync_file_system;
    return finish(*flight, lies.no_late_errors && writing ? 0 : EIO);
  }
  if (may_fail && op.kind == Kind::write && random.chance(faults.torn)) {
    fault(fmt::format("{}: {} on {} is torn", flight->machine->name, describe(op), exp.name));
    exp.storage.actor = flight->machine->name;
    if (const Open* open = open_of(op.file))
      exp.storage.tear(op, open->inode, random.below(op.length / sector_bytes + 1) * sector_bytes);
    return finish(*flight, lies.no_late_errors ? 0 : EIO);
  }
  int error = perform(*flight, exp, op);
  if (error == 0 && flight->changes && may_fail && random.chance(faults.late_error)) {
    fault(fmt::format("{}: {} on {} is done and reported failed", flight->machine->name, describe(op), exp.name));
    op.handle = nullptr;
    error = EIO;
  }
  finish(*flight, error);
}

const Exports::Open* Exports::open_of(const io::HandlePtr& handle) const {
  const auto found = handle ? handles_.find(handle->number()) : handles_.end();
  return found == handles_.end() ? nullptr : &found->second;
}

int Exports::hand_over(Flight& flight, Open open, io::Operation& op) {
  handles_[next_handle_] = std::move(open);
  op.handle = std::make_shared<io::Handle>(*flight.engine, next_handle_++);
  return 0;
}

int Exports::open_root(Flight& flight, Export& exp, io::Operation& op) {
  const bool bare = exp.condition == Condition::bare;
  Storage& storage = bare ? exp.mount_point : exp.storage;
  io::Operation stat(Kind::stat);
  InodePtr none;
  storage.perform(stat, storage.root(), nullptr, true, none);
  op.stat = stat.stat;
  op.stat.stx_dev_minor = bare ? 0 : 1;
  op.stat.stx_mnt_id = bare ? 1 : 2 + exp.incarnation;
  op.filesystem.f_blocks = 1'000'000;
  op.filesystem.f_bavail = exp.full ? 1000 : 900'000;
  op.filesystem.f_frsize = 4096;
  op.filesystem.f_flags = exp.read_only ? ST_RDONLY : 0;
  return hand_over(flight, {&exp, exp.incarnation, bare, storage.root()}, op);
}

int Exports::perform(Flight& flight, Export& exp, io::Operation& op) {
  if (op.kind == Kind::open_root) return open_root(flight, exp, op);
  const Open* open = open_of(op.file);
  if (open == nullptr || open->incarnation != exp.incarnation) return ESTALE;
  const Open* other = open_of(op.other);
  if (other != nullptr && other->incarnation != exp.incarnation) return ESTALE;
  if (tamper && tamper(*flight.machine, exp, op)) return op.error;
  if (exp.read_only && flight.changes) return EROFS;
  const Open at = *open;
  InodePtr opened;
  Storage& storage = at.on_mount_point ? exp.mount_point : exp.storage;
  storage.actor = flight.machine->name;
  // (a rename of users that it finishes may replace a file, as they meant it to)
  const bool meant = op.kind == Kind::rename && !op.path.starts_with(".rainfs") && !op.path2.starts_with(".rainfs");
  if (flight.machine->repairs && destroyed && !meant) {
    storage.destroys = [this, &flight, &exp, &op](const Inode& inode, const char* how) {
      if (!inode.maker.starts_with(repairer)) destroyed(*flight.machine, exp, describe(op), how);
    };
  }
  const int error = storage.perform(op, at.inode, other != nullptr ? other->inode : nullptr, !exp.full, opened);
  storage.destroys = nullptr;
  if (error != 0 || !opened) return error;
  return hand_over(flight, {&exp, exp.incarnation, at.on_mount_point, opened}, op);
}

}  // namespace rainfs::simulated
