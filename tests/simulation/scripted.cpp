// SPDX-License-Identifier: Apache-2.0
// What took the simulation many runs to meet, played on purpose: nodes that see different exports, and failures at the
// one moment that matters.
#include <algorithm>

#include "rainfs/log/log.hpp"
#include "script.hpp"

namespace rainfs::simulation {

namespace {

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
  script.fail([&](const Machine&, const simulated::Export&, const io::Operation& op) {
    return op.kind == io::Kind::unlink && op.path.starts_with(place) ? EIO : 0;
  });
  script.expect(removing.remove(name, false) != 0, "its removal does not fail");
  script.exports().at(0).read_only = false;
  script.fail(nullptr);
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

// A replica that was put into place is written to, with its source, before the scrubber looks at the source again.
void written_when_placed(Script& script) {
  Computer& node = script.boot();
  script.expect(node.write("f", 1, overwrite, true) == 0, "it is not written");
  script.settle();
  script.storage(1).root()->entries.erase("f");
  simulated::InodePtr placed;
  script.fail([&](const Machine& machine, const simulated::Export& exp, const io::Operation& op) {
    if (placed || !machine.repairs || exp.name != "a" || op.kind != io::Kind::stat || op.path != "f") return 0;
    placed = script.storage(1).find("f");
    for (const simulated::InodePtr& replica : {script.storage(0).find("f"), placed}) {
      if (!placed) break;
      replica->maker = "node0";
      replica->data = contents_of(2);
      replica->mtime_ns += 1'000'000;
      replica->ctime_ns += 1'000'000;
    }
    return 0;
  });
  script.expect_nothing_destroyed();
  script.scrub();
  script.fail(nullptr);
  script.expect(placed != nullptr, "nothing is put into place");
  script.settle();
  script.scrub();
  script.settle();
  script.expect(reads(node, "f", 2), "what was written is not there");
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
  script.expect(script.copies(name) == 3, "no such state is left behind");
  script.settle(std::chrono::minutes(10));  // nobody is taken to be writing it
  script.scrub(true);
  script.settle();
  script.expect(reads(node, name, 2), "what was acknowledged lost against what was verified before");
}

// A creation that failed has left an empty file on one export, which it could not remove, and a fact there about
// another. Then it is made while that export is away.
void leftover_of_a_creation(Script& script) {
  const std::string name = script.name_at("abc");
  Computer& node = script.boot();
  script.expect(node.write("other", 1, overwrite, true) == 0, "it is not written");
  script.fail([&](const Machine&, const simulated::Export& exp, const io::Operation& op) {
    const bool fact = op.path.starts_with(".rainfs/ledger/a/") && exp.name == "c";
    const bool fails = (op.path == name && op.kind == io::Kind::open && exp.name == "a") || fact ||
                       (exp.name == "b" && op.kind == io::Kind::unlink);
    return fails ? EIO : 0;
  });
  script.expect(node.write(name, 2, overwrite, true) == EIO, "it is made");
  script.fail(nullptr);
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

// An export missed a change of a file that was made through one of its names, and is the only one that answers when it
// is read through the other by a node that knows of no names.
void changed_by_another_name(Script& script) {
  const std::string name = script.name_at("ab");
  const std::string other = script.name_at("ba");
  const std::string third = script.name_at("ba", "third-");
  Computer& node = script.boot();
  script.expect(node.write(name, 1, overwrite, true) == 0 && node.link(name, other) == 0, "it is not written");
  script.expect(node.write(third, 5, overwrite, true) == 0, "another one is not written");
  script.exports().set(script.exports().at(1), simulated::Condition::bare);
  script.settle();
  script.expect(node.write(name, 2, overwrite, true) == 0, "it is not written while an export is away");
  script.exports().set(script.exports().at(1), simulated::Condition::fine);
  script.settle();
  script.exports().set(script.exports().at(0), simulated::Condition::bare);
  Computer& fresh = script.boot();
  script.settle();
  std::string bytes;
  int error = fresh.read(other, bytes);
  script.expect(error == EIO || (error == 0 && recognise(bytes).whole == 2),
                fmt::format("what was replaced is read by its other name: {}, {} bytes", error, bytes.size()));
  error = fresh.read(third, bytes);
  script.expect(error == 0 && recognise(bytes).whole == 5, "a file that has one name is doubted");
  script.exports().set(script.exports().at(0), simulated::Condition::fine);
  script.settle();
  script.scrub();
  script.settle();
  for (const std::string& each : {name, other}) {
    error = fresh.read(each, bytes);
    script.expect(error == 0 && recognise(bytes).whole == 2, "it is not repaired");
  }
  for (std::size_t i = 0; i < 3; ++i) {
    const auto facts = script.storage(i).find(".rainfs/ledger");
    script.expect(!facts || facts->entries.empty(), "facts are left");
  }
}

constexpr Scene other_scenes[] = {
    {"what was changed by one name of a file is not read as it was by another", 3, false, changed_by_another_name},
    {"what is on an export that is not reached is not denied", 3, true, denied},
    {"what is on an export that is not reached is not left out of a listing", 3, true, not_listed},
    {"a fact of a removal that failed takes nothing away", 3, false, partly_recorded},
    {"what is in a directory whose maker was killed is not denied", 2, true, in_half_a_directory},
    {"what is in a directory is read where the directory is", 2, true, in_a_whole_directory},
    {"a replica that is written to when it is put into place stays", 2, false, written_when_placed},
    {"what a creation that failed has left is not believed", 3, false, leftover_of_a_creation},
    {"what R racks agree on is right, whatever was verified before", 3, false, newer_than_the_catalogue},
};

}  // namespace

}  // namespace rainfs::simulation

int main() {
  using namespace rainfs::simulation;
  rainfs::log::set_level(static_cast<rainfs::log::Level>(0));
  int failed = 0;
  std::vector<Scene> scenes(std::begin(other_scenes), std::end(other_scenes));
  scenes.insert(scenes.end(), rename_scenes.begin(), rename_scenes.end());
  for (const Scene& scene : scenes) {
    Script script(scene.racks, scene.witness);
    const std::string wrong = script.play(scene.body);
    fmt::print("{}: {}\n", scene.name, wrong.empty() ? "ok" : "FAILED: " + wrong);
    failed += wrong.empty() ? 0 : 1;
  }
  return failed == 0 ? 0 : 1;
}
