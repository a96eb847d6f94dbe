# SPDX-License-Identifier: Apache-2.0
"""Reading, writing, truncating, holes, copying ranges."""

import errno
import os
import random

import syscalls
from parity import NOBODY, case, cases

K, M, G = 1 << 10, 1 << 20, 1 << 30


@cases("truncate", (0, 1, 9, 10, 11, 4095, 4096, 4097, 1 << 20, (5 << 30) + 1))
def _truncate(c, size):
    c.file()
    c.ok(os.truncate, "f", size)
    c.stat("f")
    descriptor = os.open("f", os.O_RDWR)
    c.value(os.pread, descriptor, 64, max(0, size - 64))
    c.value(os.pread, descriptor, 64, size)
    c.value(os.pwrite, descriptor, b"end", size)
    c.ok(os.ftruncate, descriptor, 5)
    c.ok(os.ftruncate, descriptor, 20)
    c.read("f")


@case
def truncate_errors(c):
    c.file()
    os.mkdir("d")
    read_only = os.open("f", os.O_RDONLY)
    c.ok(os.ftruncate, read_only, 3)
    c.ok(os.truncate, "f", -1)
    c.ok(os.truncate, "d", 0)
    c.ok(os.truncate, "missing", 0)
    c.ok(os.truncate, "f/x", 0)
    os.mkfifo("p")
    c.ok(os.truncate, "p", 0)
    os.chmod("f", 0o444)

    @c.by(NOBODY)
    def _():
        c.ok(os.truncate, "f", 0)
        c.ok(os.truncate, "p", 0)
    c.stat("f")


@case
def write_and_read_at_odd_places(c):
    source = random.Random(4)
    descriptor = os.open("f", os.O_CREAT | os.O_RDWR, 0o600)
    for _ in range(200):
        data = bytes([source.randrange(256)]) * source.choice((1, 7, 511, 4095, 4096, 4097, 70000))
        c.value(os.pwrite, descriptor, data, source.randrange(300000))
        at, count = source.randrange(400000), source.choice((1, 100, 4096, 65536))
        c.value(os.pread, descriptor, count, at)
    c.stat("f")
    c.read("f")


@case
def write_large_blocks(c):
    block = bytes(random.Random(9).randbytes(5 * M + 17))
    descriptor = os.open("f", os.O_CREAT | os.O_RDWR, 0o600)
    c.value(os.write, descriptor, block)
    c.value(os.writev, descriptor, [block[:M], b"", block[M:2 * M + 3], b"tail"])
    c.stat("f")
    c.note("equal", os.pread(descriptor, len(block), 0) == block)
    buffers = [bytearray(1000), bytearray(3 * M), bytearray(1)]
    c.value(os.preadv, descriptor, buffers, 100)
    c.note("vector", b"".join(map(bytes, buffers)) == block[100:100 + 1001 + 3 * M])


@case
def write_far_out(c):
    descriptor = os.open("f", os.O_CREAT | os.O_RDWR, 0o600)
    for offset in (5 * G, 100 * G, 3 * G):
        c.value(os.pwrite, descriptor, b"island", offset)
        c.stat("f")
        c.value(os.pread, descriptor, 10, offset - 2)
    c.ok(os.pwrite, descriptor, b"x", 2**63 - 1)
    c.ok(os.pwrite, descriptor, b"x", -1)
    c.ok(os.lseek, descriptor, -1, os.SEEK_SET)
    c.value(os.lseek, descriptor, -6, os.SEEK_END)
    c.value(os.read, descriptor, 100)
    c.note("sparse", os.stat("f").st_blocks * 512 < M)


@case
def write_errors(c):
    c.file()
    read_only, write_only = os.open("f", os.O_RDONLY), os.open("f", os.O_WRONLY)
    c.ok(os.write, read_only, b"x")
    c.ok(os.read, write_only, 1)
    c.ok(os.pread, write_only, 1, 0)
    c.value(os.write, write_only, b"")
    c.value(os.read, read_only, 0)
    c.value(os.pread, read_only, 5, 1 << 40)
    c.ok(os.pread, read_only, 5, -1)
    c.ok(os.lseek, read_only, 0, 17)
    c.stat("f")


@cases("sync", ("fsync", "fdatasync", "O_SYNC", "O_DSYNC", "sync_file_range", "syncfs"))
def _sync(c, how):
    flags = getattr(os, how, 0) if how.startswith("O_") else 0
    descriptor = os.open("f", os.O_CREAT | os.O_RDWR | flags, 0o600)
    c.value(os.write, descriptor, b"durable")
    if how.startswith("f"):
        c.ok(getattr(os, how), descriptor)
    if how == "sync_file_range":
        c.ok(syscalls._call, "sync_file_range", descriptor, syscalls._off(0), syscalls._off(0), 7)
    if how == "syncfs":
        c.ok(syscalls._call, "syncfs", descriptor)
    read_only = os.open("f", os.O_RDONLY)
    c.ok(os.fsync, read_only)
    c.read("f")


# ---- allocation and holes -----------------------------------------------------------------------------

MODES = {"allocate": 0, "keep-size": 1, "punch": 3, "punch-without-keep": 2, "zero": 16, "zero-keep": 17, "collapse": 8,
         "insert": 32, "unknown": 1 << 12}


@cases("fallocate", MODES)
def _fallocate(c, mode):
    for offset, length in ((0, 4096), (4096, 8192), (100, 200), (0, 100000), (65536, 4096), (30000, 30000), (0, 0), (-1, 10),
                           (10, -1), (1 << 62, 1 << 62)):
        c.file(data=bytes(range(256)) * 160)  # 40960 bytes
        descriptor = os.open("f", os.O_RDWR)
        c.ok(syscalls.fallocate, descriptor, mode, offset, length)
        os.close(descriptor)
        c.stat("f")
        c.read("f")
    read_only = os.open("f", os.O_RDONLY)
    c.ok(syscalls.fallocate, read_only, mode, 0, 4096)


def extents(descriptor):
    """Data and holes in whole blocks of 64 KiB, which every file system can tell."""
    size, at, found = os.fstat(descriptor).st_size, 0, []
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        found.append((start // (64 * K), -(-end // (64 * K))))
        at = end
    return found


@case
def seek_data_and_hole(c):
    descriptor = os.open("f", os.O_CREAT | os.O_RDWR, 0o600)
    os.ftruncate(descriptor, 10 * M)
    for at in (0, M, 3 * M, 7 * M):
        os.pwrite(descriptor, b"d" * (128 * K), at)
    os.fsync(descriptor)
    c.note("extents", extents(descriptor))
    for offset in (0, 100, 128 * K, M - 1, M, 5 * M, 7 * M, 9 * M, 10 * M - 1):
        c.value(os.lseek, descriptor, offset, os.SEEK_DATA)
        c.value(os.lseek, descriptor, offset, os.SEEK_HOLE)
    for offset in (10 * M, 11 * M, -1):
        c.value(os.lseek, descriptor, offset, os.SEEK_DATA)
        c.value(os.lseek, descriptor, offset, os.SEEK_HOLE)
    syscalls.fallocate(descriptor, 3, 3 * M, 64 * K)
    c.note("after a punch", extents(descriptor))
    c.value(os.pread, descriptor, 10, 3 * M)
    os.ftruncate(descriptor, 2 * M)
    c.note("after truncation", extents(descriptor))
    read_only = os.open("f", os.O_RDONLY)
    c.note("another descriptor", extents(read_only))
    empty = os.open("e", os.O_CREAT | os.O_RDWR)
    c.value(os.lseek, empty, 0, os.SEEK_DATA)
    c.value(os.lseek, empty, 0, os.SEEK_HOLE)


@case
def seek_data_sees_unsynced_writes(c):
    descriptor = os.open("f", os.O_CREAT | os.O_RDWR, 0o600)
    os.pwrite(descriptor, b"x" * (64 * K), 4 * M)
    c.note("extents", extents(descriptor))
    c.value(os.lseek, descriptor, 0, os.SEEK_CUR)


@case
def holes_stay_holes(c):
    descriptor = os.open("f", os.O_CREAT | os.O_RDWR, 0o600)
    os.ftruncate(descriptor, 6 * G)
    os.pwrite(descriptor, b"a", 0)
    os.pwrite(descriptor, b"z", 6 * G - 1)
    os.fsync(descriptor)
    c.stat("f")
    c.note("few blocks", os.stat("f").st_blocks * 512 < M)
    os.system("cp --sparse=always f g")
    c.stat("g")
    c.note("few blocks in the copy", os.stat("g").st_blocks * 512 < M)
    c.value(os.pread, os.open("g", os.O_RDONLY), 4, 6 * G - 3)


# ---- copying ranges -------------------------------------------------------------------------------------

@case
def copy_file_range_within_and_between_files(c):
    data = bytes(random.Random(3).randbytes(200000))
    c.file("a", data=data)
    source, target = os.open("a", os.O_RDWR), os.open("b", os.O_CREAT | os.O_RDWR, 0o600)
    for count, at, to in ((1000, 0, 0), (100000, 50000, 500), (300000, 0, 0), (10, 199995, 7), (10, 300000, 7), (0, 0, 0)):
        c.value(os.copy_file_range, source, target, count, at, to)
        c.stat("b")
    c.read("b")
    c.value(os.copy_file_range, source, source, 1000, 0, 150000)
    c.read("a")
    c.ok(os.copy_file_range, source, source, 1000, 0, 500)  # overlapping
    c.value(os.lseek, source, 10, 0)
    c.value(os.lseek, target, 20, 0)
    c.value(os.copy_file_range, source, target, 30)
    c.value(os.lseek, source, 0, os.SEEK_CUR)
    c.value(os.lseek, target, 0, os.SEEK_CUR)
    read_only = os.open("b", os.O_RDONLY)
    c.ok(os.copy_file_range, source, read_only, 10, 0, 0)
    append = os.open("b", os.O_WRONLY | os.O_APPEND)
    c.ok(os.copy_file_range, source, append, 10, 0, 0)
    c.ok(os.copy_file_range, os.open(".", os.O_RDONLY), target, 10, 0, 0)
    c.ok(os.copy_file_range, target, os.open("w", os.O_CREAT | os.O_WRONLY), 10, 0, 0)


@case
def sendfile_and_splice(c):
    c.file("a", data=b"through the pipe " * 1000)
    source, target = os.open("a", os.O_RDONLY), os.open("b", os.O_CREAT | os.O_RDWR, 0o600)
    c.value(os.sendfile, target, source, 0, 5000)
    c.stat("b")
    reading, writing = os.pipe()
    c.value(os.splice, source, writing, 3000, offset_src=100)
    c.value(os.splice, reading, target, 3000)
    c.read("b")


@case
def cp_reflink_auto_and_install(c):
    c.file("a", data=bytes(random.Random(5).randbytes(3 * M)), mode=0o750)
    os.utime("a", ns=(10**18, 10**18 + 7))
    c.note("cp -a", os.system("cp -a a b"))
    c.stat("b")
    c.note("mtime", os.stat("b").st_mtime_ns)
    c.note("cmp", os.system("cmp a b"))
    c.note("install", os.system("install -m 640 a d"))
    c.stat("d")


@case
def what_one_descriptor_writes_another_reads(c):
    writer, reader = os.open("f", os.O_CREAT | os.O_RDWR, 0o600), os.open("f", os.O_RDONLY)
    for number in range(50):
        os.write(writer, b"line %d\n" % number)
        c.value(os.read, reader, 100)
    c.value(os.fstat(reader).__getattribute__, "st_size")
    os.ftruncate(writer, 4)
    c.value(os.pread, reader, 100, 0)
    c.value(os.read, reader, 100)


@case
def truncate_under_an_open_descriptor(c):
    c.file(data=b"x" * 100000)
    descriptor = os.open("f", os.O_RDWR)
    c.value(os.lseek, descriptor, 90000, os.SEEK_SET)
    os.truncate("f", 10)
    c.value(os.read, descriptor, 10)
    c.value(os.write, descriptor, b"after")
    c.stat("f")
    c.value(os.pread, descriptor, 30, 0)
    os.close(os.open("f", os.O_WRONLY | os.O_TRUNC))
    c.value(os.pread, descriptor, 30, 0)
    c.stat(descriptor)


@case
def file_size_limit(c):
    import resource
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
    descriptor = os.open("f", os.O_CREAT | os.O_RDWR, 0o600)
    c.value(os.pwrite, descriptor, b"x" * 60000, 90000)
    c.ok(os.pwrite, descriptor, b"x", 100000)
    c.ok(os.ftruncate, descriptor, 100001)
    c.stat("f")


@case
def execute_a_program(c):
    os.system("cp /bin/true t; cp /bin/false f")
    for name in "tf":
        c.note(name, os.system("./" + name))
    busy = os.system("sleep 0")  # nothing holds the program now
    c.note("busy", busy)
    os.chmod("t", 0o644)
    c.note("not executable", os.system("./t 2>/dev/null"))


@case
def write_to_a_running_program_is_refused(c):
    os.system("cp /bin/sleep s")
    pid = os.spawnv(os.P_NOWAIT, "./s", ["s", "60"])
    try:
        import time
        for _ in range(200):  # until it has become the program
            if os.readlink(f"/proc/{pid}/exe").endswith("/s"):
                break
            time.sleep(0.01)
        c.ok(os.open, "s", os.O_WRONLY)
        c.ok(os.truncate, "s", 0)
        c.ok(os.unlink, "s")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


@case
def lseek_arithmetic(c):
    c.file(data=b"0123456789")
    descriptor = os.open("f", os.O_RDWR)
    for offset, whence in ((3, 0), (2, 1), (-4, 2), (0, 1), (100, 2), (-200, 1), (-5, 0), (2**62, 0), (2**63 - 1, 0)):
        c.value(os.lseek, descriptor, offset, whence)
    other = os.dup(descriptor)
    os.lseek(descriptor, 4, 0)
    c.value(os.read, other, 2)
    c.value(os.lseek, descriptor, 0, 1)
