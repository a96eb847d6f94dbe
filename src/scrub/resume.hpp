// SPDX-License-Identifier: Apache-2.0
// Where an interrupted pass had come to, so that the next run of the same kind goes on there. Of one walk; the
// walking thread calls it, and the pool's threads let go of what task() gave.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "walk.hpp"

namespace rainfs::scrub {

class Resume {
 public:
  // `pass` is part of the record's name. `prepare` is called before the record is written, with what has to be as
  // durable as the record, and its note is kept in it; without one nothing is recorded this time.
  using Prepare = std::function<std::optional<std::string>()>;
  Resume(Session& session, const std::string& pass, Prepare prepare = {});
  // Passes on walk()'s calls: false for a directory that was done with before.
  bool begin(const std::string& directory);
  // Writes down how far it is, now and then: by begin(), and where that waits for long.
  void note_progress();
  // Done with by the run that was interrupted.
  bool done_before(const Walked& walked) const;
  // Held while a name of the present directory is worked on.
  std::shared_ptr<void> task();
  bool resumed() const { return !cursor_.empty(); }
  // Where this walk goes on: the directories before it are done.
  const std::string& cursor() const { return cursor_; }
  const std::string& note() const { return note_; }  // of the run that was interrupted
  void keep();                                       // interrupted in order: the record stays
  void finish();                                     // all done

 private:
  struct Open {
    std::string directory;
    std::shared_ptr<int> users;
  };
  void save(const std::string& directory);
  std::string key() const;

  std::uint64_t unrepaired() const { return session_.counters.left + session_.counters.in_use; }

  Session& session_;
  const std::string file_;
  const Prepare prepare_;
  const std::uint64_t unrepaired_before_;  // by the passes before this one
  std::string note_;
  std::string cursor_;  // first directory that is not done; empty: begin at the beginning
  std::string current_;
  std::deque<Open> open_;  // begun and not finished, in order; bounded by the pool's queue
  base::TimePoint saved_;
};

// The order of the walk's directories: true if `a` comes before `b`.
bool walked_before(std::string_view a, std::string_view b);

}  // namespace rainfs::scrub
