// SPDX-License-Identifier: Apache-2.0
// rainfs-scrub: the command line, the progress display, the signals; what it does is scrub::Scrub's.
#include "rainfs/cli/scrub.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <boost/program_options.hpp>
#include <condition_variable>
#include <filesystem>
#include <iostream>
#include <thread>

#include "node.hpp"
#include "rainfs/base/service_manager.hpp"
#include "rainfs/config/values.hpp"
#include "rainfs/log/log.hpp"
#include "rainfs/scrub/json.hpp"
#include "rainfs/scrub/scrub.hpp"
#include "reload.hpp"
#include "settle.hpp"
#include "table.hpp"
#include "watch.hpp"

namespace rainfs::cli {

namespace {

namespace po = boost::program_options;

constexpr const char* help_text =
    "usage: rainfs-scrub [OPTIONS] ARRAY [PATH...]\n\n"
    "Brings every file of the array back to R good, equal replicas: ARRAY is a name in /etc/rainfs or a\n"
    "configuration file, PATH a file or directory relative to the array's root. Works on the exports\n"
    "themselves and is safe beside mounted nodes. What it replaces or removes goes to .rainfs/trash or\n"
    ".rainfs/conflicts of the same export.\n\n"
    "Exit status, as fsck's: 0 all is well, 1 repaired, 4 something could not be repaired, 8 it could not be\n"
    "run, 16 wrong usage; or the sum of several.\n\n";

struct Settings {
  std::string array;  // as it was given
  Setup setup;
  scrub::Options options;
  bool json = false;
  bool quiet = false;
  bool watch = false;
  po::variables_map given;  // on the command line
  std::string shard_from;   // the variable that said it
};

struct Usage {
  std::string text;
};

std::uint64_t number(const std::string& text, const char* what) {
  auto value = config::parse_number(text);
  if (!value) throw Usage{fmt::format("{}: {}", what, value.error().message())};
  return *value;
}

// I/N, or what the starter of parallel programs says. Of Slurm the tasks of the step count and not those of the job: a
// batch script of many tasks runs once, as task 0, and would do only a part.
void take_shard(const po::variables_map& values, Settings& settings) {
  scrub::Options& options = settings.options;
  std::string index, count;
  if (values.count("shard") != 0) {
    const std::string text = values["shard"].as<std::string>();
    const std::size_t slash = text.find('/');
    if (slash == std::string::npos) throw Usage{"--shard: give it as I/N, for example 1/4"};
    index = text.substr(0, slash);
    count = text.substr(slash + 1);
    const std::uint64_t one_based = number(index, "--shard");
    if (one_based == 0) throw Usage{"--shard: shards count from 1"};
    index = std::to_string(one_based - 1);
  } else {
    struct Variables {
      const char* index;
      const char* count;
      const char* first;
    };
    for (const Variables& v : {Variables{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", nullptr},
                               Variables{"PMI_RANK", "PMI_SIZE", nullptr}, Variables{"PMIX_RANK", "PMIX_SIZE", nullptr},
                               Variables{"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"},
                               Variables{"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", nullptr}}) {
      const char* i = ::getenv(v.index);
      const char* n = ::getenv(v.count);
      if (i == nullptr || n == nullptr) continue;
      const char* first = v.first != nullptr ? ::getenv(v.first) : nullptr;
      const std::uint64_t base = first != nullptr ? number(first, v.first) : 0;
      index = std::to_string(number(i, v.index) - base);
      count = n;
      settings.shard_from = v.index;
      break;
    }
  }
  if (count.empty()) return;
  options.shard = static_cast<unsigned>(number(index, "shard"));
  options.shards = static_cast<unsigned>(number(count, "number of shards"));
  if (options.shards == 0 || options.shard >= options.shards) throw Usage{"--shard: I must be between 1 and N"};
}

po::options_description described() {
  po::options_description options("Options");
  options.add_options()("ledger", "only repair what is known to be amiss; do not look at every file")(
      "deep", "also read all contents, compare them, and keep their checksums")(
      "watch", "stay: repair what comes back at once, and run the passes at the times that the array's file says")(
      "dry-run,n", "say what would be done, and do nothing")(
      "balance", "also move replicas that do not lie where a new file's would")(
      "rate", po::value<std::string>(),
      "bytes per second at most, for example 200MB (default: the array's; 0: no limit)")(
      "jobs,j", po::value<unsigned>(), "files worked on at the same time (default 8)")(
      "grace", po::value<std::string>(),
      "leave alone what changed in this time, for example 90 or 5min (default: the array's)")(
      "shard", po::value<std::string>(), "I/N: the part of the array that is this program's of N")(
      "resolve", po::value<std::string>(), "newest or keep: for versions of which nothing says which is right")(
      "json", "one JSON object a line")("quiet,q", "no line for what is repaired")("help,h", "print this and exit")(
      "version,V", "print the version and exit");
  return options;
}

base::Duration duration(const std::string& text) {
  const bool bare = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  auto value = config::parse_duration(bare ? text + "s" : text);
  if (!value) throw Usage{"--grace: " + value.error().message()};
  return *value;
}

void take_options(const po::variables_map& values, Settings& settings) {
  scrub::Options& options = settings.options;
  const config::Config& config = settings.setup.config;
  options.ledger_only = values.count("ledger") != 0;
  options.deep = values.count("deep") != 0;
  options.dry_run = values.count("dry-run") != 0;
  options.balance = values.count("balance") != 0;
  settings.watch = values.count("watch") != 0;
  if (settings.watch && options.dry_run) throw Usage{"--watch and --dry-run do not go together"};
  settings.json = values.count("json") != 0;
  settings.quiet = values.count("quiet") != 0;
  options.rate_bytes = config.scrub.rate_bytes;
  if (values.count("rate") != 0) {
    auto rate = config::parse_size(values["rate"].as<std::string>());
    if (!rate && values["rate"].as<std::string>().find_first_not_of("0123456789") == std::string::npos) {
      rate = number(values["rate"].as<std::string>(), "--rate");
    }
    if (!rate) throw Usage{"--rate: " + rate.error().message()};
    options.rate_bytes = *rate;
  }
  if (values.count("jobs") != 0) options.jobs = values["jobs"].as<unsigned>();
  if (options.jobs == 0 || options.jobs > 256) throw Usage{"--jobs: a number from 1 to 256"};
  options.grace = values.count("grace") != 0 ? duration(values["grace"].as<std::string>()) : config.scrub.grace;
  options.trash_days = config.trash.days;
  options.trash_max_per_mille = config.trash.max_per_mille;
  if (values.count("resolve") != 0) {
    const std::string word = values["resolve"].as<std::string>();
    if (word != "newest" && word != "keep") throw Usage{"--resolve: newest or keep"};
    options.resolve = word == "newest" ? scrub::Resolve::newest : scrub::Resolve::keep;
  }
  take_shard(values, settings);
}

std::string relative_path(std::string path) {
  while (path.starts_with('/')) path.erase(0, 1);
  while (path.ends_with('/')) path.pop_back();
  for (const auto& part : std::filesystem::path(path)) {
    if (part == ".." || part == ".")
      throw Usage{path + ": give the path relative to the array's root, without . and .."};
  }
  return path;
}

// Nothing where --help or --version was answered.
std::optional<Settings> parse(int argc, char** argv, std::ostream& out) {
  po::options_description options = described();
  po::options_description all;
  all.add(options).add_options()("operand", po::value<std::vector<std::string>>());
  po::positional_options_description positional;
  positional.add("operand", -1);
  po::variables_map values;
  try {
    const auto style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    po::store(po::command_line_parser(argc, argv).options(all).positional(positional).style(style).run(), values);
    po::notify(values);
  } catch (const po::error& e) {
    throw Usage{e.what()};
  }
  if (values.count("help") != 0) {
    out << help_text << options;
    return std::nullopt;
  }
  if (values.count("version") != 0) {
    out << "rainfs-scrub " << RAINFS_VERSION << '\n';
    return std::nullopt;
  }
  if (values.count("operand") == 0) throw Usage{"which array?"};
  const auto operands = values["operand"].as<std::vector<std::string>>();
  Settings settings;
  settings.given = values;
  settings.array = operands.front();
  auto array = config::load_config(config::config_path(operands.front()));
  if (!array) throw Usage{array.error().message()};
  settings.setup.config = std::move(*array);
  auto node = config::load_node_config(std::string(config::default_directory) + "/node.yaml");
  if (!node) throw Usage{node.error().message()};
  settings.setup.node = std::move(*node);
  for (std::size_t i = 1; i < operands.size(); ++i) {
    const std::string path = relative_path(operands[i]);
    if (path.empty()) {
      settings.options.paths.clear();
      break;
    }
    settings.options.paths.push_back(path);
  }
  take_options(values, settings);
  return settings;
}

// A line on a terminal that is written over again and again, else a plain one every minute.
class Progress {
 public:
  Progress(const scrub::Scrub& scrub, std::ostream& err, std::mutex& output)
      : scrub_(scrub), err_(err), output_(output), terminal_(::isatty(2) == 1), thread_([this] { work(); }) {}
  ~Progress() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    wake_.notify_all();
    thread_.join();
    if (terminal_ && shown_) err_ << "\r\033[K";
  }
  // A line at once.
  void show() {
    {
      const std::lock_guard lock(mutex_);
      asked_ = true;
    }
    wake_.notify_all();
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    const auto interval = terminal_ ? std::chrono::milliseconds(500) : std::chrono::milliseconds(60'000);
    while (!wake_.wait_for(lock, interval, [this] { return ending_ || asked_; }) || !ending_) {
      asked_ = false;
      const std::string text = line();
      const std::lock_guard output(output_);
      if (terminal_) {
        err_ << "\r\033[K" << text << std::flush;
        shown_ = true;
      } else {
        err_ << "rainfs-scrub: " << text << std::endl;
      }
    }
  }
  std::string line() {
    const auto now = std::chrono::steady_clock::now();
    const scrub::Counters& c = scrub_.counters();
    const std::uint64_t bytes = c.bytes_copied + c.bytes_read;
    const double seconds = std::max(0.001, std::chrono::duration<double>(now - before_).count());
    std::string text = fmt::format("{}: {} files", scrub::name_of(c.pass.load()), c.files.load());
    if (c.expected_files > 0) {
      const double elapsed = std::chrono::duration<double>(now - begun_).count();
      const double share = std::min(1.0, static_cast<double>(c.files) / static_cast<double>(c.expected_files));
      text += fmt::format(" of about {}", c.expected_files.load());
      if (share > 0.01) text += fmt::format(", {:.0f} s left", elapsed / share - elapsed);
    }
    text += fmt::format(
        ", {} read and copied, {}/s, {} facts, {} repaired, {} damaged, {} left", config::format_size(bytes),
        config::format_size(static_cast<std::uint64_t>(static_cast<double>(bytes - bytes_before_) / seconds)),
        c.facts.load(), c.repaired.load(), c.damaged.load(), c.left + c.in_use);
    before_ = now;
    bytes_before_ = bytes;
    return text;
  }
  const scrub::Scrub& scrub_;
  std::ostream& err_;
  std::mutex& output_;
  const bool terminal_;
  bool shown_ = false;
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point before_ = begun_;  // the last line
  std::uint64_t bytes_before_ = 0;
  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  bool ending_ = false;
  bool asked_ = false;
  std::thread thread_;
};

// Signals end the run in order, but that a hangup has a service read its files again, and SIGUSR1 a run show how far it
// is. Blocked in all threads, waited for by one.
class Signals {
 public:
  Signals() {
    ::sigemptyset(&set_);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) ::sigaddset(&set_, number);
    ::pthread_sigmask(SIG_BLOCK, &set_, nullptr);
  }
  void call(std::function<void()> stop, std::function<void()> hang_up, std::function<void()> show) {
    thread_ = std::thread([this, stop = std::move(stop), hang_up = std::move(hang_up), show = std::move(show)] {
      while (true) {
        int number = 0;
        if (::sigwait(&set_, &number) != 0 || number == SIGUSR2) return;
        if (number == SIGUSR1) {
          if (show) show();
        } else if (number == SIGHUP && hang_up) {
          hang_up();
        } else {
          stop();
        }
      }
    });
  }
  // Nothing is called any more.
  void end() {
    if (!thread_.joinable()) return;
    ::pthread_kill(thread_.native_handle(), SIGUSR2);
    thread_.join();
  }
  ~Signals() { end(); }

 private:
  sigset_t set_{};
  std::thread thread_;
};

void print_summary(const Settings& settings, const scrub::Counters& c, int status, std::ostream& out) {
  if (settings.json) {
    out << fmt::format(
        "{{\"summary\": {{\"files\": {}, \"directories\": {}, \"facts\": {}, \"repaired\": {}, \"left\": {}, "
        "\"in_use\": {}, \"conflicts\": {}, \"damaged\": {}, \"copies\": {}, \"bytes_copied\": {}, "
        "\"bytes_read\": {}, \"status\": {}}}}}\n",
        c.files.load(), c.directories.load(), c.facts.load(), c.repaired.load(), c.left.load(), c.in_use.load(),
        c.conflicts.load(), c.damaged.load(), c.copies.load(), c.bytes_copied.load(), c.bytes_read.load(), status);
    return;
  }
  out << fmt::format(
             "{} files and {} facts looked at: {} repaired{}, {} replicas made ({}), {} conflicts, {} damaged, {} left",
             c.files.load(), c.facts.load(), c.repaired.load(), settings.options.dry_run ? " (would be)" : "",
             c.copies.load(), config::format_size(c.bytes_copied), c.conflicts.load(), c.damaged.load(),
             c.left + c.in_use)
      << '\n';
}

// Watches until it is told to stop. The service manager is told when it works, and what it is told to read again is
// obeyed or refused as a whole.
int watch_on(const Settings& settings, Node& node, replica::Context& context, const scrub::Reporter& report,
             Signals& signals) {
  Watch watch(context, settings.options, settings.setup.config.scrub, report,
              [&](const scrub::Scrub& scrub, int status) {
                if (const auto settled = settle(settings.array, scrub, status); !settled) {
                  log::warning("marks-not-cleared", "{}", settled.error().message());
                }
              });
  const auto reload = [&] {
    try {
      const auto setup = read_again(settings.setup, *node.array().topology());
      if (!setup) throw Usage{setup.error().message()};
      Settings now;
      now.setup = *setup;
      now.options.paths = settings.options.paths;
      take_options(settings.given, now);
      node.array().set_deadlines(deadlines_of(now.setup.config));
      watch.change(now.options, now.setup.config.scrub);
      log::notice("reload", "{} is obeyed", now.setup.config.file);
    } catch (const Usage& refused) {
      log::error("reload", "{}", refused.text);
    }
  };
  signals.call(
      [&] {
        base::notify_service_manager("STOPPING=1");
        watch.stop();
      },
      reload, nullptr);
  log::notice("watching", "array {}", settings.setup.config.array);
  base::notify_service_manager("READY=1");
  watch.run();
  return 0;
}

int run(const Settings& settings, std::ostream& out, std::ostream& err) {
  if (base::stderr_is_journal()) log::use_journal_prefixes(true);
  if (settings.watch) log::set_level(settings.setup.node.log_level.value_or(log::Level::info));
  Signals signals;
  if (!settings.shard_from.empty() && settings.options.shards > 1) {
    err << fmt::format("rainfs-scrub: part {} of {}, as {} says\n", settings.options.shard + 1, settings.options.shards,
                       settings.shard_from);
  }
  auto node = Node::assemble(settings.setup);
  if (!node) {
    err << "rainfs-scrub: " << node.error().message() << '\n';
    return scrub::status_failed;
  }
  replica::Context context{(*node)->array(), (*node)->ledger()};
  std::mutex output;
  const scrub::Reporter report = [&](scrub::Finding finding, const std::string& path, const std::string& text) {
    if (settings.quiet && finding == scrub::Finding::repaired) return;
    const std::lock_guard lock(output);
    if (settings.json) {
      out << fmt::format("{{\"finding\": \"{}\", {}, \"text\": {}}}\n", scrub::name_of(finding),
                         scrub::json_path("/" + path), scrub::json_text(text));
    } else {
      out << printable(fmt::format("{}: /{}: {}", scrub::name_of(finding), path, text)) << '\n';
    }
    if (settings.watch) out.flush();
  };
  if (settings.watch) {
    return watch_on(settings, **node, context, report, signals);
  }
  scrub::Scrub scrub(context, settings.options, report);
  base::Result<int> status = base::unexpected(EIO);
  {
    Progress progress(scrub, err, output);
    signals.call([&] { scrub.stop(); }, nullptr, [&] { progress.show(); });
    status = scrub.run();
    signals.end();
  }
  if (!status) {
    err << "rainfs-scrub: " << status.error().message() << '\n';
    return scrub::status_failed;
  }
  if (const auto settled = settle(settings.array, scrub, *status); !settled)
    err << "rainfs-scrub: " << settled.error().message() << '\n';
  print_summary(settings, scrub.counters(), *status, out);
  out.flush();
  return *status;
}

}  // namespace

int scrub_main(int argc, char** argv, std::ostream& out, std::ostream& err) {
  try {
    log::set_level(log::Level::warning);
    const auto settings = parse(argc, argv, out);
    return settings ? run(*settings, out, err) : 0;
  } catch (const Usage& usage) {
    err << "rainfs-scrub: " << usage.text << "; see rainfs-scrub --help\n";
    return scrub::status_usage;
  } catch (const std::exception& e) {
    err << "rainfs-scrub: " << e.what() << '\n';
    return scrub::status_failed;
  }
}

}  // namespace rainfs::cli
