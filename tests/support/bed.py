# SPDX-License-Identifier: Apache-2.0
"""A test bed: arrays of exports on this machine, nodes that mount them, and honest ways to break them.

    from bed import Array, isolate  # tests/support

    def main():
        with Array({"rack-a": ["nas1", "nas2"], "rack-b": ["nas3", "nas4"], "rack-c": ["nas5"]}) as bed:
            bed.create()
            with bed.mount() as node:
                ...
                bed["nas3"].vanish()

    if __name__ == "__main__":
        sys.exit(isolate(main))

An export is a directory on a disk of its own kind (see `backing`), bind-mounted where the configuration
says, so that it can go away and leave the bare mount point directory behind, as an unmounted NAS does:

    disks/NAME/            the disk: a plain directory, a tmpfs with a size, or a loop-mounted ext4 or xfs
    disks/NAME/export/     what a NAS exports
    exports/NAME           where this machine mounts it (the path in the configuration)

isolate() runs a test's main in mount and pid namespaces of its own: whatever happens to the test, not even
kill -9 leaves a mount, a loop device or a process behind. Without it, Array still cleans up on failure,
SIGTERM and exit. Needs root and /dev/fuse.
"""

import atexit
import errno
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile

from check_replicas import Checker, Export as CheckedExport, print_report
from machine import (BASE_PREFIX, SETTLE_SECONDS, BedError, abort_fuse, clean_on_signals, end_process, expect, is_mounted,
                     isolate, mounts, run, unmount_all, wait_until)

SOURCE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD_ROOT = os.environ.get("RAINFS_BUILD_DIR", os.path.join(SOURCE_ROOT, "build"))
GOING_DOWN = 0x8004587D  # XFS_IOC_GOINGDOWN, which ext4 answers too

_live = []  # arrays to clean up at exit, newest last


def program(name):
    """A binary of the build, or as the environment says (RAINFS_BIN is a directory)."""
    path = os.path.join(os.environ.get("RAINFS_BIN", os.path.join(BUILD_ROOT, "src", "cli")), name)
    if not os.access(path, os.X_OK):
        raise BedError(f"{path} does not exist: build first, or set RAINFS_BUILD_DIR or RAINFS_BIN")
    return path


def _clean_all():
    while _live:
        _live[-1].close()


# ---- exports ------------------------------------------------------------------------------------------

class Export:
    """One export. `path` is where nodes find it, `store` the same directory where no failure reaches it."""

    def __init__(self, bed, name, rack, backing):
        self.bed = bed
        self.name = name
        self.rack = rack
        self.kind, _, self.size = backing.partition(":")
        self.disk = os.path.join(bed.base, "disks", name)
        self.store = os.path.join(self.disk, "export")
        self.path = os.path.join(bed.base, "exports", name)
        self.image = os.path.join(bed.base, "images", name + ".img")
        self.dead = False  # shut down
        self.nas = None  # the process of a flaky NAS
        self.control = os.path.join(bed.base, "control", name)
        os.makedirs(self.disk)
        os.makedirs(self.path)
        self._format()
        self._attach_disk()
        if not os.path.isdir(self.store):
            os.mkdir(self.store, 0o755)
        self._attach()

    def _format(self):
        if self.kind not in ("ext4", "xfs"):
            return
        os.makedirs(os.path.dirname(self.image), exist_ok=True)
        with open(self.image, "wb") as image:
            image.truncate(parse_size(self.size or ("320M" if self.kind == "xfs" else "128M")))
        if self.kind == "ext4":
            # Blocks as a real export's has: small images get smaller ones, and with them smaller limits for
            # extended attributes and symbolic links than the directory that a suite compares with.
            run("mkfs.ext4", "-q", "-F", "-b", "4096", "-I", "256", "-E", "lazy_itable_init=1", self.image)
        else:
            run("mkfs.xfs", "-q", "-f", self.image)

    def _attach_disk(self):
        if self.kind in ("ext4", "xfs"):
            # A loop device of its own each time: mount -o loop would take the old one again, and with it the
            # dead file system of a disk that was shut down while somebody still has a file open there.
            device = run("losetup", "--find", "--show", self.image).stdout.strip()
            try:
                run("mount", *(["-o", "nouuid"] if self.kind == "xfs" else []), device, self.disk)
            finally:
                run("losetup", "--detach", device)  # when its last user is gone
        elif self.kind == "tmpfs":
            run("mount", "-t", "tmpfs", "-o", f"size={parse_size(self.size or '64M')},mode=755", "bed", self.disk)
        elif self.kind not in ("dir", "flaky"):
            raise BedError(f"no such backing: {self.kind}")

    def _attach(self):
        if self.kind != "flaky":
            run("mount", "--bind", self.store, self.path)
            return
        os.makedirs(os.path.dirname(self.control), exist_ok=True)
        binary = os.environ.get("RAINFS_FLAKY_NAS", os.path.join(BUILD_ROOT, "tests", "support", "flaky_nas"))
        log = open(os.path.join(self.bed.base, "logs", self.name + ".nas.log"), "ab")
        with log:
            self.nas = subprocess.Popen([binary, self.store, self.path, "--control", self.control],
                                        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: is_mounted(self.path) or self.nas.poll() is not None, f"{self.name} is mounted")
        if self.nas.poll() is not None:
            raise BedError(f"the flaky NAS of {self.name} did not start: see {self.bed.base}/logs")

    # ---- failures -----------------------------------------------------------------------------------

    def vanish(self):
        """Unmounted behind everyone's back: the path is the bare mount point directory now. Who holds a
        descriptor beneath the old mount can still use it, as with any lazy unmount."""
        if self.nas:
            abort_fuse(self.path)
        run("umount", "-l", self.path)
        if self.nas:
            end_process(self.nas)  # it may wait for its own hanging operations
            self.nas = None

    def come_back(self):
        """Undoes vanish, shutdown, fill and read-only."""
        self.unfill()
        if self.kind in ("ext4", "xfs"):
            if self.dead:  # only a fresh mount, with its journal replayed, is whole
                run("umount", "-l", self.path, check=False)
                run("umount", "-l", self.disk)
                self._attach_disk()
                self.dead = False
            else:
                run("mount", "-o", "remount,rw", self.disk)
        elif self.kind == "tmpfs":
            run("mount", "-o", "remount,rw", self.disk)
        if self.nas and self.nas.poll() is not None:
            self.vanish()
        if not is_mounted(self.path):
            self._attach()
        elif self.kind == "dir":
            run("mount", "-o", "remount,bind,rw", self.path)

    def shutdown(self):
        """The disk dies: EIO from now on, to those who hold descriptors too. ext4 and xfs only."""
        if self.kind not in ("ext4", "xfs"):
            raise BedError(f"{self.kind} cannot be shut down: use ext4 or xfs")
        descriptor = os.open(self.disk, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, GOING_DOWN, struct.pack("I", 1))  # 1: flush the log, not the data
        finally:
            os.close(descriptor)
        self.dead = True

    def read_only(self):
        if self.kind == "dir":
            run("mount", "-o", "remount,bind,ro", self.path)
        elif self.kind == "flaky":
            raise BedError("tell a flaky NAS to answer EROFS instead")
        else:
            run("mount", "-o", "remount,ro", self.disk)

    def fill(self, leave=0):
        """Fills the disk but for `leave` bytes, beside the exported directory, where no listing shows it."""
        if self.kind in ("dir", "flaky"):
            raise BedError(f"{self.kind} has no size of its own: use tmpfs, ext4 or xfs")
        descriptor = os.open(os.path.join(self.disk, "fill"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for chunk in (1 << 20, 4096, 1):
                try:
                    while True:
                        os.write(descriptor, b"\xa5" * chunk)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
            if leave:
                size = os.fstat(descriptor).st_size
                os.ftruncate(descriptor, max(0, size - leave))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def unfill(self):
        try:
            os.unlink(os.path.join(self.disk, "fill"))
        except OSError:
            pass  # never filled, or shut down

    def corrupt(self, path, offset, data):
        """Silent corruption as a disk makes it: other bytes, the old times."""
        full = os.path.join(self.store, path)
        before = os.stat(full)
        with open(full, "r+b") as out:
            out.seek(offset)
            out.write(data)
        os.utime(full, ns=(before.st_atime_ns, before.st_mtime_ns))

    # ---- the flaky NAS's rules ----------------------------------------------------------------------

    def tell(self, command):
        """One command to the flaky NAS (see flaky_nas.cpp); gives its answer."""
        if self.kind != "flaky":
            raise BedError(f"{self.name} is {self.kind}, not flaky")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
            channel.settimeout(SETTLE_SECONDS)
            channel.connect(self.control)
            channel.sendall(command.encode() + b"\n")
            channel.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := channel.recv(65536):
                answer += chunk
        text = answer.decode()
        if not text.startswith("ok"):
            raise BedError(f"{self.name}: {command}: {text.strip()}")
        return text[2:].strip()

    def hang(self, operation="*", pattern="*"):
        """Operations on matching paths do not return until release()."""
        return self.tell(f"add {operation} {pattern} hang")

    def release(self):
        """Forgets all rules and lets go what hangs."""
        return self.tell("release")

    def close(self):
        if self.nas:
            abort_fuse(self.path)
            end_process(self.nas)
            self.nas = None


def parse_size(text):
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    return int(text[:-1]) * units[text[-1]] if text[-1] in units else int(text)


# ---- nodes --------------------------------------------------------------------------------------------

class Node:
    """One mounted daemon, in the foreground, in a process group of its own, its log in a file."""

    def __init__(self, bed, name, command, path):
        self.bed = bed
        self.name = name
        self.path = path
        self.log = os.path.join(bed.base, "logs", name + ".log")
        os.makedirs(path, exist_ok=True)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        try:
            wait_until(lambda: is_mounted(path) or self.process.poll() is not None, f"{name} serves {path}")
            if self.process.poll() is not None:
                raise BedError(f"{command[0]} ended with {self.process.returncode} instead of serving {path}:\n"
                               + self.log_tail())
        except BaseException:
            self.close()
            raise

    @property
    def pid(self):
        return self.process.pid

    def log_tail(self, lines=40):
        with open(self.log, encoding="utf-8", errors="backslashreplace") as log:
            return "".join(log.readlines()[-lines:])

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        raise BedError("no VmRSS")

    def unmount(self):
        """An orderly stop: umount must work, and the daemon must end by itself with status 0."""
        run("umount", self.path)
        try:
            status = self.process.wait(SETTLE_SECONDS)
        except subprocess.TimeoutExpired:
            raise BedError(f"{self.name} did not end after umount:\n{self.log_tail()}") from None
        if status:
            raise BedError(f"{self.name} ended with {status} after umount:\n{self.log_tail()}")

    def kill(self, number=signal.SIGKILL):
        """A crash: the mount stays, and answers ENOTCONN."""
        os.killpg(self.process.pid, number)
        self.process.wait(SETTLE_SECONDS)

    def close(self):
        """Whatever state it is in, gone."""
        if is_mounted(self.path):
            if self.process.poll() is None:
                try:
                    run("umount", self.path, timeout=20)
                except (BedError, subprocess.TimeoutExpired):
                    pass
            if is_mounted(self.path):
                abort_fuse(self.path)
                run("umount", "-l", self.path, check=False)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            end_process(self.process)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None and self.process.poll() is None and is_mounted(self.path):
            try:
                self.unmount()
            finally:
                self.close()
            return
        if kind is not None:
            print(f"---- end of the log of {self.name}\n{self.log_tail()}----", file=sys.stderr)
        self.close()


# ---- the array ----------------------------------------------------------------------------------------

THREE_RACKS = {"rack-a": ["nas1", "nas2"], "rack-b": ["nas3", "nas4"], "rack-c": ["nas5"]}


class Array:
    """Exports in racks, their configuration, and the nodes that mount them.

    racks: {rack: [export names]}. backing: one for all, or {export name: backing, "*": backing}; a backing
    is dir, tmpfs:SIZE, ext4:SIZE, xfs:SIZE or flaky. extra: lines added to the configuration.
    """

    def __init__(self, racks=None, replicas=2, backing="dir", name="bed", extra="", policies=()):
        base = os.environ.get("RAINFS_TEST_BASE")
        self.base = tempfile.mkdtemp(prefix=BASE_PREFIX, dir=base or os.environ.get("RAINFS_TEST_DIR", "/var/tmp"))
        os.chmod(self.base, 0o755)  # ordinary users go through it
        self.owner = os.getpid()
        self.name = name
        self.replicas = replicas
        self.policies = list(policies)
        self.exports = {}
        self.nodes = []
        self.closed = False
        _live.append(self)
        clean_on_signals()
        try:
            os.makedirs(os.path.join(self.base, "logs"))
            for rack, names in (racks or THREE_RACKS).items():
                for export in names:
                    kind = backing if isinstance(backing, str) else backing.get(export, backing.get("*", "dir"))
                    self.exports[export] = Export(self, export, rack, kind)
            self.config = os.path.join(self.base, name + ".yaml")
            self.write_config(extra)
        except BaseException:
            self.close()
            raise

    def write_config(self, extra=""):
        lines = [f"array: {self.name}", f"replicas: {self.replicas}", "racks:"]
        for rack in dict.fromkeys(export.rack for export in self.exports.values()):
            lines += [f"  - name: {rack}", "    exports:"]
            for export in self.exports.values():
                if export.rack == rack:
                    lines.append(f"      - {{ name: {export.name}, path: {export.path} }}")
        if self.policies:
            lines.append("policies:")
            lines += [f"  - {{ path: {path}, replicas: {replicas} }}" for path, replicas in self.policies]
        with open(self.config, "w", encoding="utf-8") as out:
            out.write("\n".join(lines + [extra.strip()]).rstrip() + "\n")

    def __getitem__(self, name):
        return self.exports[name]

    def rack(self, name):
        return [export for export in self.exports.values() if export.rack == name]

    def rainfsctl(self, *arguments, check=True):
        return run(program("rainfsctl"), *arguments, check=check)

    def create(self):
        return self.rainfsctl("create", self.config)

    def mount(self, options="", name=None, command=None):
        """A node. Each call is one more node of the same array, on a mount point of its own. `command` may
        stand in for rainfs: it is given the mount point as its last argument. RAINFS_MOUNT_OPTIONS are for all nodes."""
        name = name or f"node{len(self.nodes) + 1}"
        path = os.path.join(self.base, "mnt", name)
        if command is None:
            options = ",".join(filter(None, (options, os.environ.get("RAINFS_MOUNT_OPTIONS"))))
            command = [program("rainfs"), self.config, path, "-f"] + (["-o", options] if options else [])
        else:
            command = [*command, path]
        node = Node(self, name, command, path)
        self.nodes.append(node)
        return node

    def checker(self, **options):
        exports = [CheckedExport(e.name, e.rack, os.fsencode(e.store)) for e in self.exports.values()]
        policies = [(os.fsencode(path), replicas) for path, replicas in self.policies]
        return Checker(exports, self.replicas, policies, **options)

    def check(self, **options):
        """All replicas are as they should be, or BedError; see check_replicas.Checker for the options."""
        report = self.checker(**options).run()
        if report.total:
            print_report(report, 30, sys.stderr)
            raise BedError(f"{report.total} violations on the exports")
        return report

    def checker_command(self):
        """The same check as a command line, for programs.py --after."""
        parts = [sys.executable, os.path.join(SOURCE_ROOT, "tests", "support", "check_replicas.py"), "-R", str(self.replicas)]
        for export in self.exports.values():
            parts += ["--export", f"{export.name}:{export.rack}:{export.store}"]
        return parts

    def close(self):
        """Ends all processes, unmounts everything under the base, removes it. Never raises."""
        if self.closed or os.getpid() != self.owner:  # not in children forked by a test
            return
        self.closed = True
        if self in _live:
            _live.remove(self)
        for node in self.nodes:
            try:
                node.close()
            except (OSError, subprocess.SubprocessError, BedError) as error:
                print(f"while cleaning up {node.name}: {error}", file=sys.stderr)
        for export in self.exports.values():
            export.close()
        unmount_all(self.base)
        left = mounts(self.base)
        if left:
            print(f"left mounted: {left}", file=sys.stderr)
            return  # removing files now would remove them beneath a mount
        shutil.rmtree(self.base, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


atexit.register(_clean_all)
