#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exports leave and join: retire, drain, add, replicas; interrupted, they go on where they ended."""

import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from bed import Export, program, wait_until  # noqa: E402
from scrub_bed import expect, fill, holders, main, original, scrub  # noqa: E402


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


def interrupted(bed, *command):
    """The command, killed with its scrub as soon as something has been placed; false if it was faster."""
    def placed():
        return sum(len(files) for folder, _, files in os.walk(bed["nas2"].store) if ".rainfs" not in folder)
    before = placed()
    process = subprocess.Popen([program("rainfsctl"), *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or placed() > before, "a replica is made")
        running = process.poll() is None
        if running:
            os.killpg(process.pid, signal.SIGKILL)
    finally:
        process.wait()
    for export in bed.exports.values():  # half a minute later, as far as the next one can tell
        for name in os.listdir(f"{export.store}/.rainfs/scrub"):
            if name.startswith("lease-"):
                os.utime(f"{export.store}/.rainfs/scrub/{name}", (1, 1))
    return running


def good_copies(bed, originals, names):
    """How many racks hold each file with its right contents."""
    top = os.fsdecode(originals[0][0])
    count = {}
    for name in names:
        with open(f"{top}/{name}", "rb") as file:
            right = file.read()
        racks = set()
        for export in holders(bed, name):
            with open(f"{export.store}/{name}", "rb") as file:
                if file.read() == right:
                    racks.add(export.rack)
        count[name] = len(racks)
    return count


def leaves_by(bed, command):
    with bed.mount() as node:
        fill(node.path, 11, directories=4, files=120, largest=20_000)
        originals = original(bed, node.path)
        names = [f"d{d}/f{i}" for d in range(4) for i in range(120)]
        time.sleep(2.5)
        kept = dict(bed.exports)
        if command == "retire":
            kept.pop("nas1")
        all_exports, bed.exports = bed.exports, kept
        before = good_copies(bed, originals, names)
        expect(interrupted(bed, command, bed.config, "nas1", "--yes"), f"{command} was interrupted")
        fewer = [n for n, count in good_copies(bed, originals, names).items() if count < before[n]]
        expect(not fewer, f"fewer good copies than before: {fewer}")
        bed.exports = all_exports
        bed.rainfsctl(command, bed.config, "nas1", "--yes")
        bed.exports.pop("nas1")
        bed.check(originals=originals)


def an_interrupted_drain_goes_on_and_no_file_has_fewer_copies(bed):
    leaves_by(bed, "drain")


def an_interrupted_retire_goes_on_and_no_file_has_fewer_copies(bed):
    leaves_by(bed, "retire")


if __name__ == "__main__":
    main([exports_come_and_go, an_interrupted_drain_goes_on_and_no_file_has_fewer_copies,
          an_interrupted_retire_goes_on_and_no_file_has_fewer_copies], __doc__)
