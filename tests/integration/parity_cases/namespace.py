# SPDX-License-Identifier: Apache-2.0
"""Names: link, symlink, mknod, mkdir, rmdir, unlink, long and odd names, deep directories."""

import os
import stat

import syscalls
from parity import ALICE, BOB, NOBODY, case, cases

OBJECTS = ("missing", "file", "directory", "full-directory", "symlink", "dangling", "fifo")


def make(c, kind, path):
    if kind == "file":
        c.file(path)
    elif kind in ("directory", "full-directory"):
        os.mkdir(path)
        if kind.startswith("full"):
            c.file(path + "/inside")
    elif kind == "symlink":
        c.file(path + "-real")
        os.symlink(path + "-real", path)
    elif kind == "dangling":
        os.symlink("nowhere", path)
    elif kind == "fifo":
        os.mkfifo(path)


CALLS = {
    "unlink": os.unlink, "rmdir": os.rmdir, "mkdir": os.mkdir, "readlink": os.readlink, "mkfifo": os.mkfifo,
    "truncate": lambda p: os.truncate(p, 3), "chmod": lambda p: os.chmod(p, 0o700), "listdir": os.listdir,
    "lchown": lambda p: os.lchown(p, 5, 6), "chown": lambda p: os.chown(p, 5, 6),
    "symlink": lambda p: os.symlink("target", p), "link-from": lambda p: os.link(p, "other", follow_symlinks=False),
    "link-follow": lambda p: os.link(p, "other", follow_symlinks=True), "link-to": lambda p: os.link("base", p),
    "utime": os.utime, "chdir-back": lambda p: (os.chdir(p), os.chdir("..")) and None,
    "access": lambda p: syscalls.access(p, os.R_OK), "setxattr": lambda p: os.setxattr(p, "user.x", b"y"),
    "lsetxattr": lambda p: os.setxattr(p, "user.x", b"y", follow_symlinks=False), "statvfs": lambda p: os.statvfs(p) and None,
    "mknod-device": lambda p: os.mknod(p, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    "mknod-block": lambda p: os.mknod(p, stat.S_IFBLK | 0o600, os.makedev(7, 200)),
    "mknod-socket": lambda p: os.mknod(p, stat.S_IFSOCK | 0o600), "mknod-file": lambda p: os.mknod(p, stat.S_IFREG | 0o640),
    "mknod-directory": lambda p: os.mknod(p, stat.S_IFDIR | 0o700),
}


@cases("call", CALLS)
def _call(c, function):
    """Each call on each kind of object, by root and then by an ordinary user."""
    def all_objects():
        for kind in OBJECTS:
            for suffix in ("", "/", "/."):
                os.mkdir("w")
                os.chdir("w")
                c.file("base")
                make(c, kind, "t")
                c.value(function, "t" + suffix)
                for name in ("t", "t-real", "other", "base", "nowhere"):
                    c.stat(name)
                os.chdir("..")
                os.system("rm -rf w")
    all_objects()
    os.mkdir("user")
    os.chown("user", 65534, 65534)
    os.chdir("user")

    @c.by(NOBODY)
    def _():
        all_objects()


@cases("call-in-a-directory-of-another", {n: CALLS[n] for n in ("unlink", "rmdir", "mkdir", "mkfifo", "truncate", "chmod",
                                                                "lchown", "chown", "symlink", "link-from", "link-to",
                                                                "utime", "setxattr", "mknod-file", "mknod-socket")})
def _call_elsewhere(c, function):
    for mode in (0o755, 0o777, 0o1777, 0o711):
        os.mkdir("w")
        c.file("w/base")
        for kind in OBJECTS:
            make(c, kind, "w/" + kind)
        os.chmod("w", mode)

        @c.by(NOBODY)
        def _():
            os.chdir("w")
            for kind in OBJECTS:
                c.value(function, kind)
        c.names("w")
        os.system("rm -rf w")


@case
def link_counts_and_contents_are_shared(c):
    c.file("a", data=b"one")
    for number in range(10):
        c.ok(os.link, "a", f"l{number}")
    c.stat("a")
    with open("l5", "ab") as out:
        out.write(b" two")
    c.read("a")
    c.ok(os.chmod, "l3", 0o600)
    c.stat("l9")
    c.note("one inode", len({os.stat(n).st_ino for n in os.listdir(".")}))
    for number in range(10):
        c.ok(os.unlink, f"l{number}")
        c.stat("a")
    c.read("a")


@case
def link_across_directories_and_its_times(c):
    os.makedirs("x/y")
    c.file("f")
    c.changes(["f", "x/y"], os.link, "f", "x/y/g")
    c.changes(["f", "x/y"], os.unlink, "x/y/g")
    os.symlink("f", "s")
    c.ok(os.link, "s", "s2", follow_symlinks=False)
    c.stat("s2")
    c.stat("s")
    c.ok(os.link, "x", "x2")
    c.ok(os.link, "f", "missing/g")
    c.ok(os.link, "f", "f")


@case
def link_to_a_file_of_another_user(c):
    c.file("f", mode=0o600)
    c.file("g", mode=0o666)
    c.file("suid", mode=0o4777)
    os.chmod(".", 0o777)

    @c.by(NOBODY)
    def _():
        for name in ("f", "g", "suid"):
            c.ok(os.link, name, name + "2")  # fs.protected_hardlinks decides, in the kernel
    c.names()


@cases("symlink-target", {"1": b"x", "255": b"a" * 255, "4095": b"a/" * 2047 + b"a", "4096": b"a" * 4096, "empty": b"",
                          "not-utf8": b"\xff\xfe/\x80", "absolute": b"/etc/passwd", "newline": b"a\nb c"})
def _symlink_target(c, target):
    c.ok(os.symlink, target, "l")
    c.value(os.readlink, b"l")
    c.stat("l")
    c.ok(os.stat, "l")


@case
def symlink_chains_and_loops(c):
    c.file("l0")
    for number in range(1, 45):
        os.symlink(f"l{number - 1}", f"l{number}")
    for number in (1, 39, 40, 41, 44):
        c.ok(os.stat, f"l{number}")
    os.symlink("b", "a")
    os.symlink("a", "b")
    c.ok(os.stat, "a")
    c.ok(os.open, "a", os.O_CREAT | os.O_WRONLY)
    c.ok(os.chdir, "a")
    c.stat("l44")


@case
def symlinks_cannot_be_followed_out_by_the_server(c):
    """What a link points to is the business of the node that follows it."""
    os.symlink("/proc/self/fd", "p")
    os.symlink("..", "up")
    c.note("up", os.path.samefile("up", ".."))
    c.stat("up/.")
    c.ok(os.stat, "p/0")


@cases("name", {"254": b"n" * 254, "255": b"n" * 255, "256": b"n" * 256, "255-bytes-not-utf8": b"\xff" * 255,
                "newline": b"a\nb", "control": bytes(range(1, 32)), "high": bytes(range(128, 256)), "space": b" ", "dash": b"-rf",
                "dots": b"...", "quote": b"'\"\\$`", "colon": b"a:b", "utf8": "Größe 雨".encode(), "utf8-decomposed": "é".encode(),
                "case": b"CaSe", "hidden": b".hidden", "tilde": b"x~", "rainfs-lookalike": b".rainfs2"})
def _name(c, name):
    os.mkdir("d")
    for call, arguments in ((os.mkdir, ()), (os.mkfifo, ()), (os.truncate, (0,))):
        c.ok(call, name, *arguments)
        c.stat(name)
    descriptor = c.ok(os.open, b"d/" + name, os.O_CREAT | os.O_WRONLY)
    c.ok(os.symlink, name, b"d/l")
    c.ok(os.link, b"d/" + name, b"d/2" + name[1:])
    c.ok(os.rename, b"d/" + name, b"d/x" + name[:254])
    c.names("d")
    c.names()
    c.ok(os.rmdir, name)
    c.ok(os.stat, name.lower())
    c.ok(os.stat, name.swapcase() + b"")
    if descriptor is not None:
        os.close(descriptor)


@case
def path_lengths_up_to_path_max(c):
    component = "p" * 200
    os.makedirs("/".join([component] * 19))
    base = "/".join([component] * 19)  # 3818 bytes
    for total in (4000, 4094, 4095, 4096, 4097, 5000):
        name = base + "/" + "/".join(["q" * 100] * 1)
        path = base + "/" + "." * 0 + "/" * (total - len(base) - 2) + "f"
        descriptor = c.ok(os.open, path, os.O_CREAT | os.O_WRONLY)
        c.note("length", len(path))
        c.stat(path)
        if descriptor is not None:
            os.close(descriptor)
        c.ok(os.mkdir, name, 0o700)
    c.names(base)


@case
def directories_deeper_than_path_max(c):
    component, depth = "d" * 100, 60  # 6060 bytes
    for _ in range(depth):
        os.mkdir(component)
        os.chdir(component)
    c.file("deep", data=b"down here")
    c.ok(os.link, "deep", "deep2")
    c.ok(os.rename, "deep", "deep3")
    c.ok(os.symlink, "deep3", "s")
    c.ok(os.mkdir, "sub")
    c.ok(os.setxattr, "deep2", "user.x", b"y")
    c.ok(os.chmod, "deep2", 0o600)
    c.ok(os.truncate, "deep2", 4)
    c.stat("deep3")
    c.read("deep2")
    c.names()
    c.ok(os.rename, "sub", "../sub")
    c.names("..")
    c.ok(os.getcwd)
    for name in ("deep2", "deep3", "s", "../sub"):
        (os.rmdir if "sub" in name else os.unlink)(name)
    for _ in range(depth):
        os.chdir("..")
        c.ok(os.rmdir, component)
    c.names()


@case
def many_levels_of_directories(c):
    for _ in range(300):
        os.mkdir("d")
        os.chdir("d")
    c.file()
    c.value(lambda: os.getcwd().count("/d"))
    c.read("f")
    os.unlink("f")
    for _ in range(300):
        os.chdir("..")
        os.rmdir("d")
    c.names()


@case
def unlink_of_open_files(c):
    c.file(data=b"still here")
    os.link("f", "g")
    descriptor = os.open("f", os.O_RDWR)
    c.ok(os.unlink, "f")
    c.stat(descriptor)
    c.ok(os.unlink, "g")
    c.stat(descriptor)
    c.names()
    c.value(os.write, descriptor, b"and written")
    c.value(os.pread, descriptor, 100, 0)
    c.ok(os.ftruncate, descriptor, 4)
    c.ok(os.fchmod, descriptor, 0o600)
    c.ok(os.fchown, descriptor, 7, 8)
    c.ok(os.fsync, descriptor)
    c.ok(os.utime, descriptor, ns=(5, 6))
    c.ok(os.setxattr, descriptor, "user.late", b"x")
    c.value(os.getxattr, descriptor, "user.late")
    c.stat(descriptor)
    c.ok(os.stat, f"/proc/self/fd/{descriptor}")
    again = c.ok(os.open, f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    if again is not None:
        c.value(os.read, again, 100)
        os.close(again)
    c.file("f", data=b"another")
    c.value(os.pread, descriptor, 100, 0)
    c.read("f")
    os.close(descriptor)
    c.names()


@case
def unlinked_open_file_does_not_keep_its_directory(c):
    os.mkdir("d")
    descriptor = os.open("d/f", os.O_CREAT | os.O_RDWR)
    os.unlink("d/f")
    c.ok(os.rmdir, "d")
    c.value(os.write, descriptor, b"homeless")
    c.value(os.pread, descriptor, 10, 0)
    c.names()


@case
def unlink_and_create_again_is_a_new_file(c):
    c.file(data=b"old")
    old = os.open("f", os.O_RDONLY)
    os.unlink("f")
    c.file(data=b"new contents", mode=0o600)
    c.read("f")
    c.value(os.pread, old, 100, 0)
    c.stat("f")
    c.stat(old)
    c.note("other inode", os.fstat(old).st_ino != os.stat("f").st_ino)


@case
def unlink_times(c):
    os.mkdir("d")
    c.file("d/f")
    os.link("d/f", "keep")
    c.changes(["d", "keep"], os.unlink, "d/f")
    os.mkdir("d/sub")
    c.changes("d", os.rmdir, "d/sub")


@case
def rmdir_of_the_working_directory(c):
    os.mkdir("d")
    os.chdir("d")
    c.ok(os.rmdir, ".")
    c.ok(os.rmdir, "../d")
    c.ok(os.getcwd)
    c.value(os.listdir, ".")
    c.ok(os.open, "f", os.O_CREAT | os.O_WRONLY)
    c.ok(os.mkdir, "x")
    c.ok(os.symlink, "x", "l")
    c.ok(os.stat, ".")
    c.ok(os.stat, "f")
    c.ok(os.chmod, ".", 0o700)


@case
def rmdir_of_an_open_directory(c):
    os.mkdir("d")
    descriptor = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
    c.ok(os.rmdir, "d")
    c.value(lambda: os.listdir(descriptor))
    c.ok(os.fstat, descriptor)
    c.ok(os.open, "new", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
    c.ok(os.mkdir, "d")
    c.ok(os.open, "new", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor)
    c.names("d")


@case
def rmdir_special_names(c):
    os.makedirs("a/b")
    for path in ("a/b/.", "a/b/..", ".", "..", "a", "a/b/", "a/b"):
        c.ok(os.rmdir, path)
    c.names("a")


@case
def sticky_directory_removal(c):
    os.mkdir("s")
    os.chmod("s", 0o1777)
    for name, uid in (("alice", 1001), ("bob", 1002), ("root", 0)):
        c.file("s/" + name, mode=0o666)
        os.chown("s/" + name, uid, uid)
        os.mkdir("s/d-" + name)
        os.chown("s/d-" + name, uid, uid)
    os.mkdir("owned")
    os.chown("owned", 1002, 1002)
    os.chmod("owned", 0o1777)
    c.file("owned/f")
    for user in (ALICE, BOB):
        @c.by(user)
        def _():
            for name in ("alice", "bob", "root"):
                c.ok(os.unlink, "s/" + name)
                c.ok(os.rmdir, "s/d-" + name)
            c.ok(os.unlink, "owned/f")


@case
def mknod_by_an_ordinary_user(c):
    os.chmod(".", 0o777)

    @c.by(NOBODY)
    def _():
        c.ok(os.mknod, "chr", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        c.ok(os.mknod, "blk", stat.S_IFBLK | 0o600, os.makedev(7, 0))
        c.ok(os.mknod, "zero", stat.S_IFCHR | 0o600, 0)
        c.ok(os.mknod, "fifo", stat.S_IFIFO | 0o640)
        c.ok(os.mknod, "sock", stat.S_IFSOCK | 0o640)
        c.ok(os.mknod, "file", stat.S_IFREG | 0o640)
        for name in sorted(os.listdir(".")):
            c.stat(name)


@cases("device", {f"{ma}-{mi}": (ma, mi) for ma, mi in ((0, 0), (1, 3), (8, 255), (8, 256), (259, 70000), (4095, 1048575))})
def _device(c, numbers):
    c.ok(os.mknod, "c", stat.S_IFCHR | 0o600, os.makedev(*numbers))
    c.stat("c")
    c.ok(os.mknod, "b", stat.S_IFBLK | 0o600, os.makedev(*numbers))
    c.stat("b")


@case
def create_times_of_the_parent(c):
    os.mkdir("d")
    c.changes("d", os.mkdir, "d/a")
    c.changes("d", os.mkfifo, "d/b")
    c.changes("d", os.symlink, "x", "d/c")
    c.changes("d", c.file, "d/e")
    c.changes("d", c.file, "d/e")  # exists already: nothing changes
    c.changes("d", os.mkdir, "d/a")
    c.changes("d", os.unlink, "d/missing")
    c.changes("d", os.chmod, "d/e", 0o600)


@case
def new_objects_have_the_time_of_now(c):
    import time
    before = time.time_ns() - 50_000_000
    c.file("f")
    os.mkdir("d")
    os.symlink("x", "l")
    os.mkfifo("p")
    after = time.time_ns() + 50_000_000
    for name in "fdlp":
        found = os.lstat(name)
        c.note(name, [before <= t <= after for t in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)])


@case
def dot_and_dot_dot(c):
    os.makedirs("a/b")
    c.note(".", os.stat("a/b/.").st_ino == os.stat("a/b").st_ino)
    c.note("..", os.stat("a/b/..").st_ino == os.stat("a").st_ino)
    c.note("../..", os.stat("a/b/../..").st_ino == os.stat(".").st_ino)
    for path in ("a/.", "a/b/..", "a//b", "./a/./b", "a/b/../../a"):
        c.ok(os.stat, path)
        c.ok(os.mkdir, path)


@case
def directory_link_counts(c):
    os.mkdir("d")
    c.note("empty", os.stat("d").st_nlink)
    for number in range(3):
        os.mkdir(f"d/{number}")
    c.file("d/f")
    c.note("three", os.stat("d").st_nlink)
    os.rmdir("d/1")
    os.rename("d/2", "e")
    c.note("one", os.stat("d").st_nlink)


@case
def the_private_directory_name_is_free_below_the_top(c):
    c.ok(os.mkdir, ".rainfs")
    c.stat(".rainfs")
    c.ok(os.mkdir, ".rainfs/ledger")
    c.file(".rainfs/export.yaml", data=b"mine")
    c.read(".rainfs/export.yaml")
    c.names()
    c.names(".rainfs")


@case
def inode_numbers_are_stable_and_distinct(c):
    names = [f"n{i}" for i in range(100)]
    for name in names:
        c.file(name)
    first = [os.stat(n).st_ino for n in names]
    c.note("distinct", len(set(first)))
    for name in names[::2]:
        os.chmod(name, 0o600)
        with open(name, "ab") as out:
            out.write(b"x")
    c.note("stable", [os.stat(n).st_ino for n in names] == first)
    descriptor = os.open("n7", os.O_RDONLY)
    c.note("fstat", os.fstat(descriptor).st_ino == first[7])
    c.note("device", len({os.stat(n).st_dev for n in names + ["."]}))
