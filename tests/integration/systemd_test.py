#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The units under a real systemd, in a copy of this machine: a boot without the NAS, readiness, watchdog, reload, a
killed daemon, a stop with a hung export, scrubs by hand, by timer and as a service, the target, and fstab.

usage: systemd_test.py BUILD_DIRECTORY      (needs root, /dev/fuse, overlayfs and cgroup2)
"""
import os
import shlex
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from booted import Booted  # noqa: E402
from machine import wait_until  # noqa: E402
from promises import check, failures  # noqa: E402

BUILD = os.path.realpath(sys.argv[1])
FLAKY = os.path.join(BUILD, "tests", "support", "flaky_nas")
CONFIG = """array: x
replicas: 2
racks:
  - { name: a, exports: [ { name: nas1, path: /nas/1 } ] }
  - { name: b, exports: [ { name: nas2, path: /nas/2 } ] }
  - { name: c, exports: [ { name: nas3, path: /nas/3 } ] }
deadlines: { metadata: 1s, data: 2s, probe: 500ms }
scrub: { grace: 1s, rate: unlimited }
"""
PREPARE = """
mkdir -p $1/disks && mount -t tmpfs disks $1/disks
mkdir -p $1/nas/1 $1/nas/2 $1/nas/3 $1/disks/1 $1/disks/2 $1/disks/3 $1/etc/systemd/system/rainfs.target.wants
mkdir -p $1/etc/systemd/system/multi-user.target.wants
install -D """ + shlex.quote(FLAKY) + """ $1/usr/local/bin/flaky_nas
ln -s /lib/systemd/system/rainfs@.service $1/etc/systemd/system/rainfs.target.wants/rainfs@x.service
ln -s /lib/systemd/system/rainfs.target $1/etc/systemd/system/multi-user.target.wants/rainfs.target
cat > $1/etc/rainfs/x.yaml <<'END'
""" + CONFIG + "END\n"


def journal(machine, unit, more=""):
    return machine.run(f"journalctl --no-pager -u {unit} {more}", check=False).stdout


def state(machine, unit="rainfs@x"):
    return machine.show(unit, "ActiveState", "SubState", "Result", "MainPID", "NRestarts")


def is_new(machine, before):
    now = state(machine)
    return now["MainPID"] not in ("0", before["MainPID"]) and now["ActiveState"] == "active"


def serves(machine):
    return machine.run("mountpoint -q /mnt/x && timeout 10 ls /mnt/x", check=False).returncode == 0


def mounts_of(machine):
    return machine.run("grep -c ' /mnt/x ' /proc/self/mountinfo", check=False).stdout.strip()


def boots_without_the_nas(machine):
    # Booted() returned: multi-user.target was reached, with nothing mounted on /nas.
    found = state(machine)
    check(found["ActiveState"] in ("activating", "failed"), "the machine boots while no NAS is there", found)
    check("none of its exports can be used" in journal(machine, "rainfs@x"), "and the journal says why the array is not",
          journal(machine, "rainfs@x"))
    for number in "123":
        machine.run(f"mount --bind /disks/{number} /nas/{number}")
    machine.run("rainfsctl create x")
    wait_until(lambda: state(machine)["ActiveState"] == "active", "the array is taken when it comes")
    check(serves(machine), "it is mounted by itself when its exports come")


def is_ready_when_it_serves(machine):
    machine.run("systemctl stop rainfs@x")
    check(mounts_of(machine) == "0", "stop unmounts")
    machine.run("systemctl start rainfs@x && echo hello > /mnt/x/file && ls /mnt/x/.rainfs/status")
    check(True, "start returns when the mount serves, not before")
    lines = journal(machine, "rainfs@x", "-o json --output-fields=MESSAGE,PRIORITY")
    check('"PRIORITY":"5","' in lines.replace(" ", "") or '"PRIORITY":"5"' in lines.replace(" ", ""),
          "events have their priority in the journal", lines[-500:])


def reloads(machine):
    machine.put("/etc/rainfs/x.yaml", CONFIG.replace("data: 2s", "data: 3s"))
    machine.run("systemctl reload rainfs@x")
    check("data 3s" in machine.run("cat /mnt/x/.rainfs/control").stdout, "reload obeys the files")
    machine.put("/etc/rainfs/x.yaml", CONFIG + "bogus: 1\n")
    done = machine.run("systemctl reload rainfs@x", check=False)
    check(done.returncode != 0 and "bogus" in journal(machine, "rainfs@x") and state(machine)["ActiveState"] == "active",
          "a refused reload fails, says why in the journal, and leaves the mount alone", done.stdout)
    machine.run("systemctl stop rainfs@x")
    machine.run("systemctl start rainfs@x", check=False)
    time.sleep(6)  # longer than RestartSec
    found = state(machine)
    check(found["ActiveState"] == "failed" and found["NRestarts"] == "0", "a file that is wrong is not tried again", found)
    machine.put("/etc/rainfs/x.yaml", CONFIG)
    machine.run("systemctl reset-failed rainfs@x; systemctl start rainfs@x")


def comes_back_when_killed(machine):
    before = state(machine)
    # Somebody who works there, so that the dead mount is in use.
    machine.run("systemd-run --unit=user --working-directory=/mnt/x sleep 1000")
    for what, kill in (("a killed server", f"pkill -9 -P {before['MainPID']}"),
                       ("a killed main process", "kill -9 $(systemctl show -P MainPID rainfs@x)"),
                       ("both killed", "systemctl kill --kill-whom=all -s KILL rainfs@x")):
        before = state(machine)
        machine.run(kill)
        wait_until(lambda: is_new(machine, before), "the daemon is started again")
        check(serves(machine) and mounts_of(machine) == "1" and "hello" in machine.run("cat /mnt/x/file").stdout,
              what + ": it is started again, and the dead mount is gone", mounts_of(machine))
    machine.run("systemctl stop user")


def is_watched(machine):
    machine.put("/run/systemd/system/rainfs@x.service.d/test.conf", "[Service]\nWatchdogSec=2\n")
    machine.run("systemctl daemon-reload; systemctl restart rainfs@x")
    before = state(machine)
    time.sleep(5)
    check(state(machine)["MainPID"] == before["MainPID"], "the watchdog is fed")
    machine.run(f"pkill -STOP -P {before['MainPID']}")
    wait_until(lambda: is_new(machine, before), "the daemon is started again")
    check(serves(machine) and "watchdog" in journal(machine, "rainfs@x").lower(), "a daemon that stands still is started again")
    machine.run("rm -r /run/systemd/system/rainfs@x.service.d; systemctl daemon-reload; systemctl restart rainfs@x")


def stops_with_a_hung_export(machine):
    machine.run("umount -l /nas/3")
    machine.run(f"systemd-run --unit=nas3 flaky_nas /disks/3 /nas/3 --control /run/nas3")
    wait_until(lambda: machine.run("mountpoint -q /nas/3", check=False).returncode == 0, "the flaky NAS is mounted")
    wait_until(lambda: machine.run("rainfsctl status x", check=False).returncode == 0, "the flaky NAS is taken")
    for i in range(20):
        machine.run(f"echo x > /mnt/x/hung{i}")
    tell = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect('/run/nas3'); s.sendall(sys.argv[1].encode()+b'\\n'); s.shutdown(1); s.recv(999)"
    machine.run("systemd-run --unit=writer -p KillMode=process bash -c 'exec 3> /mnt/x/open; while :; do echo x >&3; done'")
    machine.run(f'python3 -c "{tell}" "add * * hang"')
    time.sleep(1)
    begun = time.monotonic()
    machine.run("systemctl stop rainfs@x", timeout=120)
    seconds = time.monotonic() - begun
    check(seconds < 60 and mounts_of(machine) == "0", f"a stop with a hung export and a file in use is bounded ({seconds:.0f} s)")
    check("left-behind" in journal(machine, "rainfs@x"), "what hangs is left behind, and the journal says so")
    begun = time.monotonic()
    machine.run("systemctl start rainfs@x && timeout 20 ls /mnt/x")
    check(True, f"and it can be started again at once ({time.monotonic() - begun:.0f} s)")
    machine.run("systemctl stop rainfs@x", timeout=120)
    machine.run(f'python3 -c "{tell}" release; systemctl stop writer nas3', check=False)
    machine.run("mountpoint -q /nas/3 || mount --bind /disks/3 /nas/3; systemctl reset-failed", check=False)
    machine.run("systemctl start rainfs@x")
    wait_until(lambda: machine.run("rainfsctl status x", check=False).returncode in (0, 1), "it serves again")


def scrubs(machine):
    done = machine.run("systemctl start rainfs-scrub@x", check=False)
    check(done.returncode == 0, "a scrub by hand", journal(machine, "rainfs-scrub@x"))
    wait_until(lambda: machine.run("rainfsctl status x", check=False).returncode == 0, "all is repaired")
    machine.put("/run/systemd/system/rainfs-scrub@x.timer.d/test.conf",
                "[Timer]\nOnCalendar=\nOnActiveSec=1\nRandomizedDelaySec=0\nAccuracySec=1\n")
    machine.run("systemctl daemon-reload")
    before = machine.show("rainfs-scrub@x", "ExecMainStartTimestampMonotonic")
    machine.run("systemctl start rainfs-scrub@x.timer")
    wait_until(lambda: machine.show("rainfs-scrub@x", "ExecMainStartTimestampMonotonic") != before, "the timer fires")
    wait_until(lambda: state(machine, "rainfs-scrub@x")["ActiveState"] == "inactive", "the scrub ends")
    check(state(machine, "rainfs-scrub@x")["Result"] == "success", "and by the timer")
    machine.run("systemctl stop rainfs-scrub@x.timer; rm -r /run/systemd/system/rainfs-scrub@x.timer.d; systemctl daemon-reload")
    check("Sat" in machine.run("systemctl start rainfs-scrub@x.timer; systemctl list-timers --no-pager").stdout,
          "the timer is set for the weekend")


def keeps_whole(machine):
    machine.run("systemctl start rainfs-scrub-watch@x")
    machine.run("umount -l /nas/2")
    wait_until(lambda: machine.run("rainfsctl status x", check=False).returncode == 1, "nas2 is missed")
    for i in range(20):
        machine.run(f"echo late > /mnt/x/late{i}")
    machine.run("mount --bind /disks/2 /nas/2")
    wait_until(lambda: machine.run("rainfsctl status x", check=False).returncode == 0,
               "rainfs-scrub-watch@ brings an export that comes back what it missed, by itself")
    check(True, "rainfs-scrub-watch@ brings an export that comes back what it missed, by itself")
    machine.put("/etc/rainfs/x.yaml", CONFIG.replace("grace: 1s", "grace: 2s"))
    machine.run("systemctl reload rainfs-scrub-watch@x")
    wait_until(lambda: "is obeyed" in journal(machine, "rainfs-scrub-watch@x"), "it reads its file again")
    check(state(machine, "rainfs-scrub-watch@x")["ActiveState"] == "active", "it reads its file again on reload")
    machine.put("/etc/rainfs/x.yaml", CONFIG)
    machine.run("systemctl stop rainfs-scrub-watch@x")
    check(state(machine, "rainfs-scrub-watch@x")["Result"] == "success", "and stops in order",
          journal(machine, "rainfs-scrub-watch@x"))


def target(machine):
    machine.run("systemctl stop rainfs.target")
    wait_until(lambda: mounts_of(machine) == "0", "stopping rainfs.target stops all arrays")
    machine.run("systemctl start rainfs.target")
    wait_until(lambda: serves(machine), "starting it starts those that are enabled")
    check(True, "rainfs.target stops and starts all arrays")
    machine.run("systemctl disable rainfs@x && systemctl enable rainfs@x rainfs.target rainfs-scrub-watch@x rainfs-scrub@x.timer")
    check(True, "all of it can be enabled")
    machine.run("systemctl stop rainfs.target rainfs-scrub@x.timer; systemctl disable rainfs-scrub-watch@x")


def by_fstab(machine):
    machine.put("/etc/fstab", "x /srv/rain fuse.rainfs _netdev,nofail,rack=a 0 0\n")
    machine.run("mkdir -p /srv/rain; systemctl daemon-reload; systemctl start srv-rain.mount; cat /srv/rain/file")
    check("remote-fs-pre.target" in machine.show("srv-rain.mount", "After")["After"], "fstab mounts it as a remote file system")
    machine.run("systemctl stop srv-rain.mount")
    wait_until(lambda: machine.run("pgrep -x rainfs", check=False).returncode == 1, "the daemon ends with its mount")
    check(True, "and its daemon ends with the mount")


def main():
    with Booted(PREPARE, install=BUILD) as machine:
        for step in (boots_without_the_nas, is_ready_when_it_serves, reloads, comes_back_when_killed, is_watched,
                     stops_with_a_hung_export, scrubs, keeps_whole, target, by_fstab):
            try:
                step(machine)
            except Exception as error:  # what follows may still tell something
                check(False, step.__name__.replace("_", " "), f"{error}\n{journal(machine, 'rainfs*', '-n 15')}")
        machine.run("systemctl start rainfs@x", check=False)
        seconds = machine.end(90)
        check(seconds < 60, f"the machine shuts down with it mounted ({seconds:.0f} s)")
    print(f"{len(failures)} failed" if failures else "all kept")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
