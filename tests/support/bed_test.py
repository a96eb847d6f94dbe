#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proof of the test bed: each failure it can make is one, coming back undoes it, and nothing is left behind.

mergerfs stands in for a daemon, so that this holds without RainFS.
"""

import errno
import os
import signal
import subprocess
import sys
import time
import unittest

import bed
from bed import Array, BedError, isolate

ONE_RACK_EACH = {"rack-a": ["nas1"], "rack-b": ["nas2"]}


def outcome(call, *arguments):
    try:
        call(*arguments)
        return 0
    except OSError as error:
        return error.errno


def write_file(path, data=b"data"):
    with open(path, "wb", buffering=0) as out:
        out.write(data)
        os.fsync(out.fileno())


def mergerfs(array):
    branches = ":".join(e.path for e in array.exports.values())
    return array.mount(command=["mergerfs", "-f", branches])


class ExportFailures(unittest.TestCase):
    def each(self, *kinds):
        for kind in kinds:
            with Array(ONE_RACK_EACH, backing=kind) as array:
                write_file(array["nas1"].path + "/marker")
                yield array, array["nas1"]

    def whole_again(self, export):
        export.come_back()
        self.assertTrue(os.path.exists(export.path + "/marker"))
        self.assertEqual(0, outcome(write_file, export.path + "/again"))
        self.assertEqual(["again", "marker"], sorted(os.listdir(export.store)))

    def test_a_vanished_export_is_a_bare_directory_and_comes_back_whole(self):
        for _, export in self.each("dir", "tmpfs:16M", "ext4:16M", "xfs:320M"):
            export.vanish()
            self.assertEqual([], os.listdir(export.path))
            self.assertEqual(0, outcome(write_file, export.path + "/stray"))
            self.assertTrue(os.path.exists(export.store + "/marker"))
            os.unlink(export.path + "/stray")
            self.whole_again(export)

    def test_a_full_export_says_so_and_shows_no_filler(self):
        for _, export in self.each("tmpfs:16M", "ext4:16M", "xfs:320M"):
            export.fill()
            self.assertEqual(errno.ENOSPC, outcome(write_file, export.path + "/more", b"x" * (1 << 20)))
            self.assertEqual({"marker", "more"}, set(os.listdir(export.path)) | {"more"})
            if os.path.exists(export.path + "/more"):
                os.unlink(export.path + "/more")
            self.whole_again(export)

    def test_a_read_only_export_refuses_even_those_who_have_it_open(self):
        for _, export in self.each("dir", "tmpfs:16M", "ext4:16M"):
            directory = os.open(export.path, os.O_RDONLY)
            export.read_only()
            create = lambda: os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
            self.assertEqual(errno.EROFS, outcome(create))
            os.close(directory)
            self.whole_again(export)

    def test_a_dead_disk_fails_those_who_have_it_open(self):
        for _, export in self.each("ext4:16M", "xfs:320M"):
            directory = os.open(export.path, os.O_RDONLY)
            export.shutdown()
            create = lambda: os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
            self.assertEqual(errno.EIO, outcome(create))
            self.whole_again(export)
            os.close(directory)

    def test_corruption_is_silent(self):
        for _, export in self.each("dir"):
            before = os.stat(export.path + "/marker")
            export.corrupt("marker", 1, b"!")
            after = os.stat(export.path + "/marker")
            with open(export.path + "/marker", "rb") as data:
                self.assertEqual(b"d!ta", data.read())
            self.assertEqual(before.st_mtime_ns, after.st_mtime_ns)

    def test_what_cannot_be_made_is_refused(self):
        for array, export in self.each("dir"):
            self.assertRaises(BedError, export.fill)
            self.assertRaises(BedError, export.shutdown)
            self.assertRaises(BedError, export.hang)


class Nodes(unittest.TestCase):
    def test_a_node_mounts_serves_and_ends_with_its_unmount(self):
        with Array() as array:
            with mergerfs(array) as node:
                write_file(node.path + "/file")
                self.assertTrue(any(os.path.exists(e.store + "/file") for e in array.exports.values()))
                self.assertGreater(node.resident_bytes(), 0)
                self.assertRaises(BedError, array.check)  # mergerfs keeps one copy only
            self.assertFalse(bed.is_mounted(node.path))
            self.assertEqual(0, node.process.returncode)

    def test_a_killed_node_leaves_a_dead_mount_that_is_cleared(self):
        with Array() as array:
            node = mergerfs(array)
            node.kill()
            self.assertEqual(errno.ENOTCONN, outcome(os.listdir, node.path))
            node.close()
            self.assertEqual([], os.listdir(node.path))

    def test_two_nodes_of_one_array(self):
        with Array() as array, mergerfs(array) as one, mergerfs(array) as two:
            self.assertNotEqual(one.path, two.path)
            write_file(one.path + "/file")
            self.assertIn("file", os.listdir(two.path))

    def test_a_daemon_that_does_not_start_is_an_error_with_its_log(self):
        with Array() as array:
            self.assertRaisesRegex(BedError, "no way", array.mount, command=["sh", "-c", "echo no way; exit 3"])

    def test_the_configuration_lists_racks_and_policies(self):
        with Array(ONE_RACK_EACH, policies=[("/tmp", 1)], extra="quorum: lenient") as array:
            with open(array.config, encoding="utf-8") as config:
                text = config.read()
            self.assertEqual(f"array: bed\nreplicas: 2\nracks:\n"
                             f"  - name: rack-a\n    exports:\n      - {{ name: nas1, path: {array['nas1'].path} }}\n"
                             f"  - name: rack-b\n    exports:\n      - {{ name: nas2, path: {array['nas2'].path} }}\n"
                             f"policies:\n  - {{ path: /tmp, replicas: 1 }}\nquorum: lenient\n", text)


VICTIM = """
import sys, time
sys.path.insert(0, {support!r})
from bed import Array, isolate
def main():
    array = Array({{"a": ["n1"], "b": ["n2"]}}, backing={{"n1": "ext4:16M", "*": "dir"}})
    array.mount(command=["mergerfs", "-f", array["n1"].path])
    print(array.base, flush=True)
    {then}
sys.exit({call})
"""


class NothingIsLeft(unittest.TestCase):
    """Whatever ends a test, its mounts, loop devices, processes and directories go with it."""

    def victim(self, then, isolated, number=None):
        environment = {k: v for k, v in os.environ.items() if k != "RAINFS_TEST_BASE"}
        environment["RAINFS_TEST_DIR"] = bed.os.environ.get("RAINFS_TEST_BASE", "/var/tmp")
        code = VICTIM.format(support=os.path.dirname(os.path.abspath(bed.__file__)), then=then,
                             call="isolate(main)" if isolated else "main()")
        file = os.path.join(environment["RAINFS_TEST_DIR"], f"victim-{os.getpid()}.py")
        with open(file, "w", encoding="utf-8") as out:
            out.write(code)
        process = subprocess.Popen([sys.executable, file], env=environment, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, text=True, start_new_session=True)
        base = process.stdout.readline().strip()
        self.assertTrue(base.startswith("/"), base)
        if number:
            os.kill(process.pid, number)
        process.wait(60)
        process.stdout.close()
        os.unlink(file)
        bed.wait_until(lambda: not self.leftovers(base), f"nothing is left of {base}: {self.leftovers(base)}", 30)
        return process.returncode, base

    def leftovers(self, base):
        loops = subprocess.run(["losetup", "-l", "-n", "-O", "BACK-FILE"], capture_output=True, text=True, check=True)
        commands = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as line:
                    commands.append(line.read())
            except OSError:
                pass
        return ([m for m in bed.mounts() if m[0].startswith(base)]
                + [line for line in loops.stdout.splitlines() if base in line]
                + [c for c in commands if os.fsencode(base) in c])

    def test_after_an_exception(self):
        for isolated in (False, True):
            status, base = self.victim("raise ValueError", isolated)
            self.assertEqual(1, status)
            self.assertFalse(os.path.exists(base))

    def test_after_sigterm(self):
        for isolated in (False, True):
            _, base = self.victim("time.sleep(600)", isolated, signal.SIGTERM)
            self.assertFalse(os.path.exists(base))

    def test_after_kill_9_of_an_isolated_test(self):
        self.victim("time.sleep(600)", True, signal.SIGKILL)


def main():
    return 0 if unittest.main(exit=False).result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(isolate(main))
