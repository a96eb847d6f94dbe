#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An export that was away is brought level by what was remembered, in proportion to what changed."""

import os
import random
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from bed import Array, program, wait_until  # noqa: E402
from scrub_bed import OLD, expect, facts, fill, holders, main, original, scrub  # noqa: E402


TWO = {"rack-a": ["nas1"], "rack-b": ["nas2"]}


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


def what_it_missed_under_one_name_it_missed_under_the_other(bed):
    """And where a late write reached its copy, it looks younger than what was acknowledged."""
    node = bed.mount()
    os.mkdir(f"{node.path}/d")
    for name in ("d/one", "z"):  # which of the names comes first must not matter
        with open(f"{node.path}/{name}", "wb") as out:
            out.write(b"old")
        os.link(f"{node.path}/{name}", f"{node.path}/{name}-other")
    victim = next(e for e in bed.exports.values() if os.path.exists(f"{e.store}/d/one"))
    other = next(e for e in bed.exports.values() if os.path.exists(f"{e.store}/z"))
    for missing, written in ((victim, "d/one"), (other, "z-other")):
        missing.vanish()
        time.sleep(3)
        with open(f"{node.path}/{written}", "wb") as out:
            out.write(b"new")
        missing.come_back()
        with open(f"{missing.store}/{written}", "wb") as out:
            out.write(b"torn")
        time.sleep(2)
    node.unmount()
    scrub(bed, "--ledger")
    for name in ("d/one", "d/one-other", "z", "z-other"):
        found = {e.name: open(f"{e.store}/{name}", "rb").read() for e in holders(bed, name)}
        expect(len(found) == 2 and set(found.values()) == {b"new"}, f"{name}: {found}")
    bed.check(state_clean=True)


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
        wait_until(lambda: not facts(bed), "no fact is left")
        watch.send_signal(signal.SIGTERM)
        expect(watch.wait(30) == 0, "it ends in order")
    finally:
        watch.kill()
        watch.wait()
    node.unmount()
    scrub(bed)  # directories and what needs no facts
    bed.check(state_clean=True)


def the_work_is_in_proportion_to_what_changed(bed):
    """Many files, few changes: with facts only these are looked at."""
    node = bed.mount()
    fill(node.path, 9, directories=10, files=100, largest=2000)
    bed["nas3"].vanish()
    time.sleep(3)
    for i in range(30):
        with open(f"{node.path}/d4/f{i}", "ab") as out:
            out.write(b"more")
    os.rename(f"{node.path}/d5", f"{node.path}/moved")
    originals = original(bed, node.path)
    bed["nas3"].come_back()
    time.sleep(2)
    begun = time.monotonic()
    done = scrub(bed, "--ledger")
    by_facts = time.monotonic() - begun
    expect(not facts(bed), f"no fact is left: {done.stdout}")
    files, instances, repaired = map(int, re.search(r"(\d+) files and (\d+) facts looked at: (\d+) repaired", done.stdout).groups())
    whole = scrub(bed)
    every = int(re.search(r"(\d+) files and", whole.stdout).group(1))
    print(f"  {every} files there; changed: 30 files and a directory of 100; by facts: {instances} facts and {files} files looked at, "
          f"{repaired} repaired in {by_facts:.1f} s")
    expect(files == 0 and instances <= 2 * 32, f"{instances} facts and {files} files were looked at")
    bed.check(originals=originals, state_clean=True)
    node.unmount()


# ---- what the watch costs

def make_tree(bed, count):
    """Files of two replicas, in directories of a hundred."""
    for export in bed.exports.values():
        for i in range(count):
            if i % 100 == 0:
                folder = f"{export.store}/d{i // 100}"
                os.mkdir(folder)
            with open(f"{folder}/f{i}", "wb") as out:
                out.write(b"%d" % i)
            os.utime(f"{folder}/f{i}", (OLD, OLD))
        for folder in os.listdir(export.store):
            if folder.startswith("d"):
                os.utime(f"{export.store}/{folder}", (OLD, OLD))


def change_some(mount, count):
    """So many changes: a third each of new files, overwritten ones and removed ones; and five directories of a hundred renamed."""
    for i in range(count // 3):
        with open(f"{mount}/d{i % 10}/new{i}", "wb") as out:
            out.write(b"new %d" % i)
        with open(f"{mount}/d{i % 10}/f{i % 10 * 100 + i // 10 % 50}", "wb") as out:
            out.write(b"overwritten %d" % i)
        if i < 500:
            os.unlink(f"{mount}/d{i % 10}/f{i % 10 * 100 + 50 + i // 10}")
    for d in range(10, 15):
        os.rename(f"{mount}/d{d}", f"{mount}/moved{d}")


def operations(bed):
    """All that the exports were asked since they were attached, but for opening and closing what was asked."""
    return sum(int(line.split()[1]) for export in bed.exports.values() for line in export.tell("stats").splitlines() if line)


def brought_level(bed, files):
    make_tree(bed, files)
    node = bed.mount()
    bed["nas1"].vanish()
    wait_until(lambda: not bed["nas1"].nas, "it is gone")
    time.sleep(3)
    change_some(node.path, bed.changes)
    node.unmount()
    watch = subprocess.Popen([program("rainfs-scrub"), bed.config, "--watch", "--quiet"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    try:
        time.sleep(3)  # it has looked, and can do nothing
        before = operations(Half(bed, "nas2"))
        begun = time.monotonic()
        bed["nas1"].come_back()
        wait_until(lambda: not facts(bed), "no fact is left", 300)
        seconds = time.monotonic() - begun
        asked = operations(bed) - before
        watch.send_signal(signal.SIGTERM)
        expect(watch.wait(30) == 0, "it ends in order")
    finally:
        watch.kill()
        watch.wait()
    print(f"  {files} files, {bed.changes} changed and 5 directories of 100 renamed: level after {seconds:.1f} s, {asked} operations on the exports",
          flush=True)
    if files < 5_000:  # looking at each of very many through a small server takes minutes
        scrub(bed)
        bed.check(state_clean=True)
    return asked


class Half:
    """Some exports of a bed."""

    def __init__(self, bed, *names):
        self.exports = {name: bed[name] for name in names}


def the_watch_asks_for_no_more_in_a_large_tree_than_in_a_small_one(bed):
    counts = {}
    for files in (2_000, bed.files):
        with Array(racks=TWO, backing="flaky") as one:
            one.create()
            one.changes = bed.changes
            counts[files] = brought_level(one, files)
    # The pass over everything would ask for each of the files several times.
    expect(counts[bed.files] < 1.5 * counts[2_000], f"operations: {counts}")


the_watch_asks_for_no_more_in_a_large_tree_than_in_a_small_one.bed = {"racks": TWO}


if __name__ == "__main__":
    main([an_export_that_comes_back_is_brought_level_by_its_facts, what_it_missed_under_one_name_it_missed_under_the_other,
          the_watch_repairs_what_comes_back_by_itself, the_work_is_in_proportion_to_what_changed,
          the_watch_asks_for_no_more_in_a_large_tree_than_in_a_small_one], __doc__)
