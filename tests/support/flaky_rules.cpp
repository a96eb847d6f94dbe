// SPDX-License-Identifier: Apache-2.0
#include "flaky_rules.hpp"

#include <fnmatch.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <thread>

namespace flaky {
namespace {

const std::map<std::string, Action> actions = {
    {"hang", Action::hang},       {"delay", Action::delay},     {"errno", Action::fail},
    {"late", Action::late_error}, {"short", Action::short_io},  {"torn", Action::torn},
    {"drop", Action::drop},       {"corrupt", Action::corrupt}, {"die", Action::die}};

const std::map<std::string, int> errnos = {{"EIO", EIO},
                                           {"ESTALE", ESTALE},
                                           {"ENOTCONN", ENOTCONN},
                                           {"EHOSTDOWN", EHOSTDOWN},
                                           {"ETIMEDOUT", ETIMEDOUT},
                                           {"ENXIO", ENXIO},
                                           {"ENOSPC", ENOSPC},
                                           {"EDQUOT", EDQUOT},
                                           {"EROFS", EROFS},
                                           {"EACCES", EACCES},
                                           {"EPERM", EPERM},
                                           {"ENOENT", ENOENT},
                                           {"EEXIST", EEXIST},
                                           {"EINTR", EINTR},
                                           {"EAGAIN", EAGAIN},
                                           {"EMFILE", EMFILE},
                                           {"ENFILE", ENFILE},
                                           {"ENOMEM", ENOMEM},
                                           {"EFBIG", EFBIG},
                                           {"EOPNOTSUPP", EOPNOTSUPP},
                                           {"ENOSYS", ENOSYS},
                                           {"EINVAL", EINVAL},
                                           {"ENOTEMPTY", ENOTEMPTY},
                                           {"EHOSTUNREACH", EHOSTUNREACH},
                                           {"ECONNRESET", ECONNRESET},
                                           {"ENODEV", ENODEV},
                                           {"EREMOTEIO", EREMOTEIO}};

bool matches_any(const std::string& globs, const char* name) {
  std::istringstream parts(globs);
  for (std::string glob; std::getline(parts, glob, ',');) {
    if (::fnmatch(glob.c_str(), name, 0) == 0) return true;
  }
  return false;
}

bool to_number(const std::string& text, std::int64_t& value) {
  if (text.empty() || text.find_first_not_of("0123456789") != std::string::npos) return false;
  value = std::strtoll(text.c_str(), nullptr, 10);
  return true;
}

}  // namespace

bool Rules::alive(std::uint64_t id) const {
  return std::any_of(rules_.begin(), rules_.end(), [id](const Rule& rule) { return rule.id == id; });
}

Decision Rules::decide(const char* operation, const std::string& path, const std::string& other_path) {
  std::unique_lock lock(mutex_);
  ++counts_[operation];
  for (Rule& rule : rules_) {
    const bool path_matches = ::fnmatch(rule.pattern.c_str(), path.c_str(), 0) == 0 ||
                              (!other_path.empty() && ::fnmatch(rule.pattern.c_str(), other_path.c_str(), 0) == 0);
    if (!path_matches || !matches_any(rule.operations, operation) || rule.count == 0) continue;
    if (rule.after > 0) {
      --rule.after;
      continue;
    }
    if (rule.count > 0) --rule.count;
    ++rule.hits;
    const Decision decision{rule.action, rule.argument};
    if (decision.action == Action::hang) {
      const std::uint64_t id = rule.id;
      ++hung_;
      released_.wait(lock, [&] { return !alive(id); });
      --hung_;
      return {};
    }
    lock.unlock();
    if (decision.action == Action::die) std::_Exit(3);
    if (decision.action == Action::delay) {
      std::this_thread::sleep_for(std::chrono::milliseconds(decision.argument));
      return {};
    }
    return decision;
  }
  return {};
}

std::string Rules::add(const std::vector<std::string>& words) {
  if (words.size() < 4) return "error: add OPERATIONS PATTERN ACTION [ARGUMENT] [after=N] [count=N]";
  Rule rule;
  rule.operations = words[1];
  rule.pattern = words[2];
  rule.action_name = words[3];
  const auto action = actions.find(words[3]);
  if (action == actions.end()) return "error: no such action: " + words[3];
  rule.action = action->second;
  bool has_argument = false;
  for (std::size_t i = 4; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.rfind("after=", 0) == 0) {
      if (!to_number(word.substr(6), rule.after)) return "error: not a number: " + word;
    } else if (word.rfind("count=", 0) == 0) {
      if (!to_number(word.substr(6), rule.count)) return "error: not a number: " + word;
    } else if (const auto number = errnos.find(word); number != errnos.end()) {
      rule.argument = number->second;
      has_argument = true;
    } else if (to_number(word, rule.argument)) {
      has_argument = true;
    } else {
      return "error: what is " + word;
    }
  }
  const bool wants_argument = rule.action == Action::delay || rule.action == Action::fail ||
                              rule.action == Action::late_error || rule.action == Action::short_io ||
                              rule.action == Action::torn;
  if (wants_argument != has_argument)
    return "error: " + words[3] + (wants_argument ? " needs" : " takes no") + " argument";
  const std::lock_guard lock(mutex_);
  rule.id = next_id_++;
  rules_.push_back(rule);
  return "ok " + std::to_string(rule.id);
}

std::string Rules::list() const {
  std::string text = "ok";
  for (const Rule& rule : rules_) {
    text += "\n" + std::to_string(rule.id) + " " + rule.operations + " " + rule.pattern + " " + rule.action_name +
            " hits=" + std::to_string(rule.hits);
  }
  return text;
}

std::string Rules::command(const std::string& line) {
  std::istringstream input(line);
  std::vector<std::string> words;
  for (std::string word; input >> word;) words.push_back(word);
  if (words.empty()) return "error: empty command";
  if (words[0] == "add") return add(words);
  const std::lock_guard lock(mutex_);
  if (words[0] == "list") return list();
  if (words[0] == "hung") return "ok " + std::to_string(hung_);
  if (words[0] == "stats") {
    std::string text = "ok";
    for (const auto& [operation, count] : counts_) text += "\n" + operation + " " + std::to_string(count);
    return text;
  }
  if (words[0] == "release") {
    rules_.clear();
    released_.notify_all();
    return "ok";
  }
  std::int64_t id = 0;
  if (words[0] == "remove" && words.size() == 2 && to_number(words[1], id)) {
    const auto removed = rules_.remove_if([id](const Rule& rule) { return rule.id == static_cast<std::uint64_t>(id); });
    released_.notify_all();
    return removed > 0 ? "ok" : "error: no such rule";
  }
  return "error: no such command: " + words[0];
}

void Rules::answer(int client) {
  std::string line;
  for (char byte = 0; line.size() < 8192 && ::read(client, &byte, 1) == 1 && byte != '\n';) line += byte;
  const std::string reply = command(line) + "\n";
  for (std::size_t at = 0; at < reply.size();) {
    const ssize_t count = ::send(client, reply.data() + at, reply.size() - at, MSG_NOSIGNAL);
    if (count <= 0) break;
    at += static_cast<std::size_t>(count);
  }
  ::close(client);
}

bool Rules::serve(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return false;
  }
  std::memcpy(address.sun_path, path.c_str(), path.size());
  ::unlink(path.c_str());
  const int server = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (server < 0 || ::bind(server, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(server, 16) != 0) {
    return false;
  }
  std::thread([this, server] {
    while (true) {
      const int client = ::accept4(server, nullptr, nullptr, SOCK_CLOEXEC);
      if (client >= 0) answer(client);
    }
  }).detach();
  return true;
}

}  // namespace flaky
