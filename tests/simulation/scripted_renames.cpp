// SPDX-License-Identifier: Apache-2.0
// Scenes of renames that do not come to their end at once.
#include <utility>

#include "script.hpp"

namespace rainfs::simulation {

namespace {

bool is_about_the_old_name(const io::Operation& op) {
  return op.kind == io::Kind::make_file && op.text.find("why: renamed-from") != std::string::npos;
}

// A rename that failed on one export, and whose facts about the old name there did not come to be, has removed the
// overwritten file there all the same. Whoever finishes it finds nothing under the new name.
void finished_where_it_failed(Script& script) {
  const std::string from = script.name_at("ab"), to = script.name_at("ba");
  Computer& node = script.boot();
  script.expect(node.write(from, 1, overwrite, true) == 0 && node.write(to, 2, overwrite, true) == 0,
                "they are not written");
  bool failed = false;
  script.fail([&](const Machine&, const simulated::Export&, const io::Operation& op) {
    const bool full = (op.kind == io::Kind::rename && op.path == from && !std::exchange(failed, true)) ||
                      (op.kind == io::Kind::mkdir && op.path.starts_with(".rainfs/trash/"));
    return full ? ENOSPC : is_about_the_old_name(op) ? EIO : 0;
  });
  script.expect(node.rename(from, to, 0) == EIO, "the rename does not fail");
  script.fail(nullptr);
  script.expect(script.copies(from) == 1 && script.copies(to) == 1, "no such state is left behind");
  script.scrub();
  std::string bytes;
  script.settle();
  script.expect(script.copies(from) == 0 && node.read(from, bytes) == ENOENT, "the old name is still there");
  script.expect(script.copies(to) == 2 && reads(node, to, 1), "the new name does not have the file");
}

// The node could not look at the old name on one export, and what it found out about that export in the end could not
// be recorded. Whoever finishes the rename has to know it.
void finished_where_it_was_not_seen(Script& script) {
  const std::string from = script.name_at("ab"), to = script.name_at("ba");
  Computer& node = script.boot();
  script.expect(node.write(from, 1, overwrite, true) == 0 && node.write(to, 2, overwrite, true) == 0,
                "they are not written");
  script.fail([&](const Machine&, const simulated::Export& exp, const io::Operation& op) {
    const bool unseen = op.kind == io::Kind::stat && op.path == from && exp.name == "b";
    return unseen || is_about_the_old_name(op) ? EIO : 0;
  });
  script.expect(node.rename(from, to, 0) == EIO, "the rename does not fail");
  script.fail(nullptr);
  script.expect(!script.storage(0).find(from) && script.storage(0).find(to) && script.storage(1).find(from),
                "no such state is left behind");
  script.scrub();
  script.settle();
  std::string bytes;
  script.expect(!script.storage(1).find(from) && node.read(from, bytes) == ENOENT, "the old name is still there");
  script.expect(script.storage(1).find(to) && reads(node, to, 1), "the new name does not have the file");
}

// A node dies over a rename that one export has done. Another has polled before, and changes the same names at once.
void half_rename(Script& script, Computer& node, const std::string& from, const std::string& to) {
  script.settle();
  script.fail([&](const Machine& machine, const simulated::Export& exp, const io::Operation& op) {
    const bool died =
        machine.name == node.name() &&
        (op.kind == io::Kind::rename ? exp.name != "a"
                                     : op.kind == io::Kind::make_file && op.path.starts_with(".rainfs/ledger/"));
    return died ? EIO : 0;
  });
  script.expect(node.rename(from, to, 0) == EIO, "the rename does not fail");
  script.fail(nullptr);
  node.machine().cut_off = {"a", "b", "c"};
  script.expect(script.storage(0).find(to) && !script.storage(0).find(from) && script.storage(1).find(from) &&
                    !script.storage(1).find(to),
                "no such state is left behind");
}

void expect_one_name(Script& script, const std::string& from, const std::string& to) {
  script.scrub();
  script.settle();
  script.expect(script.copies(from) == 0 || script.copies(to) == 0, fmt::format("both {} and {} are there", from, to));
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

// A node could not look at the new name on one export, and then renamed a directory there all the same.
void renamed_where_not_seen(Script& script) {
  const std::string name = script.name_at("ab", "d/");
  Computer& node = script.boot();
  script.expect(node.make_directory("d") == 0 && node.write(name, 1, overwrite, true) == 0, "they are not made");
  script.settle();
  script.fail([&](const Machine&, const simulated::Export& exp, const io::Operation& op) {
    const bool unseen = op.kind == io::Kind::stat && op.path == "e" && exp.name == "a" && !script.storage(0).find("e");
    return unseen ? EIO : 0;
  });
  script.expect(node.rename("d", "e", 0) == 0, "it is not renamed");
  script.fail(nullptr);
  script.expect(script.storage(0).find("e") != nullptr, "no such state is left behind");
  script.exports().set(script.exports().at(1), simulated::Condition::failing);
  script.settle();
  std::string bytes;
  const int error = node.read("e" + name.substr(1), bytes);
  script.expect(error == 0 && recognise(bytes).whole == 1,
                fmt::format("it is not believed where it was renamed: {}", error));
}

// What is left of an overwritten file where the source was not, if the node did not come as far as removing it.
void finished_by_the_scrubber(Script& script) {
  const std::string from = script.name_at("ab"), to = script.name_at("bc");
  Computer& node = script.boot();
  script.expect(node.write(from, 1, overwrite, true) == 0 && node.write(to, 2, overwrite, true) == 0,
                "they are not written");
  script.fail([&](const Machine&, const simulated::Export&, const io::Operation& op) {
    const bool removal = (op.kind == io::Kind::unlink && op.path == to) ||
                         (op.kind == io::Kind::make_file && op.path.starts_with(".rainfs/ledger/"));
    return removal ? EIO : 0;
  });
  script.expect(node.rename(from, to, 0) == EIO, "the rename does not fail");
  script.fail(nullptr);
  const simulated::InodePtr overwritten = script.storage(2).find(to);
  script.expect(overwritten && script.copies(to) == 3, "no such state is left behind");
  script.expect_nothing_destroyed();
  script.scrub();
  script.settle();
  script.expect(!script.storage(2).find(to) && overwritten->links == 1, "the overwritten file is not in the trash");
  script.expect(reads(node, to, 1), "the new name does not have the file");
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

}  // namespace

const std::vector<Scene> rename_scenes = {
    {"a rename that failed on an export is finished there too", 3, false, finished_where_it_failed},
    {"a rename is finished where its node could not look", 2, true, finished_where_it_was_not_seen},
    {"what is changed while it is half renamed is under one name", 3, false, changed_while_half_renamed},
    {"what is changed where it was not renamed is under one name", 3, false, changed_where_not_renamed},
    {"what is made in a half renamed directory is under one name", 3, false, made_while_half_renamed},
    {"what is removed from a half renamed directory stays away", 3, false, removed_while_half_renamed},
    {"a rename that the scrubber finishes destroys nothing", 3, false, finished_by_the_scrubber},
    {"a directory that was renamed is believed under its new name", 3, false, renamed_where_not_seen},
    {"facts about a renamed directory go, whatever else its files are linked to", 3, false, linked_in_the_trash},
};

}  // namespace rainfs::simulation
