// SPDX-License-Identifier: Apache-2.0
// What the kernel and this file system agree on when the connection starts.
#include <sched.h>
#include <unistd.h>

#include "kernel.hpp"
#include "rainfs/log/log.hpp"
#include "session_impl.hpp"

namespace rainfs::fuse {

namespace {

constexpr unsigned most_background_requests = 64;  // read-ahead and write-back in flight

constexpr unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_POSIX_LOCKS |
                            FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK | FUSE_CAP_AUTO_INVAL_DATA;

// The kernel then holds all requests back until there is an entry for each queue: only if there will be.
std::uint64_t agree_on_io_uring(Session::Impl& session) {
  if ((session.offered & kernel::over_io_uring) == 0) {
    log::warning(
        "fuse-io-uring",
        "the kernel does not offer FUSE over io_uring (Linux 6.14 and later with the parameter enable_uring of "
        "the module fuse): requests come from the device");
    return 0;
  }
  // What is asked on a processor is answered there.
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) < ::sysconf(_SC_NPROCESSORS_ONLN)) {
    log::warning("fuse-io-uring", "the daemon may not run on all processors: requests come from the device");
    return 0;
  }
  if (const auto ring = RingEntry::probe(); !ring) {
    log::warning("fuse-io-uring", "io_uring is not to be had ({}): requests come from the device",
                 ring.error().message());
    return 0;
  }
  session.over_io_uring = true;
  return kernel::over_io_uring;
}

}  // namespace

void agree(Session::Impl& session, fuse_conn_info& connection) {
  unsigned want = wanted;
  if (session.options.readdirplus) want |= FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO;
  // Not wanted: the writeback cache (the file system must know of a write when it is acknowledged), cached link
  // targets (another node may replace a link), export support (nodes are not found again after a forget).
  connection.want = want & connection.capable;
  connection.max_write = largest_transfer;
  connection.max_background = most_background_requests;
  connection.congestion_threshold = most_background_requests * 3 / 4;
  connection.time_gran = 1;
}

void amend_init_reply(Session::Impl& session, fuse_init_out& reply) {
  if (reply.major != FUSE_KERNEL_VERSION) return;
  // The file system clears setuid and setgid itself when told to. Without it the kernel asks for
  // security.capability before each write.
  if ((session.offered & FUSE_HANDLE_KILLPRIV_V2) != 0) reply.flags |= FUSE_HANDLE_KILLPRIV_V2;
  // libfuse 3.14 takes this wish and forgets to pass it on: without it the kernel lets one lookup at a time into a
  // directory.
  reply.flags |= static_cast<std::uint32_t>(session.offered & FUSE_PARALLEL_DIROPS);
  if ((session.offered & FUSE_INIT_EXT) == 0) return;
  std::uint64_t high = 0;
  // Files that bypass the page cache can be mapped all the same.
  high |= session.offered & kernel::direct_io_allow_mmap;
  if (session.options.passthrough && (session.offered & kernel::passthrough) != 0) {
    high |= kernel::passthrough;
    reply.unused[0] = kernel::passthrough_stack_depth;
    session.passthrough.enable();
  }
  if (session.options.over_io_uring) high |= agree_on_io_uring(session);
  reply.flags |= FUSE_INIT_EXT;
  reply.flags2 |= static_cast<std::uint32_t>(high >> 32);
  log::debug("fuse-init", "kernel offers {:#x}; agreed on {:#x}", session.offered,
             reply.flags | std::uint64_t{reply.flags2} << 32);
}

const fuse_lowlevel_ops& operations() {
  static const fuse_lowlevel_ops table = [] {
    fuse_lowlevel_ops made{};
    made.init = [](void* session, fuse_conn_info* connection) {
      agree(*static_cast<Session::Impl*>(session), *connection);
    };
    add_name_operations(made);
    add_attribute_operations(made);
    add_file_operations(made);
    add_directory_operations(made);
    add_lock_operations(made);
    return made;
  }();
  return table;
}

}  // namespace rainfs::fuse
