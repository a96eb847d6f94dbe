# SPDX-License-Identifier: Apache-2.0
"""Memory maps."""

import mmap
import os
import signal

from parity import case

PAGE = 4096


@case
def shared_map_writes_the_file(c):
    c.file(data=b"a" * 10000)
    descriptor = os.open("f", os.O_RDWR)
    with mmap.mmap(descriptor, 10000) as view:
        view[100:105] = b"HELLO"
        c.note("seen by read", os.pread(descriptor, 5, 100))
        view.flush()
        os.pwrite(descriptor, b"WRITE", 200)
        c.note("seen by the map", view[200:205])
        view[9999:10000] = b"Z"
    os.close(descriptor)
    c.read("f")
    c.stat("f")


@case
def shared_map_after_close_and_unlink(c):
    c.file(data=b"b" * PAGE * 4)
    descriptor = os.open("f", os.O_RDWR)
    view = mmap.mmap(descriptor, PAGE * 4)
    os.close(descriptor)
    view[PAGE:PAGE + 4] = b"late"
    view.flush()
    c.read("f")
    os.unlink("f")
    view[0:4] = b"gone"
    c.note("still mapped", view[PAGE:PAGE + 4])
    view.close()
    c.names()


@case
def shared_map_written_without_flush_is_seen_by_others(c):
    c.file(data=b"c" * PAGE)
    descriptor = os.open("f", os.O_RDWR)
    view = mmap.mmap(descriptor, PAGE)
    view[:5] = b"fresh"
    pid = os.fork()
    if pid == 0:
        other = os.open("f", os.O_RDONLY)
        os._exit(0 if os.pread(other, 5, 0) == b"fresh" else 1)
    c.note("another process", os.waitpid(pid, 0)[1])
    view.close()
    os.close(descriptor)
    c.read("f")


@case
def shared_map_between_processes(c):
    c.file(data=bytes(PAGE))
    descriptor = os.open("f", os.O_RDWR)
    view = mmap.mmap(descriptor, PAGE)
    pid = os.fork()
    if pid == 0:
        view[10:15] = b"child"
        os._exit(0)
    os.waitpid(pid, 0)
    c.note("parent sees", view[10:15])


@case
def private_map_does_not_write(c):
    c.file(data=b"d" * PAGE)
    descriptor = os.open("f", os.O_RDONLY)
    with mmap.mmap(descriptor, PAGE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as view:
        view[:4] = b"mine"
        c.note("view", view[:6])
        c.value(os.pread, descriptor, 6, 0)
    c.read("f")


@case
def map_protections(c):
    c.file(data=b"e" * PAGE)
    flags = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}
    for access in flags:
        for kind in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            for protection in (mmap.PROT_READ, mmap.PROT_WRITE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.PROT_READ | mmap.PROT_EXEC):
                descriptor = os.open("f", flags[access])
                view = c.ok(mmap.mmap, descriptor, PAGE, flags=kind, prot=protection)
                if view:
                    view.close()
                os.close(descriptor)


@case
def map_beyond_the_end(c):
    c.file(data=b"f" * 100)
    descriptor = os.open("f", os.O_RDWR)
    view = _map(descriptor, PAGE)
    c.note("zeros after the end", bytes(view[100:120]))
    view[100:104] = b"lost"
    view.flush()
    c.stat("f")
    os.ftruncate(descriptor, 104)
    c.read("f", "after growing")
    long = os.open("g", os.O_CREAT | os.O_RDWR)
    os.ftruncate(long, PAGE * 3)
    view = mmap.mmap(long, PAGE * 3)
    os.ftruncate(long, PAGE)
    for page in (0, 2):
        c.note(f"page {page}", _touch(view, page * PAGE))


def _map(descriptor, size):
    os.ftruncate(descriptor, size)
    view = mmap.mmap(descriptor, size)
    os.ftruncate(descriptor, 100)
    return view


def _touch(view, at):
    """The signal that reading there raises, in a child; 0 if none."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        view[at]
        os._exit(0)
    return os.waitpid(pid, 0)[1] & 0x7F


@case
def map_large_and_random(c):
    import random
    size = 3 << 20
    descriptor = os.open("f", os.O_CREAT | os.O_RDWR, 0o600)
    os.ftruncate(descriptor, size)
    source = random.Random(11)
    with mmap.mmap(descriptor, size) as view:
        for _ in range(500):
            at = source.randrange(size - 100)
            view[at:at + 100] = bytes([source.randrange(256)]) * 100
    os.fsync(descriptor)
    os.close(descriptor)
    c.read("f")


@case
def map_updates_the_modification_time(c):
    c.file(data=b"g" * PAGE)
    descriptor = os.open("f", os.O_RDWR)
    view = mmap.mmap(descriptor, PAGE)

    def change():
        view[0:1] = b"!"
        view.flush()
        os.fsync(descriptor)
    os.utime("f", ns=(10**18, 10**18))
    change()
    c.note("mtime moved", os.fstat(descriptor).st_mtime_ns != 10**18)
    view.close()
    os.close(descriptor)
    c.note("mtime moved after close", os.stat("f").st_mtime_ns != 10**18)


@case
def map_with_direct_descriptor(c):
    c.file(data=b"h" * PAGE * 2)
    descriptor = os.open("f", os.O_RDWR | os.O_DIRECT)
    for kind in (mmap.MAP_PRIVATE, mmap.MAP_SHARED):
        view = c.ok(mmap.mmap, descriptor, PAGE, flags=kind)
        if view:
            c.note("read", bytes(view[:4]))
            view.close()
