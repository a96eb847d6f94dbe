// SPDX-License-Identifier: Apache-2.0
// The files that say which array and export a directory belongs to: `.rainfs/export.yaml` and
// `.rainfs/array.yaml`, read and written by plain system calls in the calling thread. For commands that an
// administrator waits for: nothing here has a deadline, so the daemon reads through its engines instead.
// Never touches anything outside `.rainfs`, and never follows a symbolic link to get there.
#pragma once

#include <string>
#include <string_view>

#include "rainfs/base/result.hpp"
#include "rainfs/base/unique_fd.hpp"
#include "rainfs/topology/topology.hpp"

namespace rainfs::nas {

inline constexpr const char* metadata_directory = ".rainfs";
inline constexpr const char* identity_file = "export.yaml";
inline constexpr const char* topology_file = "array.yaml";

// What `.rainfs` of a directory says.
enum class Formatted : std::uint8_t {
  no,        // there is none, or an empty one
  creating,  // an array's creation was interrupted: not in use yet, may be made anew
  yes,
};
struct Inspection {
  Formatted state = Formatted::no;
  std::string creating_array;   // name, where state is creating; may be empty
  topology::Identity identity;  // where state is yes
};

// `root_path` is for messages only. Errors where `.rainfs` is damaged or not ours.
base::Result<Inspection> inspect(int root_fd, const std::string& root_path);

base::Result<topology::Identity> read_identity(int root_fd, const std::string& root_path);
base::Result<topology::Topology> read_topology(int root_fd, const std::string& root_path);
// Durable when they return; readers see the old text or the new one.
base::Result<void> write_identity(int root_fd, const std::string& root_path, const topology::Identity& identity);
base::Result<void> write_topology(int root_fd, const std::string& root_path, const topology::Topology& topology);

// Makes what is missing of the directories in `.rainfs`.
base::Result<void> make_private_directories(int root_fd, const std::string& root_path);

// `.rainfs` of one export while an array is created. What it made is taken back unless commit() was called;
// if the program dies before, the marker file `creating` lets the next run begin anew.
class Creation {
 public:
  // Only on a directory whose inspection said no or creating. EBUSY if another program is creating there.
  static base::Result<Creation> begin(base::UniqueFd root, std::string root_path, const std::string& array_name);
  Creation(Creation&& other) noexcept = default;
  Creation& operator=(Creation&&) = delete;
  ~Creation();

  int root_fd() const { return root_.get(); }
  const std::string& root_path() const { return root_path_; }
  // `.rainfs/tmp`, for trying out what the export can do. Names must begin with temporary_prefix.
  base::Result<base::UniqueFd> open_temporary() const;
  // From here on the export is part of an array; call for all exports before finish() of the first.
  void commit() { committed_ = true; }
  // Removes the marker.
  base::Result<void> finish();

 private:
  Creation(base::UniqueFd root, std::string root_path) : root_(std::move(root)), root_path_(std::move(root_path)) {}
  base::Result<void> mark(const std::string& array_name);
  base::Result<void> make_directories();

  base::UniqueFd root_;
  base::UniqueFd marker_;  // locked against another program's creation
  std::string root_path_;
  bool committed_ = false;
};

inline constexpr std::string_view temporary_prefix = "create-";

// Removes the marker that an interruption in the last moment of a creation left on a complete export.
base::Result<void> remove_marker(int root_fd, const std::string& root_path);

}  // namespace rainfs::nas
