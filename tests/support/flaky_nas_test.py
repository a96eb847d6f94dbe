#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proof of the flaky NAS: sound without rules, and each rule does what it says and nothing else."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
import unittest

import bed
from bed import Array, BedError, isolate


def outcome(call, *arguments):
    try:
        call(*arguments)
        return 0
    except OSError as error:
        return error.errno


def put(path, data=b"0123456789"):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        return os.write(descriptor, data)
    finally:
        os.close(descriptor)


def get(path):
    with open(path, "rb") as data:
        return data.read()


class FlakyNas(unittest.TestCase):
    def setUp(self):
        self.array = Array({"rack-a": ["nas1"], "rack-b": ["nas2"]}, backing={"nas1": "flaky", "*": "dir"})
        self.addCleanup(self.array.close)
        self.nas = self.array["nas1"]
        self.file = self.nas.path + "/f"
        put(self.file)

    def stored(self, name="f"):
        return get(os.path.join(self.nas.store, name))

    # ---- sound without rules ------------------------------------------------------------------------

    def test_it_is_a_file_system(self):
        os.mkdir(self.nas.path + "/d")
        os.link(self.file, self.nas.path + "/d/g")
        os.rename(self.file, self.nas.path + "/h")
        self.assertEqual(2, os.stat(self.nas.path + "/h").st_nlink)
        self.assertEqual(os.stat(self.nas.path + "/h").st_ino, os.stat(self.nas.path + "/d/g").st_ino)
        os.utime(self.nas.path + "/h", ns=(1, 1_234_567_890_987_654_321))
        self.assertEqual(1_234_567_890_987_654_321, os.stat(self.nas.store + "/h").st_mtime_ns)
        os.setxattr(self.nas.path + "/h", "user.x", b"y")
        self.assertEqual(b"y", os.getxattr(self.nas.store + "/h", "user.x"))
        self.assertEqual(errno.EEXIST, outcome(os.open, self.nas.path + "/h", os.O_CREAT | os.O_EXCL))
        descriptor = os.open(self.nas.path + "/h", os.O_RDWR)
        os.unlink(self.nas.path + "/h")
        os.unlink(self.nas.path + "/d/g")
        self.assertEqual(b"0123", os.pread(descriptor, 4, 0))
        os.close(descriptor)
        self.assertEqual(["d"], os.listdir(self.nas.store))

    def test_what_others_change_below_is_seen_at_once(self):
        os.stat(self.file)
        os.unlink(self.nas.store + "/f")
        self.assertFalse(os.path.exists(self.file))
        put(self.nas.store + "/f", b"new and longer contents")
        self.assertEqual(23, os.stat(self.file).st_size)
        self.assertEqual(b"new and longer contents", get(self.file))

    # ---- rules --------------------------------------------------------------------------------------

    def test_an_errno_is_answered_and_nothing_done(self):
        self.nas.tell("add write /f errno EDQUOT")
        self.assertEqual(errno.EDQUOT, outcome(put, self.file, b"new"))
        self.nas.tell("add unlink,rmdir * errno EIO")
        self.assertEqual(errno.EIO, outcome(os.unlink, self.file))
        self.assertEqual(0, outcome(put, self.nas.path + "/other"))
        self.nas.release()
        self.assertEqual(0, outcome(put, self.file, b"new"))
        self.assertEqual(b"new", self.stored())

    def test_a_late_error_is_reported_for_what_was_done(self):
        self.nas.tell("add write,mkdir,rename * late EIO")
        descriptor = os.open(self.file, os.O_WRONLY)
        self.assertEqual(errno.EIO, outcome(os.write, descriptor, b"done"))
        os.close(descriptor)
        self.assertEqual(b"done456789", self.stored())
        self.assertEqual(errno.EIO, outcome(os.mkdir, self.nas.path + "/d"))
        self.assertEqual(errno.EIO, outcome(os.rename, self.file, self.nas.path + "/d/moved"))
        self.assertEqual(b"done456789", self.stored("d/moved"))

    def test_short_torn_dropped_and_corrupted_writes(self):
        for action, claimed, found in (("short 3", 3, b"abc3456789"), ("torn 3", 6, b"abc3456789"),
                                       ("drop", 6, b"0123456789"), ("corrupt", 6, b"abc\x9bef6789")):
            self.nas.release()
            put(self.file)
            self.nas.tell(f"add write /f {action} count=1")
            descriptor = os.open(self.file, os.O_WRONLY)
            self.assertEqual(claimed, os.write(descriptor, b"abcdef"), action)
            os.close(descriptor)
            self.assertEqual(found, self.stored(), action)

    def test_corrupted_reads_leave_the_file_alone(self):
        self.nas.tell("add read /f corrupt count=1")
        self.assertEqual(b"01234\xca6789", get(self.file))
        self.assertEqual(b"0123456789", self.stored())
        self.assertEqual(b"0123456789", get(self.file))

    def test_after_and_count(self):
        self.nas.tell("add mkdir * errno EIO after=2 count=3")
        outcomes = [outcome(os.mkdir, f"{self.nas.path}/d{n}") for n in range(7)]
        self.assertEqual([0, 0, errno.EIO, errno.EIO, errno.EIO, 0, 0], outcomes)

    def test_a_delay_delays_and_then_does_it(self):
        self.nas.tell("add mkdir * delay 300 count=1")
        start = time.monotonic()
        os.mkdir(self.nas.path + "/slow")
        self.assertGreaterEqual(time.monotonic() - start, 0.3)

    def test_a_hang_holds_what_matches_only_until_released(self):
        self.nas.hang("getattr,open,read", "/f*")
        done = []
        waiting = [threading.Thread(target=lambda: done.append(get(self.file))) for _ in range(30)]
        for thread in waiting:
            thread.start()
        bed.wait_until(lambda: self.nas.tell("hung") != "0", "an operation hangs")
        for number in range(20):  # others go on
            self.assertEqual(0, outcome(put, f"{self.nas.path}/g{number}"))
        self.assertEqual([], done)
        self.nas.release()
        for thread in waiting:
            thread.join(30)
        self.assertEqual([b"0123456789"] * 30, done)
        self.assertEqual("0", self.nas.tell("hung"))

    def test_removing_one_rule_releases_what_it_holds(self):
        held, other = self.nas.hang("mkdir", "/x"), self.nas.tell("add rmdir * errno EIO")
        child = subprocess.Popen(["mkdir", self.nas.path + "/x"])
        bed.wait_until(lambda: self.nas.tell("hung") == "1", "mkdir hangs")
        self.nas.tell(f"remove {held}")
        self.assertEqual(0, child.wait(30))
        self.assertEqual(errno.EIO, outcome(os.rmdir, self.nas.path + "/x"))
        self.assertIn(f"{other} rmdir * errno hits=1", self.nas.tell("list"))

    def test_dying_is_the_end_of_the_mount_and_it_comes_back(self):
        self.nas.tell("add mkdir /x die")
        self.assertNotEqual(0, outcome(os.mkdir, self.nas.path + "/x"))
        self.assertEqual(errno.ENOTCONN, outcome(os.stat, self.nas.path))
        self.nas.nas.wait(30)  # its connection ends before it does
        self.nas.come_back()
        self.assertEqual(b"0123456789", get(self.file))

    def test_vanishing_while_operations_hang(self):
        self.nas.hang()
        child = subprocess.Popen(["cat", self.file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        bed.wait_until(lambda: self.nas.tell("hung") != "0", "cat hangs")
        self.nas.vanish()
        self.assertNotEqual(0, child.wait(30))
        self.assertEqual([], os.listdir(self.nas.path))
        self.nas.come_back()
        self.assertEqual(b"0123456789", get(self.file))

    def test_operations_are_counted(self):
        os.mkdir(self.nas.path + "/d")
        counts = dict(line.split() for line in self.nas.tell("stats").splitlines())
        self.assertEqual("1", counts["mkdir"])
        self.assertEqual("1", counts["create"])

    def test_nonsense_is_refused(self):
        for command in ("", "nonsense", "add", "add read /f", "add read /f explode", "add read /f errno", "add read /f errno EWHAT",
                        "add read /f hang 7", "add read /f delay x", "add read /f hang count=x", "remove 99"):
            self.assertRaises(BedError, self.nas.tell, command)
        self.assertEqual("", self.nas.tell("list"))

    def test_it_ends_at_once_when_told_though_operations_hang(self):
        self.nas.hang("readdir")
        child = subprocess.Popen(["ls", self.nas.path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        bed.wait_until(lambda: self.nas.tell("hung") == "1", "ls hangs")
        os.kill(self.nas.nas.pid, signal.SIGTERM)
        self.assertEqual(0, self.nas.nas.wait(30))
        child.wait(30)
        self.assertFalse(bed.is_mounted(self.nas.path))


def main():
    return 0 if unittest.main(exit=False).result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(isolate(main))
