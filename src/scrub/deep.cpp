// SPDX-License-Identifier: Apache-2.0
#include "deep.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "copy.hpp"
#include "rainfs/base/paths.hpp"
#include "walk.hpp"

namespace rainfs::scrub {

namespace {

constexpr std::size_t most_on_their_way = 4096;
constexpr std::uint64_t large_bytes = 16 << 20;
constexpr base::Duration pause = std::chrono::milliseconds(1);

bool beneath_any(const std::string& path, const std::vector<std::string>& tops) {
  return std::any_of(tops.begin(), tops.end(),
                     [&](const std::string& top) { return top.empty() || base::is_within(path, top); });
}

}  // namespace

// The replicas of one file, and what reading them gave.
struct Deep::Reading {
  replica::Location found;
  std::map<ExportIndex, Sum> sums;
  ExportSet unreadable;
};

CatalogueEntry Deep::describe(const std::string& path, const Sum& sum, const Reading& reading, ExportIndex index) {
  const replica::Stamp& stamp = reading.found.evidence.stamps[index];
  CatalogueEntry entry{path, sum, stamp.size, stamp.mtime_ns, stamp.mode, stamp.uid, stamp.gid, 0};
  const auto digest = replica::xattr_digest(session_.context, {index, path, nullptr});
  if (digest) entry.xattrs = *digest;
  return entry;
}

// EAGAIN: it changed meanwhile.
base::Result<Sum> Deep::read_one(const File& file, const Reading& reading, ExportIndex index) {
  auto open = open_replica(session_, index, file.path);
  if (!open && open.error().code == ENOENT) return base::unexpected(EAGAIN);
  if (!open) return base::Unexpected{open.error()};
  if (!same_state(open->stat, *reading.found.stat_of(index))) return base::unexpected(EAGAIN);
  auto sum = sum_of(session_, *open);
  if (!sum) return sum;
  const replica::Done after = perform_on(session_.array, index, new_operation(Kind::stat, file.path));
  if (!after.ok() || !same_state(after.operation->stat, open->stat)) return base::unexpected(EAGAIN);
  return sum;
}

// False if there is nothing to compare: it is no file, was not in order, or changed meanwhile.
bool Deep::read(File& file, Reading& reading) {
  auto found = healer_.look(file.path, {});
  if (!found || found->verdict.finding != replica::Finding::present || !S_ISREG(found->elected().stx_mode))
    return false;
  reading.found = std::move(*found);
  // Large files' replicas at the same time: each export reads ahead by itself.
  std::vector<ExportIndex> good;
  for (const ExportIndex index : reading.found.verdict.good) good.push_back(index);
  std::vector<base::Result<Sum>> sums(good.size(), base::unexpected(ECANCELED));
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < good.size(); ++i) {
    const auto one = [&, i] { sums[i] = read_one(file, reading, good[i]); };
    if (i + 1 < good.size() && reading.found.elected().stx_size >= large_bytes) {
      threads.emplace_back([one] {
        io::prepare_thread();
        one();
      });
    } else {
      one();
    }
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < good.size(); ++i) {
    if (sums[i]) {
      reading.sums[good[i]] = *sums[i];
    } else if (sums[i].error().code == EAGAIN || sums[i].error().code == EINTR ||
               !session_.array.at(good[i]).online()) {
      return false;
    } else {
      reading.unreadable.insert(good[i]);
    }
  }
  return !reading.sums.empty() || !reading.unreadable.empty();
}

bool Deep::has(const Reading& reading, const Sum& sum) {
  return std::any_of(reading.sums.begin(), reading.sums.end(), [&](const auto& pair) { return pair.second == sum; });
}

// What the catalogue says of this very version; of several sums rather one that a replica has.
const CatalogueEntry* Deep::recorded_for(const File& file, const Reading& reading) const {
  const replica::Stamp& stamp = reading.found.evidence.stamps[reading.found.verdict.elected];
  const CatalogueEntry* recorded = nullptr;
  for (const auto& [index, entry] : file.before) {
    if (entry.size != stamp.size || entry.mtime_ns != stamp.mtime_ns) continue;
    if (recorded == nullptr || has(reading, entry.sum)) recorded = &entry;
  }
  return recorded;
}

// No replica has the contents that were recorded for this size and time: the only replica was damaged, or all were. Or
// somebody changed it and put the time back, which only the administrator can know.
bool Deep::accept_unrecorded(File& file, const Reading& reading) {
  ExportSet read;
  for (const auto& [index, sum] : reading.sums) read.insert(index);
  session_.found(Finding::damaged, file.path,
                 "no replica has the contents that were recorded for this size and time, that on " +
                     session_.names_of(read) + " neither");
  if (session_.options.resolve == Resolve::newest && !session_.options.dry_run) return true;
  file.now = file.before;  // what it should be stays known
  if (session_.options.resolve != Resolve::keep) {
    session_.found(Finding::left, file.path,
                   "kept as it is: restore it from a backup, or take it for good with --resolve newest");
  }
  return false;
}

std::optional<Sum> Deep::judge(const File& file, const Reading& reading, std::string& how) const {
  std::map<std::pair<std::uint64_t, std::uint64_t>, unsigned> votes;
  for (const auto& [index, sum] : reading.sums) ++votes[{sum.high, sum.low}];
  if (votes.size() == 1) {
    how = "it cannot be read";
    return reading.sums.begin()->second;
  }
  if (const CatalogueEntry* recorded = recorded_for(file, reading);
      recorded != nullptr && has(reading, recorded->sum)) {
    how = "its checksum is not the recorded one";
    return recorded->sum;
  }
  for (const auto& [sum, count] : votes) {
    if (count * 2 <= reading.sums.size()) continue;
    how = "the others agree with each other";
    return Sum{sum.first, sum.second};
  }
  return std::nullopt;
}

void Deep::repair(File& file, const Reading& reading, const Sum& right, const std::string& how) {
  std::vector<ExportIndex> sources;
  for (const auto& [index, sum] : reading.sums) {
    if (sum == right) sources.push_back(index);
  }
  for (const ExportIndex index : reading.found.verdict.good) {
    const auto read = reading.sums.find(index);
    if (read != reading.sums.end() && read->second == right) continue;
    session_.found(Finding::damaged, file.path, "on export " + session_.name_of(index) + ": " + how);
    if (session_.options.dry_run) {
      session_.found(Finding::repaired, file.path, "would be: replica on " + session_.name_of(index));
      continue;
    }
    Placement placement;
    placement.path = file.path;
    placement.target = index;
    placement.replaces = reading.found.stat_of(index)->stx_ino;
    base::Result<void> placed = base::unexpected(EIO, "no good replica");
    for (const ExportIndex source : sources) {
      placement.source = source;
      placement.source_stat = *reading.found.stat_of(source);
      placed = place(session_, placement);
      if (placed || placed.error().code == EAGAIN) break;
    }
    if (!placed) {
      session_.found(Finding::left, file.path,
                     "damaged on export " + session_.name_of(index) + ": " + placed.error().message());
      continue;
    }
    session_.found(Finding::repaired, file.path, "damaged replica on " + session_.name_of(index) + " replaced");
    if (reading.found.stat_of(index)->stx_nlink > 1) {
      links_.needs_repair(file.path);
      links_broken_ = true;
    }
    file.now.emplace_back(index, describe(file.path, right, reading, placement.source));
  }
}

// Nothing says which is right: the administrator may have.
bool Deep::resolve(File& file, const Reading& reading) {
  ExportSet differing;
  for (const auto& [index, sum] : reading.sums) differing.insert(index);
  const std::string where = session_.names_of(differing);
  if (session_.options.resolve != Resolve::newest || session_.options.dry_run) {
    session_.found(Finding::conflict, file.path,
                   "contents differ between " + where + ", and nothing says which are right: all kept");
    if (session_.options.resolve != Resolve::keep) {
      session_.found(Finding::left, file.path, "--resolve newest would take the one that was changed last");
    }
    return false;
  }
  ExportIndex newest = *differing.begin();
  const auto changed = [&](ExportIndex index) {
    const struct statx_timestamp& time = reading.found.stat_of(index)->stx_ctime;
    return std::pair(time.tv_sec, time.tv_nsec);
  };
  for (const ExportIndex index : differing) {
    if (changed(index) > changed(newest)) newest = index;
  }
  bool all = true;
  for (const ExportIndex index : differing) {
    if (index == newest || reading.sums.at(index) == reading.sums.at(newest)) continue;
    Placement placement;
    placement.path = file.path;
    placement.source = newest;
    placement.source_stat = *reading.found.stat_of(newest);
    placement.target = index;
    placement.replaces = reading.found.stat_of(index)->stx_ino;
    placement.aside = replica::Aside::conflicts;
    const auto placed = place(session_, placement);
    all = all && placed;
    if (!placed) {
      session_.found(Finding::left, file.path, placed.error().message());
      continue;
    }
    session_.found(Finding::conflict, file.path,
                   "that on " + session_.name_of(newest) + " was taken, that on " + session_.name_of(index) +
                       " is in .rainfs/conflicts there");
    session_.found(Finding::repaired, file.path, "replica on " + session_.name_of(index));
  }
  return all;
}

void Deep::check(File& file) {
  Reading reading;
  if (!read(file, reading)) return;
  const auto entry = [&](ExportIndex index, const Sum& sum) { return describe(file.path, sum, reading, index); };
  const bool all_equal = std::all_of(reading.sums.begin(), reading.sums.end(),
                                     [&](const auto& pair) { return pair.second == reading.sums.begin()->second; });
  if (reading.sums.empty()) {
    session_.found(Finding::left, file.path, "no replica can be read, on " + session_.names_of(reading.unreadable));
    return;
  }
  if (const CatalogueEntry* recorded = recorded_for(file, reading);
      recorded != nullptr && !has(reading, recorded->sum)) {
    if (!accept_unrecorded(file, reading)) return;
  }
  if (all_equal && reading.unreadable.empty()) {
    for (const auto& [index, sum] : reading.sums) file.now.emplace_back(index, entry(index, sum));
    return;
  }
  std::string how;
  const auto right = judge(file, reading, how);
  if (!right) {
    resolve(file, reading);
    return;
  }
  for (const auto& [index, sum] : reading.sums) {
    if (sum == *right) file.now.emplace_back(index, entry(index, sum));
  }
  repair(file, reading, *right, how);
}

void Deep::open_catalogues(const Resume& resume) {
  for (const ExportIndex index : session_.array.online()) {
    Catalogue& c = catalogues_.emplace_back(index, std::make_unique<CatalogueReader>(session_, index), nullptr);
    if (session_.options.dry_run) continue;
    c.writer = std::make_unique<CatalogueWriter>(session_, index, session_.lease->tag());
    if (resume.resumed()) go_on(c, resume);
  }
}

// What the pass that was interrupted had catalogued is taken over; where that was not kept, what was known before it.
void Deep::go_on(Catalogue& c, const Resume& resume) {
  const auto done = [&](const std::string& path) {
    const std::string directory = replica::parent_of(path);
    return directory != resume.cursor() && walked_before(directory, resume.cursor());
  };
  CatalogueReader unfinished(session_, c.index, resume.note());
  CatalogueReader& from = unfinished.exists() ? unfinished : *c.reader;
  from.take_while(done, [&](const CatalogueEntry& entry) { c.writer->add(entry); });
}

// Those at the front that are done, up to the first that was given up for the end of the run.
void Deep::catalogue() {
  while (!on_their_way_.empty() && on_their_way_.front()->done && !on_their_way_.front()->given_up) {
    for (const auto& [index, entry] : on_their_way_.front()->now) {
      for (Catalogue& c : catalogues_) {
        if (c.index == index && c.writer) c.writer->add(entry);
      }
    }
    on_their_way_.pop_front();
  }
}

// Until no more than so many are on their way, or the run is to end.
void Deep::catalogue_until(std::size_t most, Resume& resume) {
  while (true) {
    catalogue();
    if (on_their_way_.size() <= most || session_.stopped()) return;
    resume.note_progress();
    session_.array.clock().sleep(pause);
  }
}

CatalogueReader::Skipped Deep::keep(Catalogue& c, Resume& resume) {
  return [this, &c, &resume](const CatalogueEntry& entry) {
    if (!c.writer || beneath_any(entry.path, tops_)) return;
    catalogue_until(0, resume);
    c.writer->add(entry);
  };
}

void Deep::commit(Resume& resume) {
  for (Catalogue& c : catalogues_) {
    c.reader->skip_rest(keep(c, resume));
    if (!c.writer) continue;
    if (!c.writer->commit()) {
      session_.found(Finding::left, "",
                     "the catalogue of export " + session_.name_of(c.index) + " could not be written");
    }
    if (session_.options.paths.empty()) remove_unfinished(session_, c.index);
  }
}

bool Deep::run() {
  session_.counters.pass = Pass::deep;
  session_.counters.expected_files = session_.counters.files.load();
  session_.counters.files = 0;
  tops_ = walked_tops(session_);
  Resume resume(session_, "contents", [this]() -> std::optional<std::string> {
    for (Catalogue& c : catalogues_) {
      if (!c.writer->sync()) {
        remove_unfinished(session_, c.index);
      } else {
        remove_unfinished(session_, c.index, session_.lease->tag());
      }
    }
    return session_.lease->tag();
  });
  open_catalogues(resume);
  for (const std::string& top : tops_) {
    walk(
        session_, top, [&](const std::string& directory) { return resume.begin(directory); },
        [&](const Walked& walked) {
          if (walked.directory || !of_this_shard(session_, walked.path) || resume.done_before(walked)) return;
          ++session_.counters.files;
          auto file = std::make_unique<File>();
          file->path = walked.path;
          file->holds = resume.task();
          for (Catalogue& c : catalogues_) {
            if (auto entry = c.reader->find(walked.path, keep(c, resume)))
              file->before.emplace_back(c.index, std::move(*entry));
          }
          on_their_way_.push_back(std::move(file));
          pool_.add([this, raw = on_their_way_.back().get()] {
            check(*raw);
            raw->given_up = session_.stopped();
            raw->done = true;
          });
          catalogue_until(most_on_their_way, resume);
        });
  }
  catalogue_until(0, resume);
  pool_.wait_until_idle();
  if (session_.stopped()) {
    // The old catalogue stays, and what was written of the new one, for the next run.
    catalogue();
    resume.keep();
    for (Catalogue& c : catalogues_) {
      if (c.writer && !session_.options.paths.empty()) c.writer->discard();
    }
  } else {
    commit(resume);
    resume.finish();
  }
  return links_broken_;
}

}  // namespace rainfs::scrub
