#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Two daemons on one array are two nodes: what one closes the other opens, O_EXCL admits one, locks exclude,
renames and removals are seen when the attribute timeout (1 s) has passed.

    two_nodes_test.py MOUNT SECOND_MOUNT EXPORT:EXPORT...
"""

import errno
import fcntl
import os
import random
import sys
import time

failures = []


def check(what, good):
    print(("ok      " if good else "FAILED  ") + what)
    if not good:
        failures.append(what)


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    return False


def eventually(condition):
    """Caches end by time; the bound is generous, a loaded machine only makes it slower."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def exclusive_creates(one, two):
    for number in range(50):
        children = []
        for mount in (one, two):
            child = os.fork()
            if child == 0:
                try:
                    os.open(f"{mount}/exclusive-{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                    os._exit(1)
                except OSError as error:
                    os._exit(0 if error.errno == errno.EEXIST else 7)
            children.append(child)
        winners = sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
        if winners != 1:
            return False
    return True


def appends(one, two):
    """Lines of two nodes in turn, each opening anew; then through descriptors that both keep open, under a lock."""
    lines = [f"line {number}\n" for number in range(40)]
    write(f"{one}/log", "")
    os.stat(f"{two}/log")
    for number in range(20):
        with open(f"{(one, two)[number % 2]}/log", "a", encoding="ascii") as log:
            log.write(lines[number])
    logs = [os.open(f"{mount}/log", os.O_RDWR | os.O_APPEND) for mount in (one, two)]
    for number in range(20, 40):
        log = logs[number % 2]
        fcntl.lockf(log, fcntl.LOCK_EX)
        os.write(log, lines[number].encode())
        fcntl.lockf(log, fcntl.LOCK_UN)
    for log in logs:
        os.close(log)
    return read(f"{one}/log") == read(f"{two}/log") == "".join(lines)


def told_as_it_is_when_made(mount, exports):
    """The exports make it at moments of their own, which a clock's tick may lie between: one in fifty."""
    def newest_ctime(name):
        return max(os.stat(f"{export}/{name}").st_ctime_ns for export in exports if os.path.exists(f"{export}/{name}"))

    for number in range(400):
        os.mkdir(f"{mount}/made-{number}")
        if os.stat(f"{mount}/made-{number}").st_ctime_ns != newest_ctime(f"made-{number}"):
            return False
        file = os.open(f"{mount}/made-file-{number}", os.O_CREAT | os.O_WRONLY)
        shown = os.fstat(file).st_ctime_ns
        if shown != newest_ctime(f"made-file-{number}"):
            return False
        os.close(file)
    return True


def sealed_when_idle(mount, exports):
    """Written and left alone: the replicas get one explicit mtime, which is the one the mount shows."""
    file = os.open(f"{mount}/idle", os.O_CREAT | os.O_WRONLY)
    os.write(file, b"not closed")
    replicas = [f"{export}/idle" for export in exports if os.path.exists(f"{export}/idle")]

    def sealed():
        shown = os.fstat(file).st_mtime_ns
        return all(os.stat(replica).st_mtime_ns == shown for replica in replicas)

    good = len(replicas) == 2 and eventually(sealed)
    os.close(file)
    return good


def change_names(top, chance):
    """One change of what is in the directory, or of itself, as a program makes it."""
    directory = f"{top}/changing"
    name, other = (f"{directory}/{chance.choice('abcdefghijkl')}" for _ in range(2))

    def make(path):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))

    change = chance.choice((
        lambda: make(name), lambda: make(name), lambda: os.unlink(name), lambda: os.rename(name, other),
        lambda: os.rename(name, f"{top}/elsewhere"), lambda: os.rename(f"{top}/elsewhere", name),
        lambda: os.link(name, other), lambda: os.symlink("nowhere", name), lambda: os.mkfifo(name), lambda: os.mkdir(name),
        lambda: os.rmdir(name), lambda: os.chmod(directory, chance.choice((0o755, 0o700))),
        lambda: os.utime(directory, (1, chance.randrange(10**9))), lambda: os.setxattr(directory, "user.x", b"y"),
        lambda: os.rename(directory, f"{top}/moved") or os.rename(f"{top}/moved", directory)))
    try:
        change()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EPERM):
            raise
    return os.stat(directory)


def directory_is_told_as_it_is(one, two, exports):
    """Nothing that a node has done to a directory is missing from what it says of it next, whatever it remembers."""
    chance = random.Random(7)
    os.mkdir(f"{one}/changing")
    for _ in range(600):
        shown = change_names(one, chance)
        own = [os.stat(f"{export}/changing") for export in exports]
        for field in ("st_mtime_ns", "st_ctime_ns", "st_nlink", "st_size"):
            if getattr(shown, field) != max(getattr(stat, field) for stat in own):
                print(f"{field}: {getattr(shown, field)} is shown of {[getattr(stat, field) for stat in own]}")
                return False
        if shown.st_mode != own[0].st_mode:
            return False
    write(f"{two}/changing/by-another-node", "x")
    newest = max(os.stat(f"{export}/changing").st_mtime_ns for export in exports)
    return eventually(lambda: os.stat(f"{one}/changing").st_mtime_ns == newest)


def main():
    one, two = sys.argv[1:3]
    exports = sys.argv[3].split(":")
    write(f"{one}/x", "one")
    check("what one node closes the other opens", read(f"{two}/x") == "one")
    write(f"{two}/x", "two!")
    check("and the other way round, at once", read(f"{one}/x") == "two!")
    check("one of two exclusive creates wins, never both, fifty times", exclusive_creates(one, two))
    with open(f"{one}/x", "r+", encoding="ascii") as first, open(f"{two}/x", "r+", encoding="ascii") as second:
        for name, lock in (("record locks", fcntl.lockf), ("flocks", fcntl.flock)):
            lock(first, fcntl.LOCK_EX)
            check(f"{name} exclude the other node", refused(lock, second, fcntl.LOCK_EX | fcntl.LOCK_NB))
            lock(first, fcntl.LOCK_UN)
            lock(second, fcntl.LOCK_EX)
            check(f"{name} pass on when they are released", refused(lock, first, fcntl.LOCK_EX | fcntl.LOCK_NB))
            lock(second, fcntl.LOCK_UN)
    os.rename(f"{one}/x", f"{one}/y")
    check("a rename is seen", eventually(lambda: not os.path.exists(f"{two}/x") and os.path.exists(f"{two}/y")))
    check("with its contents", read(f"{two}/y") == "two!")
    os.unlink(f"{two}/y")
    check("a removal is seen", eventually(lambda: not os.path.exists(f"{one}/y")))
    check("what two nodes append in turn is all there", appends(one, two))
    check("what was made is told as it is at once", told_as_it_is_when_made(one, exports))
    check("a directory is told as it is after each change", directory_is_told_as_it_is(one, two, exports))
    check("what is written and left alone is sealed without being closed", sealed_when_idle(one, exports))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
