// SPDX-License-Identifier: Apache-2.0
#include "trash.hpp"

#include <dirent.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "rainfs/log/log.hpp"

namespace rainfs::scrub {

namespace {

constexpr const char* trash = ".rainfs/trash";

std::vector<std::string> sorted_names(nas::Array& array, ExportIndex index, const std::string& path) {
  std::vector<std::string> names;
  const replica::Done listed = perform_on(array, index, new_operation(Kind::read_directory, path));
  if (!listed.ok()) return names;
  for (io::DirectoryEntry& entry : listed.operation->entries) names.push_back(std::move(entry.name));
  std::sort(names.begin(), names.end());
  return names;
}

std::uint64_t bytes_of(nas::Array& array, ExportIndex index, const std::string& path) {
  const replica::Done stat = perform_on(array, index, new_operation(Kind::stat, path));
  if (!stat.ok()) return 0;
  std::uint64_t bytes = stat.operation->stat.stx_blocks * 512;
  if (!S_ISDIR(stat.operation->stat.stx_mode)) return bytes;
  for (const std::string& name : sorted_names(array, index, path)) bytes += bytes_of(array, index, path + "/" + name);
  return bytes;
}

}  // namespace

bool remove_tree(nas::Array& array, ExportIndex index, const std::string& path) {
  const int error = perform_on(array, index, new_operation(Kind::unlink, path)).error;
  if (error == 0 || error == ENOENT) return true;
  if (error != EISDIR && error != EPERM) return false;
  for (const std::string& name : sorted_names(array, index, path)) remove_tree(array, index, path + "/" + name);
  return perform_on(array, index, new_operation(Kind::rmdir, path)).ok();
}

void expire_trash(Session& session) {
  nas::Array& array = session.array;
  for (const ExportIndex index : array.online()) {
    const std::time_t oldest =
        array.clock().realtime().tv_sec - static_cast<std::time_t>(session.options.trash_days) * 24 * 3600;
    struct tm parts {};
    ::gmtime_r(&oldest, &parts);
    char date[16] = "";
    std::strftime(date, sizeof date, "%F", &parts);
    std::vector<std::string> days = sorted_names(array, index, trash);
    std::vector<std::string> kept;
    for (const std::string& day : days) {
      const bool expired = session.options.trash_days == 0 ? true : day < date;
      if (!expired || !remove_tree(array, index, std::string(trash) + "/" + day)) kept.push_back(day);
    }
    const std::uint64_t most = array.at(index).space().total_bytes / 1000 * session.options.trash_max_per_mille;
    if (kept.empty() || most == 0) continue;
    std::vector<std::pair<std::string, std::uint64_t>> slots;
    std::uint64_t sum = 0;
    for (const std::string& day : kept) {
      const std::string folder = std::string(trash) + "/" + day;
      for (const std::string& slot : sorted_names(array, index, folder)) {
        slots.emplace_back(folder + "/" + slot, bytes_of(array, index, folder + "/" + slot));
        sum += slots.back().second;
      }
    }
    for (const auto& [slot, bytes] : slots) {
      if (sum <= most) break;
      if (remove_tree(array, index, slot)) {
        sum -= bytes;
        log::notice("trash-full", "{} on export {} had to go: the trash is full", slot, array.at(index).name());
      }
    }
  }
}

}  // namespace rainfs::scrub
