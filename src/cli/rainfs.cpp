// SPDX-License-Identifier: Apache-2.0
#include "rainfs/cli/rainfs.hpp"

#include <fmt/format.h>
#include <getopt.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "background.hpp"
#include "rainfs/base/service_manager.hpp"
#include "rainfs/fuse/server.hpp"
#include "rainfs/log/log.hpp"
#include "rainfs/nas/array.hpp"
#include "supervisor.hpp"

namespace rainfs::cli {

namespace {

constexpr int status_usage = 1;
constexpr int status_failed = 32;

constexpr const char* usage = R"(Usage: rainfs SOURCE MOUNTPOINT [OPTIONS]

Mounts the array SOURCE (its name, with the file /etc/rainfs/NAME.yaml, or the path of a file) on MOUNTPOINT.
Returns when the mount can be used. umount(8) ends it.

  -f, --foreground     stay in the foreground and log to standard error
  -d, --debug          the same, with all that can be logged
  -o, --options OPTION[,...]
                       mount options: ro, rw, allow_other, uring, rack=NAME, node=NAME,
                       reads=auto|managed|passthrough, coherence=close-to-open|strict, attr_timeout=TIME,
                       entry_timeout=TIME, log_level=LEVEL, config=FILE, and the generic ones of mount(8)
      --log FILE       where the daemon logs if there is no journal (default: /var/log/rainfs-NAME.log)
  -h, --help           this text
  -V, --version        the version

For mount(8), which calls it as mount.rainfs or mount.fuse.rainfs, it also takes -s, -n, -v, -N NAMESPACE,
-t TYPE and (then) -f for a trial without mounting.
)";

struct Arguments {
  std::string source;
  std::string mount_point;
  std::string options;
  std::string log_file;
  bool foreground = false;
  bool debug = false;
  bool trial = false;
  bool help = false;
  bool version = false;
};

bool called_by_mount(const char* name) {
  const std::string_view whole(name);
  return whole.substr(whole.rfind('/') + 1).starts_with("mount.");  // npos + 1 is 0
}

base::Result<Arguments> parse(int argc, char** argv) {
  constexpr int log_option = 256;
  static const option long_options[] = {{"foreground", no_argument, nullptr, 'f'},
                                        {"debug", no_argument, nullptr, 'd'},
                                        {"options", required_argument, nullptr, 'o'},
                                        {"log", required_argument, nullptr, log_option},
                                        {"help", no_argument, nullptr, 'h'},
                                        {"version", no_argument, nullptr, 'V'},
                                        {nullptr, 0, nullptr, 0}};
  const bool helper = argc > 0 && called_by_mount(argv[0]);
  Arguments arguments;
  ::optind = 0;  // scans from the beginning, whoever has used getopt before
  ::opterr = 0;
  for (int found = 0; (found = ::getopt_long(argc, argv, ":fdo:hVsnvN:t:", long_options, nullptr)) != -1;) {
    switch (found) {
      case 'f':
        (helper ? arguments.trial : arguments.foreground) = true;
        break;
      case 'd':
        arguments.debug = arguments.foreground = true;
        break;
      case 'o':
        arguments.options += (arguments.options.empty() ? "" : ",") + std::string(::optarg);
        break;
      case log_option:
        arguments.log_file = ::optarg;
        if (arguments.log_file.empty())
          return base::unexpected(base::config_error("--log: no file given; write --log FILE"));
        break;
      case 'h':
        arguments.help = true;
        break;
      case 'V':
        arguments.version = true;
        break;
      case 's':
      case 'n':
      case 'v':
      case 'N':
      case 't':
        break;  // mount(8)'s; nothing for us to do
      default:
        return base::unexpected(base::config_error(
            fmt::format("{} '{}'; rainfs --help says what there is",
                        found == ':' ? "a value is missing after" : "unknown option", argv[::optind - 1])));
    }
  }
  if (arguments.help || arguments.version) return arguments;
  if (argc - ::optind != 2) {
    return base::unexpected(base::config_error("SOURCE and MOUNTPOINT are needed; rainfs --help says more"));
  }
  arguments.source = argv[::optind];
  arguments.mount_point = argv[::optind + 1];
  return arguments;
}

// "remount" is mount(8)'s order, not an option of the mount: taken out of the list.
bool take_remount(std::string& options) {
  bool found = false;
  std::string rest;
  for (std::size_t at = 0; at <= options.size();) {
    const std::size_t end = std::min(options.find(',', at), options.size());
    const std::string word = options.substr(at, end - at);
    at = end + 1;
    if (word == "remount") {
      found = true;
    } else if (!word.empty()) {
      rest += (rest.empty() ? "" : ",") + word;
    }
  }
  if (found) options = rest;
  return found;
}

base::Result<Setup> load(const Arguments& arguments, const config::MountOptions& options,
                         const std::string& mount_point) {
  // Absolute: the daemon's working directory is another.
  const std::string file =
      std::filesystem::absolute(config::config_path(options.config.empty() ? arguments.source : options.config));
  auto array = config::load_config(file);
  if (!array) return base::unexpected(array.error());
  auto node = config::load_node_config(std::string(config::default_directory) + "/node.yaml");
  if (!node) return base::unexpected(node.error());
  return Setup{std::move(*array), std::move(*node), options, mount_point};
}

double seconds(base::Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

base::Result<fuse::Options> fuse_options(const Setup& setup, const std::string& mount_point) {
  const config::MountOptions& given = setup.options;
  fuse::Options options;
  options.source = setup.config.array;
  options.mount_point = mount_point;
  auto flags = fuse::kernel_flags(given.kernel);
  if (!flags) return base::unexpected(flags.error());
  options.mount_flags = *flags | (given.read_only ? MS_RDONLY : 0);
  options.allow_other = given.allow_other || ::getuid() == 0;
  options.over_io_uring = given.uring;
  options.attribute_timeout_s = seconds(setup.attribute_timeout());
  options.entry_timeout_s = seconds(setup.entry_timeout());
  const auto longest = 2 * (nas::most_sync_deadlines + 1) * setup.config.deadlines.data;
  options.stuck_after = std::max(options.stuck_after, std::chrono::duration_cast<std::chrono::milliseconds>(longest));
  return options;
}

// R descriptors per open file: the usual soft limit of 1024 is soon reached.
void raise_open_files_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// Serves until the end. `ready` is called when the mount can be used.
base::Result<void> serve(const Setup& setup, fuse::Options options, const MakeService& make_service,
                         const std::function<void()>& ready) {
  fuse::block_signals();
  auto service = make_service(setup);
  if (!service) return base::unexpected(service.error());
  auto server = fuse::Server::create(*service->file_system, std::move(options));
  if (!server) return base::unexpected(server.error());
  if (service->before_mount) service->before_mount([of = server->get()] { return of->over_io_uring(); });
  if (auto mounted = (*server)->mount(); !mounted) return mounted;
  ready();
  base::notify_service_manager(fmt::format("READY=1\nSTATUS=serving on {}", setup.mount_point));
  if ((*server)->serve(service->reload) == fuse::Ended::unfinished) {
    log::error("unfinished", "leaving without what is left behind");
    ::_exit(EXIT_FAILURE);
  }
  server->reset();
  service->file_system.reset();
  return {};
}

int fail(const std::string& message, int status) {
  std::fprintf(stderr, "rainfs: %s\n", message.c_str());
  return status;
}

int serve_in_foreground(const Setup& setup, const fuse::Options& options, const MakeService& make_service) {
  if (base::stderr_is_journal()) log::use_journal_prefixes(true);
  const auto serve_here = [&](const std::function<void()>& mounted) {
    const auto served = serve(setup, options, make_service, [&] {
      mounted();
      log::notice("serving", "{} on {}", options.source, options.mount_point);
    });
    return served ? 0 : fail(served.error().message(), status_failed);
  };
  // A service manager waits for the process it started.
  if (std::getenv("NOTIFY_SOCKET") != nullptr) return supervise(options.mount_point, status_failed, serve_here);
  return serve_here([] {});
}

int serve_in_background(const Setup& setup, const fuse::Options& options, const Arguments& arguments,
                        const MakeService& make_service) {
  auto background = Background::start(status_failed);
  if (!background) return fail(background.error().message(), status_failed);
  if (background->exit_status()) return *background->exit_status();
  const std::string log_file =
      arguments.log_file.empty() ? fmt::format("/var/log/rainfs-{}.log", options.source) : arguments.log_file;
  const auto served = serve(setup, options, make_service, [&] {
    redirect_log("rainfs", log_file);
    background->ready();
    log::notice("serving", "{} on {}", options.source, options.mount_point);
  });
  if (served) return 0;
  background->failed(served.error().message());
  return status_failed;
}

int run(const Arguments& arguments, const MakeService& make_service) {
  std::string text = arguments.options;
  const bool remounting = take_remount(text);
  config::MountOptions given;
  if (const auto parsed = config::parse_mount_options(text, given); !parsed) {
    return fail(parsed.error().message(), status_usage);
  }
  auto mount_point = fuse::resolve_mount_point(arguments.mount_point);
  if (!mount_point) return fail(mount_point.error().message(), status_failed);
  if (remounting) {
    const auto flags = fuse::kernel_flags(given.kernel);
    if (!flags) return fail(flags.error().message(), status_usage);
    const auto done = fuse::remount(*mount_point, *flags | (given.read_only ? MS_RDONLY : 0));
    return done ? 0 : fail(done.error().message(), status_failed);
  }
  auto setup = load(arguments, given, *mount_point);
  // A file that is wrong stays wrong: a service manager shall not try again.
  if (!setup)
    return fail(setup.error().message(), setup.error().kind == base::ErrorClass::config ? status_usage : status_failed);
  const auto level = given.log_level ? given.log_level : setup->node.log_level;
  log::set_level(arguments.debug ? log::Level::debug : level.value_or(log::Level::info));
  auto options = fuse_options(*setup, *mount_point);
  if (!options) return fail(options.error().message(), status_usage);
  if (arguments.trial) return 0;
  if (const auto cleared = fuse::clear_mount_point(*mount_point); !cleared) {
    return fail(cleared.error().message(), status_failed);
  }
  raise_open_files_limit();
  if (arguments.foreground) return serve_in_foreground(*setup, *options, make_service);
  return serve_in_background(*setup, *options, arguments, make_service);
}

}  // namespace

int rainfs_main(int argc, char** argv, const MakeService& make_service) {
  const auto arguments = parse(argc, argv);
  if (!arguments) return fail(arguments.error().message(), status_usage);
  if (arguments->help) {
    std::fputs(usage, stdout);
    return 0;
  }
  if (arguments->version) {
    std::puts("rainfs " RAINFS_VERSION);
    return 0;
  }
  return run(*arguments, make_service);
}

}  // namespace rainfs::cli
