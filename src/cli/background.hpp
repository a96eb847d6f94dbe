// SPDX-License-Identifier: Apache-2.0
// Going to the background the way mount(8) needs it: the command ends when the mount serves, with a message and a
// status if it cannot. To be used while the process has one thread.
#pragma once

#include <optional>
#include <string>

#include "rainfs/base/result.hpp"
#include "rainfs/base/unique_fd.hpp"

namespace rainfs::cli {

class Background {
 public:
  // Forks. In the parent it waits for the child's word and returns the exit status to end with; in the child it
  // returns a Background whose exit_status() is empty.
  static base::Result<Background> start(int failure_status);

  std::optional<int> exit_status() const { return exit_status_; }
  // In the child, once: the parent ends well; standard input and output lead nowhere from then on.
  void ready();
  // In the child, once: the parent prints the message and ends with its failure status.
  void failed(const std::string& message);

 private:
  std::optional<int> exit_status_;
  base::UniqueFd report_;
};

// Leads standard error, and so the log, to the journal where there is one, else to the end of `file`.
void redirect_log(const std::string& identifier, const std::string& file);

}  // namespace rainfs::cli
