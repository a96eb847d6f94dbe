// SPDX-License-Identifier: Apache-2.0
// rainfsctl rejoin: an export that was put back to an earlier moment is taken back, and what it missed is repaired.
#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

#include "apart.hpp"
#include "change.hpp"
#include "node.hpp"
#include "rainfs/ledger/ledger.hpp"
#include "rainfs/log/log.hpp"
#include "rainfs/nas/identity.hpp"
#include "rainfs/nas/sightings.hpp"

namespace rainfs::cli {

namespace {

namespace po = boost::program_options;

constexpr base::Duration margin = std::chrono::seconds(5);  // for a busy machine

// Of a poll, of recording one fact, and of every node's next poll.
base::Duration bound_of(const ArrayAtHand& at_hand) {
  const auto& deadlines = at_hand.config.deadlines;
  return 3 * deadlines.probe + 6 * deadlines.metadata + 2 * nas::poll_interval + margin;
}

// Left alone at the end: destroying it might wait for what hangs, and the process ends anyway.
nas::Array& polled(const ArrayAtHand& at_hand) {
  auto* const factory = nas::make_system_engines().release();
  auto* const array =
      new nas::Array(std::make_shared<const topology::Topology>(at_hand.topology),
                     array_options(at_hand.config, at_hand.topology, local_paths(at_hand.config, at_hand.node)),
                     *factory, base::Clock::system());
  log::set_level(log::Level::error);
  array->poll();
  return *array;
}

// Remembers, on as many racks as have to remember what an export misses, that nothing on it is to be believed before it
// was compared; and waits until every node's poll must have seen that.
base::Result<std::string> blame_all(const ArrayAtHand& at_hand, base::ExportIndex index) {
  nas::Array& array = polled(at_hand);
  const auto target = base::ExportSet::of(index);
  ledger::Ledger ledger(array, fmt::format("rejoin-{}", ::getpid()));
  auto recorded =
      ledger.record("", target, ledger::Why::missed_write, at_hand.topology.most_replicas(), ledger::Scope::subtree);
  if (!recorded) return base::unexpected(recorded.error());
  const base::TimePoint known = array.known_everywhere(target);
  const base::TimePoint now = array.clock().now();
  if (known > now) array.clock().sleep(known - now);
  return std::string{};
}

// The tick that others tell of an export that was put back; 0: it was not.
base::Result<std::int64_t> tick_of_others(const ArrayAtHand& at_hand, base::ExportIndex index) {
  const auto text =
      do_apart([&]() -> base::Result<std::string> { return std::to_string(polled(at_hand).put_back(index)); },
               bound_of(at_hand));
  if (!text) return base::unexpected(text.error());
  return std::stoll(*text);
}

// What the export says of others, of half-done changes and of checksums is of that earlier moment, too.
base::Result<void> put_memory_aside(const Reached& exp) {
  const std::int64_t now = base::Clock::system().realtime().tv_sec;
  const std::string day = fmt::format(".rainfs/trash/{:%Y-%m-%d}", fmt::gmtime(static_cast<std::time_t>(now)));
  const int root = exp.root.get();
  for (const std::string& directory : {std::string(".rainfs/trash"), day}) {
    if (::mkdirat(root, directory.c_str(), 0700) != 0 && errno != EEXIST)
      return base::unexpected(errno, exp.path + "/" + directory);
  }
  for (const char* name : {"ledger", "intents", "scrub"}) {
    const std::string from = fmt::format(".rainfs/{}", name);
    const std::string to = fmt::format("{}/.rainfs-{}-{}", day, name, now);
    if (::renameat(root, from.c_str(), root, to.c_str()) != 0 && errno != ENOENT)
      return base::unexpected(errno, exp.path + "/" + from);
  }
  return nas::make_private_directories(root, exp.path);
}

// From here on every node's next poll takes it back.
base::Result<void> see(const Reached& exp, const nas::Sighting& sighting) {
  const std::string name = fmt::format("{}/{}", nas::sightings_directory, nas::name_of(sighting));
  const int root = exp.root.get();
  if (::mkdirat(root, nas::sightings_directory, 0700) != 0 && errno != EEXIST)
    return base::unexpected(errno, exp.path + "/" + nas::sightings_directory);
  if (::syncfs(root) != 0) return base::unexpected(errno, exp.path);
  const base::UniqueFd file(::openat(root, name.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file || ::fsync(file.get()) != 0) return base::unexpected(errno, exp.path + "/" + name);
  return {};
}

base::Result<void> take_back(const ArrayAtHand& array, const Reached& exp, std::int64_t tick, bool as_it_is) {
  const topology::Export& known = array.topology.exports[exp.index];
  if (!as_it_is && !known.witness) {
    auto blamed =
        do_apart([&] { return blame_all(array, static_cast<base::ExportIndex>(exp.index)); }, bound_of(array));
    if (!blamed) return base::unexpected(blamed.error());
  }
  if (auto aside = put_memory_aside(exp); !aside) return aside;
  if (auto written = nas::write_topology(exp.root.get(), exp.path, array.topology); !written) return written;
  return see(exp, {known.uuid, tick});
}

int run(const Command& self, const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  po::options_description options("Options");
  options.add_options()("yes,y", "do not ask")("as-it-is", "believe what lies on it")(
      "no-scrub", "leave the repair to a rainfs-scrub of your own");
  int status = exit_done;
  const auto values = parse_arguments(self, arguments, options, 2, 2, out, err, status);
  if (!values) return status;
  const auto operands = operands_of(*values);
  const Fail fail{self, err};
  const auto array = open_array(operands[0]);
  if (!array) return fail(array.error());
  const auto index = find_export(array->topology, operands[1]);
  if (!index) return fail(index.error());
  const topology::Export& exp = array->topology.exports[*index];
  const Reached* const here = reached(*array, *index);
  if (here == nullptr) {
    return fail(
        base::config_error(exp.state == topology::State::retired
                               ? fmt::format("{} was retired: add it as a new, empty export", exp.name)
                               : fmt::format("{} cannot be reached, or is another export: mount it", exp.name)));
  }
  const auto tick = tick_of_others(*array, static_cast<base::ExportIndex>(*index));
  if (!tick) return fail(tick.error());
  if (*tick == 0) {
    return fail(base::config_error(fmt::format(
        "{} was not put back to an earlier moment, as far as the exports that can be reached know: it needs "
        "no rejoining",
        exp.name)));
  }
  const bool as_it_is = values->count("as-it-is") != 0;
  const std::string what =
      as_it_is ? fmt::format(
                     "What lies on {} is believed as it is: what was removed since that moment comes back, and "
                     "what was changed\nsince may be the old one.\n",
                     exp.name)
               : fmt::format(
                     "Export {} is taken back. Nothing on it is believed until rainfs-scrub has compared it with "
                     "the others; what is too\nold goes to .rainfs/trash there.\n",
                     exp.name);
  if (!agreed(self, what, values->count("yes") != 0, out, err)) return exit_failed;
  if (auto taken = take_back(*array, *here, *tick, as_it_is); !taken) return fail(taken.error());
  out << fmt::format("{} is taken back.\n", exp.name);
  if (exp.witness) return exit_done;
  if (values->count("no-scrub") != 0) {
    out << fmt::format("Run rainfs-scrub {}.\n", operands[0]);
    return exit_done;
  }
  if ((scrub_until_clean({operands[0], "--rate", "0", "--quiet"}) & ~1) != 0) {
    complain(self, fmt::format("not everything could be repaired; run rainfs-scrub {} again", operands[0]), err);
    return exit_failed;
  }
  out << "What it missed has been repaired.\n";
  return exit_done;
}

}  // namespace

const Command rejoin_command{
    "rejoin", "ARRAY EXPORT", "take back an export that was put back to an earlier moment",
    "For a NAS that was restored from a backup or a snapshot, or got a new, empty disk that was given its identity:\n"
    "nodes tell by what the other exports remember of it, and leave it alone. Taken back, it is compared with the\n"
    "others as a whole: what is as it should be stays, what it missed is made anew from them. Interrupted, the same\n"
    "command, or rainfs-scrub, goes on.",
    run};

}  // namespace rainfs::cli
