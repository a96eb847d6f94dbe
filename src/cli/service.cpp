// SPDX-License-Identifier: Apache-2.0
#include "service.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <functional>
#include <mutex>

#include "node.hpp"
#include "rainfs/config/values.hpp"
#include "rainfs/log/log.hpp"
#include "rainfs/status/exposition.hpp"
#include "rainfs/status/gather.hpp"
#include "rainfs/status/heartbeat.hpp"
#include "rainfs/status/operator_files.hpp"
#include "reload.hpp"

namespace rainfs::cli {

namespace {

// A running daemon: what stands below its file system, and what it can say and be told.
class Running {
 public:
  Running(std::shared_ptr<Node> node, Setup setup)
      : node_(std::move(node)),
        setup_(std::move(setup)),
        since_s_(node_->array().clock().realtime().tv_sec),
        heartbeat_(node_->array(), node_->name(), setup_.mount_point, RAINFS_VERSION, [this] {
          return status::Traffic{metered_->meters().read_bytes.value(), metered_->meters().written_bytes.value()};
        }) {}

  std::unique_ptr<tree::FileSystem> make_file_system();
  void start() { heartbeat_.start(); }
  base::Result<void> reload();
  void set_over_io_uring(std::function<bool()> ask) { over_io_uring_ = std::move(ask); }

 private:
  status::Daemon daemon() const;
  status::Report report() const;
  base::Result<void> obey(std::string_view order);
  base::Result<void> set_level(std::string_view word);
  base::Result<void> change();
  std::string orders() const;

  const std::shared_ptr<Node> node_;
  const Setup setup_;
  const std::int64_t since_s_;
  tree::Tree* tree_ = nullptr;  // both live as long as the file system that asks
  const status::MeteredFileSystem* metered_ = nullptr;
  std::function<bool()> over_io_uring_;  // set before there are requests, and only they ask
  mutable std::mutex mutex_;             // one order at a time; guards what follows
  std::uint64_t orders_ = 0;             // taken so far
  std::string outcome_ = "none yet";
  status::Heartbeat heartbeat_;
};

std::unique_ptr<tree::FileSystem> Running::make_file_system() {
  auto tree = node_->take_tree();
  tree_ = tree.get();
  auto metered = std::make_unique<status::MeteredFileSystem>(std::move(tree), node_->array().clock());
  metered_ = metered.get();
  std::vector<status::OperatorFile> files;
  files.push_back({"status", [this] { return status::to_text(report()); }});
  files.push_back({"status.json", [this] { return status::to_json(report()); }});
  files.push_back({"metrics", [this] {
                     return status::to_metrics(node_->array(), metered_->meters(), daemon(), heartbeat_.found());
                   }});
  files.push_back({"control", [this] { return orders(); }, [this](std::string_view order) { return obey(order); }});
  return std::make_unique<status::OperatorFiles>(std::move(metered), std::move(files));
}

status::Daemon Running::daemon() const {
  const status::CallMeters& calls = metered_->meters();
  status::Daemon daemon;
  daemon.node = node_->name();
  daemon.mount_point = setup_.mount_point;
  daemon.version = RAINFS_VERSION;
  daemon.log_level = log::name_of(log::level());
  daemon.since_s = since_s_;
  daemon.open_files = tree_->open_files();
  daemon.cached_nodes = tree_->nodes().size();
  daemon.read_bytes = calls.read_bytes.value();
  daemon.written_bytes = calls.written_bytes.value();
  daemon.operations = calls.operations();
  daemon.failed_operations = calls.failed();
  daemon.degraded_commits = tree_->meters().degraded_commits.value();
  daemon.over_io_uring = over_io_uring_ && over_io_uring_();
  daemon.failovers = tree_->meters().failovers.value();
  daemon.facts_recorded = node_->ledger().recorded();
  daemon.throughput = heartbeat_.throughput();
  return daemon;
}

status::Report Running::report() const {
  status::Report report = status::gather(node_->array());
  report.daemon = daemon();
  return report;
}

std::string Running::orders() const {
  const std::lock_guard lock(mutex_);
  const nas::Deadlines deadlines = node_->array().deadlines();
  return fmt::format(
      "pid: {}\nlog-level: {}\ndeadlines: metadata {}, data {}, probe {}\nreads: {}\norders taken: {}\nlast order: {}\n"
      "orders: log-level error|warning|notice|info|debug, reload\n",
      ::getpid(), log::name_of(log::level()), config::format_duration(deadlines.metadata),
      config::format_duration(deadlines.data), config::format_duration(deadlines.probe), name_of(tree_->reads()),
      orders_, outcome_);
}

base::Result<void> Running::obey(std::string_view order) {
  const std::size_t space = std::min(order.find(' '), order.size());
  const std::string_view verb = order.substr(0, space);
  if (verb == "reload" && space == order.size()) return reload();
  const std::lock_guard lock(mutex_);
  base::Result<void> done =
      verb == "log-level" && space < order.size()
          ? set_level(order.substr(space + 1))
          : base::Result<void>(base::unexpected(base::config_error("unknown order; see `orders`")));
  ++orders_;
  outcome_ = fmt::format("{}: {}", order.substr(0, 80), done ? "done" : done.error().message());
  if (done) return done;
  return base::unexpected(EINVAL);
}

base::Result<void> Running::set_level(std::string_view word) {
  log::Level level{};
  if (!log::parse_level(word, level)) {
    return base::unexpected(base::config_error("no such level: error, warning, notice, info or debug"));
  }
  log::notice("log-level", "{}", word);
  log::set_level(level);
  return {};
}

base::Result<void> Running::change() {
  const auto now = read_again(setup_, *node_->array().topology());
  if (!now) return base::unexpected(now.error());
  node_->array().set_deadlines(deadlines_of(now->config));
  tree_->set_reads(reads_of(*now));
  if (!setup_.options.log_level) log::set_level(now->node.log_level.value_or(log::Level::info));
  return {};
}

base::Result<void> Running::reload() {
  const std::lock_guard lock(mutex_);
  const auto done = change();
  ++orders_;
  outcome_ = fmt::format("reload: {}", done ? "done" : done.error().message());
  if (done) {
    log::notice("reload", "{} is obeyed", setup_.config.file);
    return {};
  }
  log::error("reload", "{}", done.error().message());
  return base::unexpected(EINVAL);
}

}  // namespace

base::Result<Service> make_service(const Setup& setup) {
  auto node = Node::assemble(setup);
  if (!node) return base::unexpected(node.error());
  auto running = std::make_shared<Running>(std::move(*node), setup);
  Service service;
  service.file_system = running->make_file_system();
  service.reload = [running] { static_cast<void>(running->reload()); };
  service.before_mount = [running](std::function<bool()> ask) { running->set_over_io_uring(std::move(ask)); };
  running->start();
  service.below = std::move(running);
  return service;
}

}  // namespace rainfs::cli
