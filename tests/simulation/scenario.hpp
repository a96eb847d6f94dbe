// SPDX-License-Identifier: Apache-2.0
// One simulated run: computers doing random things to a small tree of names over exports that fail at random,
// all decided by one seed, and the oracle's judgement of everything they see.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "oracle.hpp"

namespace rainfs::simulation {

struct Settings {
  std::uint64_t seed = 1;
  unsigned steps = 60;  // operations of all computers together
  std::string broken;   // a promise broken on purpose; empty: none
  bool keep_history = false;
  bool cut_renames = false;  // nodes are killed between a rename's changes on purpose
};

struct Outcome {
  std::optional<std::string> violation;
  std::vector<std::string> history;
  unsigned operations = 0, succeeded = 0, unprovable = 0, scrubs = 0;
  std::uint64_t fingerprint = 0;  // equal for equal histories
  std::uint64_t faults = 0;
};

// Promises that can be broken on purpose, with what is done to break them.
struct Breakage {
  const char* name;
  const char* how;
};
const std::vector<Breakage>& breakages();

Outcome run_scenario(const Settings& settings);

}  // namespace rainfs::simulation
