// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <unistd.h>

#include "rainfs/base/ids.hpp"
#include "rainfs/base/result.hpp"
#include "rainfs/base/unique_fd.hpp"

using namespace rainfs::base;

TEST_CASE("an export's fault is told from the file's", "[base]") {
  for (const int code : {EIO, ESTALE, ENOTCONN, EHOSTDOWN, ETIMEDOUT, ENXIO}) {
    CHECK(classify(code) == ErrorClass::absent);
  }
  for (const int code : {ENOENT, EEXIST, EACCES, EPERM, ENOTEMPTY}) CHECK(classify(code) == ErrorClass::file);
  CHECK(classify(ENOSPC) == ErrorClass::no_space);
  CHECK(classify(EDQUOT) == ErrorClass::no_space);
  CHECK(classify(EMFILE) == ErrorClass::resource);
}

TEST_CASE("a result carries a value or an error, and errors explain themselves", "[base]") {
  const Result<int> good = 7;
  REQUIRE(good);
  CHECK(*good == 7);
  const Result<int> bad = unexpected(ENOENT, "open x");
  REQUIRE_FALSE(bad);
  CHECK(bad.error().message() == "open x: No such file or directory");
  CHECK(bad.value_or(3) == 3);
}

TEST_CASE("a set of exports is iterated in order of index", "[base]") {
  ExportSet set;
  set.insert(63);
  set.insert(0);
  set.insert(5);
  std::vector<int> seen;
  for (const ExportIndex index : set) seen.push_back(index);
  CHECK(seen == std::vector<int>{0, 5, 63});
  CHECK((set - ExportSet::of(5)).size() == 2);
  CHECK(ExportSet::first(64).size() == 64);
}

TEST_CASE("closing a descriptor reports errors and happens once", "[base]") {
  UniqueFd fd(::dup(2));
  const int number = fd.get();
  CHECK(fd.close());
  CHECK_FALSE(fd);
  UniqueFd again(number);
  CHECK_FALSE(again.close());
}

TEST_CASE("uuids are of version 4 and differ", "[base]") {
  const std::string a = make_uuid();
  CHECK(is_uuid(a));
  CHECK(a[14] == '4');
  CHECK(a != make_uuid());
  CHECK_FALSE(is_uuid("not-a-uuid"));
}
