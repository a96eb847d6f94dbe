#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files that are open while their exports fail: an open file's trouble is not its export's, and what programs go on
writing ends equal everywhere or known not to be.

usage: open_files_test.py [NAME...]        (needs root, /dev/fuse and a build)
"""

import errno
import mmap
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from bed import Array, BedError, expect, isolate, program, wait_until  # noqa: E402
from promises import run_named  # noqa: E402

RACKS = {"rack-a": ["nas1"], "rack-b": ["nas2"], "rack-c": ["nas3"]}
PAIR = {"rack-a": ["nas1"], "rack-b": ["nas2"]}
DEADLINES = "deadlines: { metadata: 1s, data: 2s, probe: 500ms }"
FRESH = "attr_timeout=0s,entry_timeout=0s"


def error_of(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"


def direct_read(path_or_file, offset=0, length=4096):
    """What the file system says now, not what the kernel has cached."""
    file = os.open(path_or_file, os.O_RDONLY | os.O_DIRECT) if isinstance(path_or_file, str) else path_or_file
    try:
        with mmap.mmap(-1, length) as buffer:  # aligned
            count = os.preadv(file, [buffer], offset)
            return bytes(buffer[:count])
    finally:
        if isinstance(path_or_file, str):
            os.close(file)


def facts(bed):
    """(export blamed, fact's text) of every fact on any export, each instance once."""
    found = {}
    for export in bed.exports.values():
        for directory, _, names in os.walk(f"{export.store}/.rainfs/ledger"):
            for name in names:
                with open(os.path.join(directory, name), encoding="utf-8") as text:
                    found[os.path.join(os.path.relpath(directory, export.store), name)] = text.read()
    return found


def absences(node):
    return node.log_tail(100000).count("is absent")


def a_file_that_another_node_removed_does_not_make_its_export_absent():
    """NFS answers ESTALE to whoever still has it open."""
    with Array(RACKS, extra=DEADLINES, backing="flaky") as bed:
        bed.create()
        node = bed.mount(FRESH)
        with open(f"{node.path}/f", "wb") as out:
            out.write(b"x" * 8192)
        file = os.open(f"{node.path}/f", os.O_RDONLY | os.O_DIRECT)
        for export in bed.exports.values():
            export.tell(f"add read /f errno {errno.ESTALE}")
        before = absences(node)
        expect(error_of(lambda: direct_read(file)) in ("EIO", "ESTALE"), "the file itself cannot be read")
        expect(absences(node) == before, "no export is taken for absent")
        os.close(file)
        for export in bed.exports.values():
            export.release()
        node.unmount()


def a_reader_with_a_dead_handle_leaves_a_returned_export_alone():
    with Array(PAIR, extra=DEADLINES, backing={"nas2": "flaky", "*": "dir"}) as bed:
        bed.create()
        node = bed.mount(FRESH + ",rack=rack-b")  # it reads from nas2
        with open(f"{node.path}/f", "wb") as out:
            out.write(b"x" * 8192)
        file = os.open(f"{node.path}/f", os.O_RDONLY | os.O_DIRECT)
        expect(direct_read(file) == b"x" * 4096, "it is read")
        bed["nas2"].vanish()
        expect(direct_read(file) == b"x" * 4096, "also without nas2")
        bed["nas2"].come_back()
        time.sleep(3)  # every poll has seen it
        before = absences(node)
        for _ in range(20):
            expect(direct_read(file) == b"x" * 4096, "it is read")
            time.sleep(0.1)
        expect(absences(node) == before, f"nas2 stays online: {node.log_tail(30)}")
        os.close(file)
        node.unmount()


def replicas_that_a_failed_write_left_different_are_known_to_be():
    """A write that failed on every replica may have been done by some. What is written afterwards makes none of them
    whole."""
    with Array(PAIR, extra=DEADLINES, backing="flaky") as bed:
        bed.create()
        node = bed.mount(FRESH)
        file = os.open(f"{node.path}/f", os.O_RDWR | os.O_CREAT)
        os.pwrite(file, b"a" * 12288, 0)
        os.fsync(file)
        bed["nas1"].tell(f"add write /f late {errno.EIO}")
        bed["nas2"].tell(f"add write /f errno {errno.EIO}")
        expect(error_of(lambda: os.pwrite(file, b"b" * 4096, 4096)) == "EIO", "the write fails everywhere")
        bed["nas1"].release()
        bed["nas2"].release()
        os.pwrite(file, b"c" * 4096, 8192)
        closed = error_of(lambda: os.close(file))
        time.sleep(0.2)
        with open(f"{bed['nas1'].store}/f", "rb") as one, open(f"{bed['nas2'].store}/f", "rb") as two:
            different = one.read() != two.read()
        expect(different, "the replicas differ")
        expect(facts(bed) or closed == "EIO", "and that is recorded")
        node.unmount()


def replicas_that_ran_full_at_different_places_are_known_to_differ():
    with Array(PAIR, extra=DEADLINES, backing="tmpfs:16M") as bed:
        bed.create()
        node = bed.mount(FRESH)
        file = os.open(f"{node.path}/f", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
        os.ftruncate(file, 4 << 20)
        bed["nas1"].fill(leave=200 << 10)
        bed["nas2"].fill(leave=600 << 10)
        with mmap.mmap(-1, 1 << 20) as buffer:
            buffer.write(b"x" * (1 << 20))
            error = error_of(lambda: expect(os.pwritev(file, [buffer], 0) == 1 << 20, "short"))
        bed["nas1"].unfill()
        bed["nas2"].unfill()
        closed = error_of(lambda: os.close(file))
        with open(f"{bed['nas1'].store}/f", "rb") as one, open(f"{bed['nas2'].store}/f", "rb") as two:
            different = one.read() != two.read()
        print(f"        write: {error}, close: {closed}, different: {different}, facts: {len(facts(bed))}")
        expect(not different or facts(bed) or closed != "done", "what differs is recorded")
        node.unmount()


def what_is_written_back_for_long_keeps_no_reader_waiting():
    """A writer pauses, and what it wrote is made equal on the replicas; one of them takes its time."""
    with Array(PAIR, extra=DEADLINES, backing={"nas2": "flaky", "*": "dir"}) as bed:
        bed.create()
        node = bed.mount(FRESH)
        file = os.open(f"{node.path}/f", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
        with mmap.mmap(-1, 4096) as buffer:
            os.pwritev(file, [buffer], 0)
            bed["nas2"].tell("add flush /f delay 8000")
            longest = 0
            end = time.monotonic() + 14
            while time.monotonic() < end:
                begun = time.monotonic()
                direct_read(file)
                os.stat(f"{node.path}/f")
                longest = max(longest, time.monotonic() - begun)
                time.sleep(0.05)
        print(f"        longest wait of a reader: {longest:.2f} s")
        expect(longest < 1.5, "reading waits for no flush")
        bed["nas2"].release()
        os.close(file)
        node.unmount()


def a_truncated_file_is_not_read_from_a_replica_that_missed_it():
    with Array(PAIR, extra=DEADLINES, backing={"nas2": "flaky", "*": "dir"}) as bed:
        bed.create()
        node = bed.mount(FRESH + ",rack=rack-b")  # it reads from nas2
        with open(f"{node.path}/f", "wb") as out:
            out.write(b"x" * 8192)
        reader = os.open(f"{node.path}/f", os.O_RDONLY | os.O_DIRECT)
        expect(direct_read(reader) == b"x" * 4096, "it is read")
        bed["nas2"].tell("add truncate /f errno EIO")
        os.truncate(f"{node.path}/f", 100)
        bed["nas2"].release()
        os.truncate(f"{node.path}/f", 8192)
        expect(direct_read(reader) == b"x" * 100 + bytes(3996), "what was cut off is not read again")
        os.close(reader)
        node.unmount()


def an_export_whose_data_hang_while_it_answers_is_left_alone_for_longer_each_time():
    with Array(RACKS, extra=DEADLINES, backing={"nas2": "flaky", "*": "dir"}) as bed:
        bed.create()
        node = bed.mount(FRESH)
        bed["nas2"].hang("write", "/f*")
        end = time.monotonic() + 20
        number = 0
        while time.monotonic() < end:
            with open(f"{node.path}/f{number}", "wb", buffering=0) as out:
                out.write(b"x" * 1000)
            number += 1
            time.sleep(0.02)
        missed = node.log_tail(100000).count("is absent: missed a deadline")
        print(f"        {missed} deadlines missed in 20 s, {number} files written")
        expect(1 <= missed <= 4, f"{missed} deadlines are missed")
        bed["nas2"].release()
        node.unmount()


def a_file_that_is_written_again_and_again_without_an_export_leaves_one_fact():
    with Array(PAIR, extra=DEADLINES) as bed:
        bed.create()
        node = bed.mount(FRESH)
        bed["nas2"].vanish()
        time.sleep(2)
        for i in range(100):
            with open(f"{node.path}/f", "ab") as out:
                out.write(b"x")
            os.chmod(f"{node.path}/f", 0o600 + i % 2)
            with open(f"{node.path}/gone", "wb") as out:
                out.write(b"x")
            os.unlink(f"{node.path}/gone")
        found = facts(bed)
        print(f"        {len(found)} facts")
        expect(2 <= len(found) <= 8, f"{len(found)} facts about two names: a few for each reason")
        bed["nas2"].come_back()
        time.sleep(3)
        with open(f"{node.path}/f", "rb") as text:
            expect(text.read() == b"x" * 100, "nothing is lost")
        expect(not os.path.exists(f"{node.path}/gone"), "nor comes back")
        subprocess.run([program("rainfs-scrub"), bed.config, "--grace", "0", "--rate", "0", "--quiet"], timeout=100,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        node.unmount()
        bed.check(state_clean=True)


def what_is_read_in_pieces_of_any_size_is_what_was_written():
    """Large pieces of local files go past RainFS's memory into the reply, but for the last one of a file."""
    with Array(RACKS, extra=DEADLINES) as bed:
        bed.create()
        node = bed.mount(FRESH)
        data = os.urandom(3 * (1 << 20) + 12_345)
        sizes = [0, 1, 4095, 4096, 65_535, 65_536, 65_537, 1_044_479, 1_044_480, 1_044_481, 1 << 20, len(data)]
        for size in sizes:
            with open(f"{node.path}/f{size}", "wb") as out:
                out.write(data[:size])
        node.unmount()
        node = bed.mount(FRESH)  # with nothing cached
        for size in sizes:
            with open(f"{node.path}/f{size}", "rb") as file:
                expect(file.read() == data[:size], f"{size} bytes read as one")
        for offset in (0, 4096, 100_000 // 4096 * 4096, 1 << 20):
            for length in (4096, 65_536, 1_044_480, 1 << 20, 2 << 20):
                for size in (1_044_481, len(data)):
                    expect(direct_read(f"{node.path}/f{size}", offset, length) == data[:size][offset:offset + length],
                           f"{length} bytes at {offset} of {size}, past the cache")
        # Readers that are killed take no reply, and leave nothing behind for the next one.
        reader = "import os, sys\nf = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)\nimport mmap\nb = mmap.mmap(-1, 1 << 20)\n" \
                 "while True: os.preadv(f, [b], 0); os.preadv(f, [b], 1 << 20)"
        for _ in range(30):
            child = subprocess.Popen([sys.executable, "-c", reader, f"{node.path}/f{len(data)}"])
            time.sleep(0.05)
            expect(direct_read(f"{node.path}/f{len(data)}", 1 << 20, 1 << 20) == data[1 << 20:2 << 20], "beside a reader")
            child.kill()
            child.wait()
            expect(direct_read(f"{node.path}/f{len(data)}", 1 << 20, 1 << 20) == data[1 << 20:2 << 20], "after a killed one")
        node.unmount()
        bed.check(state_clean=True)


def what_is_told_of_a_written_file_is_true_after_it_was_closed():
    """As programs rely on that remember what fstat told them: git takes a file with another ctime for changed."""
    with Array(RACKS, extra=DEADLINES) as bed:
        bed.create()
        node = bed.mount(FRESH)
        for name, then in (("closed", os.close), ("synced", lambda file: (os.fsync(file), os.close(file)))):
            file = os.open(f"{node.path}/{name}", os.O_CREAT | os.O_WRONLY)
            os.write(file, b"text")
            told = os.fstat(file)
            time.sleep(0.05)
            then(file)
            now = os.stat(f"{node.path}/{name}")
            expect((told.st_mtime_ns, told.st_ctime_ns) == (now.st_mtime_ns, now.st_ctime_ns),
                   f"{name}: ctime {told.st_ctime_ns} was told, and is {now.st_ctime_ns}; mtime {told.st_mtime_ns}, {now.st_mtime_ns}")
        node.unmount()
        bed.check(state_clean=True)


TESTS = [
    what_is_told_of_a_written_file_is_true_after_it_was_closed,
    what_is_read_in_pieces_of_any_size_is_what_was_written,
    a_file_that_another_node_removed_does_not_make_its_export_absent,
    a_reader_with_a_dead_handle_leaves_a_returned_export_alone,
    replicas_that_a_failed_write_left_different_are_known_to_be,
    replicas_that_ran_full_at_different_places_are_known_to_differ,
    what_is_written_back_for_long_keeps_no_reader_waiting,
    a_truncated_file_is_not_read_from_a_replica_that_missed_it,
    an_export_whose_data_hang_while_it_answers_is_left_alone_for_longer_each_time,
    a_file_that_is_written_again_and_again_without_an_export_leaves_one_fact,
]


def main():
    names = sys.argv[1:]
    return run_named(TESTS, names, BedError)


if __name__ == "__main__":
    sys.exit(isolate(main))
