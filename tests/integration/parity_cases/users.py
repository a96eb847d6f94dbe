# SPDX-License-Identifier: Apache-2.0
"""Many users: everybody acts as themselves, with all their groups."""

import os

from parity import ALICE, BOB, NOBODY, User, case, cases


@cases("belongs-to", {"root": User(0, 0), "nobody": NOBODY, "alice": ALICE, "bob": BOB, "other-primary-group": User(1001, 2002, [1001]),
                      "large-ids": User(3_000_000_000, 3_000_000_001), "many-groups": User(1003, 1003, range(3000, 3100))})
def _belongs_to(c, user):
    os.mkdir("open")
    os.chmod("open", 0o777)

    @c.by(user)
    def _():
        c.file("open/f", data=b"mine")
        c.ok(os.mkdir, "open/d")
        c.ok(os.symlink, "x", "open/l")
        c.ok(os.mkfifo, "open/p")
        c.ok(os.link, "open/f", "open/h")
        c.file("open/d/inside")
        for name in ("f", "d", "l", "p", "h", "d/inside"):
            c.stat("open/" + name)
        c.ok(os.rename, "open/f", "open/d/f")
        c.ok(os.chmod, "open/d/f", 0o400)
        c.ok(os.chown, "open/d/f", 0, 0)
        c.ok(os.setxattr, "open/d/f", "user.x", b"y")
        os.chmod("open/d/f", 0o600)
        c.ok(os.setxattr, "open/d/f", "user.x", b"y")
    for name in ("d", "l", "p", "h", "d/f"):
        c.stat("open/" + name)


@case
def supplementary_groups_count(c):
    for group in (1001, 2001, 2002, 2003):
        os.mkdir(f"g{group}")
        os.chown(f"g{group}", 0, group)
        os.chmod(f"g{group}", 0o770)
        c.file(f"g{group}/f", mode=0o660)
        os.chown(f"g{group}/f", 0, group)
    for user in (ALICE, BOB, NOBODY):
        @c.by(user)
        def _():
            for group in (1001, 2001, 2002, 2003):
                c.value(lambda: sorted(os.listdir(f"g{group}")))
                descriptor = c.ok(os.open, f"g{group}/f", os.O_RDWR)
                if descriptor is not None:
                    c.value(os.write, descriptor, b"by %d" % user.uid)
                    os.close(descriptor)
                c.ok(os.mkdir, f"g{group}/by-{user.uid}")
                c.stat(f"g{group}/by-{user.uid}")


@case
def the_hundredth_group_counts(c):
    c.file(mode=0o060)
    os.chown("f", 0, 3099)

    @c.by(User(1003, 1003, range(3000, 3100)))
    def _():
        c.ok(os.open, "f", os.O_RDWR)

    @c.by(User(1003, 1003, range(3000, 3099)))
    def _():
        c.ok(os.open, "f", os.O_RDWR)


@case
def home_directories(c):
    """Each has a directory of their own that the other cannot look into."""
    for user in (ALICE, BOB):
        os.mkdir(f"home-{user.uid}", 0o700)
        os.chown(f"home-{user.uid}", user.uid, user.gid)

        @c.by(user)
        def _():
            c.file(f"home-{user.uid}/secret", mode=0o666)
    for user in (ALICE, BOB):
        other = BOB if user is ALICE else ALICE

        @c.by(user)
        def _():
            c.read(f"home-{user.uid}/secret")
            c.stat(f"home-{other.uid}/secret")
            c.ok(os.open, f"home-{other.uid}/secret", os.O_RDONLY)
            c.ok(os.open, f"home-{other.uid}/missing", os.O_RDONLY)
            c.ok(os.open, f"home-{other.uid}/new", os.O_CREAT | os.O_WRONLY)
            c.ok(os.rename, f"home-{user.uid}/secret", f"home-{other.uid}/secret")
            c.ok(os.rmdir, f"home-{other.uid}")
            c.ok(os.chmod, f"home-{other.uid}", 0o777)


@case
def search_permission_on_every_ancestor(c):
    os.makedirs("a/b/c")
    c.file("a/b/c/f", mode=0o666)
    for closed in ("a", "a/b", "a/b/c"):
        for mode in (0o755, 0o711, 0o744, 0o700):
            os.chmod(closed, mode)

            @c.by(NOBODY)
            def _():
                c.stat("a/b/c/f")
                c.ok(os.open, "a/b/c/f", os.O_RDWR)
                c.value(lambda: os.listdir("a/b/c"))
            os.chmod(closed, 0o755)


@case
def a_directory_kept_open_outlives_its_permission(c):
    os.mkdir("d")
    c.file("d/f", mode=0o666)
    descriptor = os.open("d", os.O_RDONLY)
    os.chmod("d", 0o700)

    @c.by(NOBODY)
    def _():
        c.value(lambda: os.listdir(descriptor))
        c.ok(os.open, "f", os.O_RDONLY, dir_fd=descriptor)
    os.chdir("d")

    @c.by(NOBODY)
    def _():
        c.ok(os.open, "f", os.O_RDONLY)
        c.ok(os.stat, "f")


@case
def permissions_change_at_once(c):
    c.file(mode=0o600)
    for mode in (0o644, 0o600, 0o666, 0o000, 0o604):
        os.chmod("f", mode)

        @c.by(NOBODY)
        def _():
            c.ok(os.open, "f", os.O_RDONLY)
            c.ok(os.open, "f", os.O_WRONLY)
    os.chown("f", 65534, 65534)

    @c.by(NOBODY)
    def _():
        c.ok(os.open, "f", os.O_RDONLY)
        c.ok(os.chmod, "f", 0o400)
        c.ok(os.open, "f", os.O_RDONLY)


@case
def group_writer_may_write_but_not_set_times(c):
    c.file(mode=0o664)
    os.chown("f", 0, 2001)

    @c.by(ALICE)
    def _():
        descriptor = os.open("f", os.O_RDWR)
        c.value(os.write, descriptor, b"by the group")
        c.ok(os.fsync, descriptor)
        c.ok(os.utime, descriptor, ns=(1, 2))
        c.ok(os.utime, "f")
        c.ok(os.ftruncate, descriptor, 5)
        os.close(descriptor)
        c.ok(os.chmod, "f", 0o666)
    c.stat("f")
    c.read("f")


@case
def file_system_statistics_for_everybody(c):
    @c.by(NOBODY)
    def _():
        found = os.statvfs(".")
        c.note("name length", found.f_namemax)
        c.note("sane", (found.f_blocks > 0, found.f_bfree <= found.f_blocks, found.f_bavail <= found.f_bfree,
                        found.f_ffree <= found.f_files, found.f_frsize > 0))


@case
def a_chown_to_nobody_else_takes_no_setuid_from_a_stranger(c):
    for name, mode in (("suid", 0o4755), ("sgid", 0o2755), ("plain", 0o755), ("lock", 0o2644)):
        c.file(name)
        os.chmod(name, mode)
    os.mkfifo("pipe")
    os.chmod("pipe", 0o4711)

    @c.by(ALICE)
    def _():
        for name in ("suid", "sgid", "plain", "lock", "pipe"):
            c.ok(os.chown, name, -1, -1)
    for name in ("suid", "sgid", "plain", "lock", "pipe"):
        c.stat(name)
        c.ok(os.chown, name, -1, -1)
        c.stat(name)
