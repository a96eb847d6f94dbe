// SPDX-License-Identifier: Apache-2.0
// The scrubber as one more actor, killed like the others, and what it must leave when every export is back: R equal
// replicas in R racks of every file, and no fact, intent or temporary file.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "scenario_internal.hpp"

namespace rainfs::simulation {

namespace {
constexpr int most_rounds = 5;  // until one finds nothing to do: what was young is older in the next
constexpr base::Duration between_rounds = std::chrono::seconds(70);
constexpr base::Duration grace = std::chrono::seconds(5);
}  // namespace

Repairer& Scenario::start_scrub(const scrub::Options& options) {
  repairers_.push_back(std::make_unique<Repairer>(world_, exports_, topology_,
                                                  fmt::format("{}{}", simulated::repairer, repairers_.size()),
                                                  std::chrono::milliseconds(world_.random().below(500))));
  ++outcome_.scrubs;
  Repairer& repairer = *repairers_.back();
  world_.tell(fmt::format("  {} starts: {}{}", repairer.name(), options.ledger_only ? "ledger" : "all",
                          options.deep ? ", deep" : ""));
  world_.start(
      repairer.name(), [&repairer] { return repairer.machine().alive; },
      [this, &repairer, options] {
        const auto status = repairer.run(options);
        world_.tell(fmt::format("  {} ends: {}", repairer.name(),
                                status ? fmt::format("status {}", *status) : status.error().message()));
        repairer.status = status ? *status : -1;
        repairer.over = true;
      },
      World::End::whole);
  return repairer;
}

void Scenario::scrub_now_and_then() {
  auto& random = world_.random();
  while (weather_on_) {
    world_.sleep(std::chrono::milliseconds(random.below(random.chance(500) ? 5'000 : 30'000)));
    if (!weather_on_) return;
    scrub::Options options;
    options.ledger_only = random.chance(500);
    options.deep = !options.ledger_only && random.chance(300);
    options.jobs = static_cast<unsigned>(1 + random.below(3));
    options.grace = random.chance(500) ? grace : std::chrono::seconds(2);
    const Repairer& repairer = start_scrub(options);
    world_.sleep_until([&] { return repairer.over || !const_cast<Repairer&>(repairer).machine().alive; },
                       std::chrono::seconds(1));
  }
}

std::vector<base::ExportIndex> Scenario::holders_of(const std::string& path) const {
  std::vector<base::ExportIndex> holders;
  for (std::size_t i = 0; i < exports_.size(); ++i) {
    if (exports_.at(i).storage.find(path)) holders.push_back(static_cast<base::ExportIndex>(i));
  }
  return holders;
}

// False if something stays that only the administrator may decide.
bool Scenario::scrub_until_clean(scrub::Resolve resolve) {
  for (const auto& repairer : repairers_) {
    world_.sleep_until([&] { return repairer->over || !repairer->machine().alive; }, std::chrono::seconds(1));
  }
  for (int round = 0; round < most_rounds; ++round) {
    world_.sleep(between_rounds);
    // Half-done renames are finished by whoever looks at a name; some only once facts have been cleared.
    struct stat attributes {};
    for (const std::string& path : files) (void)computers_.back()->stat(path, attributes);
    const bool unfinished = intents_left();
    scrub::Options options;
    options.grace = grace;
    options.jobs = 3;
    options.resolve = resolve;
    Repairer& repairer = start_scrub(options);
    world_.sleep_until([&] { return repairer.over; }, std::chrono::seconds(1));
    if (repairer.left().empty() && !unfinished && repairer.status == 0) return true;
    if (round + 1 < most_rounds) continue;
    const bool decidable = std::any_of(repairer.left().begin(), repairer.left().end(), [](const std::string& text) {
      return text.find("--resolve newest") == std::string::npos;
    });
    if (unfinished) fail("a rename that its node left half done is not finished");
    if (repairer.left().empty()) fail("the scrubber repairs something every time");
    if (decidable)
      fail(fmt::format("with every export back the scrubber leaves: {}", fmt::join(repairer.left(), "; ")));
  }
  return false;
}

void Scenario::check_repaired() {
  for (const std::string& path : files) {
    const std::vector<base::ExportIndex> holders = holders_of(path);
    if (holders.empty()) continue;
    const auto inode_on = [&](base::ExportIndex index) { return exports_.at(index).storage.find(path); };
    if (inode_on(holders.front())->is_directory()) continue;
    std::set<unsigned> racks;
    for (const base::ExportIndex index : holders) racks.insert(topology_->exports[index].rack);
    const std::size_t wanted = std::min<std::size_t>(replicas_, topology_->rack_count());
    if (racks.size() != wanted || holders.size() != wanted) {
      fail(fmt::format("after repair /{} has {} replicas in {} racks, not {}", path, holders.size(), racks.size(),
                       wanted));
    }
    for (const base::ExportIndex index : holders) {
      const simulated::Inode &one = *inode_on(holders.front()), &other = *inode_on(index);
      std::string differ;
      if (one.data != other.data) differ += " contents";
      if (one.mtime_ns != other.mtime_ns) differ += " mtime";
      if (one.mode != other.mode) differ += " mode";
      if (one.attributes != other.attributes) differ += " attributes";
      if (differ.empty()) continue;
      fail(fmt::format("after repair the replicas of /{} on {} and {} differ:{}", path,
                       exports_.at(holders.front()).name, exports_.at(index).name, differ));
    }
  }
  for (const auto& [one, other] : pairs_) {
    for (std::size_t i = 0; i < exports_.size(); ++i) {
      if (exports_.at(i).storage.find(one) == exports_.at(i).storage.find(other)) continue;
      fail(fmt::format("after repair /{} and /{} are no longer one file on {}", one, other, exports_.at(i).name));
    }
  }
  for (const std::string& path : directories) {
    const std::vector<base::ExportIndex> holders = holders_of(path);
    const std::size_t data = topology_->data_exports().size();
    if (!holders.empty() && holders.size() != data)
      fail(fmt::format("after repair directory /{} is on {} of {} exports", path, holders.size(), data));
  }
  for (std::size_t i = 0; i < exports_.size(); ++i) {
    for (const char* place : {".rainfs/ledger", ".rainfs/tmp", ".rainfs/intents"}) {
      const simulated::InodePtr inode = exports_.at(i).storage.find(place);
      if (inode && !inode->entries.empty())
        fail(fmt::format("after repair {} of {} is not empty: {}", place, exports_.at(i).name,
                         inode->entries.begin()->first));
    }
  }
}

}  // namespace rainfs::simulation
