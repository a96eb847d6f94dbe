#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Exports that hang, die, fill up, go read-only, lose their mount, and come back: programs go on, nothing that was
acknowledged is lost, nothing that was removed comes back, and what cannot be proven is an error.

usage: absence_test.py [--long] [NAME...]        (needs root, /dev/fuse and a build)

Each test makes an array of its own and prints the longest stall that a writer and a reader saw: a figure, not a limit.
"""

import errno
import glob
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from bed import Array, BedError, expect, isolate, program, wait_until  # noqa: E402
from promises import run_named  # noqa: E402

RACKS = {"rack-a": ["nas1"], "rack-b": ["nas2"], "rack-c": ["nas3"]}
FIVE = {f"rack-{i}": [f"nas{i}"] for i in range(1, 6)}
DEADLINES = "deadlines: { metadata: 1s, data: 2s, probe: 500ms }"
SOURCE = "/usr/include/linux"
LONG = "--long" in sys.argv


def error_of(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def write(path, data):
    with open(path, "wb") as out:
        out.write(data)


def read(path):
    with open(path, "rb") as data:
        return data.read()


def scrub(bed):
    done = subprocess.run([program("rainfs-scrub"), bed.config, "--grace", "0", "--rate", "0", "--quiet"], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    expect(done.returncode in (0, 1), f"rainfs-scrub: {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")


def make_whole(bed, node, originals):
    """Everything is repaired, and equal to what was written, judged without RainFS."""
    time.sleep(2.5)  # every poll has seen who is there; what is younger may be in the middle of being made
    scrub(bed)
    for path, source in originals:
        expect(subprocess.run(["diff", "-r", "--no-dereference", source, f"{node.path}/{path}"]).returncode == 0,
               f"{path} is what was copied")
    node.unmount()
    bed.check(state_clean=True)


class Clients:
    """A writer that syncs each record and a reader, who note every error and the longest time one step took."""

    def __init__(self, mount):
        self.mount = mount
        self.stop = False
        self.errors = []
        self.stalls = {"writer": 0.0, "reader": 0.0}
        self.records = 0
        self.done_at = []
        os.mkdir(f"{mount}/clients")
        write(f"{mount}/clients/read", os.urandom(1 << 20))
        self.threads = [threading.Thread(target=self.run, args=(name, step)) for name, step in
                        (("writer", self.write_one), ("reader", self.read_one))]

    def run(self, name, step):
        while not self.stop:
            begun = time.monotonic()
            try:
                step()
            except OSError as error:
                self.errors.append(f"{name}: {error}")
                return
            took = time.monotonic() - begun
            self.stalls[name] = max(self.stalls[name], took)
            time.sleep(0.002)

    def write_one(self):
        number = self.records
        with open(f"{self.mount}/clients/record{number % 500}", "wb") as out:
            out.write(b"%d" % number * 100)
            out.flush()
            os.fsync(out.fileno())
        self.records = number + 1
        self.done_at.append(time.monotonic())

    def read_one(self):
        with open(f"{self.mount}/clients/read", "rb", buffering=0) as data:
            os.posix_fadvise(data.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if len(data.read()) != 1 << 20:
                raise OSError(errno.EIO, "short")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        for thread in self.threads:
            thread.join()

    def rate(self, begin, end):
        return sum(begin <= at < end for at in self.done_at) / max(end - begin, 0.001)


def programs(mount, base):
    """What users run, started together; gives (name, process) pairs."""
    database = f"{mount}/db.sqlite"
    script = f"""
import sqlite3
db = sqlite3.connect({database!r}, timeout=60)
db.execute("create table t(n integer, text text)")
for i in range(30):
    with db:
        db.executemany("insert into t values(?, ?)", [(i, "x" * 500)] * 20)
db.close()
"""
    fio = ["fio", "--name=v", f"--directory={mount}", "--size=8M", "--bs=64k", "--rw=randwrite", "--verify=crc32c", "--fsync=16",
           f"--aux-path={base}", "--output=" + os.path.join(base, "fio.log")]
    commands = {
        "cp": ["cp", "-a", SOURCE, f"{mount}/copy"],
        "tar": ["sh", "-c", f"mkdir {mount}/tar && tar -C {os.path.dirname(SOURCE)} -cf - {os.path.basename(SOURCE)} | tar -C {mount}/tar -xf -"],
        "sqlite": [sys.executable, "-c", script],
        "fio": fio,
    }
    return [(name, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                    text=True)) for name, command in commands.items()]


def programs_go_on(bed, fail, mend):
    """Programs are begun, an export fails under them, they end well; the export comes back and is repaired."""
    node = bed.mount()
    with Clients(node.path) as clients:
        begun = time.monotonic()
        running = programs(node.path, bed.base)
        wait_until(lambda: os.path.isdir(f"{node.path}/copy") and len(os.listdir(f"{node.path}/copy")) > 20, "the copy is on its way")
        failed = time.monotonic()
        fail()
        for name, process in running:
            try:
                _, text = process.communicate(timeout=240)
            except subprocess.TimeoutExpired:
                process.kill()
                raise BedError(f"{name} does not end") from None
            expect(process.returncode == 0, f"{name} ended with {process.returncode}: {text[-1000:]}")
        expect(subprocess.run(["df", node.path], stdout=subprocess.DEVNULL, timeout=60).returncode == 0, "df answers")
        ended = time.monotonic()
        mend()
        time.sleep(2)
    expect(not clients.errors, f"no client saw an error: {clients.errors}")
    third = (ended - failed) / 2
    print(f"        longest stall: writer {clients.stalls['writer']:.2f} s, reader {clients.stalls['reader']:.2f} s;"
          f" records/s before {clients.rate(begun, failed):.0f}, at first {clients.rate(failed, failed + third):.0f},"
          f" later {clients.rate(failed + third, ended):.0f}, after {clients.rate(ended, ended + 2):.0f}", flush=True)
    db = sqlite3.connect(f"file:{node.path}/db.sqlite?mode=ro", uri=True)
    expect(db.execute("pragma integrity_check").fetchone() == ("ok",), "the database is whole")
    expect(db.execute("select count(*) from t").fetchone() == (600,), "with all its rows")
    db.close()
    last = clients.records - 1
    expect(read(f"{node.path}/clients/record{last % 500}") == b"%d" % last * 100, "the last record is there")
    make_whole(bed, node, [("copy", SOURCE), (f"tar/{os.path.basename(SOURCE)}", SOURCE)])


def a_hung_export_stops_no_program():
    with Array(RACKS, extra=DEADLINES, backing={"nas2": "flaky", "*": "dir"}) as bed:
        bed.create()
        programs_go_on(bed, bed["nas2"].hang, bed["nas2"].release)


def a_dead_disk_stops_no_program():
    with Array(RACKS, extra=DEADLINES, backing={"nas2": "ext4:256M", "*": "dir"}) as bed:
        bed.create()
        programs_go_on(bed, bed["nas2"].shutdown, bed["nas2"].come_back)


def a_full_export_stops_no_program():
    with Array(RACKS, extra=DEADLINES, backing={"nas2": "tmpfs:160M", "*": "dir"}) as bed:
        bed.create()
        programs_go_on(bed, bed["nas2"].fill, bed["nas2"].unfill)


def a_read_only_export_stops_no_program():
    with Array(RACKS, extra=DEADLINES, backing={"nas2": "tmpfs:256M", "*": "dir"}) as bed:
        bed.create()

        def unforced():  # with files open for writing the kernel refuses: as a NAS does it, from the server's side
            while True:
                try:
                    return bed["nas2"].read_only()
                except BedError:
                    time.sleep(0.05)
        programs_go_on(bed, unforced, bed["nas2"].come_back)


def an_unmounted_export_gets_not_one_byte():
    with Array(RACKS, extra=DEADLINES) as bed:
        bed.create()

        def back():
            expect(os.listdir(bed["nas2"].path) == [], "nothing was written to the bare mount point")
            bed["nas2"].come_back()
        programs_go_on(bed, bed["nas2"].vanish, back)


def two_of_five_racks_are_missed_by_nobody_with_three_replicas():
    with Array(FIVE, replicas=3, extra=DEADLINES, backing={"nas4": "flaky", "*": "dir"}) as bed:
        bed.create()

        def fail():
            bed["nas2"].vanish()
            bed["nas4"].hang()

        def mend():
            bed["nas2"].come_back()
            bed["nas4"].release()
        programs_go_on(bed, fail, mend)


def an_export_that_comes_back_with_old_content_shows_none_of_it():
    with Array(RACKS, extra=DEADLINES) as bed:
        bed.create()
        node = bed.mount("attr_timeout=0s,entry_timeout=0s")
        for round_number, export in enumerate(bed.exports.values()):
            top = f"{node.path}/r{round_number}"
            os.makedirs(f"{top}/kept")
            for i in range(30):
                write(f"{top}/f{i}", b"old %d" % i)
                write(f"{top}/kept/g{i}", b"old")
            export.vanish()
            time.sleep(2)
            for i in range(30):
                path = f"{top}/f{i}"
                if i % 5 == 0:
                    os.unlink(path)
                elif i % 5 == 1:
                    write(path, b"new %d" % i)
                elif i % 5 == 2:
                    os.rename(path, f"{top}/moved{i}")
                elif i % 5 == 3:
                    os.chmod(path, 0o600)
                else:
                    write(f"{top}/n{i}", b"made meanwhile")
            os.rename(f"{top}/kept", f"{top}/renamed")
            expected = sorted(os.listdir(top))
            export.come_back()
            for _ in range(20):  # before, while and after it is taken back
                expect(sorted(os.listdir(top)) == expected, f"{sorted(os.listdir(top))} instead of {expected}")
                for i in range(30):
                    if i % 5 == 0:
                        expect(error_of(lambda: os.stat(f"{top}/f{i}")) == "ENOENT", f"f{i} stays removed")
                    elif i % 5 == 1:
                        expect(read(f"{top}/f{i}") == b"new %d" % i, f"f{i} is the new one")
                    elif i % 5 == 2:
                        expect(read(f"{top}/moved{i}") == b"old %d" % i, f"f{i} was moved")
                    elif i % 5 == 3:
                        expect(os.stat(f"{top}/f{i}").st_mode & 0o777 == 0o600, f"f{i} has its new mode")
                expect(error_of(lambda: os.stat(f"{top}/kept")) == "ENOENT", "the directory's old name stays gone")
                expect(read(f"{top}/renamed/g7") == b"old", "and its content is under the new one")
                time.sleep(0.15)
        make_whole(bed, node, [])


def an_hour_passes(bed):
    """As far as the exports' memory of one another goes."""
    for export in bed.exports.values():
        seen = f"{export.store}/.rainfs/seen"
        for name in os.listdir(seen):
            uuid, tick = name.rsplit("-", 1)
            os.rename(f"{seen}/{name}", f"{seen}/{uuid}-{int(tick) - 6}")


def remembered(bed):
    """All exports have told one another of what the clock says."""
    tick = int(time.time()) // 600
    lists = [os.listdir(f"{export.store}/.rainfs/seen") for export in bed.exports.values()
             if os.path.isdir(f"{export.store}/.rainfs/seen")]
    return len(lists) == len(bed.exports) and all(
        sum(int(name.rsplit("-", 1)[1]) >= tick - 1 for name in names) >= len(lists) for names in lists)


def absent(bed):
    """Why, of each export that is."""
    status = json.loads(bed.rainfsctl("status", "--json", bed.config, check=False).stdout)
    return {export["name"]: export["absent_reason"] for export in status["exports"] if not export["online"]}


def snapshot(victim, emptied):
    """A copy of an export as it is now; or what another, empty disk has that was given its identity."""
    copy = f"{victim.disk}/earlier"
    if not emptied:
        subprocess.run(["cp", "-a", victim.store, copy], check=True)
        return copy
    os.makedirs(f"{copy}/.rainfs/ledger", mode=0o700)
    for name in ("export.yaml", "array.yaml"):
        shutil.copy2(f"{victim.store}/.rainfs/{name}", f"{copy}/.rainfs/{name}")
    return copy


def put_back(victim, copy):
    victim.vanish()
    time.sleep(2)
    os.rename(victim.store, f"{victim.disk}/later")
    os.rename(copy, victim.store)
    victim.come_back()


def change_some(top):
    for i in range(0, 40, 4):
        os.unlink(f"{top}/f{i}")
        write(f"{top}/f{i + 1}", b"new")
        os.rename(f"{top}/f{i + 2}", f"{top}/moved{i + 2}")
        os.chmod(f"{top}/f{i + 3}", 0o600)
    os.rename(f"{top}/kept", f"{top}/renamed")


def expect_changed(top, names):
    expect(sorted(os.listdir(top)) == names, f"{sorted(os.listdir(top))} instead of {names}")
    for i in range(0, 40, 4):
        expect(error_of(lambda: os.stat(f"{top}/f{i}")) == "ENOENT", f"f{i} stays removed")
        expect(read(f"{top}/f{i + 1}") == b"new", f"f{i + 1} is the new one")
        expect(read(f"{top}/moved{i + 2}") == b"old", f"f{i + 2} was moved")
        expect(os.stat(f"{top}/f{i + 3}").st_mode & 0o777 == 0o600, f"f{i + 3} has its new mode")
        expect(read(f"{top}/f{i + 3}") == b"old", f"f{i + 3} has its content")
    expect(read(f"{top}/renamed/g7") == b"old", "what lies in a renamed directory is there")


def put_back_and_rejoined(number, emptied):
    with Array(RACKS, extra=DEADLINES) as bed:
        bed.create()
        fresh = "attr_timeout=0s,entry_timeout=0s"
        node = bed.mount(fresh)
        os.mkdir(f"{node.path}/kept")
        for i in range(40):
            write(f"{node.path}/f{i}", b"old")
            write(f"{node.path}/kept/g{i}", b"old")
        wait_until(lambda: remembered(bed), "the exports remember one another")
        node.unmount()
        an_hour_passes(bed)
        victim = list(bed.exports.values())[number]
        copy = snapshot(victim, emptied)
        node = bed.mount(fresh)
        wait_until(lambda: remembered(bed), "the exports remember one another")
        change_some(node.path)
        names = sorted(os.listdir(node.path))
        put_back(victim, copy)
        for _ in range(20):
            expect_changed(node.path, names)
            time.sleep(0.1)
        expect("rejoin" in absent(bed).get(victim.name, ""), f"it is left alone, and the status says why: {absent(bed)}")
        node.unmount()
        node = bed.mount(fresh)  # nobody who remembers it is left
        expect_changed(node.path, names)
        done = bed.rainfsctl("rejoin", bed.config, victim.name, "--yes", "--no-scrub", check=False)
        expect(done.returncode == 0, f"rejoin: {done.stdout}{done.stderr}")
        wait_until(lambda: not absent(bed), "it is taken back")
        for _ in range(10):
            expect_changed(node.path, names)
            time.sleep(0.1)
        scrub(bed)
        expect_changed(node.path, names)
        make_whole(bed, node, [])


def an_export_that_is_put_back_to_an_earlier_moment_brings_nothing_back():
    for number in range(3):
        put_back_and_rejoined(number, emptied=False)
    put_back_and_rejoined(0, emptied=True)


def what_cannot_be_proven_is_an_error():
    with Array(RACKS, extra=DEADLINES) as bed:
        bed.create()
        node = bed.mount("attr_timeout=0s,entry_timeout=0s")
        write(f"{node.path}/there", b"x")
        bed["nas1"].vanish()
        time.sleep(2)
        expect(error_of(lambda: os.stat(f"{node.path}/never")) == "ENOENT", "one rack away: absence can be proven")
        bed["nas2"].vanish()
        time.sleep(2)
        expect(error_of(lambda: os.stat(f"{node.path}/never")) == "EIO", "two racks away: it cannot")
        expect(error_of(lambda: os.listdir(node.path)) == "EIO", "nor can a listing be whole")
        expect(error_of(lambda: os.open(f"{node.path}/new", os.O_CREAT | os.O_EXCL)) == "EIO", "nor a name be free")
        log = node.log_tail(200)
        expect("unprovable" in log and "nas1" in log and "nas2" in log, "the log says who was not reached")
        bed["nas1"].come_back()
        bed["nas2"].come_back()
        wait_until(lambda: error_of(lambda: os.stat(f"{node.path}/never")) == "ENOENT", "they are back")
        expect(read(f"{node.path}/there") == b"x", "and the file with them")
        node.unmount()


def fewer_copies_than_asked_for_are_not_acknowledged():
    with Array(RACKS, extra=DEADLINES + "\nmin_replicas: 2") as bed:
        bed.create()
        node = bed.mount()
        file = os.open(f"{node.path}/f", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"both")
        os.fsync(file)
        [away] = [e for e in bed.exports.values() if os.path.exists(f"{e.store}/f")][:1]
        away.vanish()
        time.sleep(2)

        def again():
            os.write(file, b"one")
            os.fsync(file)
        expect(error_of(again) == "EIO", "a write that one replica of two takes is refused")
        error_of(lambda: os.close(file))
        away.come_back()
        node.close()


def lenient_subtrees_serve_what_is_at_hand():
    policy = "policies:\n  - { path: /scratch, replicas: 1, quorum: lenient }"
    with Array(RACKS, extra=DEADLINES + "\n" + policy) as bed:
        bed.create()
        node = bed.mount("attr_timeout=0s,entry_timeout=0s")
        os.mkdir(f"{node.path}/scratch")
        bed["nas1"].vanish()
        bed["nas2"].vanish()
        time.sleep(2)
        expect(error_of(lambda: os.stat(f"{node.path}/scratch/never")) == "ENOENT", "a lenient name is not there")
        write(f"{node.path}/scratch/new", b"kept")
        expect(read(f"{node.path}/scratch/new") == b"kept", "and can be made")
        expect(error_of(lambda: os.stat(f"{node.path}/never")) == "EIO", "while a strict one cannot be denied")
        bed["nas1"].come_back()
        bed["nas2"].come_back()
        time.sleep(2)
        expect(read(f"{node.path}/scratch/new") == b"kept", "and is there when all are back")
        node.unmount()


def a_minute_passes(bed, pattern):
    """For what killed writers left: until then a file that is not sealed may have a writer who is alive."""
    for export in bed.exports.values():
        for path in glob.glob(f"{export.store}/{pattern}"):
            now = os.stat(path)
            os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns - 90_000_000_000))


def renames_are_finished(bed, node):
    """What killed nodes have left half done; a file that somebody touches before that is not theirs any more."""
    end = time.monotonic() + 60
    while any(glob.glob(f"{export.store}/.rainfs/intents/*") for export in bed.exports.values()):
        expect(time.monotonic() < end, "what was left half done is finished")
        for name in os.listdir(node.path):
            os.path.exists(f"{node.path}/{name}")
        time.sleep(0.2)


def what_was_synced_survives_a_killed_daemon():
    """A writer that knows what was acknowledged; the daemon is killed at random moments and mounted anew."""
    with Array(RACKS, extra=DEADLINES) as bed:
        bed.create()
        rng = random.Random(7)
        acknowledged = {}
        end = time.monotonic() + (180 if LONG else 12)
        kills = 0
        while time.monotonic() < end:
            node = bed.mount("attr_timeout=0s,entry_timeout=0s")
            for path, content in acknowledged.items():
                expect(read(f"{node.path}/{path}") == content if content is not None
                       else not os.path.exists(f"{node.path}/{path}"), f"after {kills} kills {path} is what was acknowledged")
            moment = threading.Timer(rng.uniform(0.05, 0.8), lambda pid=node.pid: os.killpg(pid, signal.SIGKILL))
            moment.start()
            number = 0
            pending = None
            try:
                while True:
                    pending = f"f{rng.randrange(60)}"
                    if rng.random() < 0.2 and acknowledged.get(pending) is not None:
                        os.unlink(f"{node.path}/{pending}")
                        acknowledged[pending] = None
                        continue
                    content = b"%d %d\n" % (kills, number) * rng.randrange(1, 2000)
                    with open(f"{node.path}/.{pending}", "wb", buffering=0) as out:
                        out.write(content)
                        os.fsync(out.fileno())
                    os.rename(f"{node.path}/.{pending}", f"{node.path}/{pending}")
                    acknowledged[pending] = content
                    number += 1
            except OSError:
                acknowledged.pop(pending, None)  # whether it came about nobody was told
            moment.join()
            node.close()
            kills += 1
        print(f"        {kills} kills", flush=True)
        node = bed.mount()
        for path, content in acknowledged.items():
            expect(os.path.exists(f"{node.path}/{path}") == (content is not None), f"{path} at the end")
        renames_are_finished(bed, node)
        a_minute_passes(bed, ".f*")
        make_whole(bed, node, [])


CHANGES = "mkdir,create,open,unlink,rmdir,rename,link,chmod,chown,truncate,utimens,write,fsync,flush,release,mknod,symlink"


def cut_off_after(bed, victim, number, before, action, states):
    """The daemon dies at the number-th change that reaches the victim during `action`; another one must find the names in
    one of the states. False when the action needs fewer changes there than that."""
    folder = f"{victim.name}-{number}"
    node = bed.mount(f"attr_timeout=0s,entry_timeout=0s,node={folder}")
    top = f"{node.path}/{folder}"
    os.mkdir(top)
    before(top)
    # (Of the intents its own: it may be finishing what others have left, and that would never end.)
    for pattern in (f"/{folder}*", f"/.rainfs/intents/{folder}-*", "/.rainfs/ledger*"):
        victim.tell(f"add {CHANGES} {pattern} hang after={number} count=1")
    worker = threading.Thread(target=lambda: error_of(lambda: action(top)))
    worker.start()
    hung = lambda: victim.tell("hung") != "0"  # noqa: E731
    wait_until(lambda: hung() or not worker.is_alive(), "the operation hangs or is done")
    reached = hung()
    os.killpg(node.pid, signal.SIGKILL)  # what hangs keeps it from ending, but it does nothing more
    victim.release()
    node.close()
    worker.join()
    again = bed.mount("attr_timeout=0s,entry_timeout=0s")
    found = {}

    def settled():
        try:
            found["now"] = {name: read(f"{again.path}/{folder}/{name}") for name in os.listdir(f"{again.path}/{folder}")}
        except OSError as error:  # half done, and not finished yet
            found["now"] = str(error)
        return found["now"] in states
    try:
        wait_until(settled, "what was cut off is finished")
    except BedError:
        raise BedError(f"after a crash at change {number} of {victim.name}: {found['now']} is none of {states}") from None
    again.unmount()
    return reached


def crashed_steps(name, before, action, states):
    # Deadlines longer than the test's patience: the daemon must be killed while it waits, not go on without the victim.
    with Array(RACKS, extra="deadlines: { metadata: 20s, data: 20s, probe: 15s }", backing="flaky") as bed:
        bed.create()
        steps = 0
        for victim in bed.exports.values():
            step = 0
            while cut_off_after(bed, victim, step, before, action, states):
                step += 1
                expect(step < 40, f"{name} ends")
            steps += step
        print(f"        {name}: killed at each of {steps} changes", flush=True)
        expect(steps >= 1, f"{name} changes a replica somewhere")
        time.sleep(2.5)
        scrub(bed)
        bed.check(state_clean=True)


def a_rename_cut_off_anywhere_is_done_or_not():
    def both(top):
        write(f"{top}/a", b"from")
        write(f"{top}/b", b"over")
    crashed_steps("rename", both, lambda top: os.rename(f"{top}/a", f"{top}/b"),
                  [{"a": b"from", "b": b"over"}, {"b": b"from"}])


def a_link_cut_off_anywhere_is_done_or_not():
    crashed_steps("link", lambda top: write(f"{top}/a", b"text"), lambda top: os.link(f"{top}/a", f"{top}/b"),
                  [{"a": b"text"}, {"a": b"text", "b": b"text"}])


def an_exchange_cut_off_anywhere_is_done_or_not():
    def both(top):
        write(f"{top}/a", b"one")
        write(f"{top}/b", b"two")

    def exchange(top):
        subprocess.run([sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(None).renameat2(-100, sys.argv[1].encode(), -100, "
                        "sys.argv[2].encode(), 2)", f"{top}/a", f"{top}/b"], check=True)
    crashed_steps("exchange", both, exchange, [{"a": b"one", "b": b"two"}, {"a": b"two", "b": b"one"}])


TESTS = [
    a_hung_export_stops_no_program,
    a_dead_disk_stops_no_program,
    a_full_export_stops_no_program,
    a_read_only_export_stops_no_program,
    an_unmounted_export_gets_not_one_byte,
    two_of_five_racks_are_missed_by_nobody_with_three_replicas,
    an_export_that_comes_back_with_old_content_shows_none_of_it,
    an_export_that_is_put_back_to_an_earlier_moment_brings_nothing_back,
    what_cannot_be_proven_is_an_error,
    fewer_copies_than_asked_for_are_not_acknowledged,
    lenient_subtrees_serve_what_is_at_hand,
    what_was_synced_survives_a_killed_daemon,
    a_rename_cut_off_anywhere_is_done_or_not,
    a_link_cut_off_anywhere_is_done_or_not,
    an_exchange_cut_off_anywhere_is_done_or_not,
]


def main():
    names = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    return run_named(TESTS, names, BedError, sqlite3.Error)


if __name__ == "__main__":
    sys.exit(isolate(main))
