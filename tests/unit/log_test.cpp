// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "rainfs/base/unique_fd.hpp"
#include "rainfs/log/log.hpp"

using namespace rainfs;

namespace {

// What is written to standard error while it exists.
class Capture {
 public:
  Capture() : file_(std::tmpfile()), before_(::dup(STDERR_FILENO)) { ::dup2(::fileno(file_), STDERR_FILENO); }
  ~Capture() {
    end();
    std::fclose(file_);
  }
  std::vector<std::string> lines() {
    end();
    std::rewind(file_);
    std::vector<std::string> out(1);
    for (int c = 0; (c = std::fgetc(file_)) != EOF;) {
      if (c == '\n') {
        out.emplace_back();
      } else {
        out.back() += static_cast<char>(c);
      }
    }
    out.pop_back();
    return out;
  }

 private:
  void end() {
    if (before_) ::dup2(before_.get(), STDERR_FILENO);
    before_.reset();
  }
  std::FILE* file_;
  base::UniqueFd before_;
};

}  // namespace

TEST_CASE("an event that comes again and again is written some times, and how often it was left out", "[log]") {
  log::set_level(log::Level::info);
  Capture capture;
  for (int i = 0; i < 5000; ++i) log::info("flood", "line {}", i);
  log::info("other", "is not held up by it");
  log::set_line_interval(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  log::info("flood", "later");
  log::set_line_interval(std::chrono::seconds(10));
  const auto lines = capture.lines();
  // The burst, one more for every ten seconds that the machine needed for the loop, and the two after it.
  REQUIRE(lines.size() >= 66);
  CHECK(lines.size() < 100);
  CHECK(lines[lines.size() - 2].find("other: is not held up") != std::string::npos);
  CHECK(lines.back().find("flood: later (and 4") != std::string::npos);
}

TEST_CASE("one event is one line, with its level", "[log]") {
  log::set_level(log::Level::info);
  Capture capture;
  log::warning("names", "a file called {}", "x\ny\rz");
  log::use_journal_prefixes(true);
  log::error("prefix", "for the journal");
  log::use_journal_prefixes(false);
  const auto lines = capture.lines();
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].ends_with("rainfs warning: names: a file called x y z"));
  CHECK(lines[1] == "<3>prefix: for the journal");
}

TEST_CASE("what is below the level is not written, and the level changes at once", "[log]") {
  Capture capture;
  log::set_level(log::Level::error);
  log::warning("below", "no");
  log::set_level(log::Level::debug);
  log::debug("above", "yes");
  log::set_level(log::Level::info);
  const auto lines = capture.lines();
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].ends_with("above: yes"));
}
