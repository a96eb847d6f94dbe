# SPDX-License-Identifier: Apache-2.0
"""System calls that the os module lacks, by ctypes. Each raises OSError as os does."""

import collections
import ctypes
import os
import struct

libc = ctypes.CDLL(None, use_errno=True)

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = 0x100, 0x400, 0x1000
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, FALLOC_COLLAPSE_RANGE, FALLOC_ZERO_RANGE, FALLOC_INSERT_RANGE = 1, 2, 8, 16, 32
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
DT_NAMES = {1: "fifo", 2: "chr", 4: "dir", 6: "blk", 8: "reg", 10: "lnk", 12: "sock", 0: "unknown"}

DirectoryEntry = collections.namedtuple("DirectoryEntry", "inode offset type name")


def _call(name, *arguments):
    result = getattr(libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _off(value):
    return ctypes.c_int64(value)


def renameat2(old, new, flags=0):
    _call("renameat2", AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), ctypes.c_uint(flags))


def linkat(old_fd, old, new_fd, new, flags=0):
    _call("linkat", old_fd, os.fsencode(old), new_fd, os.fsencode(new), flags)


def fallocate(descriptor, mode, offset, length):
    _call("fallocate", descriptor, mode, _off(offset), _off(length))


def access(path, mode, flags=0):
    """faccessat2 with the effective ids where flags says AT_EACCESS (0x200)."""
    _call("syscall", ctypes.c_long(439), AT_FDCWD, os.fsencode(path), mode, flags)


def utimensat(path, atime, mtime, flags=0):
    """Each time is (seconds, nanoseconds), with UTIME_NOW or UTIME_OMIT as nanoseconds allowed."""
    times = struct.pack("qqqq", *atime, *mtime)
    _call("utimensat", AT_FDCWD, os.fsencode(path), times, flags)


UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


def getdents(descriptor, size=32768):
    """One batch of entries of a directory, empty at the end."""
    buffer = ctypes.create_string_buffer(size)
    count = _call("syscall", ctypes.c_long(217), descriptor, buffer, ctypes.c_size_t(size))
    entries, at = [], 0
    while at < count:
        inode, offset, length, kind = struct.unpack_from("<QqHB", buffer.raw, at)
        name = buffer.raw[at + 19:at + length].split(b"\0", 1)[0]
        entries.append(DirectoryEntry(inode, offset, DT_NAMES.get(kind, str(kind)), name))
        at += length
    return entries


def statx(path, flags=AT_SYMLINK_NOFOLLOW, mask=0xFFF):
    """The words of struct statx that matter here, by name."""
    buffer = ctypes.create_string_buffer(256)
    _call("statx", AT_FDCWD, os.fsencode(path), flags, ctypes.c_uint(mask), buffer)
    fields = struct.unpack_from("<IIQIIIHHQQQQ", buffer.raw)
    names = ("mask", "blksize", "attributes", "nlink", "uid", "gid", "mode", "spare", "ino", "size", "blocks",
             "attributes_mask")
    return dict(zip(names, fields))
