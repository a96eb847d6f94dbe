#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A scrub that is killed, beside others or beside writers: nothing is lost, and the next one goes on."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from bed import BedError, program, wait_until  # noqa: E402
from scrub_bed import OLD, expect, facts, fill, holders, main, original, scrub  # noqa: E402


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


def a_killed_scrub_loses_nothing_while_writers_run(bed):
    rng = random.Random(5)
    node = bed.mount()
    fill(node.path, 6, directories=6, files=40)
    originals = original(bed, node.path)
    time.sleep(2.5)
    writers = [Writer(node.path, number) for number in range(2)]
    for writer in writers:
        writer.start()
    exports = list(bed.exports.values())
    for _ in range(bed.kills):
        export = rng.choice(exports)
        # A replica that a killed scrub did not vouch for does not count as the other good one.
        quiet = not facts(bed)
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


if __name__ == "__main__":
    main([a_killed_scrub_loses_nothing_while_writers_run, a_second_scrub_leaves_with_a_message], __doc__)
