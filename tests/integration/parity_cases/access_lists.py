# SPDX-License-Identifier: Apache-2.0
"""POSIX access control lists, as extended attributes in the kernel's own form."""

import os
import stat
import struct

from parity import ALICE, BOB, NOBODY, case, cases

ANYONE = 2**32 - 1
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32


def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def plain(user=7, group=5, other=5, named=(), mask=None):
    """A list in the order the kernel wants. named: (tag, permission, id)."""
    entries = [(USER_OBJ, user, ANYONE)] + sorted(e for e in named if e[0] == USER) + [(GROUP_OBJ, group, ANYONE)]
    entries += sorted(e for e in named if e[0] == GROUP)
    if mask is not None or named:
        entries.append((MASK, 7 if mask is None else mask, ANYONE))
    return acl(*entries, (OTHER, other, ANYONE))


ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
LISTS = {
    "named-user": plain(6, 4, 0, [(USER, 6, 1001)]),
    "named-user-masked": plain(6, 4, 0, [(USER, 6, 1001)], mask=4),
    "named-group": plain(6, 0, 0, [(GROUP, 6, 2001)]),
    "denies-one": plain(7, 7, 7, [(USER, 0, 1001)]),
    "denies-group": plain(7, 7, 7, [(GROUP, 0, 2001), (USER, 4, 1002)]),
    "minimal": plain(6, 4, 4),
    "minimal-with-mask": plain(6, 6, 4, mask=4),
    "many": plain(6, 4, 0, [(USER, n % 8, 5000 + n) for n in range(25)]),
}
INVALID = {
    "empty": b"", "short": b"\2\0\0", "version": struct.pack("<I", 1) + LISTS["minimal"][4:], "no-other": LISTS["minimal"][:-8],
    "no-mask": acl((USER_OBJ, 7, ANYONE), (USER, 7, 1001), (GROUP_OBJ, 5, ANYONE), (OTHER, 5, ANYONE)),
    "order": acl((GROUP_OBJ, 5, ANYONE), (USER_OBJ, 7, ANYONE), (OTHER, 5, ANYONE)),
    "twice": plain(7, 5, 5, [(USER, 7, 1001), (USER, 6, 1001)]), "permission": acl((USER_OBJ, 9, ANYONE), (GROUP_OBJ, 5, ANYONE), (OTHER, 5, ANYONE)),
    "header-only": struct.pack("<I", 2),
}


def show(c, *paths):
    for path in paths:
        c.stat(path)
        c.value(os.getxattr, path, ACCESS)
        c.value(os.getxattr, path, DEFAULT)


@cases("acl", LISTS)
def _acl(c, value):
    c.file()
    os.mkdir("d")
    os.chmod("d", 0o755)
    for path in ("f", "d"):
        c.ok(os.setxattr, path, ACCESS, value)
        show(c, path)
    c.file("d/inside", mode=0o666)
    for user in (ALICE, BOB, NOBODY):
        @c.by(user)
        def _():
            c.ok(os.open, "f", os.O_RDONLY)
            c.ok(os.open, "f", os.O_WRONLY)
            c.value(lambda: os.listdir("d"))
            c.ok(os.open, "d/inside", os.O_RDONLY)
            made = c.ok(os.open, f"d/{user.uid}", os.O_CREAT | os.O_WRONLY)
            if made is not None:
                c.ok(os.unlink, f"d/{user.uid}")
            c.ok(os.setxattr, "f", ACCESS, value)
            c.ok(os.removexattr, "f", ACCESS)
    c.ok(os.chmod, "f", 0o640)
    show(c, "f")
    c.ok(os.chmod, "f", 0o2777)
    show(c, "f")
    c.ok(os.removexattr, "f", ACCESS)
    show(c, "f")


@cases("acl-invalid", INVALID)
def _acl_invalid(c, value):
    c.file()
    os.mkdir("d")
    for name in (ACCESS, DEFAULT):
        for path in ("f", "d"):
            c.ok(os.setxattr, path, name, value)
            show(c, path)


@cases("acl-default", {n: LISTS[n] for n in ("named-user", "named-user-masked", "named-group", "denies-one", "minimal")})
def _acl_default(c, value):
    """What is made beneath takes the default list instead of the umask."""
    os.mkdir("d")
    os.chmod("d", 0o777)
    c.ok(os.setxattr, "d", DEFAULT, value)
    show(c, "d")
    for mask in (0o022, 0o077, 0):
        os.umask(mask)
        for mode in (0o777, 0o666, 0o640, 0o600):
            tag = f"{mask:o}-{mode:o}"
            os.close(os.open("d/f" + tag, os.O_CREAT | os.O_WRONLY, mode))
            os.mkdir("d/d" + tag, mode)
            os.mkfifo("d/p" + tag, mode)
            os.mknod("d/s" + tag, mode | stat.S_IFSOCK)
            os.symlink("x", "d/l" + tag)
            show(c, "d/f" + tag, "d/d" + tag, "d/p" + tag, "d/s" + tag)
            c.stat("d/l" + tag)
    os.makedirs("d/deep/er")
    show(c, "d/deep/er")

    @c.by(ALICE)
    def _():
        made = c.ok(os.open, "d/alices", os.O_CREAT | os.O_RDWR, 0o666)
        if made is not None:
            show(c, "d/alices")
    c.ok(os.removexattr, "d", DEFAULT)
    c.file("d/after")
    show(c, "d", "d/after")


@case
def acl_default_on_a_file_is_refused(c):
    c.file()
    os.symlink("f", "l")
    c.ok(os.setxattr, "f", DEFAULT, LISTS["named-user"])
    c.ok(os.setxattr, "l", ACCESS, LISTS["named-user"], follow_symlinks=False)
    c.ok(os.removexattr, "f", DEFAULT)
    c.ok(os.removexattr, "f", ACCESS)


@case
def acl_of_the_owner_only(c):
    for name, uid in (("mine", 1001), ("other", 0)):
        c.file(name, mode=0o666)
        os.chown(name, uid, uid)

    @c.by(ALICE)
    def _():
        for name in ("mine", "other"):
            c.ok(os.setxattr, name, ACCESS, LISTS["named-group"])
            show(c, name)
            c.ok(os.removexattr, name, ACCESS)
            c.stat(name)


@case
def acl_setting_clears_setgid_of_a_foreign_group(c):
    c.file(mode=0o2755)
    os.chown("f", 1001, 9999)
    os.chmod("f", 0o2755)

    @c.by(ALICE)
    def _():
        c.ok(os.setxattr, "f", ACCESS, plain(7, 5, 5, [(USER, 7, 1002)]))
    show(c, "f")


@case
def acl_survives_rename_and_link_and_shows_in_the_list(c):
    c.file()
    os.setxattr("f", ACCESS, LISTS["named-user"])
    os.link("f", "g")
    os.rename("f", "h")
    show(c, "g", "h")
    c.value(lambda: sorted(os.listxattr("h")))
    c.changes("h", os.setxattr, "h", ACCESS, LISTS["named-group"])
    c.changes("h", os.removexattr, "h", ACCESS)
