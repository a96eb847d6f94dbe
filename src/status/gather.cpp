// SPDX-License-Identifier: Apache-2.0
#include "rainfs/status/gather.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <span>

#include "private_files.hpp"
#include "rainfs/ledger/ledger.hpp"

namespace rainfs::status {

namespace {

using base::ExportIndex;
using base::ExportSet;

constexpr std::size_t operations_at_once = 128;  // far below what an engine's queue takes
constexpr std::size_t largest_file_bytes = 256 * 1024;
constexpr int slow_factor = 10;
constexpr base::Duration never_slow = std::chrono::milliseconds(20);

io::OperationPtr make(io::Kind kind, std::string path) {
  auto operation = io::new_operation(kind, std::move(path));
  operation->length = largest_file_bytes;
  return operation;
}

// One question to one export among many.
struct Question {
  ExportIndex index = 0;
  std::string path;
  io::OperationPtr operation;  // done, or null
};

// Asks many small questions, some at a time, until `due`; those that got no answer have no operation then.
bool ask_all(nas::Array& array, io::Kind kind, std::span<Question> questions, base::TimePoint due) {
  for (std::size_t begin = 0; begin < questions.size(); begin += operations_at_once) {
    const base::TimePoint now = array.clock().now();
    if (now >= due) return false;
    const auto some = questions.subspan(begin, std::min(operations_at_once, questions.size() - begin));
    io::Batch batch;
    for (Question& question : some) {
      io::HandlePtr root = array.at(question.index).root();
      if (!root) continue;
      question.operation = make(kind, question.path);
      question.operation->file = std::move(root);
      batch.add(question.operation);
    }
    batch.run(array.clock(), due - now);
    for (Question& question : some) {
      if (question.operation && !question.operation->done()) question.operation = nullptr;
    }
  }
  return true;
}

bool answered(const Question& question) {
  return question.operation && question.operation->error == 0;
}

// Each directory of `from` and what lies in it, as the next level's questions.
std::vector<Question> descend(const std::vector<Question>& from) {
  std::vector<Question> next;
  for (const Question& question : from) {
    if (!answered(question)) continue;
    for (const io::DirectoryEntry& entry : question.operation->entries) {
      next.push_back({question.index, question.path + "/" + entry.name, nullptr});
    }
  }
  return next;
}

void look_at_examples(nas::Array& array, std::vector<Question> directories, base::TimePoint due, Facts& facts) {
  const auto topology = array.topology();
  ask_all(array, io::Kind::read_directory, directories, due);
  std::vector<Question> files;
  for (Question& question : descend(directories)) {
    if (files.size() < 2 * most_facts_read) files.push_back(std::move(question));
  }
  ask_all(array, io::Kind::read_file, files, due);
  std::map<std::pair<std::string, ExportIndex>, Facts::Example> oldest;
  for (const Question& question : files) {
    if (!answered(question)) continue;
    const auto fact = ledger::parse_fact(question.operation->text, *topology);
    if (!fact) continue;
    auto& example = oldest[{fact->path, fact->target}];
    if (example.time_s != 0 && example.time_s <= fact->time.tv_sec) continue;
    example = {fact->path, topology->exports[fact->target].name, std::string(ledger::name_of(fact->why)), fact->node,
               fact->time.tv_sec};
  }
  for (auto& [key, example] : oldest) facts.examples.push_back(std::move(example));
  std::sort(facts.examples.begin(), facts.examples.end(),
            [](const auto& a, const auto& b) { return a.time_s < b.time_s; });
  if (!facts.examples.empty()) facts.oldest_s = facts.examples.front().time_s;
  if (facts.examples.size() > most_examples) facts.examples.resize(most_examples);
}

// Counts the facts against each export: .rainfs/ledger/<export>/<xx>/<hash> on every holder, each path once.
void count_facts(nas::Array& array, base::TimePoint due, Report& report) {
  std::vector<Question> level;
  for (const ExportIndex holder : array.holders_online()) level.push_back({holder, ".rainfs/ledger", nullptr});
  for (int depth = 0; depth < 3; ++depth) {
    report.facts.complete &= ask_all(array, io::Kind::read_directory, level, due);
    if (depth < 2) level = descend(level);
  }
  std::map<std::string, std::uint64_t> per_export;
  std::set<std::string> seen;
  std::vector<Question> examples;
  for (const Question& question : level) {
    if (!answered(question)) continue;
    for (const io::DirectoryEntry& entry : question.operation->entries) {
      if (seen.size() >= most_facts) {
        report.facts.complete = false;
        break;
      }
      std::string path = question.path + "/" + entry.name;
      if (examples.size() < most_facts_read) examples.push_back({question.index, path, nullptr});
      if (!seen.insert(path).second) continue;
      const std::size_t begin = std::string_view(".rainfs/ledger/").size();
      ++per_export[path.substr(begin, path.find('/', begin) - begin)];
    }
  }
  report.facts.count = seen.size();
  std::set<std::string_view> hashes;  // the path's, the same on all exports
  for (const std::string& path : seen) hashes.insert(std::string_view(path).substr(path.rfind('/') + 1));
  report.facts.paths = hashes.size();
  for (Export& exp : report.exports) exp.facts = per_export[exp.name];
  look_at_examples(array, std::move(examples), due, report.facts);
}

// The newest of each node's files, and what they say about absent exports.
void find_mounts(nas::Array& array, base::TimePoint due, Report& report) {
  std::vector<Question> listings;
  for (const ExportIndex holder : array.holders_online()) listings.push_back({holder, nodes_directory, nullptr});
  ask_all(array, io::Kind::read_directory, listings, due);
  std::vector<Question> files;
  for (Question& question : descend(listings)) {
    if (question.path[question.path.rfind('/') + 1] == '.') continue;  // being made
    if (files.size() == most_nodes) {
      report.mounts_complete = false;
      break;
    }
    files.push_back(std::move(question));
  }
  report.mounts_complete &= ask_all(array, io::Kind::read_file, files, due);
  std::map<std::string, NodeMark> newest;
  for (const Question& question : files) {
    if (!answered(question)) continue;
    auto mark = parse_mark(question.operation->text);
    if (!mark) continue;
    mark->mount.seen_s = question.operation->stat.stx_mtime.tv_sec;
    NodeMark& kept = newest[question.path];
    if (mark->mount.seen_s > kept.mount.seen_s) kept = std::move(*mark);
  }
  const std::int64_t alive_s = std::chrono::duration_cast<std::chrono::seconds>(alive_within).count();
  for (auto& [path, mark] : newest) {
    mark.mount.alive = report.time_s - mark.mount.seen_s <= alive_s;
    report.mounts.push_back(mark.mount);
    if (!mark.mount.alive) continue;
    for (Export& exp : report.exports) {
      const auto since = mark.absent_since_s.find(exp.name);
      if (exp.online || since == mark.absent_since_s.end() || since->second == 0) continue;
      if (exp.absent_since_s == 0 || since->second < exp.absent_since_s) exp.absent_since_s = since->second;
    }
  }
}

void find_scrub(nas::Array& array, base::TimePoint due, Report& report) {
  report.scrub.running = array.scrub_announced();
  std::vector<Question> files;
  for (const ExportIndex holder : array.holders_online()) {
    files.push_back({holder, ".rainfs/scrub/last.json", nullptr});
    files.push_back({holder, ".rainfs/scrub/progress.json", nullptr});
    files.push_back({holder, ".rainfs/scrub/history", nullptr});
  }
  ask_all(array, io::Kind::read_file, files, due);
  std::int64_t newest_progress = 0;
  for (const Question& question : files) {
    if (!answered(question)) continue;
    const std::string& text = question.operation->text;
    if (question.path.ends_with("last.json")) {
      auto found = parse_scrub(text);
      if (!found || found->finished_s <= report.scrub.finished_s) continue;
      found->running = report.scrub.running;
      found->progress = std::move(report.scrub.progress);
      report.scrub = std::move(*found);
    } else if (question.path.ends_with("history")) {
      auto found = parse_scrubs(text);
      if (!found.empty() && (report.scrubs.empty() || found.front().finished_s > report.scrubs.front().finished_s)) {
        report.scrubs = std::move(found);
      }
    } else if (report.scrub.running && question.operation->stat.stx_mtime.tv_sec > newest_progress) {
      newest_progress = question.operation->stat.stx_mtime.tv_sec;
      report.scrub.progress = parse_progress(text);
    }
  }
}

std::string state_name(topology::State state) {
  switch (state) {
    case topology::State::active:
      return "active";
    case topology::State::draining:
      return "draining";
    case topology::State::retired:
      return "retired";
  }
  return "?";
}

void describe_exports(nas::Array& array, const topology::Topology& topology, Report& report) {
  base::Duration fastest = base::Duration::max();
  for (const ExportIndex index : array.online()) {
    const base::Duration latency = array.at(index).latency();
    if (latency.count() > 0) fastest = std::min(fastest, latency);
  }
  const auto describe = [&](std::size_t i) {
    const topology::Export& info = topology.exports[i];
    const nas::Export& exp = array.at(static_cast<ExportIndex>(i));
    const nas::Space space = exp.space();
    Export out;
    out.name = info.name;
    out.rack = info.witness ? "" : topology.racks[info.rack].name;
    out.path = exp.local_path();
    out.state = state_name(info.state);
    out.raid = info.raid;
    out.witness = info.witness;
    out.online = exp.online();
    out.read_only = out.online && exp.read_only();
    out.full = out.online && exp.full();
    out.rebuild_pending = info.rebuild_pending;
    out.absent_reason = exp.absent_reason();
    out.total_bytes = space.total_bytes;
    out.available_bytes = space.available_bytes;
    out.latency_ns = static_cast<std::uint64_t>(exp.latency().count());
    out.slow = out.online && exp.latency() > never_slow && fastest != base::Duration::max() &&
               exp.latency() > fastest * slow_factor;
    if (!out.online && exp.was_online()) out.absent_since_s = exp.absent_since().tv_sec;
    report.exports.push_back(std::move(out));
  };
  for (std::size_t rack = 0; rack < topology.racks.size(); ++rack) {
    for (std::size_t i = 0; i < topology.exports.size(); ++i) {
      if (!topology.exports[i].witness && topology.exports[i].rack == rack) describe(i);
    }
  }
  for (std::size_t i = 0; i < topology.exports.size(); ++i) {
    if (topology.exports[i].witness) describe(i);
  }
}

void describe_capacity(nas::Array& array, const topology::Topology& topology, Report& report) {
  std::map<unsigned, std::uint64_t> total, available;
  for (const ExportIndex index : topology.data_exports()) {
    const nas::Space space = array.at(index).space();
    const unsigned rack = topology.exports[index].rack;
    report.raw_bytes += space.total_bytes;
    total[rack] += space.total_bytes;
    available[rack] += array.at(index).online() ? space.available_bytes : 0;
  }
  const auto usable = [&](const std::map<unsigned, std::uint64_t>& racks) {
    std::vector<std::uint64_t> sizes;
    for (const auto& [rack, bytes] : racks) sizes.push_back(bytes);
    return topology::usable_bytes(std::move(sizes), topology.defaults.replicas);
  };
  report.usable_bytes = usable(total);
  report.usable_available_bytes = usable(available);
}

}  // namespace

Report gather(nas::Array& array, Marks marks) {
  const auto topology = array.topology();
  const base::TimePoint due = array.clock().now() + array.deadlines().metadata;
  Report report;
  report.array = topology->array_name;
  report.uuid = topology->array_uuid;
  report.topology_version = topology->version;
  report.time_s = array.clock().realtime().tv_sec;
  report.replicas = topology->defaults.replicas;
  report.min_replicas = topology->defaults.min_replicas;
  report.strict = topology->defaults.quorum == topology::Quorum::strict;
  report.racks = topology->rack_count();
  report.racks_to_deny = topology->racks_to_deny(topology->defaults);
  report.replicas_missing = topology->replicas_missing();
  for (const topology::Policy& policy : topology->policies) {
    report.policies.push_back({policy.path, policy.rules.replicas});
  }
  std::set<unsigned> racks;
  for (const ExportIndex index : topology->data_exports()) racks.insert(topology->exports[index].rack);
  for (const unsigned rack : racks) report.rack_names.push_back(topology->racks[rack].name);
  // Asked for its time of answering: an array that was opened a moment ago knows none.
  array.metadata(array.holders_online(), [](ExportIndex) { return make(io::Kind::stat, ".rainfs"); });
  describe_exports(array, *topology, report);
  describe_capacity(array, *topology, report);
  count_facts(array, due, report);
  if (marks == Marks::looked_at) find_mounts(array, due, report);
  find_scrub(array, due, report);
  // Last: what was asked may have shown that another export is gone.
  report.racks_complete = topology->complete_racks(array.online());
  const topology::Tolerance whole = topology->tolerance(topology->defaults);
  report.tolerance.racks_whole = whole.racks;
  report.tolerance.disks_whole = whole.disks;
  const unsigned missing = report.racks - report.racks_complete;
  if (missing < report.replicas) {
    topology::Rules left = topology->defaults;
    left.replicas -= missing;
    const topology::Tolerance now = topology->tolerance(left);
    report.tolerance.racks_now = now.racks;
    report.tolerance.disks_now = now.disks;
  }
  judge(report);
  return report;
}

}  // namespace rainfs::status
