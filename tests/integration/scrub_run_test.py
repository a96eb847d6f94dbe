#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How a run behaves: its share of the work, its schedule, its rate, what it keeps and for how long, and what it tells."""

import datetime
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from bed import program, wait_until  # noqa: E402
from scrub_bed import OLD, expect, fill, holders, main, original, scrub  # noqa: E402

TWO = {"rack-a": ["nas1"], "rack-b": ["nas2"]}


def start(bed, *arguments, **options):
    command = [program("rainfs-scrub"), bed.config, "--grace", "0", *arguments]
    return subprocess.Popen(command, **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options})


def findings(text, kind="repaired"):
    lines = [json.loads(line) for line in text.splitlines()]
    return [line["path"] for line in lines if line.get("finding") == kind]


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as out:
        out.write(data)
    os.utime(path, (OLD, OLD))


# ---- shards

def shards_do_everything_exactly_once(bed):
    names = [f"/d{i % 7}/f{i}" for i in range(200)]
    for name in names:
        write(f"{bed['nas1'].store}{name}", name.encode())
    time.sleep(2.5)
    ways = {
        "--shard": [(["--shard", f"{i}/3"], {}) for i in (1, 2, 3)],
        "a Slurm job array": [([], {"SLURM_ARRAY_TASK_ID": str(5 + i), "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "5"})
                              for i in range(3)],
        "srun": [([], {"SLURM_PROCID": str(i), "SLURM_STEP_NUM_TASKS": "3"}) for i in range(3)],
        "Open MPI": [([], {"OMPI_COMM_WORLD_RANK": str(i), "OMPI_COMM_WORLD_SIZE": "3"}) for i in range(3)],
        "MPICH": [([], {"PMI_RANK": str(i), "PMI_SIZE": "3"}) for i in range(3)],
    }
    for way, runs in ways.items():
        done = []
        for arguments, variables in runs:
            shard = start(bed, "--dry-run", "--json", *arguments, env={**os.environ, **variables})
            said, errors = shard.communicate()
            expect(shard.returncode == 1, f"{way}: {shard.returncode}: {errors}")
            part = [path for path in findings(said) if path in names]
            expect(0 < len(part) < 150, f"{way}: a part of {len(part)}")
            done += part
        expect(sorted(done) == sorted(names), f"{way}: {len(done)} files done, {len(set(done))} different ones of {len(names)}")
    write(f"{bed['nas2'].store}/.rainfs/tmp/scrub-0123abcd-4567-8", b"of one that was killed")
    together = [start(bed, "--json", "--shard", f"{i}/3") for i in (1, 2, 3)]
    done = []
    for shard in together:
        said, errors = shard.communicate()
        expect(shard.returncode == 1, f"a shard: {shard.returncode}: {errors}")
        done += [path for path in findings(said) if path in names]
    expect(sorted(done) == sorted(names), f"{len(done)} files done, {len(set(done))} different ones of {len(names)}")
    expect(not os.listdir(f"{bed['nas2'].store}/.rainfs/tmp"), "what a dead one left is swept up, what the others make is not")
    bed.check(state_clean=True)
    scrub(bed, statuses=(0,))


shards_do_everything_exactly_once.bed = {"racks": TWO}


# ---- the watch

def the_watch_runs_the_passes_at_their_times(bed):
    """A time zone whose minute is about to end stands for the night to come."""
    write(f"{bed['nas1'].store}/lonely", b"no fact speaks of it")
    time.sleep(2.5)
    now = datetime.datetime.now(datetime.timezone.utc)
    away = 6  # seconds from now till the minute ends
    shift = (60 - away - now.second) % 60
    due = now + datetime.timedelta(seconds=shift + away)
    bed.write_config(f"scrub: {{ at: \"{due:%H:%M}\", deep_every: 14d, grace: 1s, rate: unlimited }}")
    watch = start(bed, "--watch", env={**os.environ, "TZ": f"XXX-00:00:{shift:02d}"})
    try:
        time.sleep(away - 3)
        expect(not os.path.exists(f"{bed['nas2'].store}/lonely"), "nothing is done before its time")
        wait_until(lambda: os.path.exists(f"{bed['nas1'].store}/.rainfs/scrub/last.json"), "the pass has run")
        with open(f"{bed['nas1'].store}/.rainfs/scrub/last.json", encoding="ascii") as file:
            last = json.load(file)
        expect(last["deep"] and last["last_deep"] > 0, f"contents are compared if that is due: {last}")
        expect(os.path.exists(f"{bed['nas2'].store}/lonely"), "what it found is repaired")
        watch.send_signal(signal.SIGTERM)
        expect(watch.wait(30) == 0, "it ends in order")
    finally:
        watch.kill()
        watch.communicate()


the_watch_runs_the_passes_at_their_times.bed = {"racks": TWO}


# ---- the rate

def the_rate_is_obeyed(bed):
    for number in range(8):
        write(f"{bed['nas1'].store}/small{number}", os.urandom(250_000))
    write(f"{bed['nas1'].store}/large", os.urandom(4_000_000))
    time.sleep(2.5)
    for paths, seconds in ((["large"], 3.5), ([f"small{n}" for n in range(8)], 1.5)):  # an eighth of a second's worth is free
        begun = time.monotonic()
        expect(start(bed, "--rate", "1MB", *paths).wait(60) == 1, "it repairs")
        took = time.monotonic() - begun
        expect(took >= seconds, f"{paths} took {took:.1f} s")
    begun = time.monotonic()
    expect(start(bed, "--deep", "--rate", "4MB").wait(60) == 0, "all is well")
    expect(time.monotonic() - begun >= 2.5, "reading 12 MB takes 3 s at 4 MB/s")


the_rate_is_obeyed.bed = {"racks": TWO}


# ---- retention

def put_aside(export, kind, day, slot, size):
    folder = f"{export.store}/.rainfs/{kind}/{day}/{slot}"
    os.makedirs(folder)
    write(f"{folder}/path", b"x")
    write(f"{folder}/contents", b"c" * size)
    return folder


def the_trash_is_kept_for_its_days_and_within_its_share(bed):
    bed.write_config("trash: { days: 10, max: 5% }")
    export = bed["nas1"]
    day = {n: (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=n)).strftime("%Y-%m-%d") for n in (0, 5, 9, 12)}
    expired = put_aside(export, "trash", day[12], "a", 10)
    conflict = put_aside(export, "conflicts", day[12], "a", 10)
    oldest = put_aside(export, "trash", day[9], "b", 2_000_000)
    younger = put_aside(export, "trash", day[5], "c", 2_000_000)
    newest = put_aside(export, "trash", day[0], "d", 1_000_000)
    scrub(bed, "--dry-run", statuses=(0,))
    expect(os.path.exists(expired), "a dry run removes nothing")
    scrub(bed, statuses=(0,))
    expect(not os.path.exists(expired), "what is older than 10 days is gone")
    expect(os.path.exists(conflict), "conflicts stay until somebody has looked at them")
    expect(not os.path.exists(oldest), "5 MB are more than 5% of 64 MB: the oldest is gone")
    expect(os.path.exists(younger) and os.path.exists(newest), "and no more than that")
    listed = bed.rainfsctl("trash", "list", bed.config).stdout
    expect(f"trash/{day[5]}/c" in listed and f"conflicts/{day[12]}/a" in listed, listed)


the_trash_is_kept_for_its_days_and_within_its_share.bed = {"racks": TWO, "backing": {"nas1": "tmpfs:64M", "*": "dir"}}


# ---- what it tells

def read_terminal(descriptor, until, seconds=60):
    text = b""
    end = time.monotonic() + seconds
    while time.monotonic() < end and until not in text:
        if select.select([descriptor], [], [], 0.5)[0]:
            try:
                text += os.read(descriptor, 65536)
            except OSError:
                break
    return text.decode(errors="backslashreplace")


def progress_is_shown(bed):
    for number in range(6):
        write(f"{bed['nas1'].store}/f{number}", os.urandom(1_000_000))
    time.sleep(2.5)
    shape = r"(ledger|metadata|contents|hard links): \d+ files.*, [\d.]+ ?\w+ read and copied, [\d.]+ ?\w+/s, \d+ facts, \d+ repaired, \d+ damaged, \d+ left"
    terminal, other_end = pty.openpty()
    run = start(bed, "--rate", "1500000", stderr=other_end)
    os.close(other_end)
    text = read_terminal(terminal, b"files")
    text += read_terminal(terminal, b"files", 3)
    run.communicate()
    os.close(terminal)
    expect(run.returncode == 1 and re.search("\r\033\\[K" + shape, text), f"on a terminal: {text!r}")
    # Not on a terminal: a plain line every minute, or when it is asked for.
    run = start(bed, "--deep", "--rate", "3MB")
    wait_until(lambda: os.path.exists(f"{bed['nas1'].store}/.rainfs/scrub/lease-1of1"), "it runs")
    time.sleep(1)
    run.send_signal(signal.SIGUSR1)
    time.sleep(1)
    run.send_signal(signal.SIGUSR1)
    _, errors = run.communicate()
    lines = errors.splitlines()
    expect(run.returncode == 0 and len(lines) == 2, f"as plain lines: {errors!r}")
    for line in lines:
        expect(re.fullmatch("rainfs-scrub: " + shape, line), f"a plain line: {line!r}")
    expect("of about 6" in lines[-1], f"how many there are is known from the last run: {lines}")


progress_is_shown.bed = {"racks": TWO}


def any_node_shows_a_running_scrub_and_the_last_result(bed):
    for number in range(6):
        write(f"{bed['nas1'].store}/f{number}", os.urandom(1_000_000))
    other = os.path.join(bed.base, "elsewhere.yaml")  # another node's file of the same array
    shutil.copy(bed.config, other)
    expect("none has ended yet" in bed.rainfsctl("status", other, check=False).stdout, "there was none yet")
    time.sleep(2.5)
    run = start(bed, "--deep", "--rate", "1MB")
    def shown():
        return bed.rainfsctl("status", other, check=False).stdout
    wait_until(lambda: re.search(r"scrub: running: \w+, \d+ files", shown()), "status tells how far it is")
    run.send_signal(signal.SIGINT)
    run.communicate()
    expect(run.returncode & 4, "what was stopped says so")
    scrub(bed, "--deep")
    line = next(line for line in shown().splitlines() if re.match(r"\s*scrub:", line))
    expect("running" not in line and "6 files" in line and "contents compared" in line, f"the last result: {line}")


any_node_shows_a_running_scrub_and_the_last_result.bed = {"racks": TWO}


def names_that_are_no_text_are_told_so_that_they_can_be_found(bed):
    names = [b"plain", b"caf\xe9 %41", "größe".encode(), b"\xff\xfe", b"new\nline", b"quote\"back\\slash", b"\xed\xa0\x80", b"tab\t\x7f"]
    top = os.fsencode(bed["nas1"].store)
    for name in names:
        with open(top + b"/" + name, "wb") as out:
            out.write(b"x")
        os.utime(top + b"/" + name, (OLD, OLD))
    time.sleep(2.5)
    run = start(bed, "--json", text=False)
    said, _ = run.communicate()
    told = []
    for line in said.splitlines():
        entry = json.loads(line.decode("utf-8"))  # strictly
        if entry.get("finding") == "repaired":
            told.append(urllib.parse.unquote_to_bytes(entry["path_bytes"]) if "path_bytes" in entry else entry["path"].encode())
    expect(sorted(told) == sorted(b"/" + name for name in names), f"told: {told}")


names_that_are_no_text_are_told_so_that_they_can_be_found.bed = {"racks": TWO}


# ---- going on

def a_deep_pass_goes_on_where_it_was_stopped(bed):
    with bed.mount() as node:
        fill(node.path, 21, directories=12, files=10, largest=40_000)
        originals = original(bed, node.path)
    time.sleep(2.5)
    full = scrub(bed, "--deep", statuses=(0,))
    total = int(re.match(r"(\d+) files", full.stdout).group(1))
    # Every pass over 120 files of 20 kB and their replicas takes ten seconds at this rate.
    for how in (signal.SIGINT, signal.SIGKILL):
        stopped = start(bed, "--deep", "--json", "--rate", "500kB")
        time.sleep(14 if how == signal.SIGKILL else 8)  # what was killed has written down how far it was a while ago
        expect(stopped.poll() is None, "it is at work")
        stopped.send_signal(how)
        stopped.communicate()
        for export in bed.exports.values():  # half a minute later, as far as the next one can tell
            for name in os.listdir(f"{export.store}/.rainfs/scrub"):
                if name.startswith("lease-"):
                    os.utime(f"{export.store}/.rainfs/scrub/{name}", (OLD, OLD))
        there = [name for name in os.listdir(f"{bed['nas1'].store}/.rainfs/scrub") if name.startswith("unfinished")]
        expect(len(there) <= 4, f"what is kept for it is a catalogue, and that which it goes on from: {there}")
    goes_on = scrub(bed, "--deep", statuses=(0,))
    looked_at = int(re.match(r"(\d+) files", goes_on.stdout).group(1))
    expect(0 < looked_at < total * 2 // 3, f"{looked_at} of {total} files were left to do")
    # What both together have catalogued is all there is, and right.
    names = set()
    for export in bed.exports.values():
        subprocess.run(["xxhsum", "--quiet", "-c", ".rainfs/scrub/catalogue.xxh128"], cwd=export.store, check=True)
        with open(f"{export.store}/.rainfs/scrub/catalogue.xxh128", encoding="utf-8") as lines:
            names |= {(export.name, line.rstrip("\n")[34:]) for line in lines}
        expect(not any(n.startswith(("unfinished", "resume")) for n in os.listdir(f"{export.store}/.rainfs/scrub")), "nothing is left over")
    there = {(e.name, os.path.relpath(f"{folder}/{name}", e.store)) for e in bed.exports.values() for folder, _, files in os.walk(e.store)
             if ".rainfs" not in folder for name in files if os.path.isfile(f"{folder}/{name}") and not os.path.islink(f"{folder}/{name}")}
    expect(names == there, f"the catalogue: {sorted(names ^ there)[:5]}")
    bed.check(originals=originals, state_clean=True)
    expect(int(re.match(r"(\d+) files", scrub(bed, "--deep", statuses=(0,)).stdout).group(1)) == total, "the next one looks at all again")


# ---- marks

def missing(bed):
    with open(f"{bed['nas1'].store}/.rainfs/array.yaml", encoding="utf-8") as file:
        return [line for line in file if re.search(r"rebuilding_from: [1-9]|rebuild_pending: true", line)]


def a_full_clean_scrub_forgets_that_replicas_were_missing(bed):
    with bed.mount() as node:
        fill(node.path, 22, files=5)
        originals = original(bed, node.path)
    time.sleep(2.5)
    bed.rainfsctl("replicas", bed.config, "3", "--yes", "--no-scrub")
    expect(missing(bed), "it is remembered")
    scrub(bed, "d0", statuses=(1,))
    expect(missing(bed), "a part of the array is not all")
    scrub(bed, "--ledger", statuses=(0,))
    expect(missing(bed), "nor are the facts")
    scrub(bed, "--dry-run", statuses=(1,))
    expect(missing(bed), "nor is what would be done")
    for shard in ("1/2", "2/2"):
        scrub(bed, "--shard", shard)
        expect(missing(bed), "nor is a shard")
    bed["nas1"].vanish()
    scrub(bed, statuses=(4, 5))
    bed["nas1"].come_back()
    expect(missing(bed), "nor is what is left when an export is away")
    scrub(bed)
    expect(not missing(bed), f"all was looked at, and is well: {missing(bed)}")
    bed.replicas = 3
    bed.check(originals=originals, state_clean=True)
    bed.rainfsctl("replicas", bed.config, "2", "/d0", "--yes")
    bed.rainfsctl("replicas", bed.config, "3", "/d0", "--yes", "--no-scrub")
    expect(missing(bed), "it is remembered of a policy")
    scrub(bed, "d1")
    expect(missing(bed), "that is not where the policy is")
    scrub(bed, "d0", statuses=(1,))
    expect(not missing(bed), "all beneath it was looked at")


if __name__ == "__main__":
    main([shards_do_everything_exactly_once, the_watch_runs_the_passes_at_their_times, the_rate_is_obeyed,
          the_trash_is_kept_for_its_days_and_within_its_share, progress_is_shown, any_node_shows_a_running_scrub_and_the_last_result,
          names_that_are_no_text_are_told_so_that_they_can_be_found, a_deep_pass_goes_on_where_it_was_stopped,
          a_full_clean_scrub_forgets_that_replicas_were_missing], __doc__)
