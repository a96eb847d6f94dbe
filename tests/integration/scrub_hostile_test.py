#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What can go wrong while a scrub works: disks that fail, fill up and vanish, writers, swapped links, a lease that is lost."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from bed import program, wait_until  # noqa: E402
from scrub_bed import OLD, expect, facts, fill, holders, main, original, scrub  # noqa: E402
from syscalls import RENAME_EXCHANGE  # noqa: E402

TWO = {"rack-a": ["nas1"], "rack-b": ["nas2"]}


def start(bed, *arguments):
    command = [program("rainfs-scrub"), bed.config, "--grace", "0", *arguments]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(run, *statuses):
    said, errors = run.communicate(timeout=120)
    expect(run.returncode in statuses, f"the scrub ended with {run.returncode}: {said[-2000:]}{errors[-2000:]}")
    return said


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data, mtime=OLD):
    with open(path, "wb") as out:
        out.write(data)
    os.utime(path, (mtime, mtime))


def temporaries(export):
    return [name for name in os.listdir(f"{export.store}/.rainfs/tmp") if name.startswith("scrub-")]


# ---- disks

def a_replica_that_cannot_be_read_is_made_anew(bed):
    with bed.mount() as node:
        fill(node.path, 31, files=6)
        originals = original(bed, node.path)
    time.sleep(2.5)
    scrub(bed, "--deep", statuses=(0,))
    for export, name in (("nas1", "d0/f2"), ("nas2", "d1/f3")):
        bed[export].tell(f"add read /{name} errno EIO")
    before = {(e, n): os.stat(f"{bed[e].store}/{n}").st_ino for e, n in (("nas1", "d0/f2"), ("nas2", "d1/f3"))}
    done = scrub(bed, "--deep", statuses=(1,))
    expect("damaged: /d0/f2: on export nas1: it cannot be read" in done.stdout, done.stdout)
    for export in bed.exports.values():
        export.release()
    for (export, name), inode in before.items():
        expect(os.stat(f"{bed[export].store}/{name}").st_ino != inode, f"{name} on {export} is a new file")
        aside = [f"{folder}/contents" for folder, _, files in os.walk(f"{bed[export].store}/.rainfs/trash") if "contents" in files]
        expect([os.stat(path).st_ino for path in aside] == [inode], f"the bad one lies in the trash of {export}")
    bed.check(originals=originals, state_clean=True)


a_replica_that_cannot_be_read_is_made_anew.bed = {"racks": TWO, "backing": "flaky"}


def what_cannot_be_read_anywhere_is_reported_and_kept(bed):
    with bed.mount() as node:
        fill(node.path, 32, files=3)
        originals = original(bed, node.path)
    time.sleep(2.5)
    for export in bed.exports.values():
        export.tell("add read /d0/f2 errno EIO")
    done = scrub(bed, "--deep", statuses=(4,))
    expect("left: /d0/f2: no replica can be read" in done.stdout, done.stdout)
    os.unlink(f"{bed['nas2'].store}/d1/f2")
    bed["nas1"].tell("add read /d1/f2 errno EIO")
    done = scrub(bed, statuses=(4,))
    expect("left: /d1/f2" in done.stdout and not os.path.exists(f"{bed['nas2'].store}/d1/f2"), f"nothing half is put in place: {done.stdout}")
    for export in bed.exports.values():
        export.release()
        expect(not temporaries(export), "nothing is left over")
    scrub(bed, statuses=(1,))
    bed.check(originals=originals, state_clean=True)


what_cannot_be_read_anywhere_is_reported_and_kept.bed = {"racks": TWO, "backing": "flaky"}


def the_only_other_export_fills_up_in_the_middle(bed):
    with bed.mount() as node:
        fill(node.path, 33, directories=4, files=40)
        originals = original(bed, node.path)
    for d in range(4):
        for i in range(2, 40):
            os.unlink(f"{bed['nas2'].store}/d{d}/f{i}")
    time.sleep(2.5)
    run = start(bed, "--rate", "800kB")
    def made():
        return sum(len(files) for folder, _, files in os.walk(bed["nas2"].store) if ".rainfs/tmp" in folder or ".rainfs" not in folder)
    there = made()
    wait_until(lambda: made() > there + 10, "it is in the middle")
    bed["nas2"].fill(leave=50_000)
    said = end(run, 4, 5)
    expect("no room" in said or "No space" in said, said)
    copies = {os.path.relpath(f"{folder}/{name}", bed["nas1"].store) for folder, _, files in os.walk(bed["nas1"].store)
              if ".rainfs" not in folder for name in files}
    for name in copies:  # nothing is lost, and nothing half lies in place
        if os.path.isfile(f"{bed['nas2'].store}/{name}") and not os.path.islink(f"{bed['nas2'].store}/{name}"):
            expect(read(f"{bed['nas1'].store}/{name}") == read(f"{bed['nas2'].store}/{name}"), f"{name} is whole")
    expect(not temporaries(bed["nas2"]), "what could not be finished takes no room")
    bed["nas2"].unfill()
    time.sleep(2.5)
    scrub(bed, statuses=(1,))
    scrub(bed, statuses=(0,))
    bed.check(originals=originals, state_clean=True)


the_only_other_export_fills_up_in_the_middle.bed = {"racks": TWO, "backing": {"nas2": "ext4:64M", "*": "dir"}}


def an_export_that_vanishes_in_the_middle_of_a_copy(bed):
    data = os.urandom(6_000_000)
    for victim in ("nas2", "nas1"):  # the one that is written to, the one that is read
        write(f"{bed['nas1'].store}/large-{victim}", data)
        time.sleep(2.5)
        run = start(bed, "--rate", "1MB")
        wait_until(lambda: temporaries(bed["nas2"]), "it copies")
        time.sleep(0.5)
        bed[victim].vanish()
        end(run, 4, 5, 8, 12, 13)
        expect(not os.path.exists(f"{bed['nas2'].store}/large-{victim}"), "no half replica is put in place")
        bed[victim].come_back()
        expect(read(f"{bed['nas1'].store}/large-{victim}") == data, "the source is as it was")
        for export in bed.exports.values():
            for name in os.listdir(f"{export.store}/.rainfs/scrub"):
                if name.startswith("lease-"):  # one that could not be taken back; half a minute later
                    os.utime(f"{export.store}/.rainfs/scrub/{name}", (OLD, OLD))
        scrub(bed, statuses=(1,))
        expect(read(f"{bed['nas2'].store}/large-{victim}") == data and not temporaries(bed["nas2"]), "the next run does it")
    bed.check(state_clean=True)


an_export_that_vanishes_in_the_middle_of_a_copy.bed = {"racks": TWO}


# ---- others at the same time

def what_is_written_while_it_is_copied_is_not_lost(bed):
    """A slow copy; meanwhile the file is changed in place, replaced, removed, renamed, its directory renamed."""
    names = ["changed", "replaced", "removed", "renamed", "touched", "in/moved"]
    os.mkdir(f"{bed['nas1'].store}/in")
    for name in names:
        write(f"{bed['nas1'].store}/{name}", os.urandom(600_000))
    before = {name: read(f"{bed['nas1'].store}/{name}") for name in names}
    time.sleep(2.5)
    node = bed.mount()
    run = start(bed, "--rate", "500kB")
    wait_until(lambda: temporaries(bed["nas2"]), "it copies")
    with open(f"{node.path}/changed", "r+b") as out:
        out.write(b"CHANGED")
    write(f"{node.path}/replaced~", b"another one")
    os.rename(f"{node.path}/replaced~", f"{node.path}/replaced")
    os.unlink(f"{node.path}/removed")
    os.rename(f"{node.path}/renamed", f"{node.path}/new name")
    os.chmod(f"{node.path}/touched", 0o600)
    os.rename(f"{node.path}/in", f"{node.path}/out")
    end(run, 1, 5)
    wanted = {"changed": b"CHANGED" + before["changed"][7:], "replaced": b"another one", "new name": before["renamed"],
              "touched": before["touched"], "out/moved": before["in/moved"]}
    def all_right():
        for name, data in wanted.items():
            expect(read(f"{node.path}/{name}") == data, f"{name} is as it was written")
        for name in ("removed", "renamed", "in"):
            expect(not os.path.exists(f"{node.path}/{name}"), f"{name} does not come back")
    all_right()
    time.sleep(6)  # what the node has written is sealed
    scrub(bed)
    all_right()
    node.unmount()
    scrub(bed, statuses=(0,))
    bed.check(state_clean=True)


what_is_written_while_it_is_copied_is_not_lost.bed = {"racks": TWO}


def a_symbolic_link_put_in_the_way_leads_nowhere(bed):
    """The directory that a file is being copied in is exchanged for a link to the outside, on the exports themselves."""
    outside = os.path.join(bed.base, "outside")
    os.mkdir(outside)
    for target in ("nas2", "nas1"):
        os.mkdir(f"{bed['nas1'].store}/d-{target}")
        write(f"{bed['nas1'].store}/d-{target}/f", os.urandom(2_000_000))
        write(f"{outside}/f", b"secret")
        time.sleep(2.5)
        run = start(bed, "--rate", "700kB")
        wait_until(lambda: temporaries(bed["nas2"]), "it copies")
        victim = f"{bed[target].store}/d-{target}"
        os.rename(victim, victim + "~")
        os.symlink(outside, victim)
        end(run, 0, 1, 4, 5)
        expect(read(f"{outside}/f") == b"secret" and os.listdir(outside) == ["f"], "nothing is written or taken outside")
        for export in bed.exports.values():
            for folder, _, files in os.walk(export.store):
                for name in files:
                    if os.path.isfile(f"{folder}/{name}") and not os.path.islink(f"{folder}/{name}"):
                        expect(read(f"{folder}/{name}") != b"secret", f"nothing from outside is taken in, as {folder}/{name}")
        os.unlink(victim) if os.path.islink(victim) else None
        subprocess.run(["rm", "-rf", *[f"{e.store}/d-{target}" for e in bed.exports.values()],
                        *[f"{e.store}/d-{target}~" for e in bed.exports.values()]], check=True)


a_symbolic_link_put_in_the_way_leads_nowhere.bed = {"racks": TWO}


def a_scrub_that_lost_its_lease_stops(bed):
    write(f"{bed['nas1'].store}/large", os.urandom(20_000_000))
    time.sleep(2.5)
    run = start(bed, "--rate", "1MB")
    wait_until(lambda: temporaries(bed["nas2"]), "it copies")
    for export in bed.exports.values():
        os.unlink(f"{export.store}/.rainfs/scrub/lease-1of1")
    said, errors = run.communicate(timeout=60)
    expect(run.returncode & 8 and "lease" in errors, f"{run.returncode}: {said}{errors}")
    expect(not os.path.exists(f"{bed['nas2'].store}/large"), "nothing is put in place any more")
    scrub(bed, statuses=(1,))
    bed.check(state_clean=True)


a_scrub_that_lost_its_lease_stops.bed = {"racks": TWO}


# ---- renames that a killed node left half done

CHANGES = "mkdir,create,open,unlink,rmdir,rename,link,setattr,write,fsync,flush,release,mknod,symlink"
EXCHANGE = ("import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True); "
            "sys.exit(libc.renameat2(-100, os.fsencode(sys.argv[1]), -100, os.fsencode(sys.argv[2]), 2) != 0)")


def intents(export):
    folder = f"{export.store}/.rainfs/intents"
    return [f"{folder}/{name}" for name in os.listdir(folder)] if os.path.isdir(folder) else []


def cut_off(bed, victim, number, folder, action):
    """A node dies at the number-th change of the action that reaches the victim. False: there were fewer."""
    node = bed.mount("attr_timeout=0s,entry_timeout=0s")
    for pattern in (f"/{folder}*", "/.rainfs/intents*", "/.rainfs/ledger*"):
        victim.tell(f"add {CHANGES} {pattern} hang after={number} count=1")
    worker = threading.Thread(target=lambda: subprocess.run(action(f"{node.path}/{folder}"), stderr=subprocess.DEVNULL, check=False))
    worker.start()
    hung = lambda: victim.tell("hung") != "0"  # noqa: E731
    wait_until(lambda: hung() or not worker.is_alive(), "the operation hangs or is done")
    reached = hung()
    os.killpg(node.pid, signal.SIGKILL)
    victim.release()
    node.close()
    worker.join()
    died(bed, 2 * int(time.time()))  # the next node, which is there to be cut off too, is not to finish it
    return reached


def died(bed, when):
    """As the clock of whoever finds a half-done rename will have it."""
    for export in bed.exports.values():
        for path in intents(export):
            write(path, re.sub(r"(?m)^time: \d+", f"time: {when}", read(path).decode()).encode())


def half_done_renames_are_finished_without_any_mount(bed):
    kinds = {
        "rename": (lambda top: ["mv", "-f", f"{top}/a", f"{top}/b"], [{"a": b"one", "b": b"two"}, {"b": b"one"}]),
        "exchange": (lambda top: [sys.executable, "-c", EXCHANGE, f"{top}/a", f"{top}/b"],
                     [{"a": b"one", "b": b"two"}, {"a": b"two", "b": b"one"}]),
    }
    victim = bed["nas2"]
    steps, cut = 6, {kind: 0 for kind in kinds}  # not every rename has all its changes on the victim
    expect(RENAME_EXCHANGE == 2, "as the little program has it")
    with bed.mount() as node:
        for kind in kinds:
            for step in range(steps):
                os.mkdir(f"{node.path}/{kind}-{step}")
                write(f"{node.path}/{kind}-{step}/a", b"one")
                write(f"{node.path}/{kind}-{step}/b", b"two")
    for kind, (action, _) in kinds.items():
        for step in range(steps):
            cut[kind] += cut_off(bed, victim, step % 3, f"{kind}-{step}", action)
        print(f"  {kind}: cut off {cut[kind]} times", flush=True)
        expect(cut[kind] >= 2, f"{kind} was cut off {cut[kind]} times")
    died(bed, OLD)
    expect(sum(len(intents(export)) for export in bed.exports.values()) >= 4, "there are some to finish")
    time.sleep(2.5)
    scrub(bed)
    for kind, (_, states) in kinds.items():
        for step in range(steps):
            for export in bed.exports.values():
                top = f"{export.store}/{kind}-{step}"
                found = {name: read(f"{top}/{name}") for name in os.listdir(top)}
                expect(found in states, f"{kind} cut off at change {step}: {found} on {export.name}")
    for export in bed.exports.values():
        expect(not intents(export), "nothing is left to be finished")
    expect(not facts(bed), "no fact is left")
    scrub(bed, statuses=(0,))
    bed.check(state_clean=True)


half_done_renames_are_finished_without_any_mount.bed = {
    "racks": {"rack-a": ["nas1"], "rack-b": ["nas2"]}, "backing": "flaky",
    "extra": "deadlines: { metadata: 20s, data: 20s, probe: 15s }"}


if __name__ == "__main__":
    main([a_replica_that_cannot_be_read_is_made_anew, what_cannot_be_read_anywhere_is_reported_and_kept,
          the_only_other_export_fills_up_in_the_middle, an_export_that_vanishes_in_the_middle_of_a_copy,
          what_is_written_while_it_is_copied_is_not_lost, a_symbolic_link_put_in_the_way_leads_nowhere,
          a_scrub_that_lost_its_lease_stops, half_done_renames_are_finished_without_any_mount], __doc__)
