// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "rainfs/placement/placement.hpp"
#include "scenario_internal.hpp"

namespace rainfs::simulation {

namespace {
constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::int64_t longest_run_ns = 36'000 * second_ns;  // of virtual time; a run that needs more is stuck
constexpr base::Duration until_all_is_quiet = std::chrono::seconds(100);  // exports that were full are tried again
}  // namespace

const std::vector<std::string> files = {"f0", "f1", "f2", "d0/a", "d0/b", "d1/a", "d1/b"};
const std::vector<std::string> directories = {"d0", "d1"};

std::vector<std::string> children_of(const std::string& directory) {
  return {directory + "/a", directory + "/b"};
}

Scenario::Scenario(const Settings& settings) : settings_(settings), world_(settings.seed), exports_(world_) {
  world_.keeps_history = settings.keep_history;
  steps_left_ = settings.steps;
  make_array();
  exports_.destroyed = [this](const Machine& machine, const simulated::Export& exp, const std::string& operation,
                              const char* how) {
    fail(fmt::format("{} destroys a file on {}: {} ({})", machine.name, exp.name, operation, how));
  };
  exports_.submitted = [this](const Machine& machine, const io::Operation& operation) {
    if (!machine.repairs || operation.kind != io::Kind::make_file || !operation.path.starts_with(".rainfs/ledger/"))
      return;
    const auto fact = ledger::parse_fact(operation.text, *topology_);
    if (fact && fact->why == ledger::Why::being_copied) meddle(fact->path);
  };
}

Scenario::~Scenario() {
  // Handles in what is under way belong to the computers' engines.
  world_.end();
  exports_.end();
}

void Scenario::make_array() {
  auto& random = world_.random();
  topology::Topology topology;
  topology.array_name = "simulated";
  topology.array_uuid = "00000000-0000-4000-8000-000000000000";
  auto racks = static_cast<unsigned>(3 + random.below(3));
  replicas_ = racks >= 4 && random.chance(300) ? 3 : 2;
  const bool on_all = random.chance(120);  // R = K
  if (on_all) racks = replicas_;
  topology.defaults.replicas = replicas_;
  topology.defaults.min_replicas = random.chance(150) ? 2 : 1;
  const auto add = [&](unsigned rack, const std::string& name, bool witness) {
    topology::Export exp;
    exp.name = name;
    exp.uuid = fmt::format("00000000-0000-4000-8000-{:012}", topology.exports.size() + 1);
    exp.rack = rack;
    exp.witness = witness;
    exp.path = "/nas/" + name;
    exp.weight = 1000 + random.below(3) * 500;
    topology.exports.push_back(exp);
    exports_.add(name, std::chrono::milliseconds(random.below(200)));
  };
  for (unsigned rack = 0; rack < racks; ++rack) {
    topology.racks.push_back({fmt::format("rack{}", rack)});
    const auto count = random.chance(250) ? 2u : 1u;
    for (unsigned i = 0; i < count; ++i) add(rack, fmt::format("nas{}{}", rack, static_cast<char>('a' + i)), false);
  }
  const bool witness = random.chance(on_all ? 600 : 200);
  one_rack_only_ = on_all && !witness;
  if (witness) {
    topology.racks.push_back({"witness"});
    add(racks, "witness", true);
  }
  placement::derive_weights(topology);
  make_exports(exports_, topology);
  topology_ = std::make_shared<const topology::Topology>(std::move(topology));
  most_disturbed_racks_ = random.chance(250) && !on_all ? racks : replicas_ - 1;
  kills_ = random.chance(600);
  cut_renames_ = kills_ && (settings_.cut_renames || settings_.broken == "intents");
  scrubs_ = random.chance(500);
  const std::size_t computers = 2 + random.below(2);
  for (std::size_t i = 0; i < computers; ++i)
    skews_.push_back(std::chrono::milliseconds(random.chance(500) ? random.below(2000) : 0));
  clients_ = random.chance(300) ? 2 : 1;
}

void Scenario::fail(std::string what) {
  if (outcome_.violation) return;
  world_.tell("VIOLATION: " + what);
  outcome_.violation = std::move(what);
}

bool Scenario::finished() const {
  return outcome_.violation || (steps_left_ == 0 && working_ == 0 && watching_ == 0);
}

Computer& Scenario::boot(std::size_t place) {
  if (place == computers_.size()) computers_.emplace_back();
  if (computers_[place]) left_behind_.push_back(std::move(computers_[place]));
  computers_[place] = std::make_unique<Computer>(world_, exports_, topology_, fmt::format("node{}-{}", place, boots_++),
                                                 skews_[place % skews_.size()]);
  Computer& computer = *computers_[place];
  world_.start(
      computer.name(), [&computer] { return computer.machine().alive; },
      [this, &computer] {
        computer.mount();
        for (unsigned i = 0; i < clients_; ++i) {
          world_.start(
              fmt::format("{} client {}", computer.name(), i), [&computer] { return computer.machine().alive; },
              [this, &computer] { work(computer); });
        }
      });
  return computer;
}

void Scenario::work(Computer& computer) {
  ++working_;
  const std::shared_ptr<void> done(nullptr, [this](void*) { --working_; });
  while (steps_left_ > 0 && !outcome_.violation) {
    world_.sleep(std::chrono::microseconds(world_.random().below(world_.random().chance(300) ? 3'000'000 : 20'000)));
    if (steps_left_ == 0 || outcome_.violation) break;
    --steps_left_;
    ++outcome_.operations;
    step(computer);
  }
}

void Scenario::watch() {
  while (true) {
    world_.sleep(std::chrono::milliseconds(500));
    for (std::size_t place = 0; place < computers_.size(); ++place) {
      if (!computers_[place]->machine().alive && (!weather_on_ || world_.random().chance(100))) {
        world_.tell(fmt::format("  {} is started again", computers_[place]->name()));
        boot(place);
      }
    }
    settle();
  }
}

bool Scenario::intents_left() const {
  bool intents = false;
  for (std::size_t i = 0; i < exports_.size(); ++i) {
    const simulated::InodePtr directory = exports_.at(i).storage.find(".rainfs/intents");
    intents |= directory && !directory->entries.empty();
  }
  return intents;
}

void Scenario::settle() {
  const bool intents = intents_left();
  oracle_.settle([&](Task task) { return !intents && exports_.unfinished(task) == 0; });
}

bool Scenario::blamed(base::ExportIndex target, const std::string& path) const {
  std::vector<std::string> places = {ledger::fact_directory(*topology_, target, ledger::Scope::entry, path),
                                     ledger::fact_directory(*topology_, target, ledger::Scope::subtree, path)};
  for (std::size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    places.push_back(ledger::fact_directory(*topology_, target, ledger::Scope::subtree, path.substr(0, slash)));
  }
  places.push_back(ledger::fact_directory(*topology_, target, ledger::Scope::subtree, ""));
  for (std::size_t i = 0; i < exports_.size(); ++i) {
    for (const std::string& place : places) {
      const simulated::InodePtr directory = exports_.at(i).storage.find(place);
      if (!directory) continue;
      for (const auto& [instance, inode] : directory->entries) {
        if (ledger::about_child(instance) && !ledger::about_child(instance, path)) continue;
        // (what is said to lack a directory and has it is believed)
        if (!instance.starts_with("lack+") || !exports_.at(target).storage.find(path)->is_directory()) return true;
      }
    }
  }
  return false;
}

bool Scenario::only_blamed(const std::string& path) const {
  if (const std::size_t slash = path.rfind('/'); slash != std::string::npos && only_blamed(path.substr(0, slash)))
    return true;
  bool some = false;
  for (std::size_t i = 0; i < exports_.size(); ++i) {
    if (!exports_.at(i).storage.find(path)) continue;
    some = true;
    if (!blamed(static_cast<base::ExportIndex>(i), path)) return false;
  }
  return some;
}

bool Scenario::blamed_by_another_name(const std::string& path) const {
  for (std::size_t i = 0; i < exports_.size(); ++i) {
    const simulated::InodePtr file = exports_.at(i).storage.find(path);
    for (const std::string& other : files) {
      if (!file || file->is_directory() || other == path || exports_.at(i).storage.find(other) != file) continue;
      if (blamed(static_cast<base::ExportIndex>(i), other)) return true;
    }
  }
  return false;
}

bool Scenario::behind_as_a_whole(const std::string& directory) const {
  std::set<unsigned> racks;
  for (std::size_t target = 0; target < exports_.size(); ++target) {
    for (const std::string& about : {std::string{}, directory}) {
      const std::string place =
          ledger::fact_directory(*topology_, static_cast<base::ExportIndex>(target), ledger::Scope::subtree, about);
      for (std::size_t i = 0; i < exports_.size(); ++i) {
        const simulated::InodePtr facts = exports_.at(i).storage.find(place);
        if (!facts) continue;
        const bool whole = std::any_of(facts->entries.begin(), facts->entries.end(),
                                       [](const auto& entry) { return !ledger::about_child(entry.first); });
        if (whole) racks.insert(topology_->exports[target].rack);
      }
    }
  }
  return racks.size() > topology_->rack_count() - (topology_->rack_count() - replicas_ + 1);
}

void Scenario::calm() {
  weather_on_ = false;
  exports_.faults = {};
  for (std::size_t i = 0; i < exports_.size(); ++i) {
    simulated::Export& exp = exports_.at(i);
    exp.full = exp.read_only = exp.sluggish = false;
    if (exp.condition != Condition::fine) exports_.set(exp, Condition::fine);
  }
  for (const auto& computer : computers_) computer->machine().killed_at = computer->machine().killed_at_change = 0;
  for (const auto& repairer : repairers_) repairer->machine().killed_at = 0;
}

Outcome Scenario::run() {
  if (!settings_.broken.empty()) break_promise(settings_.broken);
  const auto always = [] { return true; };
  for (std::size_t place = 0; place < skews_.size(); ++place) boot(place);
  world_.start("watch", always, [this] { watch(); });
  world_.start("weather", always, [this] { weather(); });
  if (scrubs_) world_.start("scrubs", always, [this] { scrub_now_and_then(); });
  world_.run(longest_run_ns, [this] { return finished(); });
  if (!outcome_.violation) {
    calm();
    world_.start("ending", always, [this] {
      world_.sleep(until_all_is_quiet);
      check_ending();
      checked_ = true;
    });
    world_.run(world_.now_ns() + longest_run_ns, [this] { return checked_ || outcome_.violation.has_value(); });
    if (!checked_) fail("the run does not come to an end");
  }
  outcome_.faults = exports_.faults_injected();
  outcome_.fingerprint = exports_.fingerprint();
  outcome_.history = world_.history();
  return std::move(outcome_);
}

Outcome run_scenario(const Settings& settings) {
  return Scenario(settings).run();
}

}  // namespace rainfs::simulation
