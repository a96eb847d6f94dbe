// SPDX-License-Identifier: Apache-2.0
#include "rainfs/tree/node_table.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

using namespace rainfs::tree;

TEST_CASE("a file that another node has renamed is found by its other name when the old one leads elsewhere") {
  NodeTable nodes;
  NodeTable::Found found;
  found.type = S_IFREG;
  found.identities = {Identity{7, 1, 0}};
  Node* node = nodes.bind(root_node, "old", found);
  REQUIRE(nodes.bind(root_node, "new", found) == node);
  const NodeId id = nodes.id_of(node);
  REQUIRE(nodes.path_of(id) == "old");
  CHECK(nodes.has_other_names(id));
  CHECK(nodes.let_name_go(id, "old"));
  CHECK(nodes.path_of(id) == "new");
  CHECK(nodes.let_name_go(id, "old"));  // another one was faster
  CHECK_FALSE(nodes.has_other_names(id));
  CHECK_FALSE(nodes.let_name_go(id, "new"));
  CHECK(nodes.path_of(id) == "new");
  CHECK(nodes.find(root_node, "old") == nullptr);
  nodes.forget(id, 2);
}

TEST_CASE("a file of several names in a directory that the kernel has forgotten takes it along") {
  NodeTable nodes;
  NodeTable::Found directory;
  directory.type = S_IFDIR;
  directory.identities = {Identity{1, 1, 0}};
  const NodeId one = nodes.id_of(nodes.bind(root_node, "one", directory));
  directory.identities = {Identity{2, 1, 0}};
  const NodeId two = nodes.id_of(nodes.bind(one, "two", directory));
  NodeTable::Found found;
  found.type = S_IFREG;
  found.identities = {Identity{7, 1, 0}, Identity{7, 1, 1}};
  const NodeId file = nodes.id_of(nodes.bind(two, "a", found));
  nodes.add_name(file, one, "c");
  nodes.add_name(file, two, "b");
  nodes.add_name(file, two, "d");
  nodes.forget(one, 1);
  nodes.forget(two, 1);
  CHECK(nodes.size() == 3);
  nodes.forget(file, 1);
  CHECK(nodes.size() == 0);
  CHECK(nodes.find(root_node, "one") == nullptr);
}

TEST_CASE("many files are found by name and by each of their replicas, also while they come and go") {
  NodeTable nodes;
  constexpr std::uint64_t count = 5000;
  const auto found_of = [](std::uint64_t number) {
    NodeTable::Found found;
    found.type = S_IFREG;
    for (ExportIndex index = 0; index < 3; ++index) found.identities.push_back(Identity{number, 5, index});
    return found;
  };
  const auto name_of = [](std::uint64_t number) { return "file " + std::to_string(number); };
  std::vector<Node*> bound;
  for (std::uint64_t number = 0; number < count; ++number)
    bound.push_back(nodes.bind(root_node, name_of(number), found_of(number)));
  CHECK(nodes.size() == count);
  for (std::uint64_t number = 0; number < count; number += 2) nodes.forget(nodes.id_of(bound[number]), 1);
  CHECK(nodes.size() == count / 2);
  for (std::uint64_t number = 0; number < count; ++number) {
    const bool kept = number % 2 == 1;
    Node* const node = nodes.find(root_node, name_of(number));
    REQUIRE(node == (kept ? bound[number] : nullptr));
    if (node == nullptr) continue;
    nodes.unpin(node);
    NodeTable::Found third = found_of(number);
    third.identities.erase(third.identities.begin(), third.identities.begin() + 2);
    REQUIRE(nodes.bind(root_node, "other " + std::to_string(number), third) == node);
  }
  // What an inode number meant is another file's now.
  NodeTable::Found taken = found_of(1);
  taken.type = S_IFDIR;
  Node* const directory = nodes.bind(root_node, "directory", taken);
  CHECK(directory != bound[1]);
  nodes.forget(nodes.id_of(bound[1]), 2);  // does not take along what leads elsewhere by now
  CHECK(nodes.bind(root_node, "directory", taken) == directory);
}

TEST_CASE("a look at a directory is kept unless the directory was changed meanwhile") {
  NodeTable nodes;
  const ExportSet all = ExportSet::of(0) | ExportSet::of(1) | ExportSet::of(2);
  CHECK(nodes.look(root_node).changes == 0);
  nodes.directory_changed(root_node, ExportSet::of(1));
  DirectoryLook look = nodes.look(root_node);
  CHECK(look.changes == 1);
  CHECK(look.seen.empty());
  look.seen = all;
  SECTION("no change") {
    nodes.keep_look(root_node, look);
    CHECK(nodes.look(root_node).seen == all);
    CHECK(nodes.look(root_node).changed.empty());
    nodes.directory_changed(root_node, ExportSet::of(2));
    CHECK(nodes.look(root_node).changed == ExportSet::of(2));
    CHECK(nodes.look(root_node).seen == all);
  }
  SECTION("a change between the look and its being kept") {
    nodes.directory_changed(root_node, ExportSet::of(2));
    nodes.keep_look(root_node, look);
    CHECK(nodes.look(root_node).seen.empty());
    CHECK(nodes.look(root_node).changed == (ExportSet::of(1) | ExportSet::of(2)));
  }
}
