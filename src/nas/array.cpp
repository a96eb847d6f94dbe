// SPDX-License-Identifier: Apache-2.0
#include "rainfs/nas/array.hpp"
#include "rainfs/base/paths.hpp"

#include "rainfs/log/log.hpp"

namespace rainfs::nas {

const Answer* Answers::of(ExportIndex index) const {
  for (const Answer& answer : list) {
    if (answer.index == index) return &answer;
  }
  return nullptr;
}
Answer* Answers::of(ExportIndex index) {
  return const_cast<Answer*>(static_cast<const Answers*>(this)->of(index));
}

ExportSet Answers::ok() const {
  return with_error(0);
}

ExportSet Answers::with_error(int error) const {
  ExportSet set;
  for (const Answer& answer : list) {
    if (answer.error == error) set.insert(answer.index);
  }
  return set;
}

ExportSet Answers::failed() const {
  ExportSet set;
  for (const Answer& answer : list) {
    if (answer.error != 0 && base::classify(answer.error) != base::ErrorClass::file) set.insert(answer.index);
  }
  return set;
}

ExportSet Answers::answered() const {
  ExportSet set;
  for (const Answer& answer : list) {
    if (answer.error == 0 || base::classify(answer.error) == base::ErrorClass::file) set.insert(answer.index);
  }
  return set;
}

Deadlines Array::deadlines() const {
  return {metadata_deadline_, data_deadline_, probe_deadline_};
}

void Array::set_deadlines(const Deadlines& deadlines) {
  metadata_deadline_ = deadlines.metadata;
  data_deadline_ = deadlines.data;
  probe_deadline_ = deadlines.probe;
}

ExportSet Array::online() const {
  ExportSet set;
  const auto topology = topology_.load();
  for (const ExportIndex index : topology->data_exports()) {
    if (exports_[index]->online()) set.insert(index);
  }
  return set;
}

ExportSet Array::holders_online() const {
  ExportSet set;
  const auto topology = topology_.load();
  for (const ExportIndex index : topology->fact_holders()) {
    if (exports_[index]->online()) set.insert(index);
  }
  return set;
}

ExportSet Array::writable(ExportSet among) const {
  ExportSet set;
  for (const ExportIndex index : among) {
    if (!exports_[index]->read_only()) set.insert(index);
  }
  return set;
}

// Writing back what a node has cached takes as long as there is, and says nothing until it is done: a busy NAS is told
// from a hung one by the probes that it answers meanwhile.
void Array::wait_for_syncs(io::Batch& batch, const Answers& answers, base::Duration deadline) {
  for (unsigned more = 0; more < most_sync_deadlines; ++more) {
    bool busy = false;
    for (const Answer& answer : answers) {
      if (!answer.operation || answer.operation->done()) continue;
      const io::Kind kind = answer.operation->kind;
      if (kind != io::Kind::fsync && kind != io::Kind::flush && kind != io::Kind::sync_file_system) continue;
      if (!exports_[answer.index]->online()) continue;
      busy = true;
      log::warning("slow-sync", "export {} has been writing back for more than {:.0f} s and answers otherwise: waiting",
                   exports_[answer.index]->name(), std::chrono::duration<double>((more + 1) * deadline).count());
    }
    if (!busy) return;
    batch.wait_again(clock_, deadline);
  }
}

Answers Array::fan_out(ExportSet targets, Make make, base::Duration deadline) {
  Answers answers;
  answers.list.reserve(targets.size());
  io::Batch batch;
  ExportSet by_root;
  for (const ExportIndex index : targets) {
    Answer answer{index, ENOTCONN, nullptr};
    io::HandlePtr root = exports_[index]->root();
    if (root) {
      answer.operation = make(index);
      if (!answer.operation->file) {
        answer.operation->file = std::move(root);
        by_root.insert(index);
      }
      batch.add(answer.operation);
    }
    answers.list.push_back(std::move(answer));
  }
  batch.run(clock_, deadline);
  wait_for_syncs(batch, answers, deadline);
  for (Answer& answer : answers.list) {
    if (!answer.operation) continue;
    Export& exp = *exports_[answer.index];
    if (!answer.operation->done()) {
      // Its outcome is unknown and stays so: nobody may look at it again.
      exp.count_missed(answer.operation->kind);
      answer.operation = nullptr;
      answer.error = ETIMEDOUT;
      exp.missed_deadline();
      continue;
    }
    answer.error = answer.operation->error;
    exp.count(*answer.operation);
    if (answer.error == 0) {
      exp.answered(answer.operation->taken);
    } else if (answer.operation->kind != io::Kind::set_xattr || answer.error != ENOSPC) {
      // (An extended attribute that finds no room says nothing of the export's.)
      exp.reported(answer.error, by_root.contains(answer.index));
    }
  }
  return answers;
}

void Array::note_blame(ExportSet targets) {
  const std::lock_guard lock(blame_mutex_);
  noted_since_poll_ |= targets;
  blamed_somewhere_.fetch_or(targets.bits());
  const std::int64_t now = clock_.now().time_since_epoch().count();
  for (const ExportIndex index : targets) {
    std::int64_t never = 0;
    blamed_since_ns_[index].compare_exchange_strong(never, now);
  }
}

base::TimePoint Array::known_everywhere(ExportSet targets) const {
  std::int64_t latest = 0;
  for (const ExportIndex index : targets) latest = std::max(latest, blamed_since_ns_[index].load());
  return base::TimePoint(base::Duration(latest)) + 2 * poll_interval + deadlines().probe;
}

bool is_private_path(std::string_view path) {
  return base::is_within(path, private_directory);
}

}  // namespace rainfs::nas
