# SPDX-License-Identifier: Apache-2.0
"""A copy of this machine with a systemd of its own as process 1: for what only a service manager can show.

    with Booted(install=build_directory) as machine:
        machine.run("systemctl start rainfs@x")

The copy is an overlay over the root file system, in namespaces of its own: nothing that happens in it is seen outside
or outlives it. Its units are Debian's basic ones and what the test adds; no network but loopback. Needs root and a
kernel with overlayfs and cgroup2.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time

from machine import SETTLE_SECONDS, BedError, clean_on_signals, wait_until

# Runs in new namespaces; $1 is the directory for the overlay.
SETUP = r"""
set -eu
base=$1 root=$1/root
mount -t tmpfs -o mode=755 memory "$base/memory"
mkdir "$base/memory/upper" "$base/memory/work"
mount -t overlay -o "lowerdir=/,upperdir=$base/memory/upper,workdir=$base/memory/work" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 dev "$root/dev"
for node in null zero full random urandom tty fuse; do : > "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
# Only what is started here, not what this machine runs.
rm -rf "$root/etc/systemd/system" "$root/etc/rainfs"
mkdir -p "$root/etc/systemd/system" "$root/etc/rainfs" "$root/outside"
: > "$root/etc/fstab"
: > "$root/etc/machine-id"
hostname node1
if [ -e "$base/prepare" ]; then sh -eu "$base/prepare" "$root"; fi
cd "$root"
pivot_root . outside
exec chroot . /bin/sh -c 'umount -l /outside; rmdir /outside; exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=multi-user.target --log-target=journal --show-status=no'
"""


class Booted:
    """prepare: shell commands run before the boot, with the copy's root as $1. install: a build directory to install
    from."""

    def __init__(self, prepare="", install=None):
        clean_on_signals()
        self.base = tempfile.mkdtemp(prefix="rainfs-booted-", dir=os.environ.get("RAINFS_TEST_DIR", "/var/tmp"))
        self.process = self.cgroup = self.pid = None
        try:
            for name in ("memory", "root"):
                os.mkdir(os.path.join(self.base, name))
            commands = prepare
            if install:
                commands = f'DESTDIR=$1 meson install -C "{install}" --no-rebuild --skip-subprojects > "$1/run/install.log"\n' + commands
            with open(os.path.join(self.base, "prepare"), "w", encoding="utf-8") as out:
                out.write(commands)
            self._boot()
        except BaseException:
            self.close()
            raise

    def _boot(self):
        unified = next((fields[1] for fields in map(str.split, open("/proc/mounts", encoding="utf-8"))
                        if fields[2] == "cgroup2"), None)
        if not unified:
            raise BedError("there is no cgroup2 hierarchy: systemd cannot be booted here")
        self.cgroup = os.path.join(unified, os.path.basename(self.base))
        os.mkdir(self.cgroup)
        self.log = os.path.join(self.base, "log")
        enter = lambda: open(os.path.join(self.cgroup, "cgroup.procs"), "w", encoding="ascii").write("0")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--cgroup", "--ipc", "--uts", "--net",
                 "bash", "-c", SETUP, "setup", self.base],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=enter)
        self.pid = wait_until(self._init, "systemd is process 1")
        wait_until(lambda: self.run("systemctl is-active multi-user.target", check=False).stdout.strip() == "active",
                   "the copy has booted")

    def _init(self):
        if self.process.poll() is not None:
            raise BedError("the copy of this machine did not boot:\n" + open(self.log, encoding="utf-8").read())
        children = open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii").read().split()
        return children and open(f"/proc/{children[0]}/comm", encoding="ascii").read().strip() == "systemd" and int(children[0])

    def command(self, text):
        return ["nsenter", "--target", str(self.pid), "--all", "--root", "--wd", "/bin/bash", "-c", text]

    def run(self, text, check=True, timeout=SETTLE_SECONDS):
        """A shell command in the copy; gives its result, with stdout and stderr together."""
        done = subprocess.run(self.command(text), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="backslashreplace", timeout=timeout)
        if check and done.returncode:
            raise BedError(f"{text}: exit {done.returncode}: {done.stdout.strip()}")
        return done

    def put(self, path, text):
        """Writes a file in the copy."""
        os.makedirs(os.path.dirname(self.outside(path)), exist_ok=True)
        with open(self.outside(path), "w", encoding="utf-8") as out:
            out.write(text)

    def outside(self, path):
        return f"/proc/{self.pid}/root{path}"

    def show(self, unit, *properties):
        """Properties of a unit, as a dictionary."""
        text = self.run(f"systemctl show {unit} " + " ".join("-p " + p for p in properties)).stdout
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def end(self, bound=SETTLE_SECONDS):
        """Shuts the copy down in order; seconds it took."""
        begun = time.monotonic()
        self.run("systemctl poweroff", check=False)
        self.process.wait(bound)
        return time.monotonic() - begun

    def close(self):
        if self.process and self.process.poll() is None:
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)  # process 1, and with it all
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.cgroup and os.path.isdir(self.cgroup):
            for directory, _, _ in os.walk(self.cgroup, topdown=False):
                try:
                    wait_until(lambda: not open(os.path.join(directory, "cgroup.procs"), encoding="ascii").read(), "", 10)
                    os.rmdir(directory)
                except (OSError, BedError) as error:
                    print(f"{directory} was left: {error}")
        shutil.rmtree(self.base, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
