# SPDX-License-Identifier: Apache-2.0
"""rename with all its flags, over everything."""

import os

import syscalls
from parity import ALICE, BOB, case, cases

FLAGS = {"plain": 0, "noreplace": syscalls.RENAME_NOREPLACE, "exchange": syscalls.RENAME_EXCHANGE,
         "both": syscalls.RENAME_NOREPLACE | syscalls.RENAME_EXCHANGE, "undefined": 1 << 7}
SOURCES = ("missing", "file", "empty-directory", "full-directory", "symlink", "fifo", "hard-link")
TARGETS = SOURCES + ("itself",)


def make(c, kind, path):
    if kind == "file":
        c.file(path, data=os.fsencode(path) * 3)
    elif kind == "hard-link":
        c.file(path + "-twin", data=b"twin")
        os.link(path + "-twin", path)
    elif kind == "symlink":
        os.symlink("points-to-nothing", path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind.endswith("directory"):
        os.mkdir(path)
        if kind.startswith("full"):
            c.file(path + "/inside", data=b"inside " + os.fsencode(path))


def show(c, *paths):
    for path in paths:
        c.stat(path)
        if os.path.isdir(path) and not os.path.islink(path):
            c.names(path)
        elif os.path.isfile(path):
            c.read(path)


@cases("rename", {f"{flag}-{source}": (source, FLAGS[flag]) for flag in FLAGS for source in SOURCES})
def _rename(c, variant):
    source, flags = variant
    for target in TARGETS:
        for other in ("", "sub/"):
            os.mkdir("w")
            os.chdir("w")
            os.mkdir("sub")
            make(c, source, "a")
            if target != "itself":
                make(c, target, other + "b")
            c.ok(syscalls.renameat2, "a", "a" if target == "itself" else other + "b", flags)
            show(c, "a", other + "b", "a-twin", other + "b-twin")
            c.names()
            os.chdir("..")
            os.system("rm -rf w")


@case
def rename_hard_link_onto_its_twin_does_nothing(c):
    c.file("a")
    os.link("a", "b")
    for flags in (0, syscalls.RENAME_NOREPLACE, syscalls.RENAME_EXCHANGE):
        c.ok(syscalls.renameat2, "a", "b", flags)
        c.names()
        c.stat("a")


@case
def rename_into_itself(c):
    os.makedirs("a/b/c")
    c.file("a/f")
    for new in ("a/b/c/x", "a/x", "a/b", "a/b/c", "a/f/x"):
        for flags in (0, syscalls.RENAME_EXCHANGE, syscalls.RENAME_NOREPLACE):
            c.ok(syscalls.renameat2, "a", new, flags)
    c.ok(os.rename, "a/b", "a")
    c.ok(syscalls.renameat2, "a/b", "a", syscalls.RENAME_EXCHANGE)


@case
def rename_dots_and_slashes(c):
    os.mkdir("d")
    c.file("f")
    os.symlink("d", "l")
    for old, new in ((".", "x"), ("..", "x"), ("d/.", "x"), ("d/..", "x"), ("d", "."), ("d", ".."), ("f", "d/."),
                     ("f", "d/.."), ("f/", "g"), ("f", "g/"), ("d/", "e/"), ("e/", "d"), ("l/", "m"), ("l", "m/"),
                     ("", "x"), ("f", ""), ("missing/x", "y"), ("f", "missing/y"), ("f/x", "y"), ("f", "f/y")):
        c.ok(os.rename, old, new)
        c.names()


@case
def rename_changes_these_times(c):
    os.mkdir("d")
    os.mkdir("e")
    c.file("d/f")
    c.changes(["d", "e", "d/f"], os.rename, "d/f", "e/g")
    c.changes(["d", "e", "e/g"], os.rename, "e/g", "e/h")
    os.mkdir("d/s")
    c.changes(["d", "e", "d/s"], os.rename, "d/s", "e/s")
    c.file("d/x")
    c.changes(["d", "e", "e/h", "d/x"], syscalls.renameat2, "d/x", "e/h", syscalls.RENAME_EXCHANGE)
    before = os.lstat("d/x").st_ctime_ns
    c.note("ctime moves on", os.lstat("e/h").st_ctime_ns >= before)


@case
def rename_keeps_open_files(c):
    c.file("a", data=b"first")
    c.file("b", data=b"second")
    one, two = os.open("a", os.O_RDWR), os.open("b", os.O_RDWR)
    c.ok(os.rename, "a", "b")
    c.note("one", os.pread(one, 9, 0))
    c.note("two", os.pread(two, 9, 0))
    c.value(os.write, one, b"FIRST-AND-MORE")
    c.value(os.write, two, b"gone")
    c.stat(one)
    c.stat(two)
    c.read("b")
    c.names()
    c.note("same file", os.fstat(one).st_ino == os.stat("b").st_ino)


@case
def rename_directory_with_open_files_and_working_directory(c):
    os.makedirs("a/b")
    c.file("a/b/f")
    descriptor = os.open("a/b/f", os.O_RDWR)
    os.chdir("a/b")
    c.ok(os.rename, "../../a", "../../z")
    c.value(os.write, descriptor, b"written after")
    c.read("f")
    c.value(lambda: os.path.basename(os.path.dirname(os.getcwd())))
    c.names("../..")
    c.file("new")
    c.names("../../z/b")


@case
def rename_keeps_inode_and_metadata(c):
    c.file("a", mode=0o751)
    os.chown("a", 1001, 2001)
    os.setxattr("a", "user.tag", b"kept")
    os.utime("a", ns=(1, 2_000_000_003))
    inode = os.stat("a").st_ino
    c.ok(os.rename, "a", "b")
    c.note("inode", os.stat("b").st_ino == inode)
    c.stat("b")
    c.value(os.getxattr, "b", "user.tag")
    c.note("mtime", os.stat("b").st_mtime_ns)
    os.mkdir("d")
    inode = os.stat("d").st_ino
    descriptor = os.open("d", os.O_RDONLY)
    c.ok(os.rename, "d", "e")
    c.note("open directory", os.fstat(descriptor).st_ino == os.stat("e").st_ino)


@case
def rename_exchange_file_and_directory(c):
    c.file("f", data=b"I am f")
    os.mkdir("d")
    c.file("d/inside")
    c.ok(syscalls.renameat2, "f", "d", syscalls.RENAME_EXCHANGE)
    show(c, "f", "d")
    c.ok(syscalls.renameat2, "f", "missing", syscalls.RENAME_EXCHANGE)
    c.ok(syscalls.renameat2, "f", "d", syscalls.RENAME_EXCHANGE | syscalls.RENAME_WHITEOUT)


@case
def rename_in_sticky_directory(c):
    os.mkdir("s")
    os.chmod("s", 0o1777)
    os.mkdir("mine")
    os.chmod("mine", 0o777)
    for name, uid in (("alice", 1001), ("bob", 1002), ("root", 0)):
        c.file("s/" + name, mode=0o666)
        os.chown("s/" + name, uid, uid)
        os.mkdir("s/d" + name)
        os.chown("s/d" + name, uid, uid)
    c.file("mine/alice", mode=0o666)
    os.chown("mine/alice", 1001, 1001)

    @c.by(BOB)
    def _():
        for name in ("alice", "bob", "root", "dalice", "dbob"):
            c.ok(os.rename, "s/" + name, "mine/taken-" + name)
            c.ok(os.rename, "mine/alice", "s/" + name)
            c.ok(os.unlink, "s/" + name)
            c.ok(os.rmdir, "s/" + name)
            c.ok(syscalls.renameat2, "mine/alice", "s/" + name, syscalls.RENAME_EXCHANGE)
    c.names("s")
    c.names("mine")


@case
def rename_directory_needs_write_to_change_its_parent(c):
    for name in ("one", "two"):
        os.mkdir(name)
        os.chmod(name, 0o777)
    os.mkdir("one/sub")
    os.chown("one/sub", 1001, 1001)
    os.chmod("one/sub", 0o555)

    @c.by(ALICE)
    def _():
        c.ok(os.rename, "one/sub", "one/sub2")
        c.ok(os.rename, "one/sub2", "two/sub")  # its .. changes, so it must be writable
    c.names("one")
    c.names("two")


@case
def rename_over_a_directory_that_is_open_or_current(c):
    os.mkdir("a")
    os.mkdir("b")
    descriptor = os.open("b", os.O_RDONLY)
    os.chdir("b")
    c.ok(os.rename, "../a", "../b")
    c.ok(os.open, "new", os.O_CREAT | os.O_WRONLY)
    c.value(lambda: os.listdir("."))
    c.value(lambda: os.listdir(descriptor))
    c.ok(os.stat, "..")
    c.names("/proc/self/cwd/..") if os.path.isdir("/proc/self/cwd/..") else None


@case
def rename_whiteout(c):
    c.file("a")
    c.ok(syscalls.renameat2, "a", "b", syscalls.RENAME_WHITEOUT)
    c.stat("a")
    c.stat("b")


@case
def rename_storm(c):
    """A name that always exists while it is being replaced."""
    c.file("target", data=b"0")
    pid = os.fork()
    if pid == 0:
        for number in range(200):
            c.file("new", data=b"%d" % number)
            os.rename("new", "target")
        os._exit(0)
    missing = 0
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        try:
            os.close(os.open("target", os.O_RDONLY))
        except OSError:
            missing += 1
    c.note("times the name was gone", missing)
    c.read("target")
    c.names()
