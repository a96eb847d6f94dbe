#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Proof of the checker: each kind of damage is made, and must be found; an undamaged array must pass.

Run as root: owners and device nodes are part of what is checked.
"""

import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import unittest

import check_replicas
from check_replicas import Checker, Export

MTIME = 1_600_000_000_123_456_789
# A POSIX ACL as the kernel stores it: version 2, then (tag, permission, id) with one named user.
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, perm, who)
    for tag, perm, who in ((1, 6, 2**32 - 1), (2, 4, 12345), (4, 4, 2**32 - 1), (16, 4, 2**32 - 1), (32, 4, 2**32 - 1)))


class CheckerTest(unittest.TestCase):
    def setUp(self):
        self.top = tempfile.mkdtemp(prefix="rainfs-checker-", dir=os.environ.get("RAINFS_TEST_DIR", "/var/tmp"))
        self.addCleanup(shutil.rmtree, self.top)
        self.exports = []
        for name, rack in (("nas1", "a"), ("nas2", "a"), ("nas3", "b"), ("nas4", "c")):
            path = os.path.join(self.top, name)
            os.makedirs(os.path.join(path, ".rainfs", "ledger"))
            os.makedirs(os.path.join(path, ".rainfs", "tmp"))
            os.makedirs(os.path.join(path, "d"))
            self.exports.append(Export(name, rack, os.fsencode(path)))
        self.original = os.path.join(self.top, "original")
        os.makedirs(os.path.join(self.original, "d"))
        self.pair = [os.path.join(self.top, "nas1"), os.path.join(self.top, "nas3")]
        for root in self.pair + [self.original]:
            self.populate(root)

    def populate(self, root):
        at = lambda name: os.path.join(os.fsencode(root), os.fsencode(name))
        for name in ("d/plain", b"d/\xff\xfebytes", "d/" + "n" * 255):
            with open(at(name), "wb") as out:
                out.write(b"contents of " + os.fsencode(name) + b"x" * 3_000_000)
        with open(at("d/sparse"), "wb") as out:
            out.truncate(5 << 30)
            os.pwrite(out.fileno(), b"island", 3 << 30)
        open(at("d/empty"), "w").close()
        os.link(at("d/plain"), at("d/second-name"))
        os.symlink("/etc/passwd", at("d/link"))
        os.mkfifo(at("d/fifo"))
        os.mknod(at("d/device"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
        endpoint = socket.socket(socket.AF_UNIX)
        old = os.getcwd()
        os.chdir(at("d"))
        endpoint.bind("socket")
        os.chdir(old)
        endpoint.close()
        os.setxattr(at("d/plain"), "user.colour", b"blue")
        os.setxattr(at("d/empty"), "system.posix_acl_access", ACL)
        for name in os.listdir(at("d")):
            path = os.path.join(at("d"), name)
            os.lchown(path, 1000, 1000)
            if not os.path.islink(path):
                os.chmod(path, 0o644)
            os.utime(path, ns=(MTIME, MTIME), follow_symlinks=False)

    def check(self, **options):
        options.setdefault("replicas", 2)
        return Checker(self.exports, **options).run()

    def found(self, kind, path=None, **options):
        """The damage is found, under its name, at its path, and as nothing else."""
        report = self.check(**options)
        self.assertEqual({kind}, set(report.by_kind), report.violations)
        if path is not None:
            self.assertIn(os.fsencode(path), [v.path for v in report.violations])

    def path(self, name, root=1):
        return os.path.join(os.fsencode(self.pair[root]), os.fsencode(name))

    def keep_time(self, name):
        os.utime(self.path(name), ns=(MTIME, MTIME), follow_symlinks=False)

    # ---- sound arrays -------------------------------------------------------------------------------

    def test_equal_copies_in_distinct_racks_pass(self):
        report = self.check(originals=[(os.fsencode(self.original), b"")])
        self.assertEqual([], report.violations)
        self.assertEqual(6, report.counts["file"])
        self.assertEqual(20, report.counts["replicas"])
        self.assertEqual(0, report.information["directories not on every export"])

    def test_the_private_directory_is_not_part_of_the_tree(self):
        open(self.path(".rainfs/anything"), "w").close()
        self.assertEqual(0, self.check().total)

    def test_a_policy_sets_the_count_of_its_subtree(self):
        self.assertEqual(0, self.check(replicas=3, policies=[(b"/d", 2)]).total)
        self.found("count", replicas=2, policies=[(b"d/fifo", 1)], path="d/fifo")

    def test_a_directory_missing_on_an_export_is_only_told(self):
        os.rmdir(os.path.join(self.top, "nas2", "d"))
        report = self.check()
        self.assertEqual(0, report.total)
        self.assertEqual(1, report.information["directories not on every export"])

    # ---- each kind of damage ------------------------------------------------------------------------

    def test_a_missing_replica(self):
        for name in ("d/sparse", "d/link", "d/fifo", b"d/\xff\xfebytes"):
            os.unlink(self.path(name))
            self.found("count", name)
            self.setUp()

    def test_one_replica_too_many(self):
        extra = os.fsencode(os.path.join(self.top, "nas4", "d", "device"))
        os.mknod(extra, stat.S_IFCHR | 0o644, os.makedev(1, 3))
        os.chmod(extra, 0o644)
        os.chown(extra, 1000, 1000)
        os.utime(extra, ns=(MTIME, MTIME))
        self.found("count", "d/device")

    def test_two_replicas_in_one_rack(self):
        os.rename(self.path("d/sparse"), os.path.join(self.top, "nas2", "d", "sparse"))
        self.found("rack", "d/sparse")

    def test_a_differing_byte(self):
        with open(self.path("d/" + "n" * 255), "r+b") as out:
            os.pwrite(out.fileno(), b"!", 2_500_000)
        self.keep_time("d/" + "n" * 255)
        self.found("contents", "d/" + "n" * 255)

    def test_a_differing_byte_in_the_hole_of_the_other_copy(self):
        with open(self.path("d/sparse"), "r+b") as out:
            os.pwrite(out.fileno(), b"!", 4 << 30)
        self.keep_time("d/sparse")
        self.found("contents", "d/sparse")

    def test_a_lost_byte_at_the_end(self):
        os.truncate(self.path("d/sparse"), (5 << 30) - 1)
        self.keep_time("d/sparse")
        self.found("size", "d/sparse")

    def test_one_nanosecond(self):
        for name in ("d/sparse", "d/link", "d/fifo"):
            os.utime(self.path(name), ns=(MTIME, MTIME + 1), follow_symlinks=False)
        self.found("mtime_ns", "d/link")
        self.assertEqual(3, self.check().total)

    def test_mode_owner_and_group(self):
        os.chmod(self.path("d/sparse"), 0o600)
        self.found("mode", "d/sparse")
        os.chmod(self.path("d/sparse"), 0o644)
        os.lchown(self.path("d/link"), 1, 1000)
        self.found("uid", "d/link")
        os.lchown(self.path("d/link"), 1000, 1)
        self.found("gid", "d/link")

    def test_a_directory_with_another_mode(self):
        os.chmod(os.path.join(self.top, "nas4", "d"), 0o700)
        self.found("mode", "d")

    def test_another_type(self):
        os.unlink(self.path("d/fifo"))
        os.mkdir(self.path("d/fifo"))
        self.found("type", "d/fifo")

    def test_another_symlink_target(self):
        os.unlink(self.path("d/link"))
        os.symlink("/etc/group", self.path("d/link"))
        os.lchown(self.path("d/link"), 1000, 1000)
        self.keep_time("d/link")
        self.found("target", "d/link")

    def test_another_device_number(self):
        os.unlink(self.path("d/device"))
        os.mknod(self.path("d/device"), stat.S_IFCHR | 0o644, os.makedev(1, 5))
        os.chmod(self.path("d/device"), 0o644)
        os.chown(self.path("d/device"), 1000, 1000)
        self.keep_time("d/device")
        self.found("rdev", "d/device")

    def test_extended_attributes(self):
        os.setxattr(self.path("d/plain"), "user.colour", b"green")
        self.found("xattr", "d/plain")
        os.removexattr(self.path("d/plain"), "user.colour")
        self.found("xattr", "d/plain")

    def test_access_control_lists(self):
        os.setxattr(self.path("d/empty"), "system.posix_acl_access", ACL.replace(struct.pack("<I", 12345), struct.pack("<I", 12346)))
        self.found("acl", "d/empty")
        os.setxattr(self.path("d/empty"), "system.posix_acl_access", ACL)
        os.setxattr(self.path("d"), "system.posix_acl_default", ACL)
        self.found("acl", "d")

    def test_a_hard_link_that_became_a_copy(self):
        os.unlink(self.path("d/second-name"))
        shutil.copy2(self.path("d/plain"), self.path("d/second-name"))
        os.chown(self.path("d/second-name"), 1000, 1000)
        report = self.check()
        self.assertEqual({"hard-links", "nlink"}, set(report.by_kind), report.violations)

    def test_a_hard_link_to_the_wrong_file_of_the_same_contents(self):
        for root in (0, 1):
            for name in ("d/x", "d/y"):
                shutil.copy2(self.path("d/empty", root), self.path(name, root))
            twin = {0: ("d/x", "d/y"), 1: ("d/y", "d/x")}[root]
            os.link(self.path(twin[0], root), self.path("d/xx", root))
            os.link(self.path(twin[1], root), self.path("d/yy", root))
            for name in ("d/x", "d/y"):
                os.utime(self.path(name, root), ns=(MTIME, MTIME))
        self.found("hard-links", "d/xx")

    def test_a_name_kept_outside_the_tree(self):
        for root in (0, 1):
            os.link(self.path("d/sparse", root), self.path(".rainfs/kept", root))
        self.found("nlink", "d/sparse")

    def test_leftovers(self):
        for name in (".nfs00000000012", ".fuse_hidden0001", ".rainfs-tmp-17"):
            for root in (0, 1):
                shutil.copy2(self.path("d/empty", root), self.path("d/" + name, root))
                os.chown(self.path("d/" + name, root), 1000, 1000)
            self.found("leftover", "d/" + name)
            self.assertEqual(0, self.check(allow_leftovers=True).total)
            for root in (0, 1):
                os.unlink(self.path("d/" + name, root))

    def test_facts_and_temporaries_when_asked(self):
        open(self.path(".rainfs/tmp/half"), "w").close()
        self.assertEqual(0, self.check().total)
        self.found("temporary", state_clean=True)
        os.unlink(self.path(".rainfs/tmp/half"))
        os.makedirs(self.path(".rainfs/ledger/nas1/ab/abcd"))
        self.assertEqual(0, self.check(state_clean=True).total)
        open(self.path(".rainfs/ledger/nas1/ab/abcd/n1-1"), "w").close()
        self.found("fact", state_clean=True)

    # ---- against an original ------------------------------------------------------------------------

    def test_what_differs_from_the_original(self):
        source = [(os.fsencode(self.original), b"")]
        open(os.path.join(self.original, "d", "late"), "w").close()
        self.found("missing", "d/late", originals=source)
        os.unlink(os.path.join(self.original, "d", "late"))
        os.unlink(os.path.join(self.original, "d", "fifo"))
        self.found("extra", "d/fifo", originals=source)
        os.mkfifo(os.path.join(self.original, "d", "fifo"))
        self.assertEqual({"uid", "gid", "mtime_ns"}, set(self.check(originals=source).by_kind))
        self.assertEqual(0, self.check(originals=source, contents_only=True).total)
        with open(os.path.join(self.original, "d", "plain"), "r+b") as out:
            out.write(b"C")
        self.found("contents", "d/plain", originals=source, contents_only=True)

    def test_holes_that_were_filled(self):
        for root in (0, 1):
            with open(self.path("d/sparse", root), "r+b") as out:
                out.write(bytes(40 << 20))
            os.utime(self.path("d/sparse", root), ns=(MTIME, MTIME))
        self.assertEqual(0, self.check().total)
        self.found("holes", "d/sparse", originals=[(os.fsencode(self.original), b"")])

    # ---- the program --------------------------------------------------------------------------------

    def test_exit_status_and_bounded_output(self):
        program = [sys.executable, check_replicas.__file__, "-R", "2"]
        for export in self.exports:
            program += ["--export", f"{export.name}:{export.rack}:{os.fsdecode(export.path)}"]
        good = subprocess.run(program, capture_output=True, text=True)
        self.assertEqual(0, good.returncode, good.stdout + good.stderr)
        bad = subprocess.run(program + ["-R", "3", "--show", "2"], capture_output=True, text=True)
        self.assertEqual(1, bad.returncode)
        self.assertIn("and 8 more", bad.stdout)
        wrong = subprocess.run(program + ["--export", "x:y:/nonexistent"], capture_output=True, text=True)
        self.assertEqual(2, wrong.returncode)


if __name__ == "__main__":
    unittest.main()
