// SPDX-License-Identifier: Apache-2.0
// Shared by the scenario's source files only.
#pragma once

#include "scenario.hpp"

namespace rainfs::simulation {

using simulated::Condition;

class Scenario {
 public:
  explicit Scenario(const Settings& settings);
  ~Scenario();
  Outcome run();

 private:
  struct Doing;

  // scenario.cpp
  void make_array();
  Computer& boot(std::size_t place);
  void work(Computer& computer);
  void watch();  // boots killed computers again
  void calm();   // every fault is over
  void fail(std::string what);
  bool finished() const;
  void settle();
  bool intents_left() const;
  // Every replica there is has been blamed, which only repair can settle: EIO is right, whoever is reachable.
  bool only_blamed(const std::string& path) const;
  // A fact about the export, or of a directory above, says that what it has there is not to be believed.
  bool blamed(base::ExportIndex target, const std::string& path) const;
  // Some replica is blamed by another name of the same file, and so by this one.
  bool blamed_by_another_name(const std::string& path) const;
  // Exports of several racks have missed the renaming of a directory: what else it holds only repair can tell.
  bool behind_as_a_whole(const std::string& directory) const;

  // repair.cpp: the scrubber as one more actor, and what it must leave behind
  void scrub_now_and_then();
  Repairer& start_scrub(const scrub::Options& options);
  bool scrub_until_clean(scrub::Resolve resolve);
  void check_repaired();
  std::vector<base::ExportIndex> holders_of(const std::string& path) const;

  // weather.cpp: what fails when
  void weather();
  void one_fault();
  void disturb(simulated::Export& exp);
  void meddle(const std::string& path);  // with what a repairer is working on
  void break_promise(const std::string& name);

  // steps.cpp: what is done and what may come of it
  void step(Computer& computer);
  void read(Computer& computer, const std::string& path);
  void stat(Computer& computer, const std::string& path);
  void list(Computer& computer, const std::string& path);
  void write(Computer& computer, const std::string& path, Computer::How how);
  void race(Computer& computer, const std::string& path);
  int remove(Computer& computer, const std::string& path);
  void make_directory(Computer& computer, const std::string& path);
  void remove_directory(Computer& computer, const std::string& path);
  void rename(Computer& computer, const std::string& from, const std::string& to, unsigned flags);
  void rename_directory(Computer& computer, const std::string& from, const std::string& to);
  void watch_replaced(Computer& computer, const std::string& path);
  void move_by_link(Computer& computer, const std::string& from, const std::string& to);
  void change_attributes(Computer& computer, const std::string& path);
  bool taken_over(Doing& doing, int error);
  std::vector<Effect> moved(const std::string& from, const std::string& to, Task since, bool exchange) const;

  // ending.cpp: all exports are back
  void check_ending();
  void check_names(Computer& computer);
  void check_losses(Computer& computer);
  void check_moved(Computer& computer);
  void check_lost_disk();
  void check_mount_points();
  std::string seen_by(Computer& computer, const std::string& path, Task since, int& error);

  const Settings settings_;
  World world_;
  Exports exports_;
  Oracle oracle_;
  std::shared_ptr<const topology::Topology> topology_;
  unsigned replicas_ = 2;
  unsigned most_disturbed_racks_ = 1;
  bool kills_ = false;
  bool cut_renames_ = false;
  bool one_rack_only_ = false;  // R = K without a witness: only one and the same set of R-1 racks may fail
  std::vector<std::unique_ptr<Computer>> computers_;    // by place; the latest of each
  std::vector<std::unique_ptr<Computer>> left_behind_;  // killed
  std::vector<std::unique_ptr<Repairer>> repairers_;
  bool scrubs_ = false;
  std::vector<base::Duration> skews_;
  std::multiset<std::string> locked_;  // names being changed
  // Names that may lead to one file: a link whose outcome is unknown, and what was renamed since.
  std::set<std::string> linked_;
  std::vector<std::pair<std::string, std::string>> pairs_;  // names of one file, since when nothing was done to either
  unsigned clients_ = 0, steps_left_ = 0, boots_ = 0;
  unsigned working_ = 0, watching_ = 0;
  Version last_version_ = 0;
  bool weather_on_ = true;
  bool disk_lost_ = false;  // and a scrubber is at work on that, among users
  bool checked_ = false;
  Outcome outcome_;
};

extern const std::vector<std::string> files, directories;
std::vector<std::string> children_of(const std::string& directory);

}  // namespace rainfs::simulation
