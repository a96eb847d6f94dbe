# SPDX-License-Identifier: Apache-2.0
"""What the test bed asks of the machine: commands, mounts, waiting, and running a test in namespaces of its own."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

FUSE_CONNECTIONS = "/sys/fs/fuse/connections"
BASE_PREFIX = "rainfs-bed-"
SETTLE_SECONDS = 60  # bound of every wait for something that should take moments


class BedError(Exception):
    """The test bed could not do what it was told: a fault of the machine or of the test, or the daemon's."""


def expect(condition, what):
    if not condition:
        raise BedError(what)


def run(*command, check=True, timeout=SETTLE_SECONDS, **options):
    result = subprocess.run([os.fspath(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, timeout=timeout, text=True, errors="backslashreplace", **options)
    if check and result.returncode:
        raise BedError(f"{' '.join(map(str, command))}: exit {result.returncode}: {result.stdout.strip()}")
    return result


def wait_until(condition, what, seconds=SETTLE_SECONDS):
    """Waits for a condition; the bound is only there so that a failure ends."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise BedError(f"still not after {seconds} s: {what}")
        time.sleep(0.02)


def in_child(action):
    """Starts a process that does it and ends with 0, the errno of its OSError, or 255. Its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 255
    try:
        action()
        code = 0
    except OSError as error:
        code = error.errno
    finally:
        os._exit(code)


# What the kernel offers to FUSE file systems that ask for requests over io_uring, and to no others (Linux 6.14 and later).
URING_PARAMETER = "/sys/module/fuse/parameters/enable_uring"


@contextlib.contextmanager
def kernel_parameter(path, value):
    """Set meanwhile, for the whole machine."""
    with open(path, encoding="ascii") as was:
        before = was.read().strip()
    with open(path, "w", encoding="ascii") as control:
        control.write(value)
    try:
        yield
    finally:
        with open(path, "w", encoding="ascii") as control:
            control.write(before)


# ---- mounts, as the kernel lists them (never asking the mounted file system, which may hang) -------------

def mounts(below=None):
    """(mount point, file system type, minor device number), in the order they were made."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields = line.split(" ")
            point = fields[4].encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
            point = os.fsdecode(point)
            if below is None or point == below or point.startswith(below.rstrip("/") + "/"):
                found.append((point, fields[fields.index("-") + 1], int(fields[2].split(":")[1])))
    return found


def is_mounted(path):
    return any(point == path for point, _, _ in mounts(path))


def abort_fuse(path):
    """Aborts the FUSE connection of a mount point: all who wait for its daemon get ENOTCONN."""
    for point, kind, minor in mounts(path):
        if point == path and kind.startswith("fuse"):
            if not os.path.isdir(os.path.join(FUSE_CONNECTIONS, str(minor))):
                run("mount", "-t", "fusectl", "none", FUSE_CONNECTIONS, check=False)
            try:
                with open(f"{FUSE_CONNECTIONS}/{minor}/abort", "w", encoding="ascii") as control:
                    control.write("1")
            except FileNotFoundError:
                pass  # it went away by itself


def unmount_all(below):
    """Unmounts everything under a path, last mounted first; hung FUSE mounts are aborted."""
    for point, kind, _ in reversed(mounts(below)):
        if kind.startswith("fuse"):
            abort_fuse(point)
        run("umount", "-l", point, check=False)


# ---- isolation and clean-up ---------------------------------------------------------------------------

def _stop(number, _frame):
    sys.exit(128 + number)  # runs the finally clauses and atexit


def clean_on_signals():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)


def isolate(main, *arguments):
    """Runs main in mount and pid namespaces of its own and gives its exit status."""
    clean_on_signals()
    if os.environ.get("RAINFS_TEST_BASE"):
        return main(*arguments)
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        raise BedError("the test bed needs root and /dev/fuse")
    base = tempfile.mkdtemp(prefix=BASE_PREFIX, dir=os.environ.get("RAINFS_TEST_DIR", "/var/tmp"))
    os.chmod(base, 0o755)  # ordinary users go through it
    child = None
    try:
        die_with_parent = lambda: ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        child = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                                  sys.executable, *sys.argv], env={**os.environ, "RAINFS_TEST_BASE": base},
                                 preexec_fn=die_with_parent)
        return child.wait()
    finally:
        if child and child.poll() is None:
            child.kill()  # and with it everything in its pid namespace
            child.wait()
        shutil.rmtree(base, ignore_errors=True)


def end_process(process, patience=10):
    """Asks, then kills, the process group of a Popen that was started with start_new_session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        print(f"process {process.pid} does not end, not even by kill -9", file=sys.stderr)
