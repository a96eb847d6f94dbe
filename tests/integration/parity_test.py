#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proof of the parity suite: two bare ext4 file systems do not differ in anything, and a FUSE file system that
does differ is found out, in the cases that say how."""

import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "support"))

from bed import Array, isolate  # noqa: E402


def parity(*arguments):
    result = subprocess.run([sys.executable, os.path.join(HERE, "parity.py"), *arguments], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="backslashreplace")
    return result.returncode, result.stdout


class ParitySuite(unittest.TestCase):
    def test_two_bare_directories_do_not_differ(self):
        with Array({"a": ["one"], "b": ["two"]}, backing="ext4:300M") as bed:
            status, output = parity(bed["one"].path, bed["two"].path)
        self.assertEqual(0, status, output[-5000:])
        self.assertIn(" cases, 0 differ", output)
        self.assertGreater(int(output.split(" cases,")[0].split()[-1]), 400)

    def test_known_differences_of_another_file_system_are_found(self):
        with Array() as bed:
            branches = ":".join(e.path for e in bed.exports.values())
            with bed.mount(command=["mergerfs", "-f", "-o", "allow_other,use_ino", branches]) as node:
                bare = os.path.join(bed.base, "bare")
                os.mkdir(bare)
                for case in ("link-counts-and-contents-are-shared", "rename-noreplace-file", "rmdir-of-the-working-directory"):
                    status, output = parity(node.path, bare, "--only", case)
                    self.assertEqual(1, status, output)
                    self.assertIn(f"{case}: ", output)
                    self.assertIn("1 cases, 1 differ", output)
                self.check_known(bed, node.path, bare)

    def check_known(self, bed, mount, bare):
        known = os.path.join(bed.base, "known")
        with open(known, "w", encoding="utf-8") as out:
            out.write("# comment\nrename-noreplace-file: mergerfs has no flags\n")
        self.assertEqual(0, parity(mount, bare, "--only", "rename-noreplace-file", "--known", known)[0])
        status, output = parity(bare, bare, "--only", "rename-noreplace-file", "--known", known)
        self.assertEqual(1, status, "a known difference that is none must be told")
        self.assertIn("1 wrongly known", output)
        with open(known, "a", encoding="utf-8") as out:
            out.write("no-such-case: x\n")
        self.assertEqual(2, parity(mount, bare, "--only", "rename-noreplace-file", "--known", known)[0])


def main():
    return 0 if unittest.main(exit=False).result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(isolate(main))
