#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Real programs at work in a directory.

    programs.py DIR [--only NAME]... [--after COMMAND] [--list] [--keep]

Each program is a test of its own in a subdirectory of its own: it must succeed, and what it left must be
what it should be. --after runs a shell command after each, before its files are removed: the checker of the
replicas, for instance. Exit status: 0 all passed, 1 something failed. A program that is not installed is a
failure, not a skip: scripts/setup installs them all.
"""

import argparse
import filecmp
import glob
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
STEP_SECONDS = 900  # so that a hang ends

_tests = {}


def test(function):
    _tests[function.__name__.replace("_", "-")] = function
    return function


class Failed(Exception):
    pass


def expect(condition, what):
    if not condition:
        raise Failed(what)


def run(*command, cwd=None, env=None, shell=False):
    """A step that must succeed; gives its output."""
    result = subprocess.run(command[0] if shell else [os.fspath(c) for c in command], cwd=cwd, shell=shell,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            errors="backslashreplace", timeout=STEP_SECONDS, env={**os.environ, **(env or {})})
    if result.returncode:
        words = command[0] if shell else " ".join(map(str, command))
        raise Failed(f"{words}: exit {result.returncode}\n{result.stdout[-3000:]}")
    return result.stdout


def manifest(top):
    """What matters of a tree, name by name: type, mode, owner, size, time, target, which names are one file."""
    found, groups = {}, {}
    for folder, folders, files in os.walk(os.fsencode(top)):
        for name in folders + files:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, os.fsencode(top))
            seen = os.lstat(path)
            entry = [stat.filemode(seen.st_mode), seen.st_uid, seen.st_gid]
            if not stat.S_ISDIR(seen.st_mode):
                entry += [seen.st_size, seen.st_mtime_ns]
                groups.setdefault(seen.st_ino, []).append(relative)
            if stat.S_ISLNK(seen.st_mode):
                entry.append(os.readlink(path))
            entry.append(sorted((n, os.getxattr(path, n, follow_symlinks=False))
                                for n in os.listxattr(path, follow_symlinks=False) if not n.startswith("security.")))
            found[relative] = entry
    linked = sorted(sorted(group) for group in groups.values() if len(group) > 1)
    return found, linked


def expect_same_tree(left, right):
    one, two = manifest(left), manifest(right)
    names = [n for n in sorted(one[0].keys() | two[0].keys()) if one[0].get(n) != two[0].get(n)]
    expect(not names, f"{len(names)} names differ, the first: " + "; ".join(
        f"{n!r}: {one[0].get(n)} / {two[0].get(n)}" for n in names[:3]))
    expect(one[1] == two[1], "the hard links differ")
    for name in one[0]:
        path = os.path.join(os.fsencode(left), name)
        if stat.S_ISREG(os.lstat(path).st_mode):
            expect(filecmp.cmp(path, os.path.join(os.fsencode(right), name), shallow=False), f"{name!r} differs")
    filecmp.clear_cache()


def make_rich_tree(top):
    """A small tree with everything archives carry."""
    os.makedirs(os.path.join(top, "deep", "er"))
    source = random.Random(17)
    for number in range(40):
        path = os.path.join(top, "deep", f"file-{number:02d}")
        with open(path, "wb") as out:
            out.write(source.randbytes(source.choice((0, 1, 100, 5000, 300000))))
        os.chmod(path, source.choice((0o644, 0o600, 0o755, 0o4755, 0o2755)))
        os.chown(path, source.choice((0, 1001, 65534)), source.choice((0, 1001, 2001)))
        os.chmod(path, stat.S_IMODE(os.stat(path).st_mode))
    for number in range(5):
        os.link(os.path.join(top, "deep", f"file-{number:02d}"), os.path.join(top, "deep", "er", f"link-{number}"))
        os.link(os.path.join(top, "deep", f"file-{number:02d}"), os.path.join(top, f"again-{number}"))
    os.symlink("deep/file-00", os.path.join(top, "symlink"))
    os.symlink("/nowhere/at/all", os.path.join(top, "dangling"))
    os.mkfifo(os.path.join(top, "fifo"))
    os.mknod(os.path.join(top, "device"), stat.S_IFCHR | 0o640, os.makedev(1, 3))
    with open(os.path.join(os.fsencode(top), b"bytes-\xff\xfe"), "wb") as out:
        out.write(b"a name that is no text")
    with open(os.path.join(top, "sparse"), "wb") as out:
        out.truncate(20 << 20)
        out.seek(10 << 20)
        out.write(b"island")
    os.setxattr(os.path.join(top, "deep", "file-07"), "user.comment", b"\x00binary\xff")
    os.setxattr(os.path.join(top, "deep"), "user.comment", b"of a directory")
    run("setfacl", "-m", "u:1001:rw,g:2001:r", os.path.join(top, "deep", "file-08"))
    run("setfacl", "-d", "-m", "u:1001:rwx", os.path.join(top, "deep", "er"))
    for folder, folders, files in os.walk(os.fsencode(top), topdown=False):
        for name in folders + files:
            when = source.randrange(10**9) * 10**9 + source.randrange(10**9)
            os.utime(os.path.join(folder, name), ns=(when, when), follow_symlinks=False)


def bare_directory():
    return tempfile.TemporaryDirectory(prefix="rainfs-programs-", dir=os.environ.get("RAINFS_TEST_DIR", "/var/tmp"))


# ---- copying and archiving ------------------------------------------------------------------------------

@test
def cp(place):
    for source in ("/usr/include/linux", "/usr/include/c++"):
        run("cp", "-a", source, place)
        expect_same_tree(source, os.path.join(place, os.path.basename(source)))
    run("cp", "-a", "linux", "copy", cwd=place)
    expect_same_tree(os.path.join(place, "linux"), os.path.join(place, "copy"))
    run("rm", "-r", "copy", cwd=place)
    with bare_directory() as bare:
        make_rich_tree(os.path.join(bare, "rich"))
        run("cp", "-a", os.path.join(bare, "rich"), place)
        expect_same_tree(os.path.join(bare, "rich"), os.path.join(place, "rich"))


@test
def tar(place):
    with bare_directory() as bare:
        make_rich_tree(os.path.join(bare, "rich"))
        options = ["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "--format=posix", "--sparse"]
        run("tar", *options, "-C", bare, "-cf", os.path.join(place, "rich.tar"), "rich")
        run("tar", *options, "-C", place, "-xpf", os.path.join(place, "rich.tar"))
        expect_same_tree(os.path.join(bare, "rich"), os.path.join(place, "rich"))
        run("tar", *options, "-C", place, "-cf", os.path.join(place, "again.tar"), "rich")
        run("tar", *options, "-C", place, "--compare", "-f", os.path.join(place, "again.tar"))
        os.mkdir(os.path.join(bare, "back"))
        run("tar", *options, "-C", os.path.join(bare, "back"), "-xpf", os.path.join(place, "again.tar"))
        expect_same_tree(os.path.join(bare, "rich"), os.path.join(bare, "back", "rich"))


@test
def rsync(place):
    with bare_directory() as bare:
        source, target = os.path.join(bare, "rich"), os.path.join(place, "rich")
        make_rich_tree(source)
        command = ["rsync", "-aHAX", "--numeric-ids", "--delete", "--devices", "--specials", source + "/", target + "/"]
        run(*command)
        expect_same_tree(source, target)
        expect(run(*command, "-i").strip() == "", "a second run finds something to do")
        with open(os.path.join(source, "deep", "file-20"), "ab") as out:
            out.write(b"grown")
        os.unlink(os.path.join(source, "deep", "file-21"))
        os.rename(os.path.join(source, "deep", "file-22"), os.path.join(source, "renamed"))
        run(*command)
        expect_same_tree(source, target)
        run(*command, "--checksum", "--inplace")
        expect_same_tree(source, target)
        run("rsync", "-aHAX", "--numeric-ids", target + "/", os.path.join(bare, "back") + "/")
        expect_same_tree(source, os.path.join(bare, "back"))


# ---- version control, data base, compiler ---------------------------------------------------------------

@test
def git(place):
    home = {"HOME": place, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@localhost",
            "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@localhost"}
    repository, clone = os.path.join(place, "repository"), os.path.join(place, "clone")

    def g(*command, cwd=repository):
        return run("git", *command, cwd=cwd, env=home)
    g("init", "-q", "-b", "main", repository, cwd=place)
    for name in ("linux", "net"):
        run("cp", "-r", os.path.join("/usr/include", name), repository)
    g("add", "-A")
    g("commit", "-q", "-m", "first")
    for number in range(20):
        with open(os.path.join(repository, f"file-{number % 5}"), "a", encoding="ascii") as out:
            out.write(f"line {number}\n" * 50)
        g("add", "-A")
        g("commit", "-q", "-m", f"change {number}")
    g("clone", "-q", repository, clone, cwd=place)
    g("checkout", "-q", "-b", "topic", "HEAD~5", cwd=clone)
    g("mv", "file-0", "moved", cwd=clone)
    g("commit", "-q", "-m", "topic", cwd=clone)
    g("merge", "-q", "--no-edit", "main", cwd=clone)
    g("push", "-q", "origin", "topic", cwd=clone)
    g("merge", "-q", "--no-edit", "topic")
    for folder in (repository, clone):
        g("gc", "-q", "--aggressive", "--prune=now", cwd=folder)
        expect(g("fsck", "--full", "--strict", cwd=folder).strip() == "", "fsck has something to say")
        expect(g("status", "--porcelain", cwd=folder).strip() == "", "the work tree is not clean")
    g("worktree", "add", "-q", os.path.join(place, "worktree"), "topic", cwd=repository)
    expect(len(g("log", "--oneline").splitlines()) >= 22, "commits are missing")


WRITER = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1], timeout=60)
base.execute("PRAGMA journal_mode=" + sys.argv[2])
base.execute("PRAGMA synchronous=FULL")
base.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, half INTEGER, text TEXT)")
number = base.execute("SELECT COALESCE(MAX(half), -1) FROM t").fetchone()[0] + 1
while True:
    with base:  # two rows or none
        base.execute("INSERT INTO t (half, text) VALUES (?, ?)", (number, "x" * (number * 37 % 5000)))
        base.execute("INSERT INTO t (half, text) VALUES (?, ?)", (number, "y" * 100))
        if number % 7 == 0:
            base.execute("DELETE FROM t WHERE half = ?", (number // 2,))
    print(number, flush=True)
    number += 1
"""


@test
def sqlite(place):
    for journal in ("DELETE", "TRUNCATE", "PERSIST"):
        base = os.path.join(place, journal + ".db")
        acknowledged = -1
        for _ in range(4):
            writer = subprocess.Popen([sys.executable, "-c", WRITER, base, journal], stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True)
            for line in writer.stdout:  # a number of commits, not a time: then it dies in the middle
                expect(line.strip().isdigit(), f"the writer says: {line}")
                acknowledged = int(line)
                if acknowledged % 25 == 24:
                    writer.send_signal(signal.SIGKILL)
            writer.wait()
            expect(run("sqlite3", base, "PRAGMA integrity_check;").strip() == "ok", f"{journal}: integrity_check")
            with sqlite3.connect(base) as reader:
                halves = reader.execute("SELECT half, COUNT(*) FROM t GROUP BY half").fetchall()
            reader.close()
            expect(all(count == 2 for _, count in halves), f"{journal}: half a transaction")
            expect(max(h for h, _ in halves) >= acknowledged, f"{journal}: an acknowledged commit is lost")
    two_writers(os.path.join(place, "two.db"))


def two_writers(base):
    """Two processes on one data base exclude each other by fcntl locks."""
    code = ("import sqlite3,sys\nb=sqlite3.connect(sys.argv[1],timeout=120)\n"
            "b.execute('CREATE TABLE IF NOT EXISTS c (n INTEGER)')\nb.isolation_level=None\n"
            "for _ in range(60):\n b.execute('BEGIN IMMEDIATE')\n"
            " n=b.execute('SELECT COUNT(*) FROM c').fetchone()[0]\n b.execute('INSERT INTO c VALUES (?)',(n,))\n b.execute('COMMIT')\n")
    writers = [subprocess.Popen([sys.executable, "-c", code, base]) for _ in range(2)]
    expect([w.wait(STEP_SECONDS) for w in writers] == [0, 0], "a writer failed")
    with sqlite3.connect(base) as reader:
        numbers = [n for n, in reader.execute("SELECT n FROM c ORDER BY n")]
    reader.close()
    expect(numbers == list(range(120)), "two transactions saw the same state")


@test
def compiling(place):
    source = os.path.join(place, "source")
    os.mkdir(source)
    files = {"main.cpp": "#include <cstdio>\n#include \"parts.hpp\"\nint main() { std::printf(\"%d\\n\", total()); }\n",
             "parts.hpp": "#pragma once\nint total();\n" + "".join(f"int part_{n}();\n" for n in range(8)),
             "total.cpp": "#include \"parts.hpp\"\nint total() { return "
                          + " + ".join(f"part_{n}()" for n in range(8)) + "; }\n"}
    for number in range(8):
        files[f"part_{number}.cpp"] = ("#include <map>\n#include <string>\n#include \"parts.hpp\"\n"
                                       f"int part_{number}() {{ std::map<std::string, int> m{{{{\"a\", {number}}}}}; return m[\"a\"]; }}\n")
    sources = sorted(n for n in files if n.endswith("cpp"))
    files["Makefile"] = ("objects = " + " ".join(n[:-3] + "o" for n in sources) + "\nprogram: libparts.a main.o\n\tg++ -o $@ main.o libparts.a\n"
                         "libparts.a: $(filter-out main.o,$(objects))\n\tar rcs $@ $^\n%.o: %.cpp parts.hpp\n\tg++ -g -O1 -MMD -c -o $@ $<\n")
    files["meson.build"] = "project('small', 'cpp')\nexecutable('program', " + ", ".join(f"'{n}'" for n in sources) + ")\n"
    for name, text in files.items():
        with open(os.path.join(source, name), "w", encoding="ascii") as out:
            out.write(text)
    run("make", "-j2", "program", cwd=source)
    expect(run("./program", cwd=source).strip() == "28", "the program says something else")
    expect("up to date" in run("make", "program", cwd=source), "make wants to build again")
    os.utime(os.path.join(source, "part_3.cpp"), ns=(time.time_ns() + 10**10,) * 2)
    expect("part_3.o" in run("make", "program", cwd=source), "make does not see a newer source")
    os.utime(os.path.join(source, "part_3.cpp"))
    run("meson", "setup", "build", cwd=source)
    run("ninja", "-C", "build", "-j2", cwd=source)
    expect(run("build/program", cwd=source).strip() == "28", "the program says something else")
    expect("no work to do" in run("ninja", "-C", "build", cwd=source), "ninja wants to build again")


# ---- verified random I/O, parallel jobs -----------------------------------------------------------------

FIO = {
    "sequential": "--rw=write --bs=128k --size=24m --ioengine=psync",
    "sequential-direct": "--rw=write --bs=128k --size=24m --ioengine=psync --direct=1",
    "random": "--rw=randwrite --bsrange=1k-64k --size=16m --ioengine=psync --numjobs=3",
    "random-direct": "--rw=randwrite --bs=4k --size=8m --ioengine=libaio --iodepth=16 --direct=1 --numjobs=2",
    "libaio": "--rw=randwrite --bs=16k --size=16m --ioengine=libaio --iodepth=8 --numjobs=2",
    "mmap": "--rw=randwrite --bs=4k --size=8m --ioengine=mmap --numjobs=2",
    "mixed": "--rw=randrw --bs=8k --size=16m --ioengine=psync --numjobs=3 --fsync=64",
    "trimming": "--rw=randwrite --bs=4k --size=8m --ioengine=psync --fallocate=native --end_fsync=1",
}


@test
def fio(place):
    for name, options in FIO.items():
        run("fio", "--name=" + name, "--directory=" + place, "--verify=crc32c", "--verify_fatal=1", "--do_verify=1",
            "--group_reporting", "--randrepeat=1", "--allrandrepeat=1", "--minimal", *options.split(), cwd=place)


@test
def mpi_io(place):
    with bare_directory() as bare:
        binary = os.path.join(bare, "mpi_io")
        run("mpicc", "-O1", "-o", binary, os.path.join(HERE, "mpi_io.c"))
        environment = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1",
                       "OMPI_MCA_plm_rsh_agent": "false", "TMPDIR": bare, "OMPI_MCA_btl": "self,vader", "OMPI_MCA_btl_vader_single_copy_mechanism": "none"}
        for name, component in (("ompio", "ompio"), ("romio", "^ompio")):  # both MPI-IO of Open MPI
            shared = os.path.join(place, "shared-" + name)
            output = run("mpirun", "-n", "4", "--oversubscribe", "--allow-run-as-root", "--mca", "io", component, "--mca",
                         "hwloc_base_binding_policy", "none", binary, shared, env=environment)
            expect("all 4 ranks read what was written" in output, output)
            expect_shared_file(shared)


def expect_shared_file(path, block=65536, rounds=8, ranks=4):
    """What a plain program finds in the file that the ranks wrote."""
    with open(path, "rb") as data:
        contents = data.read()
    expect(len(contents) == 2 * block * rounds * ranks, f"the file has {len(contents)} bytes")
    for index in range(2 * rounds * ranks):
        part = contents[index * block:(index + 1) * block]
        expect(part == bytes([(index * 7 + 1) % 251]) * block, f"block {index} is not what its rank wrote")


# ---- some more that file systems trip over --------------------------------------------------------------

@test
def package_tools(place):
    """gzip, sed -i, patch, find, sort: small programs that rename, append and map."""
    run("cp /usr/include/*.h . && gzip -k *.h && for f in *.gz; do zcat $f | cmp - ${f%.gz} || exit 1; done", shell=True, cwd=place)
    run("sed -i s/int/INT/g *.h && ! grep -q '[^A-Za-z_]int[^A-Za-z_]' stdio.h", shell=True, cwd=place)
    run("cp -r . ../patched-$$ && cd ../patched-$$ && sed -i s/INT/Int/ stdio.h && cd - && "
        "{ diff -u stdio.h ../patched-$$/stdio.h > p; patch -s stdio.h < p; cmp stdio.h ../patched-$$/stdio.h; s=$?; rm -r ../patched-$$; exit $s; }",
        shell=True, cwd=place)
    run("sort -R -S 1M -T . --parallel=2 *.h > sorted && sort -c -u /dev/null && test -s sorted", shell=True, cwd=place)
    expect(int(run("find . -name '*.h' -newermt 2000-01-01 -size -1000k -printf x | wc -c", shell=True, cwd=place)) > 50, "find")


def clean(path):
    for _ in range(3):
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.exists(path):
            return
    raise Failed(f"{path} cannot be removed: {glob.glob(path + '/**', recursive=True)[:5]}")


def run_test(name, options):
    place = os.path.join(options.directory, f"programs-{name}-{os.getpid()}")
    started = time.monotonic()
    try:
        os.mkdir(place)
        _tests[name](place)
        if options.after:
            run(options.after, shell=True)
        if not options.keep:
            clean(place)
    except (Failed, OSError, subprocess.SubprocessError, sqlite3.Error) as error:
        print(f"{name}: FAILED: {error}", flush=True)
        if not options.keep:
            shutil.rmtree(place, ignore_errors=True)
        return False
    print(f"{name}: passed in {time.monotonic() - started:.1f} s", flush=True)
    return True


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("directory", nargs="?")
    parser.add_argument("--only", action="append", choices=sorted(_tests), metavar="NAME")
    parser.add_argument("--after", metavar="COMMAND")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--keep", action="store_true", help="leave the files of each test in place")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(_tests))
        return 0
    if not options.directory:
        parser.error("a directory is needed")
    options.directory = os.path.abspath(options.directory)
    outcomes = [run_test(name, options) for name in options.only or _tests]
    print(f"{len(outcomes)} programs, {outcomes.count(False)} failed")
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
