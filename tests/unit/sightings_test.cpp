// SPDX-License-Identifier: Apache-2.0
// How exports remember one another: who is told to have been put back to an earlier moment, and who is not.
#include <catch2/catch.hpp>

#include "rainfs/nas/sightings.hpp"

using namespace rainfs;
using nas::Sightings;

namespace {

const std::vector<std::string> uuids{"0b8f8f1e-52c6-4a57-9a43-111111111111", "0b8f8f1e-52c6-4a57-9a43-222222222222",
                                     "0b8f8f1e-52c6-4a57-9a43-333333333333"};

topology::Topology three() {
  topology::Topology topology;
  for (const std::string& uuid : uuids) {
    topology::Export exp;
    exp.name = "nas" + uuid.substr(35);
    exp.uuid = uuid;
    topology.exports.push_back(exp);
  }
  return topology;
}

std::vector<io::DirectoryEntry> files(const std::vector<std::string>& names) {
  std::vector<io::DirectoryEntry> entries;
  for (const std::string& name : names) entries.push_back({name, 0, 0});
  return entries;
}

std::vector<io::DirectoryEntry> all_at(std::int64_t first, std::int64_t second, std::int64_t third) {
  return files({nas::name_of({uuids[0], first}), nas::name_of({uuids[1], second}), nas::name_of({uuids[2], third})});
}

}  // namespace

TEST_CASE("An export of which others tell more than it does itself was put back") {
  Sightings sightings;
  sightings.take(0, all_at(100, 100, 100), three());
  sightings.take(1, all_at(106, 106, 106), three());
  sightings.take(2, all_at(106, 106, 106), three());
  CHECK(sightings.put_back(0));
  CHECK_FALSE(sightings.put_back(1));
  CHECK_FALSE(sightings.put_back(2));
  CHECK(sightings.of_itself(0) == 100);
  CHECK(sightings.of_others(0) == 106);
}

TEST_CASE("An export that knows nothing of itself was put back, but not a new one") {
  Sightings sightings;
  sightings.take(0, {}, three());
  sightings.take(1, all_at(106, 106, 106), three());
  CHECK(sightings.put_back(0));
  Sightings fresh;
  fresh.take(0, {}, three());
  fresh.take(1, files({nas::name_of({uuids[1], 106})}), three());
  CHECK_FALSE(fresh.put_back(0));
  CHECK_FALSE(fresh.put_back(1));
}

TEST_CASE("What an export forgets in a crash does not make it old, nor having been away") {
  Sightings sightings;
  sightings.take(0, all_at(105, 104, 104), three());
  sightings.take(1, all_at(106, 106, 106), three());
  CHECK_FALSE(sightings.put_back(0));
  Sightings away;
  away.take(0, all_at(50, 50, 50), three());
  away.take(1, all_at(50, 900, 900), three());
  CHECK_FALSE(away.put_back(0));
}

TEST_CASE("A second look makes nobody look old") {
  Sightings sightings;
  sightings.take(0, {}, three());
  sightings.take(1, {}, three());
  sightings.take(2, files({nas::name_of({uuids[1], 106})}), three());
  REQUIRE(sightings.put_back(1));
  sightings.look_again(1, all_at(106, 106, 0),
                       three());  // all were seen by then, and the first was not looked at again
  CHECK_FALSE(sightings.put_back(1));
  CHECK_FALSE(sightings.put_back(0));
}

TEST_CASE("What is no sighting is not taken for one") {
  for (const char* name : {"", "-", "x", "nas1-", "-12x", "nas1-1x", "nas1--5", "nas1-0", "nas1-99999999999999999999"})
    CHECK((!nas::parse_sighting(name) || nas::parse_sighting(name)->uuid == "nas1-"));
  Sightings sightings;
  sightings.take(1, files({"lost+found", uuids[0], "another-array's-106"}), three());
  CHECK(sightings.of_others(0) == 0);
  CHECK_FALSE(sightings.put_back(0));
}

TEST_CASE("Of each export the newest two are kept") {
  const auto superfluous = nas::superfluous_sightings(
      files({nas::name_of({uuids[0], 9}), nas::name_of({uuids[0], 10}), nas::name_of({uuids[0], 11}),
             nas::name_of({uuids[1], 8}), nas::name_of({uuids[1], 7}), "notes"}));
  CHECK(superfluous == std::vector<std::string>{nas::name_of({uuids[0], 9})});
}
