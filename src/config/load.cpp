// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/stat.h>

#include "rainfs/config/config.hpp"
#include "rainfs/config/values.hpp"
#include "rainfs/config/yaml.hpp"

namespace rainfs::config {

std::string config_path(const std::string& source, std::string_view directory) {
  struct stat st {};
  if (source.find('/') != std::string::npos) return source;
  std::string named = fmt::format("{}/{}.yaml", directory, source);
  // The array's name comes first, so that a file lying about in the working directory changes no mount.
  if (::stat(named.c_str(), &st) != 0 && ::stat(source.c_str(), &st) == 0 && S_ISREG(st.st_mode)) return source;
  return named;
}

base::Result<Config> load_config(const std::string& path) {
  const auto text = read_text_file(path);
  if (text) return parse_config(*text, path);
  if (text.error().code != ENOENT) return base::unexpected(text.error());
  return base::unexpected(
      base::Error(ENOENT, base::ErrorClass::config,
                  fmt::format("{}: there is no such file; give the path of an array's file, or NAME for "
                              "{}/NAME.yaml",
                              path, default_directory)));
}

base::Result<NodeConfig> load_node_config(const std::string& path) {
  const auto text = read_text_file(path);
  if (text) return parse_node_config(*text, path);
  if (text.error().code == ENOENT) return NodeConfig{};
  return base::unexpected(text.error());
}

}  // namespace rainfs::config
