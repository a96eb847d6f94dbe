# SPDX-License-Identifier: Apache-2.0
"""chmod, chown, times, truncation's side effects, extended attributes."""

import os
import stat

import syscalls
from parity import ALICE, BOB, NOBODY, PAST, case, cases

SPECIAL = {oct(m)[2:]: m for m in (0o4755, 0o2755, 0o6755, 0o6777, 0o2745, 0o2644, 0o4644, 0o6711, 0o1777)}


@cases("chmod", {oct(m)[2:]: m for m in (0, 0o777, 0o644, 0o4755, 0o2755, 0o6755, 0o1755, 0o7777, 0o2644)})
def _chmod(c, mode):
    for name, owner in (("mine", (1001, 1001)), ("my-group", (1001, 2001)), ("foreign-group", (1001, 9999)), ("other", (0, 0))):
        c.file(name)
        os.mkdir("d" + name)
        os.chown(name, *owner)
        os.chown("d" + name, *owner)
        c.ok(os.chmod, name, mode)
        c.stat(name)

    @c.by(ALICE)
    def _():
        for name in ("mine", "my-group", "foreign-group", "other"):
            c.ok(os.chmod, name, mode)
            c.stat(name)
            c.ok(os.chmod, "d" + name, mode)
            c.stat("d" + name)


@case
def chmod_by_descriptor_and_through_links(c):
    c.file()
    os.symlink("f", "l")
    descriptor = os.open("f", os.O_RDONLY)
    c.changes("f", os.fchmod, descriptor, 0o4711)
    c.stat("f")
    c.changes("f", os.chmod, "l", 0o600)
    c.stat("f")
    c.changes("f", os.chmod, "f", 0o600)
    os.unlink("f")
    c.ok(os.fchmod, descriptor, 0o644)
    c.stat(descriptor)


@cases("chown-clears-setid", SPECIAL)
def _chown_setid(c, mode):
    """By root and by an ordinary user; a directory keeps its bits."""
    for uid, gid in ((1001, 1001), (-1, 2001), (1002, -1), (-1, -1)):
        c.file("f")
        os.mkdir("d")
        for name in "fd":
            os.chown(name, 1001, 1001)
            os.chmod(name, mode)
            c.changes(name, os.chown, name, uid, gid)
            c.stat(name)
        os.unlink("f")
        os.rmdir("d")
    for gid in (1001, 2001, -1):
        c.file("f")
        os.chown("f", 1001, 1001)
        os.chmod("f", mode)

        @c.by(ALICE)
        def _():
            c.ok(os.chown, "f", -1, gid)
        c.stat("f")


@cases("write-clears-setid", SPECIAL)
def _write_setid(c, mode):
    actions = {
        "write": lambda: os.write(os.open("f", os.O_WRONLY), b"x"),
        "append": lambda: os.write(os.open("f", os.O_WRONLY | os.O_APPEND), b"x"),
        "ftruncate": lambda: os.ftruncate(os.open("f", os.O_WRONLY), 3),
        "truncate": lambda: os.truncate("f", 30),
        "truncate-same": lambda: os.truncate("f", 10),
        "open-truncate": lambda: os.close(os.open("f", os.O_WRONLY | os.O_TRUNC)),
        "fallocate": lambda: syscalls.fallocate(os.open("f", os.O_WRONLY), 0, 0, 100),
        "nothing": lambda: os.close(os.open("f", os.O_WRONLY)),
    }
    for action, function in actions.items():
        for user, owner in ((NOBODY, 1001), (ALICE, 1001), (None, 1001)):
            c.file("f")
            os.chown("f", owner, owner)
            os.chmod("f", mode | 0o666)

            def act():
                c.note(action, "made")
                c.ok(function)
            c.by(user)(act) if user else act()
            c.stat("f")
            os.unlink("f")


@case
def chown_rules_for_ordinary_users(c):
    for name, uid, gid in (("mine", 1001, 1001), ("other", 1002, 1001)):
        c.file(name)
        os.chown(name, uid, gid)

    @c.by(ALICE)
    def _():
        for name in ("mine", "other"):
            for uid, gid in ((-1, 2001), (-1, 2002), (-1, 3000), (1002, -1), (1001, -1), (1001, 2001), (0, 0), (-1, -1)):
                c.ok(os.chown, name, uid, gid)
                c.stat(name)


@case
def chown_of_links_and_descriptors(c):
    c.file()
    os.symlink("f", "l")
    os.symlink("nowhere", "n")
    c.ok(os.lchown, "l", 11, 12)
    c.stat("l")
    c.stat("f")
    c.ok(os.chown, "l", 13, 14)
    c.stat("f")
    c.ok(os.chown, "n", 1, 1)
    c.ok(os.lchown, "n", 1, 1)
    c.stat("n")
    descriptor = os.open("f", os.O_RDONLY)
    c.ok(os.fchown, descriptor, 2**32 - 2, 70000)
    c.stat("f")
    c.changes("f", os.chown, "f", 5, 5)


@cases("utimens", {"old": ((1, 1), (2, 2)), "ns": ((1_500_000_000, 123_456_789), (1_600_000_000, 987_654_321)),
                   "epoch": ((0, 0), (0, 0)), "before-epoch": ((-5, 999_999_999), (-1, 1)),
                   "after-2038": ((2**31 + 5, 7), (2**32 + 9, 999_999_999)), "omit-atime": ((0, syscalls.UTIME_OMIT), (77, 8)),
                   "omit-mtime": ((77, 8), (0, syscalls.UTIME_OMIT)), "omit-both": ((0, syscalls.UTIME_OMIT),) * 2,
                   "too-many-ns": ((1, 1_000_000_000), (1, 1)), "negative-ns": ((1, -1), (1, 1))})
def _utimens(c, times):
    c.file()
    os.mkdir("d")
    os.symlink("f", "l")
    os.mkfifo("p")
    for name in "fdlp":
        syscalls.utimensat(name, (1000, 100), (2000, 200), syscalls.AT_SYMLINK_NOFOLLOW)
        before = os.lstat(name).st_ctime_ns
        c.ok(syscalls.utimensat, name, *times, syscalls.AT_SYMLINK_NOFOLLOW)
        found = os.lstat(name)
        c.note(name, (found.st_atime_ns, found.st_mtime_ns))
        c.note(name + " ctime", found.st_ctime_ns >= before)
    c.ok(syscalls.utimensat, "l", *times)
    c.note("through the link", (os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns))


@case
def utimens_now_and_permissions(c):
    now = (0, syscalls.UTIME_NOW)
    omit = (0, syscalls.UTIME_OMIT)
    for name, uid, mode in (("own", 1001, 0o444), ("writable", 0, 0o666), ("other", 0, 0o644)):
        c.file(name)
        os.chown(name, uid, uid)
        os.chmod(name, mode)
        os.utime(name, ns=(PAST, PAST))

    @c.by(ALICE)
    def _():
        for name in ("own", "writable", "other"):
            for label, times in (("now", (now, now)), ("omit", (omit, omit)), ("set", ((1, 1), (2, 2))), ("now-omit", (now, omit)),
                                 ("omit-now", (omit, now)), ("now-set", (now, (5, 5)))):
                c.note("which", label)
                c.ok(syscalls.utimensat, name, *times)
                found = os.stat(name)
                c.note("recent", [t > PAST for t in (found.st_atime_ns, found.st_mtime_ns)])
            c.ok(os.utime, name)


@case
def utimens_changes_the_change_time(c):
    c.file()
    c.changes("f", syscalls.utimensat, "f", (0, syscalls.UTIME_OMIT), (0, syscalls.UTIME_OMIT))
    c.changes("f", syscalls.utimensat, "f", (5, 5), (0, syscalls.UTIME_OMIT))
    c.changes("f", os.utime, "f")
    descriptor = os.open("f", os.O_RDWR)
    c.changes("f", os.utime, descriptor, ns=(3, 4))
    c.note("exact", (os.fstat(descriptor).st_atime_ns, os.fstat(descriptor).st_mtime_ns))


@case
def explicit_times_survive_close(c):
    """What cp -p and tar do: write, set times, close."""
    descriptor = os.open("f", os.O_CREAT | os.O_RDWR, 0o600)
    os.write(descriptor, b"data")
    os.utime(descriptor, ns=(1_111_111_111_222_222_222, 1_333_333_333_444_444_444))
    os.close(descriptor)
    c.note("mtime", os.stat("f").st_mtime_ns)
    descriptor = os.open("f", os.O_RDWR)
    os.close(descriptor)
    c.note("mtime after opening", os.stat("f").st_mtime_ns)
    descriptor = os.open("f", os.O_RDWR)
    os.write(descriptor, b"more")
    os.fsync(descriptor)
    os.utime("f", ns=(5, 6))
    os.close(descriptor)
    c.note("mtime", os.stat("f").st_mtime_ns)


@case
def times_of_data_calls(c):
    c.file(data=b"x" * 10000)
    for label, flags, action in (
            ("write", os.O_RDWR, lambda d: os.write(d, b"y")), ("write nothing", os.O_RDWR, lambda d: os.write(d, b"")),
            ("read", os.O_RDONLY, lambda d: os.read(d, 10)), ("read at end", os.O_RDONLY, lambda d: os.pread(d, 10, 1 << 20)),
            ("read nothing", os.O_RDONLY, lambda d: os.read(d, 0)), ("ftruncate", os.O_RDWR, lambda d: os.ftruncate(d, 5000)),
            ("ftruncate same", os.O_RDWR, lambda d: os.ftruncate(d, 5000)), ("fsync", os.O_RDWR, os.fsync),
            ("lseek", os.O_RDONLY, lambda d: os.lseek(d, 5, os.SEEK_SET)),
            ("fallocate", os.O_RDWR, lambda d: syscalls.fallocate(d, 0, 0, 20000)),
            ("punch", os.O_RDWR, lambda d: syscalls.fallocate(d, 3, 0, 4096))):
        def act(flags=flags, action=action):
            descriptor = os.open("f", flags)
            action(descriptor)
            os.close(descriptor)
        c.note("call", label)
        c.changes("f", act)


@case
def times_of_path_calls(c):
    c.file()
    os.symlink("f", "l")
    os.mkdir("d")
    c.changes("f", os.truncate, "f", 3)
    c.changes("f", os.truncate, "f", 3)
    c.changes("f", os.chmod, "f", 0o600)
    c.changes("f", os.setxattr, "f", "user.x", b"1")
    c.changes("f", os.getxattr, "f", "user.x")
    c.changes("f", os.removexattr, "f", "user.x")
    c.changes("f", os.stat, "f")
    c.changes("l", os.readlink, "l")
    c.changes("f", os.close, os.open("f", os.O_RDONLY))
    c.changes("f", os.open, "f", os.O_WRONLY | os.O_TRUNC)
    c.changes("f", os.open, "f", os.O_WRONLY | os.O_TRUNC)
    c.changes("d", os.chmod, "d", 0o700)


@case
def times_are_seen_through_the_open_descriptor(c):
    c.file()
    descriptor = os.open("f", os.O_RDWR)
    os.utime("f", ns=(PAST, PAST))
    os.write(descriptor, b"new")
    c.note("fstat shows it", os.fstat(descriptor).st_mtime_ns > PAST)
    c.note("stat shows it", os.stat("f").st_mtime_ns > PAST)
    during = os.stat("f").st_mtime_ns
    os.close(descriptor)
    c.note("close does not move it back", os.stat("f").st_mtime_ns >= during)
    import time
    settled = os.stat("f").st_mtime_ns
    time.sleep(0.1)
    c.note("nor later", os.stat("f").st_mtime_ns == settled)


@case
def statx_fields(c):
    c.file(data=b"x" * 5000, mode=0o640)
    found = syscalls.statx("f")
    c.note("statx", {k: found[k] for k in ("nlink", "uid", "gid", "mode", "size")})
    c.note("basic mask", found["mask"] & 0x7FF)
    c.note("blocks", found["blocks"] > 0)
    c.note("block size", found["blksize"] >= 512)
    c.ok(syscalls.statx, "missing")
    c.ok(syscalls.statx, "f", 0x2000 | 0x4000)  # both force and don't sync


# ---- extended attributes ------------------------------------------------------------------------------

@cases("xattr", ("user", "trusted", "security", "system", "nonsense", "user-empty-name", "user-long-name"))
def _xattr(c, space):
    name = {"user-empty-name": "user.", "user-long-name": "user." + "n" * 251, "nonsense": "nonsense.x"}.get(space, space + ".tést")
    c.file()
    os.mkdir("d")
    os.symlink("f", "l")
    os.mkfifo("p")
    for path in ("f", "d", "l", "p", "missing"):
        follow = path != "l"
        c.ok(os.setxattr, path, name, b"value", 0, follow_symlinks=follow)
        c.value(os.getxattr, path, name, follow_symlinks=follow)
        c.value(lambda: sorted(n for n in os.listxattr(path, follow_symlinks=follow) if not n.startswith("security.selinux")))
        c.ok(os.setxattr, path, name, b"", os.XATTR_CREATE, follow_symlinks=follow)
        c.ok(os.setxattr, path, name, b"replaced", os.XATTR_REPLACE, follow_symlinks=follow)
        c.value(os.getxattr, path, name, follow_symlinks=follow)
        c.ok(os.removexattr, path, name, follow_symlinks=follow)
        c.ok(os.removexattr, path, name, follow_symlinks=follow)
        c.ok(os.setxattr, path, name, b"x", os.XATTR_REPLACE, follow_symlinks=follow)
        c.ok(os.setxattr, path, name, b"", 0, follow_symlinks=follow)
        c.value(os.getxattr, path, name, follow_symlinks=follow)


@cases("xattr-size", (0, 1, 255, 1000, 3000, 65536, 65537))
def _xattr_size(c, size):
    c.file()
    c.ok(os.setxattr, "f", "user.big", b"v" * size)
    c.value(os.getxattr, "f", "user.big")
    c.value(os.listxattr, "f")


@case
def xattr_many_and_names_of_bytes(c):
    c.file()
    for number in range(40):
        c.ok(os.setxattr, "f", f"user.number-{number:02d}", b"%d" % number * 5)
    c.value(lambda: sorted(os.listxattr("f")))
    c.ok(os.setxattr, b"f", b"user.\xff\xfe", b"\x00\x01\xff")
    c.value(os.getxattr, b"f", b"user.\xff\xfe")
    c.ok(os.setxattr, "f", "user." + "n" * 250, b"x")
    c.ok(os.setxattr, "f", "user." + "n" * 251, b"x")


@case
def xattr_of_ordinary_users(c):
    c.file("own", mode=0o644)
    os.chown("own", 1001, 1001)
    c.file("other", mode=0o644)
    c.file("writable", mode=0o666)
    os.setxattr("other", "trusted.secret", b"s")
    os.setxattr("other", "user.open", b"o")
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)

    @c.by(ALICE)
    def _():
        for path in ("own", "other", "writable", "sticky"):
            for name in ("user.x", "trusted.x", "security.x"):
                c.ok(os.setxattr, path, name, b"v")
                c.value(os.getxattr, path, name)
            c.value(lambda: sorted(os.listxattr(path)))
            c.ok(os.removexattr, path, "user.x")
        c.value(os.getxattr, "other", "trusted.secret")


@case
def xattr_by_descriptor_and_after_rename(c):
    c.file()
    descriptor = os.open("f", os.O_RDWR)
    c.ok(os.setxattr, descriptor, "user.a", b"1")
    os.rename("f", "g")
    c.ok(os.setxattr, descriptor, "user.b", b"2")
    c.value(lambda: sorted(os.listxattr("g")))
    os.unlink("g")
    c.value(os.getxattr, descriptor, "user.b")
    read_only = c.file("ro")
    c.ok(os.setxattr, os.open(read_only, os.O_RDONLY), "user.x", b"by a descriptor for reading")


@case
def file_capabilities_go_with_a_write(c):
    import struct
    c.file(mode=0o755)
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    c.ok(os.setxattr, "f", "security.capability", capability)
    c.value(os.getxattr, "f", "security.capability")
    with open("f", "r+b") as out:
        out.write(b"x")
    c.value(os.getxattr, "f", "security.capability")
    c.ok(os.setxattr, "f", "security.capability", capability)
    c.ok(os.chown, "f", 1, 1)
    c.value(os.getxattr, "f", "security.capability")


@case
def mode_bits_and_owner_after_root_squeezes(c):
    c.file(mode=0)
    c.ok(os.open, "f", os.O_RDWR)

    @c.by(BOB)
    def _():
        c.ok(os.open, "f", os.O_RDONLY)
        c.ok(os.stat, "f")
    c.note("executable", _executes("f", 0o111) is not None)


def _executes(path, mode):
    with open(path, "wb") as out:
        out.write(b"#!/bin/sh\nexit 7\n")
    os.chmod(path, mode | stat.S_IRUSR)
    status = os.spawnv(os.P_WAIT, "./" + path, [path])
    return status if status == 7 else None
