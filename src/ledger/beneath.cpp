// SPDX-License-Identifier: Apache-2.0
// The whole ledger, read to find the facts about a directory and what lies beneath it.
#include <map>

#include "rainfs/base/paths.hpp"
#include "rainfs/ledger/ledger.hpp"
#include "rainfs/log/log.hpp"

namespace rainfs::ledger {

namespace {

constexpr std::size_t most_facts = 100'000;  // in the ledger of one array, as far as this is used
constexpr std::size_t at_once = 128;         // operations under way together
constexpr std::size_t largest_fact_bytes = 64 * 1024;

struct Place {
  ExportIndex holder;
  std::string path;
};

class Reading {
 public:
  explicit Reading(nas::Array& array) : array_(array), answered_(array.holders_online()) {}

  // What lies in directories, each a place of its own.
  std::vector<Place> list(const std::vector<Place>& directories) {
    std::vector<Place> found;
    run(io::Kind::read_directory, directories, [&](const Place& place, io::Operation& operation) {
      for (const io::DirectoryEntry& entry : operation.entries)
        found.push_back({place.holder, place.path + "/" + entry.name});
    });
    return found;
  }

  template <typename Take>
  void run(io::Kind kind, const std::vector<Place>& places, Take take) {
    for (std::size_t begin = 0; begin < places.size(); begin += at_once) {
      const std::size_t end = std::min(places.size(), begin + at_once);
      std::vector<io::OperationPtr> operations;
      io::Batch batch;
      for (std::size_t i = begin; i < end; ++i) {
        operations.push_back(nullptr);
        io::HandlePtr root = array_.at(places[i].holder).root();
        if (!root || !answered_.contains(places[i].holder)) {
          answered_.erase(places[i].holder);
          continue;
        }
        operations.back() = std::make_shared<io::Operation>(kind);
        operations.back()->path = places[i].path;
        operations.back()->length = largest_fact_bytes;
        operations.back()->file = std::move(root);
        batch.add(operations.back());
      }
      batch.run(array_.clock(), array_.deadlines().metadata);
      for (std::size_t i = begin; i < end; ++i) {
        const io::OperationPtr& operation = operations[i - begin];
        if (!operation) continue;
        if (!operation->done()) {
          array_.at(places[i].holder).missed_deadline();
          answered_.erase(places[i].holder);
        } else if (operation->error == 0) {
          take(places[i], *operation);
        } else if (operation->error != ENOENT) {  // cleared meanwhile
          answered_.erase(places[i].holder);
        }
      }
    }
  }

  ExportSet answered() const { return answered_; }

 private:
  nas::Array& array_;
  ExportSet answered_;
};

}  // namespace

base::Result<std::vector<Fact>> Ledger::beneath(std::string_view directory) {
  const auto topology = array_.topology();
  Reading reading(array_);
  std::vector<Place> places;
  for (const ExportIndex holder : reading.answered()) places.push_back({holder, ".rainfs/ledger"});
  for (int level = 0; level < 4; ++level) places = reading.list(places);  // exports, shards, hashes, instances
  // Each instance lies on several holders, under the same name: the next is asked where one does not give it.
  std::map<std::string_view, std::vector<ExportIndex>> instances;
  for (const Place& place : places) instances[place.path].push_back(place.holder);
  if (instances.size() > most_facts) {
    log::error("ledger-too-large", "{} facts are too many to look for those beneath /{}: scrub the array",
               instances.size(), directory);
    return base::unexpected(EIO, "too many facts");
  }
  std::vector<Fact> facts;
  while (!instances.empty()) {
    std::vector<Place> copies;
    for (auto& [path, holders] : instances) {
      copies.push_back({holders.back(), std::string(path)});
      holders.pop_back();
    }
    reading.run(io::Kind::read_file, copies, [&](const Place& place, io::Operation& operation) {
      auto fact = parse_fact(operation.text, *topology);
      if (!fact) return;  // this copy's writer died over it
      instances.erase(place.path);
      if (directory.empty() || base::is_within(fact->path, directory)) facts.push_back(std::move(*fact));
    });
    std::erase_if(instances,
                  [](const auto& instance) { return instance.second.empty(); });  // cleared, or not acknowledged
  }
  // What is recorded lies on R racks: of these one at least must have answered.
  const ExportSet missing = topology->fact_holders() - reading.answered();
  const topology::Rules& rules = topology->rules_for(directory);
  if (rules.quorum != topology::Quorum::lenient && topology->racks_of(missing) >= std::max(1u, rules.replicas)) {
    return base::unexpected(EIO, "too few racks answered about the facts");
  }
  return facts;
}

}  // namespace rainfs::ledger
