// SPDX-License-Identifier: Apache-2.0
// What fails when, and the promises that are broken on purpose.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "scenario_internal.hpp"

namespace rainfs::simulation {

namespace {

using io::Kind;
using simulated::Export;

bool about_facts(const io::Operation& op) {
  return op.path.starts_with(".rainfs/ledger/");
}

const std::vector<Breakage> all_breakages = {
    {"facts", "facts are acknowledged and not kept"},
    {"removal-facts", "facts of removed names are acknowledged and not kept"},
    {"fact-lookup", "the ledger is always found empty"},
    {"absence", "an absent export answers that nothing is there"},
    {"exclusive", "an existing file does not stop an exclusive creation"},
    {"seal", "the seal of a written file is acknowledged and not set"},
    {"late-errors", "a flush that failed reports success"},
    {"identity", "an unmounted mount point passes for the export"},
    {"intents", "what a rename intends is not kept"},
    {"copy-facts", "facts about what is being copied are acknowledged and not kept"},
    {"announcement", "no node sees that a scrub was announced"},
    {"repair", "what the scrubber puts into place is not put there"},
    {"trash", "what is moved to the trash is removed for good"},
};

}  // namespace

const std::vector<Breakage>& breakages() {
  return all_breakages;
}

void Scenario::weather() {
  auto& random = world_.random();
  while (weather_on_) {
    world_.sleep(std::chrono::milliseconds(random.below(random.chance(150) ? 60'000 : 4'000)));
    if (weather_on_) one_fault();
  }
}

void Scenario::one_fault() {
  auto& random = world_.random();
  const auto kind = random.below(10);
  if (kind < 6) {
    disturb(exports_.at(random.below(exports_.size())));
  } else if (kind < 8 && kills_) {
    const bool repairing = !repairers_.empty() && !repairers_.back()->over && random.chance(400);
    simulated::Machine& machine = repairing ? repairers_.back()->machine() : random.pick(computers_)->machine();
    if (machine.killed_at != 0 || machine.killed_at_change != 0) return;
    if (cut_renames_ && !repairing && random.chance(300)) {
      machine.killed_at_change = static_cast<unsigned>(1 + random.below(6));
    } else {
      machine.killed_at = machine.operations + 1 + random.below(repairing ? 300 : 60);
    }
  } else {
    // Single operations fail; on any export, but for a short time. Not where only the same R-1 racks may fail.
    if (one_rack_only_) return;
    const auto chance = static_cast<unsigned>(20 + random.below(100));
    simulated::Faults& faults = exports_.faults;
    std::array<unsigned*, 4> all = {&faults.error, &faults.late_error, &faults.torn, &faults.slow};
    unsigned* one = random.pick(all);
    *one = one == &faults.slow ? chance / 10 : chance;
    world_.after(std::chrono::milliseconds(random.below(3'000)), [this] { exports_.faults = {}; });
  }
}

void Scenario::meddle(const std::string& path) {
  auto& random = world_.random();
  if (std::find(files.begin(), files.end(), path) == files.end() || !random.chance(disk_lost_ ? 700 : 300)) return;
  world_.after(std::chrono::microseconds(random.below(20'000)), [this, path] {
    Computer* computer = world_.random().pick(computers_).get();
    const bool taken = locked_.contains(path) || locked_.contains(path.substr(0, path.find('/')));
    const bool over = !disk_lost_ && (!weather_on_ || finished());
    if (over || outcome_.violation || taken || !computer->machine().alive || !computer->mounted()) return;
    world_.start(
        computer->name() + " meddler", [computer] { return computer->machine().alive; },
        [this, computer, path] {
          if (world_.random().chance(600)) {
            remove(*computer, path);
          } else {
            write(*computer, path, Computer::How::overwrite);
          }
        });
  });
}

void Scenario::disturb(Export& exp) {
  auto& random = world_.random();
  if (random.chance(250)) {  // it harms nobody, so there may be many
    exp.sluggish = true;
    world_.after(std::chrono::milliseconds(random.below(30'000)), [&exp] { exp.sluggish = false; });
    return;
  }
  if (exp.disturbed()) return;
  std::set<unsigned> racks;
  for (std::size_t i = 0; i < exports_.size(); ++i) {
    if (exports_.at(i).disturbed() || &exports_.at(i) == &exp) racks.insert(topology_->exports[i].rack);
  }
  if (racks.size() > most_disturbed_racks_) return;
  if (one_rack_only_ && std::any_of(racks.begin(), racks.end(), [&](unsigned rack) { return rack >= replicas_ - 1; }))
    return;
  switch (random.below(8)) {
    case 0:
    case 1:
      exports_.set(exp, Condition::hung);
      break;
    case 2:
      exports_.set(exp, Condition::failing, EIO);
      break;
    case 3:
      exports_.set(exp, Condition::failing, ENOTCONN);
      break;
    case 4:
      exports_.set(exp, Condition::failing, ENOTCONN);
      exports_.restart(exp);
      break;
    case 5:
      exports_.set(exp, Condition::bare);
      if (random.chance(500)) exports_.restart(exp);  // unmounted in earnest, not lazily
      break;
    case 6:
      exp.full = true;
      exports_.fault("export " + exp.name + " is full");
      break;
    default:
      exp.read_only = true;
      exports_.fault("export " + exp.name + " is read-only");
  }
  const std::int64_t away_ms = random.chance(200) ? 300 : 2'000 + static_cast<std::int64_t>(random.below(40'000));
  world_.after(std::chrono::milliseconds(away_ms), [this, &exp] {
    exp.full = exp.read_only = false;
    exports_.set(exp, Condition::fine);
  });
}

void Scenario::break_promise(const std::string& name) {
  const auto pretend = [](io::Operation& op) {
    op.error = 0;
    return true;
  };
  exports_.tamper = [name, pretend](const simulated::Machine& machine, const simulated::Export&, io::Operation& op) {
    if (name == "facts") return op.kind == Kind::make_file && about_facts(op) && pretend(op);
    if (name == "removal-facts") {
      return op.kind == Kind::make_file && about_facts(op) && op.text.find("why: removed") != std::string::npos &&
             pretend(op);
    }
    if (name == "copy-facts") {
      return machine.repairs && op.kind == Kind::make_file && about_facts(op) &&
             op.text.find("why: being-copied") != std::string::npos && pretend(op);
    }
    if (name == "fact-lookup")
      return !machine.repairs && op.kind == Kind::read_directory && op.path.starts_with(".rainfs/ledger") &&
             pretend(op);
    if (name == "seal") {
      return op.kind == Kind::set_attributes && op.path.empty() && op.attributes.valid == io::Attributes::mtime_set &&
             pretend(op);
    }
    if (name == "exclusive" && op.kind == Kind::open && (op.flags & O_EXCL) != 0) op.flags &= ~O_EXCL;
    if (name == "announcement" && op.path == ".rainfs/scrub/announced" && op.kind == Kind::stat) {
      op.error = ENOENT;
      return true;
    }
    if (name == "repair")
      return op.kind == Kind::rename && op.path.starts_with(".rainfs/tmp/scrub-") &&
             !op.path2.starts_with(".rainfs/") && pretend(op);
    if (name == "trash" && op.kind == Kind::rename && op.path2.starts_with(".rainfs/trash/")) op.kind = Kind::unlink;
    if (name == "intents") return op.kind == Kind::make_file && op.path.starts_with(".rainfs/intents/") && pretend(op);
    return false;
  };
  exports_.lies.nothing_there = name == "absence";
  exports_.lies.no_late_errors = name == "late-errors";
  exports_.lies.any_identity = name == "identity";
}

}  // namespace rainfs::simulation
