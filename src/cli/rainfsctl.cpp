// SPDX-License-Identifier: Apache-2.0
#include "rainfs/cli/rainfsctl.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "command.hpp"

namespace rainfs::cli {

namespace {

namespace po = boost::program_options;

constexpr std::array commands{&add_command,    &create_command, &drain_command,     &log_level_command,
                              &rejoin_command, &reload_command, &replicas_command,  &report_command,
                              &retire_command, &status_command, &tolerance_command, &trash_command,
                              &update_command, &where_command};

void print_usage(std::ostream& out) {
  out << "usage: rainfsctl COMMAND [ARGUMENTS]\n\nCommands:\n";
  std::size_t width = 0;
  for (const Command* command : commands) {
    width = std::max(width, command->name.size() + 1 + command->arguments.size());
  }
  for (const Command* command : commands) {
    out << fmt::format("  {:<{}}  {}\n", fmt::format("{} {}", command->name, command->arguments), width,
                       command->summary);
  }
  out << "\n'rainfsctl COMMAND --help' tells more.\n"
         "Exit status: 0 done, 1 failed, 2 wrong usage.\n";
}

int dispatch(const std::vector<std::string>& arguments, std::ostream& out, std::ostream& err) {
  if (arguments.empty()) {
    err << "rainfsctl: no command given; 'rainfsctl --help' lists them\n";
    return exit_usage;
  }
  const std::string& name = arguments.front();
  if (name == "--help" || name == "-h" || name == "help") {
    print_usage(out);
    return exit_done;
  }
  if (name == "--version" || name == "-V") {
    out << "rainfsctl " << RAINFS_VERSION << '\n';
    return exit_done;
  }
  for (const Command* command : commands) {
    if (command->name == name) return command->run(*command, {arguments.begin() + 1, arguments.end()}, out, err);
  }
  err << fmt::format("rainfsctl: unknown {} '{}'; 'rainfsctl --help' lists what there is\n",
                     name.starts_with('-') ? "option" : "command", name);
  return exit_usage;
}

}  // namespace

void complain(const Command& command, std::string_view text, std::ostream& err) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    err << "rainfsctl " << command.name << ": " << text.substr(0, end) << '\n';
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

int Fail::operator()(const base::Error& error) const {
  complain(command, error.message(), err);
  return exit_failed;
}

std::vector<std::string> operands_of(const po::variables_map& values) {
  return values.count("operand") == 0 ? std::vector<std::string>{} : values["operand"].as<std::vector<std::string>>();
}

std::optional<po::variables_map> parse_arguments(const Command& command, const std::vector<std::string>& arguments,
                                                 po::options_description options, std::size_t least, std::size_t most,
                                                 std::ostream& out, std::ostream& err, int& status) {
  options.add_options()("help,h", "print this and exit");
  po::options_description all;
  all.add(options).add_options()("operand", po::value<std::vector<std::string>>());
  po::positional_options_description positional;
  positional.add("operand", -1);
  po::variables_map values;
  status = exit_usage;
  try {
    // Without guessing: an option added later must not change what a script's abbreviation means.
    const auto style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    po::store(po::command_line_parser(arguments).options(all).positional(positional).style(style).run(), values);
    po::notify(values);
  } catch (const po::error& e) {
    complain(command, fmt::format("{}; see 'rainfsctl {} --help'", e.what(), command.name), err);
    return std::nullopt;
  }
  if (values.count("help") != 0) {
    out << fmt::format("usage: rainfsctl {} {}\n\n{}\n\n", command.name, command.arguments, command.help) << options;
    status = exit_done;
    return std::nullopt;
  }
  const std::size_t given = operands_of(values).size();
  if (given < least || given > most) {
    complain(command,
             fmt::format("{} arguments; usage: rainfsctl {} {}", given < least ? "too few" : "too many", command.name,
                         command.arguments),
             err);
    return std::nullopt;
  }
  status = exit_done;
  return values;
}

int rainfsctl_main(int argc, char** argv, std::ostream& out, std::ostream& err) {
  try {
    const int status = dispatch({argv + (argc > 0 ? 1 : 0), argv + argc}, out, err);
    out.flush();
    if (out) return status;
    err << "rainfsctl: the output could not be written\n";
  } catch (const std::exception& e) {
    err << "rainfsctl: " << e.what() << '\n';
  }
  return exit_failed;
}

}  // namespace rainfs::cli
