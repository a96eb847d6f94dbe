// SPDX-License-Identifier: Apache-2.0
// What a subcommand of rainfsctl is: one file with one Command in it, listed in rainfsctl.cpp.
#pragma once

#include <boost/program_options.hpp>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "rainfs/base/result.hpp"

namespace rainfs::cli {

inline constexpr int exit_done = 0;
inline constexpr int exit_failed = 1;
inline constexpr int exit_usage = 2;

struct Command {
  std::string_view name;
  std::string_view arguments;  // as in "rainfsctl NAME ARGUMENTS"
  std::string_view summary;    // one line
  std::string_view help;       // paragraphs for --help
  int (*run)(const Command& self, const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err);
};

extern const Command add_command;
extern const Command create_command;
extern const Command drain_command;
extern const Command replicas_command;
extern const Command rejoin_command;
extern const Command retire_command;
extern const Command trash_command;
extern const Command update_command;
extern const Command where_command;
extern const Command status_command;
extern const Command tolerance_command;
extern const Command log_level_command;
extern const Command reload_command;
extern const Command report_command;

// The arguments of a command, parsed by `options` with at least `least` and at most `most` positional ones,
// which are "operand" in the result. Answers --help and wrong usage itself: then there is no value, and
// `status` is what to exit with.
std::optional<boost::program_options::variables_map> parse_arguments(
    const Command& command, const std::vector<std::string>& arguments,
    boost::program_options::options_description options, std::size_t least, std::size_t most, std::ostream& out,
    std::ostream& err, int& status);

std::vector<std::string> operands_of(const boost::program_options::variables_map& values);

// Lines of an error's text, each after "rainfsctl NAME: ".
void complain(const Command& command, std::string_view text, std::ostream& err);
// The same of an error; gives what to exit with.
struct Fail {
  const Command& command;
  std::ostream& err;
  int operator()(const base::Error& error) const;
};

}  // namespace rainfs::cli
