#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What rainfs-scrub and the commands around it promise, on real mounts, judged by the independent checker.

Usage: scrub_test.py [NAME...]   (RAINFS_BUILD_DIR or RAINFS_BIN tells where the programs are)
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from bed import Array, BedError, Export, isolate, program, wait_until  # noqa: E402

OLD = 1_600_000_000


def expect(condition, what):
    if not condition:
        raise BedError(what)


def scrub(bed, *arguments, statuses=(0, 1)):
    command = [program("rainfs-scrub"), bed.config, "--grace", "0", "--rate", "0", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="backslashreplace")
    expect(done.returncode in statuses, f"rainfs-scrub {arguments}: {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


def fill(mount, seed, directories=4, files=20, largest=60_000):
    """A tree with everything in it; all of it old, so that nothing looks like a write in flight."""
    rng = random.Random(seed)
    for d in range(directories):
        os.makedirs(f"{mount}/d{d}/sub")
        for i in range(files):
            with open(f"{mount}/d{d}/f{i}", "wb") as out:
                out.write(rng.randbytes(rng.randrange(1, largest)))
    os.link(f"{mount}/d0/f0", f"{mount}/d1/linked")
    os.symlink("a target", f"{mount}/d2/symlink")
    os.mkfifo(f"{mount}/d2/fifo")
    with open(f"{mount}/d3/holes", "wb") as out:
        out.seek(10 << 20)
        out.write(b"x")
        out.truncate(20 << 20)
    os.setxattr(f"{mount}/d0/f1", "user.colour", b"green")
    for folder, _, names in os.walk(mount):
        for number, name in enumerate(sorted(names)):
            os.utime(f"{folder}/{name}", (OLD, OLD + number), follow_symlinks=False)


def original(bed, mount):
    copy = os.path.join(bed.base, "original")
    subprocess.run(["cp", "-a", mount, copy], check=True)
    return [(os.fsencode(copy), b"")]


def holders(bed, path):
    return [e for e in bed.exports.values() if os.path.lexists(f"{e.store}/{path}")]


def damaged_replicas_are_made_good(bed):
    with bed.mount() as node:
        fill(node.path, 1)
        originals = original(bed, node.path)
    time.sleep(2.5)  # what is younger may be in the middle of being made
    scrub(bed, "--deep", statuses=(0,))
    for export in bed.exports.values():
        subprocess.run(["xxhsum", "--quiet", "-c", ".rainfs/scrub/catalogue.xxh128"], cwd=export.store, check=True)
    holders(bed, "d0/f2")[0].corrupt("d0/f2", 0, b"\0\1\2\3")
    holders(bed, "d1/linked")[1].corrupt("d1/linked", 0, b"\0\1\2\3")
    os.unlink(f"{holders(bed, 'd0/f3')[0].store}/d0/f3")
    os.unlink(f"{holders(bed, 'd2/symlink')[0].store}/d2/symlink")
    victim = f"{holders(bed, 'd0/f4')[1].store}/d0/f4"
    os.truncate(victim, 1)
    os.utime(victim, (OLD, OLD + 10_000_000))  # looks newer than the good one
    os.chown(f"{holders(bed, 'd0/f5')[0].store}/d0/f5", 1234, 1234)
    os.removexattr(f"{holders(bed, 'd0/f1')[0].store}/d0/f1", "user.colour")
    os.chmod(f"{holders(bed, 'd3')[0].store}/d3", 0o700)
    for export in bed.exports.values():
        here = [f"{export.store}/d1/f{i}" for i in range(20) if os.path.exists(f"{export.store}/d1/f{i}")]
        if len(here) > 1:
            os.rename(here[0], here[0] + "~")
            os.rename(here[1], here[0])
            os.rename(here[0] + "~", here[1])
            break
    time.sleep(2.5)
    expect(scrub(bed, "--dry-run", statuses=(1, 5)).stdout, "a dry run says what it would do")
    scrub(bed, "--deep", statuses=(1,))
    bed.check(originals=originals, state_clean=True)
    scrub(bed, "--deep", statuses=(0,))


def contents_that_nobody_can_judge_are_kept(bed):
    with bed.mount() as node:
        with open(f"{node.path}/f", "wb") as out:
            out.write(b"a" * 1000)
    holders(bed, "f")[0].corrupt("f", 5, b"Z")
    time.sleep(2.5)
    scrub(bed, "--deep", statuses=(4,))
    contents = {open(f"{e.store}/f", "rb").read() for e in holders(bed, "f")}
    expect(len(contents) == 2, "both versions stay")
    scrub(bed, "--deep", "--resolve", "newest", statuses=(1,))
    bed.check(state_clean=True)
    listed = bed.rainfsctl("trash", "list", bed.config).stdout
    expect("conflicts/" in listed, f"the loser is listed: {listed}")


def change_much(mount, seed, directories=8, files=30):
    rng = random.Random(seed)
    every = [(d, i) for d in range(directories) for i in range(files)]
    rng.shuffle(every)
    for number, (d, i) in enumerate(every):
        path = f"{mount}/d{d}/f{i}"
        kind = number % 6
        if kind == 0:
            os.unlink(path)
        elif kind == 1:
            with open(path, "wb") as out:
                out.write(rng.randbytes(rng.randrange(0, 20_000)))
        elif kind == 2:
            os.rename(path, f"{mount}/d{d}/renamed{i}")
        elif kind == 3:
            os.chmod(path, 0o600)
            os.setxattr(path, "user.number", b"%d" % number)
        elif kind == 4:
            with open(f"{mount}/d{d}/new{i}", "wb") as out:
                out.write(rng.randbytes(rng.randrange(0, 20_000)))
    os.rename(f"{mount}/d0", f"{mount}/D0")
    os.rename(f"{mount}/D0", f"{mount}/DD0")
    os.makedirs(f"{mount}/deep/er")
    os.rename(f"{mount}/d1", f"{mount}/deep/er/d1")
    subprocess.run(["rm", "-r", f"{mount}/d2"], check=True)
    os.rename(f"{mount}/d3", f"{mount}/old3")
    os.mkdir(f"{mount}/d3")
    with open(f"{mount}/d3/f1", "wb") as out:
        out.write(b"fresh")


def an_export_that_comes_back_is_brought_level_by_its_facts(bed):
    node = bed.mount()
    fill(node.path, 2, directories=8, files=30, largest=20_000)
    victim = bed["nas1"]
    victim.vanish()
    time.sleep(3)  # a poll of the node has seen it
    change_much(node.path, 3)
    originals = original(bed, node.path)
    victim.come_back()
    time.sleep(2)
    done = scrub(bed, "--ledger")
    expect("renamed from /d1" in done.stdout, "a renamed directory is renamed, not copied")
    scrub(bed)
    bed.check(originals=originals, state_clean=True)
    scrub(bed, statuses=(0,))
    node.unmount()


def the_watch_repairs_what_comes_back_by_itself(bed):
    node = bed.mount()
    fill(node.path, 4)
    victim = bed["nas5"]
    victim.vanish()
    time.sleep(3)
    for i in range(20):
        with open(f"{node.path}/d0/f{i}", "ab") as out:
            out.write(b"more")
    watch = subprocess.Popen([program("rainfs-scrub"), bed.config, "--watch", "--quiet"], stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        victim.come_back()
        wait_until(lambda: not any(os.listdir(f"{e.store}/.rainfs/ledger") for e in bed.exports.values()), "no fact is left")
        watch.send_signal(signal.SIGTERM)
        expect(watch.wait(30) == 0, "it ends in order")
    finally:
        watch.kill()
        watch.wait()
    node.unmount()
    scrub(bed)  # directories and what needs no facts
    bed.check(state_clean=True)


class Writer(threading.Thread):
    """Works in a directory of its own and knows what must be in it."""

    def __init__(self, mount, number):
        super().__init__()
        self.base = f"{mount}/w{number}"
        self.rng = random.Random(number)
        self.files = {}
        self.failure = None
        self.stopping = False
        os.mkdir(self.base)

    def run(self):
        count = 0
        try:
            while not self.stopping:
                count += 1
                self.step(count, self.rng.randrange(6))
                time.sleep(0.005)
        except (OSError, BedError) as error:
            self.failure = error

    def step(self, count, kind):
        if kind < 2 or not self.files:
            data = self.rng.randbytes(self.rng.randrange(30_000))
            with open(f"{self.base}/n{count}", "wb") as out:
                out.write(data)
            self.files[f"n{count}"] = data
            return
        name = self.rng.choice(list(self.files))
        path = f"{self.base}/{name}"
        if kind == 2:
            with open(path, "ab") as out:
                out.write(b"0123456789" * 100)
            self.files[name] += b"0123456789" * 100
        elif kind == 3:
            os.unlink(path)
            del self.files[name]
        elif kind == 4:
            os.rename(path, f"{self.base}/r{count}")
            self.files[f"r{count}"] = self.files.pop(name)
        else:
            self.check(name)

    def check(self, name):
        with open(f"{self.base}/{name}", "rb") as file:
            got = file.read()
        expect(got == self.files[name], f"{name} reads as {len(got)} bytes instead of {len(self.files[name])}")

    def finish(self):
        self.stopping = True
        self.join()
        if self.failure:
            raise BedError(f"a writer failed: {self.failure}")
        for name in self.files:
            self.check(name)


def kill_at_a_random_moment(bed, rng):
    process = subprocess.Popen([program("rainfs-scrub"), bed.config, "--grace", "0", "--rate", "0", "--quiet"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(2.5 + rng.random() * 0.6)  # nothing is placed before
    process.kill()
    process.wait()
    for export in bed.exports.values():  # half a minute later, as far as the next one can tell
        for name in os.listdir(f"{export.store}/.rainfs/scrub"):
            if name.startswith("lease-"):
                os.utime(f"{export.store}/.rainfs/scrub/{name}", (OLD, OLD))


def a_killed_scrub_loses_nothing_while_writers_run(bed, kills=50):
    rng = random.Random(5)
    node = bed.mount()
    fill(node.path, 6, directories=6, files=40)
    originals = original(bed, node.path)
    time.sleep(2.5)
    writers = [Writer(node.path, number) for number in range(2)]
    for writer in writers:
        writer.start()
    exports = list(bed.exports.values())
    for _ in range(kills):
        export = rng.choice(exports)
        # A replica that a killed scrub did not vouch for does not count as the other good one.
        quiet = not any(os.listdir(f"{e.store}/.rainfs/ledger") for e in exports)
        for folder, _, names in os.walk(f"{export.store}"):
            if ".rainfs" in folder or "/w" in folder:
                continue
            for name in names:
                path = os.path.relpath(f"{folder}/{name}", export.store)
                if quiet and rng.random() < 0.3 and len(holders(bed, path)) > 1:
                    os.unlink(f"{folder}/{name}")
        kill_at_a_random_moment(bed, rng)
    for writer in writers:
        writer.finish()
    time.sleep(2.5)
    scrub(bed)
    scrub(bed, statuses=(0,))
    subprocess.run(["rm", "-r", *[writer.base for writer in writers]], check=True)
    bed.check(originals=originals, state_clean=True)
    node.unmount()


def a_second_scrub_leaves_with_a_message(bed):
    with bed.mount() as node:
        fill(node.path, 7)
    os.unlink(f"{holders(bed, 'd0/f1')[0].store}/d0/f1")  # a repair takes the first a while: it has to be announced
    time.sleep(2.5)
    first = subprocess.Popen([program("rainfs-scrub"), bed.config, "--grace", "0"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_until(lambda: os.path.exists(f"{bed['nas5'].store}/.rainfs/scrub/lease-1of1"), "the first has the lease")
    first.send_signal(signal.SIGSTOP)
    second = scrub(bed, statuses=(8,))
    expect("another scrub is running" in second.stderr, second.stderr)
    first.send_signal(signal.SIGCONT)
    expect(first.wait(60) == 1, "the first goes on")


def files_from_before_the_array_are_all_kept(bed):
    names = list(bed.exports)
    for number, name in enumerate(names[:3]):
        path = f"{bed[name].store}/same"
        with open(path, "w", encoding="ascii") as out:
            out.write(f"version {number}\n" * (number + 1))
        os.utime(path, (OLD + number, OLD + number))
    for name in names:
        with open(f"{bed[name].store}/only-{name}", "w", encoding="ascii") as out:
            out.write(name)
        os.utime(f"{bed[name].store}/only-{name}", (OLD, OLD))
    time.sleep(2.5)
    done = scrub(bed, statuses=(1,))
    bed.check(state_clean=True)
    kept = set()
    for export in bed.exports.values():
        for folder, _, files in os.walk(export.store):
            for file in files:
                if file in ("same", "contents"):
                    with open(f"{folder}/{file}", encoding="ascii") as text:
                        kept.add(text.read())
    expect(kept == {f"version {n}\n" * (n + 1) for n in range(3)}, f"nothing is lost: {kept}")
    expect(done.stdout.count("conflict: /same") == 2, f"all are listed: {done.stdout}")


def exports_come_and_go(bed):
    node = bed.mount()
    fill(node.path, 8)
    os.unlink(f"{node.path}/d1/linked")  # its two names would come under different policies
    originals = original(bed, node.path)
    time.sleep(2.5)
    bed.rainfsctl("retire", bed.config, "nas5", "--yes")
    bed.exports.pop("nas5")
    bed.check(originals=originals)
    bed.exports["nas6"] = Export(bed, "nas6", "rack-c", "dir")
    bed.write_config()
    bed.rainfsctl("add", bed.config, "nas6", "--yes")
    time.sleep(2.5)
    scrub(bed, "--balance")
    bed.check(originals=originals, state_clean=True)
    expect(holders(bed, "d0") and os.listdir(f"{bed['nas6'].store}/d0"), "the new export has its share")
    bed.rainfsctl("drain", bed.config, "nas1", "--yes")
    bed.exports.pop("nas1")
    bed.check(originals=originals)
    bed.rainfsctl("replicas", bed.config, "3", "/d0", "--yes")
    bed.policies = [("/d0", 3)]
    bed.check(originals=originals)
    bed.rainfsctl("replicas", bed.config, "2", "/d0", "--yes")
    bed.policies = []
    bed.check(originals=originals)
    listed = bed.rainfsctl("trash", "list", bed.config, "/d0/f3").stdout.splitlines()
    os.unlink(f"{node.path}/d0/f3")
    bed.rainfsctl("trash", "restore", bed.config, listed[1].split()[1])
    time.sleep(2.5)
    scrub(bed, "d0/f3")
    bed.check(originals=originals)
    bed.rainfsctl("trash", "empty", bed.config, "--yes")
    expect(not bed.rainfsctl("trash", "list", bed.config).stdout, "the trash is empty")
    node.unmount()


TESTS = [
    damaged_replicas_are_made_good,
    contents_that_nobody_can_judge_are_kept,
    an_export_that_comes_back_is_brought_level_by_its_facts,
    the_watch_repairs_what_comes_back_by_itself,
    a_killed_scrub_loses_nothing_while_writers_run,
    a_second_scrub_leaves_with_a_message,
    files_from_before_the_array_are_all_kept,
    exports_come_and_go,
]


def main():
    failed = 0
    for test in TESTS:
        if sys.argv[1:] and test.__name__ not in sys.argv[1:]:
            continue
        print(f"# {test.__name__.replace('_', ' ')}", flush=True)
        try:
            with Array() as bed:
                bed.create()
                test(bed)
        except (BedError, OSError, subprocess.SubprocessError) as error:
            failed += 1
            print(f"FAILED: {error}", flush=True)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(isolate(main))
