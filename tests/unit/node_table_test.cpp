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
