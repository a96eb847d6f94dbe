// SPDX-License-Identifier: Apache-2.0
// What an administrator writes: the array's file (/etc/rainfs/NAME.yaml), the node's file
// (/etc/rainfs/node.yaml) and mount options, each read into one validated value. Values: a Config is not
// changed after loading, so any thread may read it. Never touches the exports themselves.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rainfs/base/clock.hpp"
#include "rainfs/base/result.hpp"
#include "rainfs/log/log.hpp"

namespace rainfs::config {

inline constexpr std::string_view default_directory = "/etc/rainfs";

enum class Quorum : std::uint8_t { strict, lenient };
enum class Reads : std::uint8_t { automatic, managed, passthrough };
enum class Coherence : std::uint8_t { close_to_open, strict };

struct Rules {
  unsigned replicas = 2;
  unsigned min_replicas = 1;
  Quorum quorum = Quorum::strict;
};

// How much of the names an export takes. Bytes are comparable with measured capacities, shares only with
// each other: an array has one kind or the other.
struct Weight {
  enum class Kind : std::uint8_t { automatic, bytes, share } kind = Kind::automatic;
  std::uint64_t value = 0;
};

struct ExportConfig {
  std::string name;
  std::string path;  // absolute, without doubled or trailing slashes
  int raid = 0;      // 0, 5 or 6
  Weight weight;
  int line = 0;  // where it stands, for errors found later
};

struct RackConfig {
  std::string name;
  std::vector<ExportConfig> exports;
  int line = 0;
};

struct PolicyConfig {
  std::string path;  // relative to the mount's root, no leading slash
  Rules rules;
  int line = 0;
};

struct Deadlines {
  base::Duration metadata = std::chrono::seconds(5);
  base::Duration data = std::chrono::seconds(15);
  base::Duration probe = std::chrono::seconds(2);
};

struct Trash {
  unsigned days = 14;                // 0: what is removed is not kept
  std::uint32_t max_per_mille = 50;  // of each export
};

// "Sat 02:00" or, for every day, "02:00"; local time.
struct ScrubTime {
  std::optional<int> weekday = 6;  // 0 is Sunday
  int hour = 2;
  int minute = 0;
};

struct Scrub {
  std::uint64_t rate_bytes = 200'000'000;  // per second; 0: unlimited
  base::Duration grace = std::chrono::minutes(5);
  base::Duration deep_every = std::chrono::hours(14 * 24);
  std::optional<ScrubTime> at = ScrubTime{};  // none: "never"
};

struct Config {
  std::string file;
  std::string array;
  Rules defaults;
  int replicas_line = 0;
  std::uint32_t reserve_per_mille = 50;
  std::vector<RackConfig> racks;
  std::vector<ExportConfig> witnesses;
  std::vector<PolicyConfig> policies;
  Deadlines deadlines;
  Reads reads = Reads::automatic;
  Coherence coherence = Coherence::close_to_open;
  Trash trash;
  Scrub scrub;
};

// What this node does differently from others.
struct NodeConfig {
  std::string node;                          // its name in facts and messages; empty: the host's name
  std::string rack;                          // nearest rack; empty: none is nearer
  std::map<std::string, std::string> paths;  // export name to where it is mounted here
  std::optional<base::Duration> attr_timeout;
  std::optional<base::Duration> entry_timeout;
  std::optional<log::Level> log_level;
};

struct MountOptions {
  bool read_only = false;
  bool allow_other = false;
  bool uring = false;  // requests by FUSE over io_uring, where the kernel offers it
  std::string config;  // file to use instead of the one SOURCE names
  std::string node;
  std::string rack;
  std::optional<Reads> reads;
  std::optional<Coherence> coherence;
  std::optional<base::Duration> attr_timeout;
  std::optional<base::Duration> entry_timeout;
  std::optional<log::Level> log_level;
  // Those of the generic ones that the kernel must be told: nodev, nosuid, noexec, noatime, sync, ...
  std::vector<std::string> kernel;
};

// All errors of the file in one, one a line: "FILE:LINE: what is wrong; what to do".
base::Result<Config> parse_config(std::string_view text, const std::string& where);
base::Result<NodeConfig> parse_node_config(std::string_view text, const std::string& where);

// The file that SOURCE of the command line or of fstab means: a path if there is a slash in it or a file of
// that name here, else DIRECTORY/SOURCE.yaml.
std::string config_path(const std::string& source, std::string_view directory = default_directory);
base::Result<Config> load_config(const std::string& path);
// A file that is not there is a node that does nothing differently.
base::Result<NodeConfig> load_node_config(const std::string& path);

// Adds "a,b=c" to `options`: of options given twice the last holds, as mount(8) has it. A value may hold a
// comma if it is in double quotes. All unknown or wrong options are reported together.
base::Result<void> parse_mount_options(std::string_view text, MountOptions& options);

}  // namespace rainfs::config
