// SPDX-License-Identifier: Apache-2.0
// The rules by which a flaky NAS misbehaves, and the socket over which tests give them.
//
// Any thread may ask; hanging operations wait here until they are released. Rules are told in lines:
//
//   add OPERATIONS PATTERN ACTION [ARGUMENT] [after=N] [count=N]    -> ok ID
//   remove ID | release | list | stats | hung                      -> ok ...
//
// OPERATIONS is a comma-separated list of globs over the names of the FUSE operations (read, write, getattr,
// ...); PATTERN a glob over the path, beginning with "/", in which * matches slashes too. The first rule that
// matches and is not used up acts; it lets the first `after` matches pass and acts `count` times (default:
// always).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace flaky {

enum class Action {
  none,
  hang,        // waits until released, then does it
  delay,       // milliseconds, then does it
  fail,        // does nothing, fails with an errno
  late_error,  // does it, then says that it failed
  short_io,    // moves at most that many bytes and says so
  torn,        // writes at most that many bytes and claims all
  drop,        // writes nothing and claims all
  corrupt,     // flips a byte of what is read or written
  die,         // the server's process ends
};

struct Decision {
  Action action = Action::none;
  std::int64_t argument = 0;  // milliseconds, errno or bytes
};

class Rules {
 public:
  // What to do with this operation. Counts it; waits here where a rule says hang or delay.
  Decision decide(const char* operation, const std::string& path, const std::string& other_path = "");
  // Carries out one line of the protocol and gives the answer.
  std::string command(const std::string& line);
  // Serves the protocol on a Unix socket at `path`, in a thread of its own. False: errno says why.
  bool serve(const std::string& path);

 private:
  struct Rule {
    std::uint64_t id = 0;
    std::string operations;
    std::string pattern;
    Action action = Action::none;
    std::string action_name;
    std::int64_t argument = 0;
    std::int64_t after = 0;
    std::int64_t count = -1;  // negative: without end
    std::uint64_t hits = 0;
  };

  bool alive(std::uint64_t id) const;
  std::string add(const std::vector<std::string>& words);
  std::string list() const;
  void answer(int client);

  std::mutex mutex_;
  std::condition_variable released_;
  std::list<Rule> rules_;                        // guarded by mutex_
  std::map<std::string, std::uint64_t> counts_;  // operations seen; guarded by mutex_
  std::uint64_t next_id_ = 1;                    // guarded by mutex_
  std::uint64_t hung_ = 0;                       // operations waiting; guarded by mutex_
};

}  // namespace flaky
