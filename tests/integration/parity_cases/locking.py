# SPDX-License-Identifier: Apache-2.0
"""fcntl locks (of processes and of open files) and flock."""

import fcntl
import os
import signal
import struct
import time

import syscalls
from parity import NOBODY, case

KINDS = {"read": fcntl.F_RDLCK, "write": fcntl.F_WRLCK, "unlock": fcntl.F_UNLCK}


def packed(kind, start=0, length=0, whence=0):
    return struct.pack("hhqqi4x", KINDS[kind], whence, start, length, 0)


def lock(descriptor, kind, start=0, length=0, command=fcntl.F_SETLK, whence=0):
    fcntl.fcntl(descriptor, command, packed(kind, start, length, whence))


def conflict(descriptor, kind, start=0, length=0, command=fcntl.F_GETLK):
    """What stands in the way: type, start, length, and whether a process is named."""
    answer = fcntl.fcntl(descriptor, command, packed(kind, start, length))
    found, _, begin, size, pid = struct.unpack("hhqqi4x", answer)
    return "free" if found == fcntl.F_UNLCK else (found, begin, size, (pid > 0) - (pid < 0))


def in_child(c, function):
    """Runs in another process, whose calls are written down here."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        import pickle
        c.log = []
        try:
            function()
        finally:
            with os.fdopen(writing, "wb") as out:
                pickle.dump(c.log, out)
            os._exit(0)
    os.close(writing)
    import pickle
    with os.fdopen(reading, "rb") as data:
        c.log += [("[child] " + label, value) for label, value in pickle.load(data)]
    os.waitpid(pid, 0)


@case
def process_locks_exclude_other_processes(c):
    c.file(data=b"x" * 1000)
    descriptor = os.open("f", os.O_RDWR)
    c.ok(lock, descriptor, "write", 100, 100)
    c.ok(lock, descriptor, "read", 300, 100)

    def other():
        mine = os.open("f", os.O_RDWR)
        for kind in ("read", "write"):
            for start, length in ((0, 100), (0, 101), (150, 1), (199, 1), (200, 100), (300, 1), (350, 100), (400, 0), (0, 0)):
                c.ok(lock, mine, kind, start, length)
                c.value(conflict, mine, kind, start, length)
                c.ok(lock, mine, "unlock", start, length)
    in_child(c, other)
    c.value(conflict, descriptor, "write", 0, 0)  # one's own locks are no conflict
    c.ok(lock, descriptor, "unlock", 120, 20)  # splits
    in_child(c, other)
    c.ok(lock, descriptor, "unlock")
    in_child(c, other)


@case
def process_locks_end_with_any_close(c):
    c.file()
    descriptor = os.open("f", os.O_RDWR)
    c.ok(lock, descriptor, "write")
    os.close(os.open("f", os.O_RDONLY))
    in_child(c, lambda: c.ok(lock, os.open("f", os.O_RDWR), "write"))


@case
def process_locks_end_with_the_process(c):
    c.file()
    in_child(c, lambda: c.ok(lock, os.open("f", os.O_RDWR), "write"))
    c.ok(lock, os.open("f", os.O_RDWR), "write")
    pid = os.fork()
    if pid == 0:
        os.setsid()
        lock(os.open("g", os.O_CREAT | os.O_RDWR), "write")
        open("ready", "w").close()
        time.sleep(100)
    while not os.path.exists("ready"):
        time.sleep(0.01)
    in_child(c, lambda: c.ok(lock, os.open("g", os.O_RDWR), "write"))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    in_child(c, lambda: c.ok(lock, os.open("g", os.O_RDWR), "write"))


@case
def process_locks_wait(c):
    c.file()
    descriptor = os.open("f", os.O_RDWR)
    lock(descriptor, "write")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        mine = os.open("f", os.O_RDWR)
        os.write(writing, b"w")
        lock(mine, "write", command=fcntl.F_SETLKW)
        os.write(writing, b"g")
        os._exit(0)
    c.note("waits", os.read(reading, 1))
    time.sleep(0.2)
    os.set_blocking(reading, False)
    c.ok(os.read, reading, 1)
    os.set_blocking(reading, True)
    c.ok(lock, descriptor, "unlock")
    c.note("got it", os.read(reading, 1))
    os.waitpid(pid, 0)


@case
def waiting_for_a_lock_can_be_interrupted(c):
    c.file()
    descriptor = os.open("f", os.O_RDWR)
    lock(descriptor, "write")

    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    def other():
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        for label, wait in (("fcntl", lambda d: lock(d, "write", command=fcntl.F_SETLKW)),
                            ("flock", lambda d: fcntl.flock(d, fcntl.LOCK_EX))):
            try:
                wait(os.open("f", os.O_RDWR))
                c.note(label, "got it")
            except Alarm:
                c.note(label, "interrupted")
            signal.setitimer(signal.ITIMER_REAL, 0.3)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    in_child(c, other)


@case
def deadlock_is_noticed(c):
    c.file()
    descriptor = os.open("f", os.O_RDWR)
    lock(descriptor, "write", 0, 1)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        mine = os.open("f", os.O_RDWR)
        lock(mine, "write", 1, 1)
        os.write(writing, b"x")
        try:
            lock(mine, "write", 0, 1, fcntl.F_SETLKW)
        except OSError:
            pass
        os._exit(0)
    os.read(reading, 1)
    time.sleep(0.2)
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(InterruptedError(4, "not noticed")))
    signal.alarm(5)
    c.ok(lock, descriptor, "write", 1, 1, fcntl.F_SETLKW)
    signal.alarm(0)
    lock(descriptor, "unlock")
    os.waitpid(pid, 0)


@case
def lock_errors(c):
    c.file()
    os.mkdir("d")
    read_only, write_only = os.open("f", os.O_RDONLY), os.open("f", os.O_WRONLY)
    for descriptor in (read_only, write_only, os.open("d", os.O_RDONLY)):
        for kind in KINDS:
            c.ok(lock, descriptor, kind)
        c.ok(lock, descriptor, "read", -1, 5)
        c.ok(lock, descriptor, "read", 5, -3)
        c.ok(lock, descriptor, "read", 2, -3)
        c.ok(lock, descriptor, "read", 0, 0, whence=9)
        for operation in (fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN):
            c.ok(fcntl.flock, descriptor, operation | fcntl.LOCK_NB)
        c.ok(fcntl.flock, descriptor, 0)


@case
def open_file_locks_belong_to_the_descriptor(c):
    c.file()
    one, two = os.open("f", os.O_RDWR), os.open("f", os.O_RDWR)
    c.ok(lock, one, "write", 0, 10, syscalls.F_OFD_SETLK)
    c.ok(lock, two, "write", 5, 10, syscalls.F_OFD_SETLK)
    c.ok(lock, two, "write", 10, 10, syscalls.F_OFD_SETLK)
    c.value(conflict, two, "read", 0, 10, syscalls.F_OFD_GETLK)
    os.close(os.open("f", os.O_RDONLY))  # does not matter to these
    c.ok(lock, two, "write", 5, 1, syscalls.F_OFD_SETLK)
    duplicate = os.dup(one)
    os.close(one)
    c.ok(lock, two, "write", 5, 1, syscalls.F_OFD_SETLK)
    os.close(duplicate)
    c.ok(lock, two, "write", 5, 1, syscalls.F_OFD_SETLK)


@case
def flock_shared_and_exclusive(c):
    c.file()
    one, two = os.open("f", os.O_RDWR), os.open("f", os.O_RDONLY)
    steps = ((one, fcntl.LOCK_SH), (two, fcntl.LOCK_SH), (one, fcntl.LOCK_EX), (two, fcntl.LOCK_UN), (one, fcntl.LOCK_EX),
             (two, fcntl.LOCK_SH), (two, fcntl.LOCK_EX), (one, fcntl.LOCK_SH), (two, fcntl.LOCK_SH), (one, fcntl.LOCK_UN),
             (two, fcntl.LOCK_EX))
    for descriptor, operation in steps:
        c.ok(fcntl.flock, descriptor, operation | fcntl.LOCK_NB)
    in_child(c, lambda: c.ok(fcntl.flock, os.open("f", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB))
    os.close(two)
    in_child(c, lambda: c.ok(fcntl.flock, os.open("f", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB))


@case
def flock_is_shared_by_fork_and_dup(c):
    c.file()
    descriptor = os.open("f", os.O_RDWR)
    c.ok(fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    in_child(c, lambda: c.ok(fcntl.flock, descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB))
    c.ok(fcntl.flock, os.open("f", os.O_RDWR), fcntl.LOCK_SH | fcntl.LOCK_NB)
    in_child(c, lambda: c.ok(fcntl.flock, descriptor, fcntl.LOCK_UN))
    c.ok(fcntl.flock, os.open("f", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)


@case
def flock_and_process_locks_do_not_meet(c):
    c.file()
    descriptor = os.open("f", os.O_RDWR)
    c.ok(fcntl.flock, descriptor, fcntl.LOCK_EX)

    def other():
        mine = os.open("f", os.O_RDWR)
        c.ok(lock, mine, "write")
        c.ok(fcntl.flock, mine, fcntl.LOCK_SH | fcntl.LOCK_NB)
    in_child(c, other)


@case
def locks_of_files_that_are_renamed_or_removed(c):
    c.file()
    descriptor = os.open("f", os.O_RDWR)
    c.ok(lock, descriptor, "write")
    c.ok(fcntl.flock, descriptor, fcntl.LOCK_EX)
    os.rename("f", "g")

    def other():
        mine = os.open("g", os.O_RDWR)
        c.ok(lock, mine, "write")
        c.ok(fcntl.flock, mine, fcntl.LOCK_SH | fcntl.LOCK_NB)
    in_child(c, other)
    os.unlink("g")
    c.ok(lock, descriptor, "unlock")
    c.ok(lock, descriptor, "write", 3, 4)
    c.file("g")
    in_child(c, other)


@case
def locks_of_another_user(c):
    c.file(mode=0o666)
    descriptor = os.open("f", os.O_RDWR)
    c.ok(lock, descriptor, "write", 0, 5)

    @c.by(NOBODY)
    def _():
        mine = os.open("f", os.O_RDWR)
        c.ok(lock, mine, "write", 0, 5)
        c.ok(lock, mine, "write", 5, 5)
        c.value(conflict, mine, "write", 0, 5)


@case
def many_small_locks(c):
    c.file(data=b"x" * 10000)
    descriptor = os.open("f", os.O_RDWR)
    for start in range(0, 1000, 2):
        lock(descriptor, "write", start, 1)

    def other():
        mine = os.open("f", os.O_RDWR)
        free = []
        for start in range(0, 1000, 25):
            try:
                lock(mine, "write", start, 1)
                free.append(start)
            except OSError:
                pass
        c.note("free", free)
    in_child(c, other)


@case
def counting_under_a_lock_loses_nothing(c):
    c.file(data=b"0")
    for how in ("fcntl", "flock"):
        children = []
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                for _ in range(25):
                    descriptor = os.open("f", os.O_RDWR)
                    if how == "fcntl":
                        lock(descriptor, "write", command=fcntl.F_SETLKW)
                    else:
                        fcntl.flock(descriptor, fcntl.LOCK_EX)
                    count = int(os.pread(descriptor, 20, 0)) + 1
                    os.pwrite(descriptor, b"%d" % count, 0)
                    os.close(descriptor)
                os._exit(0)
            children.append(pid)
        for pid in children:
            os.waitpid(pid, 0)
        c.read("f", how)


@case
def leases_and_notifications(c):
    c.file()
    descriptor = os.open("f", os.O_RDONLY)
    c.value(fcntl.fcntl, descriptor, fcntl.F_GETLEASE)
    libc = syscalls.libc
    watcher = libc.inotify_init1(os.O_NONBLOCK)
    libc.inotify_add_watch(watcher, b".", 0x100 | 0x200 | 0x80 | 0x40)
    c.file("made")
    os.rename("made", "moved")
    os.unlink("moved")
    events, data, at = [], os.read(watcher, 4096), 0
    while at < len(data):
        _, mask, _, length = struct.unpack_from("iIII", data, at)
        events.append((mask, data[at + 16:at + 16 + length].rstrip(b"\0")))
        at += 16 + length
    c.note("inotify", events)
