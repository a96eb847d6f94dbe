// SPDX-License-Identifier: Apache-2.0
// rainfsctl drain: an export's files are moved to others, then it leaves the array.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "leave.hpp"
#include "rainfs/placement/placement.hpp"

namespace rainfs::cli {

namespace {

namespace po = boost::program_options;

// The first path of something that is no directory beneath one; RainFS's own at the top does not count.
std::string first_file(int root, const std::string& relative) {
  const int fd =
      ::openat(root, relative.empty() ? "." : relative.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return relative.empty() ? "." : relative;
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd), ::closedir);
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == ".." || (relative.empty() && name == ".rainfs")) continue;
    std::string path = relative.empty() ? name : fmt::format("{}/{}", relative, name);
    if (entry->d_type != DT_DIR) return path;
    std::string below = first_file(root, path);
    if (!below.empty()) return below;
  }
  return {};
}

int run(const Command& self, const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  po::options_description options("Options");
  options.add_options()("yes,y", "do not ask")("force", "even if fewer racks than replicas remain")(
      "cancel", "keep it after all");
  int status = exit_done;
  const auto values = parse_arguments(self, arguments, options, 2, 2, out, err, status);
  if (!values) return status;
  const auto operands = operands_of(*values);
  const Fail fail{self, err};
  auto array = open_array(operands[0]);
  if (!array) return fail(array.error());
  const auto index = may_leave(*array, operands[1], values->count("force") != 0 || values->count("cancel") != 0);
  if (!index) return fail(index.error());
  topology::Export* exp = &array->topology.exports[*index];
  if (values->count("cancel") != 0) {
    if (exp->state != topology::State::draining) {
      complain(self, fmt::format("{} is not being drained", exp->name), err);
      return exit_failed;
    }
    exp->state = topology::State::active;
    if (auto written = write_change(*array); !written) return fail(written.error());
    out << fmt::format("{} takes new files again.\n", exp->name);
    return exit_done;
  }
  if (exp->state != topology::State::draining) {
    const std::string what = fmt::format(
        "Export {} of rack {} takes no new files any more; its replicas are moved to other exports, then it leaves "
        "the\n"
        "array. What is moved stays in .rainfs/trash there. rainfsctl drain --cancel keeps it, till the end.\n",
        exp->name, array->topology.racks[exp->rack].name);
    if (!agreed(self, what, values->count("yes") != 0, out, err)) return exit_failed;
    exp->state = topology::State::draining;
    if (auto written = write_change(*array); !written) return fail(written.error());
  }
  if (!exp->witness) {
    const std::vector<std::string> scrub{operands[0], "--rate", "0", "--quiet"};
    const int scrubbed = scrub_until_clean(scrub);
    const Reached* const here = reached(*array, *index);
    const std::string left = here == nullptr ? "it cannot be reached" : first_file(here->root.get(), "");
    if ((scrubbed & ~1) != 0 || !left.empty()) {
      complain(self,
               fmt::format("not everything could be moved off {}{}; the same command goes on where this ended",
                           exp->name, left.empty() ? "" : " (/" + left + ")"),
               err);
      return exit_failed;
    }
  }
  array = open_array(operands[0]);
  if (!array) return fail(array.error());
  exp = &array->topology.exports[*index];
  exp->state = topology::State::retired;
  placement::derive_weights(array->topology);
  if (auto written = write_change(*array); !written) return fail(written.error());
  out << fmt::format("{} is empty and no part of the array any more.\n", exp->name);
  return exit_done;
}

}  // namespace

const Command drain_command{
    "drain", "ARRAY EXPORT", "move an export's files to others, then take it out of the array",
    "For an export that still works and is to go. No file has fewer good replicas meanwhile. Interrupted, the\n"
    "same command goes on.",
    run};

}  // namespace rainfs::cli
