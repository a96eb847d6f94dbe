# SPDX-License-Identifier: Apache-2.0
"""What the tests of rainfs-scrub share: trees with everything in them, scrubs with a known status, the runner."""

import argparse
import os
import random
import subprocess
import sys

from bed import Array, BedError, expect, isolate, program

OLD = 1_600_000_000


def scrub(bed, *arguments, statuses=(0, 1)):
    command = [program("rainfs-scrub"), bed.config, "--grace", "0", "--rate", "0", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="backslashreplace")
    expect(done.returncode in statuses, f"rainfs-scrub {arguments}: {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


def fill(mount, seed, directories=4, files=20, largest=60_000):
    """A tree with everything in it; all of it old, so that nothing looks like a write in flight."""
    rng = random.Random(seed)
    for d in range(max(4, directories)):
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


def facts(bed):
    """Whether any export has a fact."""
    return any(os.listdir(f"{e.store}/.rainfs/ledger") for e in bed.exports.values())


def main(tests, description):
    """Runs the named ones of `tests`, or all. A test is given a bed of two replicas, or what its `bed` attribute says."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--kills", type=int, default=6, help="how often a scrub is killed (scripts/check: 50)")
    parser.add_argument("--changes", type=int, default=300, help="how many files an export misses changes of (scripts/check: 2000)")
    parser.add_argument("--files", type=int, default=10_000, help="how many files a large tree has (scripts/check: 50000)")
    options = parser.parse_args()
    known = {test.__name__ for test in tests}
    if unknown := set(options.names) - known:
        parser.error(f"no such test: {', '.join(sorted(unknown))}")

    def run():
        failed = []
        for test in tests:
            if options.names and test.__name__ not in options.names:
                continue
            print(f"# {test.__name__.replace('_', ' ')}", flush=True)
            try:
                with Array(**getattr(test, "bed", {})) as bed:
                    bed.kills = options.kills
                    bed.changes = options.changes
                    bed.files = options.files
                    bed.create()
                    test(bed)
            except (BedError, OSError, subprocess.SubprocessError) as error:
                failed.append(test.__name__)
                print(f"FAILED: {error}", flush=True)
        print(f"{len(failed)} failed", *failed)
        return 1 if failed else 0

    sys.exit(isolate(run))
