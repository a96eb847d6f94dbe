# SPDX-License-Identifier: Apache-2.0
"""open with its flags."""

import fcntl
import itertools
import os
import socket

import syscalls
from parity import ALICE, BOB, NOBODY, case, cases

ACCESS = {"rdonly": os.O_RDONLY, "wronly": os.O_WRONLY, "rdwr": os.O_RDWR}
TARGETS = ("missing", "file", "directory", "link-to-file", "link-to-directory", "dangling-link", "link-loop", "fifo",
           "read-only-file")
CREATING = (0, os.O_CREAT, os.O_CREAT | os.O_EXCL)
OPTIONS = (os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY)


def make(c, kind, path="t"):
    """One object of a kind, with what it points to."""
    if kind in ("file", "link-to-file", "read-only-file"):
        c.file("real" if kind == "link-to-file" else path, mode=0o444 if kind.startswith("read") else 0o644)
    if kind in ("directory", "link-to-directory"):
        os.mkdir("real" if kind == "link-to-directory" else path)
    if kind in ("link-to-file", "link-to-directory", "dangling-link"):
        os.symlink("real", path)
    if kind == "link-loop":
        os.symlink(path, path)
    if kind == "fifo":
        os.mkfifo(path)


def clear():
    for name in os.listdir("."):
        if os.path.isdir(name) and not os.path.islink(name):
            os.rmdir(name)
        else:
            os.unlink(name)


def open_all_ways(c, kind, access):
    for creating, *options in itertools.product(CREATING, *((0, o) for o in OPTIONS)):
        make(c, kind)
        flags = access | creating | os.O_NONBLOCK
        for option in options:
            flags |= option
        descriptor = c.ok(os.open, "t", flags, 0o640)
        if descriptor is not None:
            c.stat(descriptor)
            c.note("flags", fcntl.fcntl(descriptor, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK))
            c.value(os.read, descriptor, 4)
            if kind != "fifo":
                c.value(os.write, descriptor, b"ab")
            os.close(descriptor)
        c.stat("t")
        c.stat("real")
        clear()


@cases("open", {f"{a}-{kind}": (kind, ACCESS[a]) for kind in TARGETS for a in ACCESS})
def _open(c, variant):
    open_all_ways(c, *variant)


@cases("open-as-user", {f"{a}-{kind}": (kind, ACCESS[a]) for kind in ("file", "missing", "directory", "read-only-file")
                        for a in ACCESS})
def _open_as_user(c, variant):
    os.chmod(".", 0o777)

    @c.by(NOBODY)
    def _():
        open_all_ways(c, *variant)


@cases("open-mode", {oct(m)[2:]: m for m in (0o400, 0o200, 0o600, 0o440, 0o040, 0o020, 0o060, 0o004, 0o002, 0o000, 0o644, 0o660)})
def _open_mode(c, mode):
    """Owner, group by primary and by supplementary group, and others, against each permission."""
    for name, uid, gid in (("own", 1001, 1001), ("group", 0, 1001), ("supplementary", 0, 2002), ("other", 0, 0),
                           ("own-but-group", 1001, 2001)):
        c.file(name, mode=mode)
        os.chown(name, uid, gid)
        os.chmod(name, mode)
    for user in (ALICE, BOB, NOBODY):
        @c.by(user)
        def _():
            for name in ("own", "group", "supplementary", "other", "own-but-group"):
                for access in ACCESS.values():
                    descriptor = c.ok(os.open, name, access)
                    if descriptor is not None:
                        os.close(descriptor)
                c.ok(os.open, name, os.O_RDONLY | os.O_TRUNC)
                for wanted in (os.R_OK, os.W_OK, os.X_OK, os.F_OK):
                    c.ok(syscalls.access, name, wanted)


@cases("create-umask", {oct(m)[2:]: m for m in (0o000, 0o022, 0o027, 0o077, 0o777)})
def _create_umask(c, mask):
    os.umask(mask)
    for mode in (0o777, 0o666, 0o640, 0o4755, 0o2755, 0o1777, 0):
        name = f"f{mode:o}"
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, mode))
        c.stat(name)
        c.ok(os.mkdir, "d" + name, mode)
        c.stat("d" + name)
        c.ok(os.mkfifo, "p" + name, mode)
        c.stat("p" + name)


@case
def open_exclusive_does_not_follow_a_link(c):
    os.symlink("nowhere", "l")
    c.ok(os.open, "l", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    c.ok(os.open, "l", os.O_CREAT | os.O_WRONLY, 0o600)
    c.stat("nowhere")


@case
def open_path_descriptor(c):
    c.file()
    os.mkdir("d")
    os.symlink("f", "l")
    for name in ("f", "d", "l"):
        descriptor = c.ok(os.open, name, os.O_PATH | os.O_NOFOLLOW)
        c.stat(descriptor)
        c.ok(os.read, descriptor, 1)
        c.ok(os.write, descriptor, b"x")
        c.ok(os.fchmod, descriptor, 0o600)
        c.ok(os.ftruncate, descriptor, 0)
        c.ok(os.fsync, descriptor)
        c.value(os.readlink, "", dir_fd=descriptor)
        again = c.ok(os.open, f"/proc/self/fd/{descriptor}", os.O_RDONLY)
        if again is not None:
            c.stat(again)
            os.close(again)
        os.close(descriptor)
    c.ok(os.open, "d/missing", os.O_PATH)


@case
def open_temporary_and_link_it(c):
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY):
        descriptor = c.ok(os.open, ".", os.O_TMPFILE | flags, 0o640)
        if descriptor is None:
            continue
        c.stat(descriptor)
        c.value(os.write, descriptor, b"temporary")
        c.names()
        c.ok(syscalls.linkat, syscalls.AT_FDCWD, f"/proc/self/fd/{descriptor}", syscalls.AT_FDCWD, "given",
             syscalls.AT_SYMLINK_FOLLOW)
        c.ok(syscalls.linkat, descriptor, "", syscalls.AT_FDCWD, "given2", syscalls.AT_EMPTY_PATH)
        c.stat(descriptor)
        os.close(descriptor)
        c.names()
        c.read("given")
        clear()


@case
def open_temporary_exclusive_cannot_be_linked(c):
    descriptor = c.ok(os.open, ".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    if descriptor is not None:
        c.ok(syscalls.linkat, syscalls.AT_FDCWD, f"/proc/self/fd/{descriptor}", syscalls.AT_FDCWD, "given",
             syscalls.AT_SYMLINK_FOLLOW)
        os.close(descriptor)
    c.names()


@case
def open_direct(c):
    import mmap
    block = mmap.mmap(-1, 8192)
    block.write(b"d" * 8192)
    descriptor = c.ok(os.open, "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o600)
    c.value(os.writev, descriptor, [block])
    c.stat("f")
    c.value(os.lseek, descriptor, 4096, 0)
    target = mmap.mmap(-1, 8192)
    c.value(os.readv, descriptor, [target])
    c.note("data", bytes(target[:4096]) == b"d" * 4096)
    c.value(os.pwrite, descriptor, block, 4096)
    c.stat("f")
    c.value(os.preadv, descriptor, [target], 1 << 20)
    c.ok(os.ftruncate, descriptor, 5000)
    c.value(os.preadv, descriptor, [target], 4096)
    os.close(descriptor)
    c.read("f")


@case
def open_direct_can_be_switched_on_later(c):
    c.file(data=b"x" * 8192)
    descriptor = os.open("f", os.O_RDWR)
    c.ok(fcntl.fcntl, descriptor, fcntl.F_SETFL, os.O_DIRECT)
    c.note("direct", bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT))


@case
def open_append_writes_at_the_end_whatever_the_offset(c):
    c.file(data=b"base")
    one, two = (os.open("f", os.O_RDWR | os.O_APPEND) for _ in range(2))
    for descriptor, text in ((one, b"1"), (two, b"22"), (one, b"333")):
        c.value(os.write, descriptor, text)
        c.value(os.lseek, descriptor, 0, os.SEEK_CUR)
    c.value(os.lseek, one, 0, os.SEEK_SET)
    c.value(os.write, one, b"again")
    c.value(os.pwrite, one, b"P", 0)  # Linux appends here too
    c.read("f")
    fcntl.fcntl(one, fcntl.F_SETFL, 0)
    c.value(os.pwrite, one, b"Q", 0)
    c.read("f")


@case
def open_append_from_many_processes_loses_nothing(c):
    c.file(data=b"")
    children = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            descriptor = os.open("f", os.O_WRONLY | os.O_APPEND)
            for line in range(50):
                os.write(descriptor, b"%d:%03d\n" % (number, line))
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    with open("f", "rb") as data:
        lines = data.read().split(b"\n")
    c.note("lines", sorted(lines))


@case
def open_trailing_slash(c):
    c.file()
    os.mkdir("d")
    os.symlink("d", "ld")
    os.symlink("f", "lf")
    for path in ("f/", "d/", "ld/", "lf/", "missing/", "f/x", "f/..", "d/.", "d/..", "missing/.."):
        for flags in (os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_RDONLY | os.O_DIRECTORY, os.O_RDONLY | os.O_NOFOLLOW):
            descriptor = c.ok(os.open, path, flags, 0o600)
            if descriptor is not None:
                os.close(descriptor)
        c.stat(path)


@case
def open_bad_arguments(c):
    c.file()
    c.ok(os.open, "", os.O_RDONLY)
    c.ok(os.open, "", os.O_CREAT | os.O_WRONLY)
    c.ok(os.open, ".", os.O_CREAT | os.O_RDONLY)
    c.ok(os.open, "..", os.O_WRONLY)
    c.ok(os.open, "f", os.O_TMPFILE | os.O_RDWR)
    c.ok(os.open, "missing", os.O_TMPFILE | os.O_RDWR)
    c.ok(os.open, "f", 3)  # access mode 3: for ioctl only, asks for both permissions
    c.ok(os.read, 999, 1)


@case
def open_device_and_socket(c):
    os.mknod("null", 0o020666, os.makedev(1, 3))
    os.chmod("null", 0o666)
    descriptor = c.ok(os.open, "null", os.O_RDWR)
    if descriptor is not None:
        c.value(os.write, descriptor, b"gone")
        c.value(os.read, descriptor, 10)
        os.close(descriptor)
    endpoint = socket.socket(socket.AF_UNIX)
    c.ok(endpoint.bind, "s")
    c.stat("s")
    c.ok(os.open, "s", os.O_RDWR)
    endpoint.listen(1)
    client = socket.socket(socket.AF_UNIX)
    c.ok(client.connect, "s")


@case
def open_fifo_carries_data(c):
    os.mkfifo("p")
    c.ok(os.open, "p", os.O_WRONLY | os.O_NONBLOCK)
    reader = c.ok(os.open, "p", os.O_RDONLY | os.O_NONBLOCK)
    writer = c.ok(os.open, "p", os.O_WRONLY | os.O_NONBLOCK)
    c.value(os.write, writer, b"through")
    c.value(os.read, reader, 100)
    c.stat("p")


@case
def create_in_a_setgid_directory_inherits_the_group(c):
    os.mkdir("d")
    os.chown("d", 0, 2001)
    os.chmod("d", 0o2777)
    for user in (ALICE, NOBODY):
        @c.by(user)
        def _():
            tag = str(user.uid)
            os.close(os.open("d/f" + tag, os.O_CREAT | os.O_WRONLY, 0o664))
            c.stat("d/f" + tag)
            c.ok(os.mkdir, "d/d" + tag, 0o775)
            c.stat("d/d" + tag)
            os.symlink("x", "d/l" + tag)
            c.stat("d/l" + tag)
            c.ok(os.mkfifo, "d/p" + tag)
            c.stat("d/p" + tag)
            os.close(os.open("d/x" + tag, os.O_CREAT | os.O_WRONLY, 0o2775))
            c.stat("d/x" + tag)  # setgid of a group one is not in is dropped, where it is executable


@case
def create_where_one_may_not(c):
    os.mkdir("closed", 0o755)
    os.mkdir("nosearch")
    c.file("nosearch/f", mode=0o666)
    os.chmod("nosearch", 0o666)

    @c.by(NOBODY)
    def _():
        for path in ("closed/new", "nosearch/new", "nosearch/f"):
            c.ok(os.open, path, os.O_CREAT | os.O_WRONLY)
            c.ok(os.open, path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            c.ok(os.mkdir, path)
            c.ok(os.symlink, "x", path)
            c.ok(os.mkfifo, path)
            c.ok(os.unlink, path)
            c.stat(path)
        c.value(lambda: sorted(os.listdir("nosearch")))


@case
def create_read_only_file_for_writing(c):
    @c.by(NOBODY)
    def _():
        descriptor = c.ok(os.open, "f", os.O_CREAT | os.O_RDWR, 0o000)
        c.value(os.write, descriptor, b"I made it, I may write it")
        c.value(os.pread, descriptor, 6, 0)
        c.stat("f")
        c.ok(os.open, "f", os.O_RDONLY)
        c.ok(os.ftruncate, descriptor, 3)
        c.ok(os.fsync, descriptor)


@case
def permissions_are_those_of_the_open_descriptor(c):
    c.file(mode=0o666)

    @c.by(NOBODY)
    def _():
        descriptor = os.open("f", os.O_RDWR)
        c.note("before", os.pread(descriptor, 3, 0))
        pid = os.fork()
        os.write(descriptor, b"abc") if pid else os._exit(0)
        os.waitpid(pid, 0)
    descriptor = os.open("f", os.O_RDWR)
    os.chmod("f", 0)

    @c.by(NOBODY)
    def _():
        c.value(os.pread, descriptor, 3, 0)
        c.value(os.pwrite, descriptor, b"xyz", 0)
        c.ok(os.ftruncate, descriptor, 5)
        c.ok(os.fsync, descriptor)
        c.ok(os.fchmod, descriptor, 0o777)
        c.ok(os.open, "f", os.O_RDONLY)
    c.read("f")


@case
def many_descriptors_of_one_file(c):
    c.file(data=b"")
    descriptors = [os.open("f", os.O_RDWR) for _ in range(200)]
    for index, descriptor in enumerate(descriptors):
        os.pwrite(descriptor, b"%03d" % index, index * 3)
    c.note("seen by the first", os.pread(descriptors[0], 600, 0))
    for descriptor in descriptors:
        os.close(descriptor)
    c.stat("f")
