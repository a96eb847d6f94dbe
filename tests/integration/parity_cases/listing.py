# SPDX-License-Identifier: Apache-2.0
"""Reading directories."""

import os
import stat

import syscalls
from parity import NOBODY, case, cases, kind_of

TYPES = {"file": "reg", "directory": "dir", "symlink": "lnk", "fifo": "fifo", "socket": "sock", "chr": "chr", "blk": "blk"}


def all_entries(descriptor, size=32768):
    entries = []
    while batch := syscalls.getdents(descriptor, size):
        entries += batch
    return entries


@case
def listing_shows_dot_and_dot_dot_types_and_inodes(c):
    os.mkdir("d")
    c.file("d/file")
    os.mkdir("d/directory")
    os.symlink("x", "d/symlink")
    os.mkfifo("d/fifo")
    os.mknod("d/socket", stat.S_IFSOCK | 0o600)
    os.mknod("d/chr", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod("d/blk", stat.S_IFBLK | 0o600, os.makedev(7, 0))
    os.link("d/file", "d/hard")
    entries = all_entries(os.open("d", os.O_RDONLY))
    c.note("names and types", sorted((e.name, e.type) for e in entries))
    for entry in sorted(entries, key=lambda e: e.name):
        found = os.lstat(b"d/" + entry.name)
        c.note(f"inode of {entry.name}", entry.inode == found.st_ino)
        c.note(f"type of {entry.name}", TYPES[kind_of(found.st_mode)] == entry.type)


@case
def listing_inodes_before_any_lookup(c):
    os.mkdir("d")
    for number in range(50):
        c.file(f"d/{number}")
    os.mkdir("d/sub")
    descriptor = os.open("d", os.O_RDONLY)
    inodes = {e.name: e.inode for e in all_entries(descriptor) if e.name not in (b".", b"..")}
    wrong = [n for n, i in inodes.items() if os.lstat(b"d/" + n).st_ino != i]
    c.note("wrong", sorted(wrong))


def fill_directory(c, count):
    os.mkdir("d")
    for number in range(count):
        os.close(os.open(f"d/entry-number-{number:06d}", os.O_CREAT | os.O_WRONLY))


@case
def listing_20000_entries(c):
    fill_directory(c, 20000)
    names = os.listdir("d")
    c.note("count", (len(names), len(set(names))))
    c.note("all", sorted(names) == [f"entry-number-{n:06d}" for n in range(20000)])
    descriptor = os.open("d", os.O_RDONLY)
    for size in (32768, 1024, 200):  # small buffers make many calls
        os.lseek(descriptor, 0, os.SEEK_SET)
        count = 20000 if size > 500 else 2000
        seen = []
        while len(seen) < count and (batch := syscalls.getdents(descriptor, size)):
            seen += [e.name for e in batch]
        c.note(f"with {size} bytes", (len(seen) >= count, len(seen) == len(set(seen))))


@case
def listing_seek_and_tell(c):
    fill_directory(c, 2000)
    descriptor = os.open("d", os.O_RDONLY)
    every = all_entries(descriptor, 2048)
    c.note("count", len(every))
    for index in (0, 1, 2, 77, 500, 1234, 1999, 2000, 2001):
        if index >= len(every):
            continue
        os.lseek(descriptor, every[index].offset, os.SEEK_SET)
        rest = [e.name for e in all_entries(descriptor, 2048)]
        c.note(f"from {index}", rest == [e.name for e in every[index + 1:]])
    os.lseek(descriptor, 0, os.SEEK_SET)
    c.note("rewound", [e.name for e in all_entries(descriptor)] == [e.name for e in every])
    c.note("end", syscalls.getdents(descriptor))


@case
def listing_sees_changes_after_rewind(c):
    os.mkdir("d")
    descriptor = os.open("d", os.O_RDONLY)
    for step in ("a", "b", "c"):
        c.file("d/" + step)
        os.lseek(descriptor, 0, os.SEEK_SET)
        c.note(step, sorted(e.name for e in all_entries(descriptor)))
    os.unlink("d/b")
    os.rename("d/c", "d/z")
    os.lseek(descriptor, 0, os.SEEK_SET)
    c.note("after", sorted(e.name for e in all_entries(descriptor)))


@case
def listing_while_entries_are_removed_shows_the_others_once(c):
    fill_directory(c, 3000)
    descriptor = os.open("d", os.O_RDONLY)
    seen, removed = [], set()
    while batch := syscalls.getdents(descriptor, 4096):
        for entry in batch:
            seen.append(entry.name)
            if entry.name.endswith(b"7") and entry.name not in (b".", b".."):
                os.unlink(b"d/" + entry.name)
                removed.add(entry.name)
    c.note("once", len(seen) == len(set(seen)))
    c.note("none missing", len([n for n in seen if not n.endswith(b"7")]))
    c.note("removed", len(removed))
    c.note("left", len(os.listdir("d")))


@case
def remove_a_directory_while_reading_it(c):
    """What rm -r does."""
    fill_directory(c, 5000)
    with os.scandir("d") as entries:
        for entry in entries:
            os.unlink(entry.path)
    c.ok(os.rmdir, "d")


@case
def listing_errors(c):
    c.file()
    os.mkdir("d")
    descriptor = os.open("f", os.O_RDONLY)
    c.ok(syscalls.getdents, descriptor)
    directory = os.open("d", os.O_RDONLY)
    c.ok(syscalls.getdents, directory, 8)
    c.ok(os.read, directory, 10)
    c.ok(os.write, directory, b"x")
    c.ok(os.pread, directory, 10, 0)
    c.ok(os.ftruncate, directory, 0)
    c.ok(os.fsync, directory)
    c.ok(os.fdatasync, directory)
    c.ok(os.lseek, directory, -1, os.SEEK_SET)
    c.ok(syscalls.fallocate, directory, 0, 0, 10)
    c.ok(os.open, "d", os.O_RDWR)
    c.ok(os.open, "d", os.O_WRONLY)


@cases("listing-mode", {oct(m)[2:]: m for m in (0o777, 0o755, 0o744, 0o711, 0o722, 0o700, 0o733, 0o000)})
def _listing_mode(c, mode):
    os.mkdir("d")
    c.file("d/f", mode=0o666)
    os.mkdir("d/s")
    os.chmod("d", mode)

    @c.by(NOBODY)
    def _():
        c.value(lambda: sorted(os.listdir("d")))
        c.stat("d/f")
        c.stat("d/missing")
        c.ok(os.open, "d/f", os.O_RDWR)
        c.ok(os.open, "d/new", os.O_CREAT | os.O_WRONLY)
        c.ok(os.chdir, "d")


@case
def listing_updates_the_access_time(c):
    os.mkdir("d")
    c.file("d/f")
    c.changes("d", os.listdir, "d")


@case
def listing_of_names_of_bytes(c):
    for name in (b"\xff\xfe", b"a\xc3", b"\x01\x02", b"n" * 255, "ü".encode(), b" ", b"\n"):
        c.file(name)
    c.names()
    c.note("stat", sorted(_size(n) for n in os.listdir(b".")))


def _size(name):
    return os.stat(name).st_size
