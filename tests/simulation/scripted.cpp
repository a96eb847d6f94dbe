// SPDX-License-Identifier: Apache-2.0
// What took the simulation many runs to meet, played on purpose: nodes that see different exports, and failures at the
// one moment that matters.
#include <fmt/format.h>

#include <algorithm>

#include "computer.hpp"
#include "rainfs/log/log.hpp"
#include "rainfs/placement/placement.hpp"

namespace rainfs::simulation {

namespace {

constexpr base::Duration until_noticed = std::chrono::seconds(5);
constexpr std::int64_t longest_ns = 3'600'000'000'000;

class Script {
 public:
  explicit Script(unsigned racks, bool witness = false) : world_(1), exports_(world_) {
    topology::Topology topology;
    topology.array_name = "scripted";
    topology.array_uuid = "00000000-0000-4000-8000-000000000000";
    for (unsigned i = 0; i < racks + (witness ? 1 : 0); ++i) {
      topology::Export exp;
      exp.name = i < racks ? std::string(1, static_cast<char>('a' + i)) : "witness";
      exp.uuid = fmt::format("00000000-0000-4000-8000-{:012}", i + 1);
      exp.rack = i;
      exp.witness = i == racks;
      exp.path = "/nas/" + exp.name;
      exp.weight = 1000;
      topology.racks.push_back({"rack-" + exp.name});
      topology.exports.push_back(exp);
      exports_.add(exp.name, {});
    }
    placement::derive_weights(topology);
    make_exports(exports_, topology);
    topology_ = std::make_shared<const topology::Topology>(std::move(topology));
  }
  ~Script() {
    world_.end();
    exports_.end();
  }

  Exports& exports() { return exports_; }
  simulated::Storage& storage(std::size_t index) { return exports_.at(index).storage; }
  const topology::Topology& topology() const { return *topology_; }
  void settle(base::Duration time = until_noticed) { world_.sleep(time); }

  Computer& boot(std::set<std::string> cut_off = {}) {
    computers_.push_back(std::make_unique<Computer>(world_, exports_, topology_,
                                                    fmt::format("node{}", computers_.size()), base::Duration(0)));
    computers_.back()->machine().cut_off = std::move(cut_off);
    computers_.back()->mount();
    return *computers_.back();
  }
  void scrub(bool deep = false, std::chrono::seconds grace = std::chrono::seconds(1)) {
    repairers_.push_back(std::make_unique<Repairer>(
        world_, exports_, topology_, fmt::format("{}{}", simulated::repairer, repairers_.size()), base::Duration(0)));
    Repairer& repairer = *repairers_.back();
    world_.start(
        repairer.name(), [] { return true; },
        [&repairer, deep, grace] {
          scrub::Options options;
          options.deep = deep;
          options.grace = grace;
          (void)repairer.run(options);
          repairer.over = true;
        },
        World::End::whole);
    world_.sleep_until([&] { return repairer.over; }, std::chrono::seconds(1));
  }
  // A name in a directory ("d/" or "") whose home is these exports, in this order.
  std::string name_at(const std::string& home, const std::string& above = "") const {
    for (int i = 0;; ++i) {
      std::string name = fmt::format("{}{}{}", above, home, i);
      const placement::Order order = placement::order(name, *topology_);
      std::string there;
      for (const base::ExportIndex index : order) there += topology_->exports[index].name;
      if (there.starts_with(home)) return name;
    }
  }

  // Plays it; gives what went wrong.
  std::string play(const std::function<void(Script&)>& body) {
    bool over = false;
    world_.start(
        "script", [] { return true; },
        [&] {
          body(*this);
          over = true;
        });
    world_.run(longest_ns, [&] { return over || !wrong_.empty(); });
    return over || !wrong_.empty() ? wrong_ : "it does not come to an end";
  }
  void expect(bool right, const std::string& what) {
    if (!right && wrong_.empty()) wrong_ = what;
  }

 private:
  World world_;
  Exports exports_;
  std::shared_ptr<const topology::Topology> topology_;
  std::vector<std::unique_ptr<Computer>> computers_;
  std::vector<std::unique_ptr<Repairer>> repairers_;
  std::string wrong_;
};

using Body = std::function<void(Script&)>;
constexpr auto overwrite = Computer::How::overwrite;

// A file that one node could put on a single export, which another node does not reach: the other may not yet know the
// facts about the rest.
void on_one_export(Script& script, const std::function<void(Computer& other, const std::string& name)>& look) {
  const std::string name = script.name_at("ab");
  script.exports().at(2).read_only = true;
  Computer& one = script.boot({"a"});
  Computer& other = script.boot({"b"});
  script.expect(one.write(name, 1, overwrite, false) == 0, "it is not written");
  script.expect(!script.storage(0).find(name) && script.storage(1).find(name) && !script.storage(2).find(name),
                "it is not on one export");
  look(other, name);
}

void denied(Script& script) {
  on_one_export(script, [&](Computer& other, const std::string& name) {
    struct stat attributes {};
    const int error = other.stat(name, attributes);
    script.expect(error == EIO, fmt::format("what is on no export that answers, but on another: {}", error));
  });
}

void not_listed(Script& script) {
  on_one_export(script, [&](Computer& other, const std::string& name) {
    std::vector<std::string> names;
    const int error = other.list("", names);
    const bool seen = std::find(names.begin(), names.end(), name) != names.end();
    script.expect(error == EIO || seen, "a listing does not show what is on no export that answers, but on another");
  });
}

// A removal that failed has removed one replica, and left the fact about the other on one rack; a write that cannot
// hear of it, as that rack is away, is acknowledged.
void partly_recorded(Script& script) {
  Computer& removing = script.boot();
  const std::string name = script.name_at("ac");
  script.expect(removing.write(name, 1, overwrite, true) == 0, "it is not written");
  const std::string place = ledger::fact_directory(script.topology(), 0, ledger::Scope::entry, name);
  script.storage(1).put(place + "/", "");
  script.storage(2).put(".rainfs/ledger/a", "no directory");
  script.exports().at(0).read_only = true;
  script.exports().tamper = [&](const Machine&, const simulated::Export&, io::Operation& op) {
    const bool taken_back = op.kind == io::Kind::unlink && op.path.starts_with(place);
    if (taken_back) op.error = EIO;
    return taken_back;
  };
  script.expect(removing.remove(name, false) != 0, "its removal does not fail");
  script.exports().at(0).read_only = false;
  script.exports().tamper = nullptr;
  script.storage(2).find(".rainfs/ledger")->entries.erase("a");
  script.expect(
      !script.storage(1).find(place)->entries.empty() && script.storage(0).find(name) && !script.storage(2).find(name),
      "no such state is left behind");
  Computer& writing = script.boot({"b"});
  script.expect(writing.write(name, 2, overwrite, true) == 0, "it is not written again");
  Computer& reading = script.boot();
  std::string bytes;
  script.settle();
  const int error = reading.read(name, bytes);
  script.expect(error == EIO || (error == 0 && recognise(bytes).whole == 2),
                fmt::format("what was acknowledged is denied for a removal that failed: {}", error));
  script.scrub();
  script.expect(script.storage(0).find(name) != nullptr,
                "the scrubber puts aside what was acknowledged, for a removal that failed");
}

// A directory whose maker was killed lies on one export, and a file is made in it.
void in_half_a_directory(Script& script) {
  script.storage(0).put("d/", "");
  Computer& making = script.boot({"b"});
  script.expect(making.write("d/x", 1, overwrite, true) == 0, "it is not written");
  Computer& other = script.boot({"a"});
  std::string bytes;
  const int error = other.read("d/x", bytes);
  script.expect(error == EIO, fmt::format("what is in a directory on one export: {}", error));
  other.machine().cut_off = {};
  script.settle();
  script.scrub();
  other.machine().cut_off = {"a"};
  script.settle();
  script.expect(other.read("d/x", bytes) == 0, "after repair it is not on both");
}

// That an export may lack a directory says nothing where it is there.
void in_a_whole_directory(Script& script) {
  Computer& making = script.boot();
  script.expect(making.make_directory("d") == 0 && making.write("d/y", 1, overwrite, true) == 0, "it is not made");
  making.machine().cut_off = {"b"};
  script.settle();
  script.expect(making.write("d/x", 2, overwrite, true) == 0, "it is not written");
  Computer& other = script.boot({"a"});
  std::string bytes;
  script.expect(other.read("d/y", bytes) == 0, "what both exports have is no longer read from the other");
  script.expect(other.read("d/x", bytes) == EIO, "what only the other export has is not asked for");
}

// A rename that failed on one export, and whose facts about the old name there did not come to be, has removed the
// overwritten file there all the same. Whoever finishes it finds nothing under the new name.
void finished_where_it_failed(Script& script) {
  const std::string from = script.name_at("ab"), to = script.name_at("ba");
  Computer& node = script.boot();
  script.expect(node.write(from, 1, overwrite, true) == 0 && node.write(to, 2, overwrite, true) == 0,
                "they are not written");
  bool failed = false;
  script.exports().tamper = [&](const Machine&, const simulated::Export&, io::Operation& op) {
    const bool full = (op.kind == io::Kind::rename && op.path == from && !std::exchange(failed, true)) ||
                      (op.kind == io::Kind::mkdir && op.path.starts_with(".rainfs/trash/"));
    const bool old_name_facts =
        op.kind == io::Kind::make_file && op.text.find("why: renamed-from") != std::string::npos;
    if (full || old_name_facts) op.error = full ? ENOSPC : EIO;
    return full || old_name_facts;
  };
  script.expect(node.rename(from, to, 0) == EIO, "the rename does not fail");
  script.exports().tamper = nullptr;
  const auto holders = [&](const std::string& name) {
    int count = 0;
    for (std::size_t i = 0; i < script.topology().exports.size(); ++i)
      count += script.storage(i).find(name) != nullptr ? 1 : 0;
    return count;
  };
  script.expect(holders(from) == 1 && holders(to) == 1, "no such state is left behind");
  script.scrub();
  std::string bytes;
  script.settle();
  script.expect(holders(from) == 0 && node.read(from, bytes) == ENOENT, "the old name is still there");
  script.expect(holders(to) == 2 && node.read(to, bytes) == 0 && recognise(bytes).whole == 1,
                "the new name does not have the file");
}

// The node could not look at the old name on one export, and what it found out about that export in the end could not
// be recorded. Whoever finishes the rename has to know it.
void finished_where_it_was_not_seen(Script& script) {
  const std::string from = script.name_at("ab"), to = script.name_at("ba");
  Computer& node = script.boot();
  script.expect(node.write(from, 1, overwrite, true) == 0 && node.write(to, 2, overwrite, true) == 0,
                "they are not written");
  script.exports().tamper = [&](const Machine&, const simulated::Export& exp, io::Operation& op) {
    const bool unseen = op.kind == io::Kind::stat && op.path == from && exp.name == "b";
    const bool old_name_facts =
        op.kind == io::Kind::make_file && op.text.find("why: renamed-from") != std::string::npos;
    if (unseen || old_name_facts) op.error = EIO;
    return unseen || old_name_facts;
  };
  script.expect(node.rename(from, to, 0) == EIO, "the rename does not fail");
  script.exports().tamper = nullptr;
  script.expect(!script.storage(0).find(from) && script.storage(0).find(to) && script.storage(1).find(from),
                "no such state is left behind");
  script.scrub();
  script.settle();
  std::string bytes;
  script.expect(!script.storage(1).find(from) && node.read(from, bytes) == ENOENT, "the old name is still there");
  script.expect(script.storage(1).find(to) && node.read(to, bytes) == 0 && recognise(bytes).whole == 1,
                "the new name does not have the file");
}

// A node dies over a rename that one export has done. Another has polled before, and changes the same names at once.
void half_rename(Script& script, Computer& node, const std::string& from, const std::string& to) {
  script.settle();
  script.exports().tamper = [&](const Machine& machine, const simulated::Export& exp, io::Operation& op) {
    const bool died =
        machine.name == node.name() &&
        (op.kind == io::Kind::rename ? exp.name != "a"
                                     : op.kind == io::Kind::make_file && op.path.starts_with(".rainfs/ledger/"));
    if (died) op.error = EIO;
    return died;
  };
  script.expect(node.rename(from, to, 0) == EIO, "the rename does not fail");
  script.exports().tamper = nullptr;
  node.machine().cut_off = {"a", "b", "c"};
  script.expect(script.storage(0).find(to) && !script.storage(0).find(from) && script.storage(1).find(from) &&
                    !script.storage(1).find(to),
                "no such state is left behind");
}

void expect_one_name(Script& script, const std::string& from, const std::string& to) {
  script.scrub();
  script.settle();
  bool old_name = false, new_name = false;
  for (std::size_t i = 0; i < script.topology().exports.size(); ++i) {
    old_name |= script.storage(i).find(from) != nullptr;
    new_name |= script.storage(i).find(to) != nullptr;
  }
  script.expect(!old_name || !new_name, fmt::format("both {} and {} are there", from, to));
}

void changed_while_half_renamed(Script& script) {
  const std::string from = script.name_at("ab"), to = from + "-new";
  Computer& node = script.boot();
  Computer& other = script.boot();
  script.expect(node.write(from, 1, overwrite, true) == 0, "it is not written");
  half_rename(script, node, from, to);
  const int error = other.change_attribute(from, Computer::Attribute::mode, 0600);
  script.expect(error == ENOENT, fmt::format("a file that is renamed away is changed: {}", error));
  expect_one_name(script, from, to);
}

// The export that has done it is away, and the name is changed where it has not been renamed.
void changed_where_not_renamed(Script& script) {
  const std::string from = script.name_at("ab"), to = from + "-new";
  Computer& node = script.boot();
  Computer& other = script.boot();
  script.expect(node.write(from, 1, overwrite, true) == 0, "it is not written");
  half_rename(script, node, from, to);
  script.exports().set(script.exports().at(0), simulated::Condition::failing);
  script.settle();
  const int error = other.change_attribute(from, Computer::Attribute::mode, 0600);
  script.expect(error == 0, fmt::format("it is not changed: {}", error));
  script.exports().set(script.exports().at(0), simulated::Condition::fine);
  script.settle();
  std::string bytes;
  script.expect(other.read(to, bytes) == ENOENT && other.read(from, bytes) == 0,
                "a rename that was given up is seen again");
  expect_one_name(script, from, to);
}

void made_while_half_renamed(Script& script) {
  Computer& node = script.boot();
  Computer& other = script.boot();
  script.expect(node.make_directory("d") == 0 && node.write("d/y", 1, overwrite, true) == 0, "they are not made");
  half_rename(script, node, "d", "e");
  const int error = other.write(script.name_at("ba", "d/"), 2, overwrite, true);
  script.expect(error == ENOENT, fmt::format("a file is made in a directory that is renamed away: {}", error));
  expect_one_name(script, "d", "e");
}

void removed_while_half_renamed(Script& script) {
  const std::string name = script.name_at("ab", "d/");
  Computer& node = script.boot();
  Computer& other = script.boot();
  script.expect(node.make_directory("d") == 0 && node.write(name, 1, overwrite, true) == 0, "they are not made");
  half_rename(script, node, "d", "e");
  const int error = other.remove(name, false);
  expect_one_name(script, "d", "e");
  script.expect(error != 0 || !script.storage(0).find("e" + name.substr(1)),
                "what was removed is there under the new name of its directory");
}

// What is left of an overwritten file where the source was not, if the node did not come as far as removing it.
void finished_by_the_scrubber(Script& script) {
  const std::string from = script.name_at("ab"), to = script.name_at("bc");
  Computer& node = script.boot();
  script.expect(node.write(from, 1, overwrite, true) == 0 && node.write(to, 2, overwrite, true) == 0,
                "they are not written");
  script.exports().tamper = [&](const Machine&, const simulated::Export&, io::Operation& op) {
    const bool removal = (op.kind == io::Kind::unlink && op.path == to) ||
                         (op.kind == io::Kind::make_file && op.path.starts_with(".rainfs/ledger/"));
    if (removal) op.error = EIO;
    return removal;
  };
  script.expect(node.rename(from, to, 0) == EIO, "the rename does not fail");
  script.exports().tamper = nullptr;
  const simulated::InodePtr overwritten = script.storage(2).find(to);
  script.expect(overwritten && script.storage(0).find(to) && script.storage(1).find(to),
                "no such state is left behind");
  script.exports().destroyed = [&](const Machine&, const simulated::Export& exp, const std::string& operation,
                                   const char* how) {
    script.expect(false, fmt::format("the scrubber destroys a file on {}: {} ({})", exp.name, operation, how));
  };
  script.scrub();
  std::string bytes;
  script.settle();
  script.expect(!script.storage(2).find(to) && overwritten->links == 1, "the overwritten file is not in the trash");
  script.expect(node.read(to, bytes) == 0 && recognise(bytes).whole == 1, "the new name does not have the file");
}

// A file of two names beneath a directory whose renaming one export missed, and a third link to it in one export's
// trash.
void linked_in_the_trash(Script& script) {
  Computer& node = script.boot();
  script.expect(
      node.make_directory("d") == 0 && node.write("d/x", 1, overwrite, true) == 0 && node.link("d/x", "y") == 0,
      "they are not made");
  std::size_t without = 0;
  while (script.storage(without).find("d/x")) ++without;
  const std::size_t with = without == 0 ? 1 : 0;
  const simulated::InodePtr file = script.storage(with).find("d/x");
  script.storage(with).find(".rainfs/trash")->entries["kept"] = file;
  ++file->links;
  script.exports().set(script.exports().at(without), simulated::Condition::failing);
  script.settle();
  script.expect(node.rename("d", "e", 0) == 0, "the directory is not renamed");
  script.exports().set(script.exports().at(without), simulated::Condition::fine);
  script.settle();
  script.scrub();
  for (std::size_t i = 0; i < script.topology().exports.size(); ++i) {
    script.expect(script.storage(i).find(".rainfs/ledger")->entries.empty(), "facts about the directory are left");
  }
  script.expect(script.storage(without).find("e") && !script.storage(without).find("d"),
                "the directory is not renamed everywhere");
}

// A replica that was put into place is written to, with its source, before the scrubber looks at the source again.
void written_when_placed(Script& script) {
  Computer& node = script.boot();
  script.expect(node.write("f", 1, overwrite, true) == 0, "it is not written");
  script.settle();
  script.storage(1).root()->entries.erase("f");
  simulated::InodePtr placed;
  script.exports().tamper = [&](const Machine& machine, const simulated::Export& exp, io::Operation& op) {
    if (placed || !machine.repairs || exp.name != "a" || op.kind != io::Kind::stat || op.path != "f") return false;
    placed = script.storage(1).find("f");
    for (const simulated::InodePtr& replica : {script.storage(0).find("f"), placed}) {
      if (!placed) break;
      replica->maker = "node0";
      replica->data = contents_of(2);
      replica->mtime_ns += 1'000'000;
      replica->ctime_ns += 1'000'000;
    }
    return false;
  };
  script.exports().destroyed = [&](const Machine&, const simulated::Export& exp, const std::string& operation,
                                   const char* how) {
    script.expect(false, fmt::format("the scrubber destroys a file on {}: {} ({})", exp.name, operation, how));
  };
  script.scrub();
  script.exports().tamper = nullptr;
  script.expect(placed != nullptr, "nothing is put into place");
  script.settle();
  script.scrub();
  std::string bytes;
  script.settle();
  script.expect(node.read("f", bytes) == 0 && recognise(bytes).whole == 2, "what was written is not there");
  script.expect(placed->links > 0, "the replica that was written to is gone");
}

// A file that a killed node left on one export is in the checksum catalogue. It is made anew while that export is away,
// and then comes back.
void newer_than_the_catalogue(Script& script) {
  const std::string name = script.name_at("bca");
  script.storage(0).put(name, "");
  script.scrub(true, std::chrono::minutes(1));  // it may still be in use
  script.exports().set(script.exports().at(0), simulated::Condition::failing);
  Computer& node = script.boot();
  script.settle();
  script.expect(node.write(name, 2, Computer::How::exclusive, true) == 0, "it is not made");
  script.exports().set(script.exports().at(0), simulated::Condition::fine);
  script.settle();
  script.expect(script.storage(0).find(name) && script.storage(1).find(name) && script.storage(2).find(name),
                "no such state is left behind");
  script.settle(std::chrono::minutes(10));  // nobody is taken to be writing it
  script.scrub(true);
  script.settle();
  std::string bytes;
  script.expect(node.read(name, bytes) == 0 && recognise(bytes).whole == 2,
                "what was acknowledged lost against what was verified before");
}

// A creation that failed has left an empty file on one export, which it could not remove, and a fact there about
// another. Then it is made while that export is away.
void leftover_of_a_creation(Script& script) {
  const std::string name = script.name_at("abc");
  Computer& node = script.boot();
  script.expect(node.write("other", 1, overwrite, true) == 0, "it is not written");
  script.exports().tamper = [&](const Machine&, const simulated::Export& exp, io::Operation& op) {
    const bool fact = op.path.starts_with(".rainfs/ledger/a/") && exp.name == "c";
    const bool fails = (op.path == name && op.kind == io::Kind::open && exp.name == "a") || fact ||
                       (exp.name == "b" && op.kind == io::Kind::unlink);
    if (fails) op.error = EIO;
    return fails;
  };
  script.expect(node.write(name, 2, overwrite, true) == EIO, "it is made");
  script.exports().tamper = nullptr;
  script.expect(!script.storage(0).find(name) && script.storage(1).find(name), "no such state is left behind");
  script.exports().set(script.exports().at(1), simulated::Condition::failing);
  script.settle();
  script.expect(node.write(name, 3, overwrite, true) == 0, "it is not made again");
  script.exports().set(script.exports().at(1), simulated::Condition::fine);
  script.exports().set(script.exports().at(2), simulated::Condition::failing);
  script.settle();
  std::string bytes;
  int error = node.read(name, bytes);
  script.expect(error == EIO || (error == 0 && recognise(bytes).whole == 3),
                fmt::format("a creation that failed is read: {}, {} bytes", error, bytes.size()));
  script.exports().set(script.exports().at(2), simulated::Condition::fine);
  script.settle();
  script.scrub();
  script.settle();
  error = node.read(name, bytes);
  script.expect(error == 0 && recognise(bytes).whole == 3,
                fmt::format("what was made in the end is not there after repair: {}", error));
}

// A node could not look at the new name on one export, and then renamed a directory there all the same.
void renamed_where_not_seen(Script& script) {
  const std::string name = script.name_at("ab", "d/");
  Computer& node = script.boot();
  script.expect(node.make_directory("d") == 0 && node.write(name, 1, overwrite, true) == 0, "they are not made");
  script.settle();
  script.exports().tamper = [&](const Machine&, const simulated::Export& exp, io::Operation& op) {
    const bool unseen = op.kind == io::Kind::stat && op.path == "e" && exp.name == "a" && !script.storage(0).find("e");
    if (unseen) op.error = EIO;
    return unseen;
  };
  script.expect(node.rename("d", "e", 0) == 0, "it is not renamed");
  script.exports().tamper = nullptr;
  script.expect(script.storage(0).find("e") != nullptr, "no such state is left behind");
  script.exports().set(script.exports().at(1), simulated::Condition::failing);
  script.settle();
  std::string bytes;
  const int error = node.read("e" + name.substr(1), bytes);
  script.expect(error == 0 && recognise(bytes).whole == 1,
                fmt::format("it is not believed where it was renamed: {}", error));
}

struct Scene {
  const char* name;
  unsigned racks;
  bool witness;
  void (*body)(Script&);
};
constexpr Scene scenes[] = {
    {"what is on an export that is not reached is not denied", 3, true, denied},
    {"what is on an export that is not reached is not left out of a listing", 3, true, not_listed},
    {"a fact of a removal that failed takes nothing away", 3, false, partly_recorded},
    {"what is in a directory whose maker was killed is not denied", 2, true, in_half_a_directory},
    {"what is in a directory is read where the directory is", 2, true, in_a_whole_directory},
    {"a rename that failed on an export is finished there too", 3, false, finished_where_it_failed},
    {"a rename is finished where its node could not look", 2, true, finished_where_it_was_not_seen},
    {"what is changed while it is half renamed is under one name", 3, false, changed_while_half_renamed},
    {"what is changed where it was not renamed is under one name", 3, false, changed_where_not_renamed},
    {"what is made in a half renamed directory is under one name", 3, false, made_while_half_renamed},
    {"what is removed from a half renamed directory stays away", 3, false, removed_while_half_renamed},
    {"a rename that the scrubber finishes destroys nothing", 3, false, finished_by_the_scrubber},
    {"a replica that is written to when it is put into place stays", 2, false, written_when_placed},
    {"a directory that was renamed is believed under its new name", 3, false, renamed_where_not_seen},
    {"what a creation that failed has left is not believed", 3, false, leftover_of_a_creation},
    {"what R racks agree on is right, whatever was verified before", 3, false, newer_than_the_catalogue},
    {"facts about a renamed directory go, whatever else its files are linked to", 3, false, linked_in_the_trash},
};

}  // namespace

}  // namespace rainfs::simulation

int main() {
  using namespace rainfs::simulation;
  rainfs::log::set_level(static_cast<rainfs::log::Level>(0));
  int failed = 0;
  for (const Scene& scene : scenes) {
    Script script(scene.racks, scene.witness);
    const std::string wrong = script.play(scene.body);
    fmt::print("{}: {}\n", scene.name, wrong.empty() ? "ok" : "FAILED: " + wrong);
    failed += wrong.empty() ? 0 : 1;
  }
  return failed == 0 ? 0 : 1;
}
