// SPDX-License-Identifier: Apache-2.0
#include "rainfs/tree/node_table.hpp"

#include <catch2/catch.hpp>

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
