#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""rainfsctl create: what it makes, what it refuses, and that it never leaves anything half made.

usage: create_test.py RAINFSCTL
Needs root: it makes small file systems in a mount namespace of its own, which is gone when it ends.
"""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from promises import check, failures  # noqa: E402

PROGRAM = os.path.abspath(sys.argv[1])


def run(*arguments):
    done = subprocess.run([PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    done.all = f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done


class World:
    """A directory with a file of an array and exports a, b and c in three racks."""

    def __init__(self, base, name):
        self.path = base / name
        self.path.mkdir()
        self.exports = {}
        for export in "abc":
            self.exports[export] = self.path / ("nas-" + export)
            self.exports[export].mkdir()
        self.file = self.path / "array.yaml"
        self.write()

    def write(self, replicas=2, extra="", paths=None, racks=None, array="scratch"):
        paths = paths or self.exports
        lines = [f"array: {array}", f"replicas: {replicas}", "racks:"]
        self.lines = {}
        for export, path in paths.items():
            rack = (racks or {}).get(export, "rack-" + export)
            lines.append(f"  - {{ name: {rack}, exports: [ {{ name: nas-{export}, path: {path} }} ] }}")
            self.lines[export] = len(lines)
        self.file.write_text("\n".join(lines) + "\n" + extra)

    def create(self):
        return run("create", self.file)

    def untouched(self):
        return all(not (path / ".rainfs").exists() for path in self.exports.values() if path.is_dir())

    def snapshot(self):
        """Everything below the exports but access times."""
        out = {}
        for path in self.exports.values():
            for item in [path, *sorted(path.rglob("*"))]:
                st = item.lstat()
                content = hashlib.sha256(item.read_bytes()).hexdigest() if item.is_file() else ""
                out[str(item)] = (st.st_mode, st.st_uid, st.st_ino, st.st_size, st.st_mtime_ns, content)
        return out


def refused(world, export, words, promise):
    """create fails, names file and line of the export, says these words, and has written nothing."""
    before = world.snapshot()
    done = world.create()
    place = f"{world.file}:{world.lines[export]}: " if export else str(world.file)
    good = done.returncode == 1 and place in done.stderr and all(word in done.stderr for word in words)
    check(good and world.snapshot() == before, promise, done.all)


def test_usage(base):
    for arguments, promise in [([], "no command"), (["conjure"], "an unknown command"), (["--fast"], "an unknown option"),
                               (["create"], "create without a file"), (["create", "a", "b"], "create with two files"),
                               (["create", "--fast", "a"], "create with an unknown option"), (["where"], "where without a path")]:
        done = run(*arguments)
        check(done.returncode == 2 and done.stderr.startswith("rainfsctl") and done.stderr.count("\n") == 1 and not done.stdout,
              promise + " is wrong usage: status 2 and one line", done.all)
    for arguments in [["--help"], ["create", "--help"], ["where", "-h"]]:
        done = run(*arguments)
        check(done.returncode == 0 and done.stdout.startswith("usage: rainfsctl") and not done.stderr,
              "help is printed for " + " ".join(arguments), done.all)
    done = run("--version")
    check(done.returncode == 0 and done.stdout.startswith("rainfsctl 0."), "the version is printed", done.all)
    done = run("create", base / "nothing.yaml")
    check(done.returncode == 1 and "nothing.yaml" in done.stderr, "a file that is not there is told", done.all)
    with open("/dev/full", "w") as full:
        done = subprocess.run([PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, text=True)
    check(done.returncode == 1 and "written" in done.stderr, "output that cannot be written is a failure")


def test_create(base):
    world = World(base, "plain")
    kept = world.exports["b"] / "projects" / "data"
    kept.parent.mkdir()
    kept.write_bytes(b"older than the array")
    os.utime(kept, ns=(1, 1))
    done = world.create()
    check(done.returncode == 0 and "nas-a" in done.stdout and "rack-c" in done.stdout, "an array is made and its exports are shown", done.all)
    check(kept.read_bytes() == b"older than the array" and kept.stat().st_mtime_ns == 1, "files that lay there stay as they are")
    topologies = {(path / ".rainfs/array.yaml").read_bytes() for path in world.exports.values()}
    check(len(topologies) == 1, "array.yaml is the same on all exports")
    for export, path in world.exports.items():
        meta = path / ".rainfs"
        check(meta.stat().st_mode & 0o7777 == 0o700, f".rainfs of {export} is for root only")
        names = sorted(item.name for item in meta.iterdir())
        check(names == ["array.yaml", "conflicts", "export.yaml", "ledger", "scrub", "tmp", "trash"],
              f".rainfs of {export} has what it needs and nothing else", names)
        check(not list((meta / "tmp").iterdir()), f"nothing temporary stays on {export}")
        text = (meta / "export.yaml").read_text()
        check(f'export: "nas-{export}"' in text and f'rack: "rack-{export}"' in text, f"export.yaml of {export} says which it is", text)
    before = world.snapshot()
    done = world.create()
    check(done.returncode == 0 and "nothing was changed" in done.stdout, "a second run says that all is as it was", done.all)
    check(world.snapshot() == before, "a second run changes nothing, to the byte")
    return world


def test_changed(base):
    world = World(base, "changed")
    world.create()
    extra = world.path / "nas-d"
    extra.mkdir()
    refused_words = ["exists already", "rainfsctl add", "rainfsctl retire"]
    before = world.snapshot()
    for change, words, promise in [
            (dict(replicas=3), ["replicas is 3, in the array 2"], "another number of replicas"),
            (dict(paths={**world.exports, "d": extra}), ["export nas-d is not in the array"], "an export more"),
            (dict(paths={k: world.exports[k] for k in "ab"}), ["export nas-c of the array is not listed"], "an export less"),
            (dict(racks={"a": "rack-x"}), ["export nas-a is in rack rack-x, in the array in rack-a"], "another rack"),
            (dict(extra="policies: [ { path: /tmp, replicas: 1 } ]\n"), ["policy /tmp is not in the array"], "a new policy"),
            (dict(extra="reserve: 7%\n"), ["reserve is 7%, in the array 5%"], "another reserve")]:
        world.write(**change)
        done = world.create()
        check(done.returncode == 1 and all(word in done.stderr for word in refused_words + words) and world.snapshot() == before
              and not (extra / ".rainfs").exists(), promise + " in the file is told and does not rewrite the array", done.all)
    world.write(extra="deadlines: { data: 30s }\nreads: managed\n")
    check(world.create().returncode == 0, "what only nodes use may change in the file")
    world.write()
    hidden = world.exports["b"] / "hidden"
    (world.exports["b"] / ".rainfs").rename(hidden)
    refused(world, "b", ["is part of the array scratch", "mount the NAS"], "the bare mount point of an export is never made a new one")
    hidden.rename(world.exports["b"] / ".rainfs")
    swapped = {"a": world.exports["b"], "b": world.exports["a"], "c": world.exports["c"]}
    world.write(paths=swapped)
    refused(world, "a", ["holds the export nas-b"], "exports under each other's path are told")
    world.write()
    good = (world.exports["a"] / ".rainfs/array.yaml").read_bytes()
    (world.exports["a"] / ".rainfs/array.yaml").write_bytes(good[:-9])
    done = world.create()
    check(done.returncode == 0 and "damaged" in done.stderr, "a damaged copy of array.yaml is told and another is used", done.all)
    (world.exports["a"] / ".rainfs/array.yaml").write_bytes(good)
    (world.exports["a"] / ".rainfs/export.yaml").write_text("hello\n")
    refused(world, "a", [".rainfs/export.yaml:1:"], "a damaged export.yaml is told")


def test_refusals(base):
    world = World(base, "refusals")
    a, b, c = (world.exports[k] for k in "abc")

    def with_paths(**paths):
        world.write(paths={**world.exports, **paths})

    world.write(replicas=4)
    done = world.create()
    check(done.returncode == 1 and f"{world.file}:2: " in done.stderr and "3 racks" in done.stderr and world.untouched(),
          "fewer racks than replicas are refused", done.all)
    world.write(extra="colour: red\nreserve: 5\n")
    done = world.create()
    check(done.returncode == 1 and f"{world.file}:7: unknown key 'colour'" in done.stderr and f"{world.file}:8: " in done.stderr,
          "errors of the file are told together, with their lines", done.all)
    with_paths(b=world.path / "missing")
    refused(world, "b", ["No such file", "mount the NAS"], "a path that is not there is refused")
    (world.path / "file").write_text("x")
    with_paths(b=world.path / "file")
    refused(world, "b", ["Not a directory"], "a path that is not a directory is refused")
    with_paths(b=a)
    refused(world, "b", ["the same path"], "the same path twice is refused")
    (world.path / "link").symlink_to(a)
    with_paths(b=world.path / "link")
    refused(world, "b", ["the same directory"], "the same directory through a symbolic link is refused")
    bind = world.path / "bind"
    bind.mkdir()
    subprocess.run(["mount", "--bind", a, bind], check=True)
    with_paths(b=bind)
    refused(world, "b", ["the same directory"], "the same directory through a bind mount is refused")
    subprocess.run(["umount", bind], check=True)
    inner = a / "inner"
    inner.mkdir()
    with_paths(b=inner)
    refused(world, "b", ["lies in", "nas-a"], "an export inside another is refused")
    with_paths(a=inner, b=a)
    refused(world, "a", ["lies in", "nas-b"], "so it is in the other order")
    subprocess.run(["mount", "--bind", inner, bind], check=True)
    with_paths(b=bind)
    refused(world, "b", ["lies in", "nas-a"], "an export inside another, seen through a bind mount, is refused")
    subprocess.run(["umount", bind], check=True)

    other = World(base, "other")
    other.write(array="other")
    other.create()
    with_paths(b=other.exports["b"])
    refused(world, "b", ["belongs to the array other"], "an export of another array is refused")
    namesake = World(base, "namesake")
    namesake.create()
    third = World(base, "third")
    third.create()
    namesake.write(paths={**namesake.exports, "c": third.exports["c"]})
    refused(namesake, "c", ["another array that is called scratch as well"], "an export of another array of the same name is refused")
    world.write()
    (b / ".rainfs").mkdir()
    (b / ".rainfs" / "ledger").mkdir()
    (b / ".rainfs" / "ledger" / "nas-a").mkdir()
    refused(world, "b", ["has content but no export.yaml"],
            "a .rainfs without identity but with content is refused")
    shutil.rmtree(b / ".rainfs")
    (b / ".rainfs").symlink_to(a)
    refused(world, "b", [".rainfs is not a directory"], "a .rainfs that is a symbolic link is not followed")
    (b / ".rainfs").unlink()
    (b / ".rainfs").write_text("x")
    refused(world, "b", [".rainfs is not a directory"], "a .rainfs that is a file is refused")
    (b / ".rainfs").unlink()
    (b / ".rainfs").mkdir()
    check(world.create().returncode == 0, "after all these refusals the array can be made")


def test_failing_exports(base):
    world = World(base, "failing")
    b = world.exports["b"]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,ro", "none", b], check=True)
    refused(world, "b", ["Read-only file system", "mount the export writable"], "a read-only export is refused, and the others are as before")
    subprocess.run(["umount", b], check=True)
    # Root, .rainfs, ...: creation fails after one more inode each time, wherever that is, and leaves nothing.
    done = None
    for inodes in range(2, 40):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=1m,nr_inodes={inodes}", "none", b], check=True)
        before = world.snapshot()
        done = world.create()
        clean = world.untouched() and {k: v[:4] for k, v in world.snapshot().items()} == {k: v[:4] for k, v in before.items()}
        failed = done.returncode != 0
        if failed:
            check(done.returncode == 1 and "No space left" in done.stderr and clean,
                  f"an export that is full after {inodes} inodes leaves nothing half made", done.all)
            subprocess.run(["umount", b], check=True)
        else:
            break
    check(done.returncode == 0 and inodes > 8, "with room for what is needed the array is made", done.all)
    subprocess.run(["umount", b], check=True)


def test_interrupted(base):
    model = World(base, "model")
    model.create()

    def half_made(name, steps):
        """An array whose creation died: `steps` says for each export what had been written."""
        world = World(base, "interrupted-" + name)
        for export, what in steps.items():
            meta = world.exports[export] / ".rainfs"
            meta.mkdir(mode=0o700)
            source = model.exports[export] / ".rainfs"
            if "marker" in what:
                (meta / "creating").write_text("scratch\n")
            if "directories" in what:
                for directory in ["ledger", "trash", "conflicts", "tmp", "scrub"]:
                    (meta / directory).mkdir()
                (meta / "tmp" / "create-0815").write_text("half a f")
            if "topology" in what:
                shutil.copy(source / "array.yaml", meta)
            if "identity" in what:
                shutil.copy(source / "export.yaml", meta)
        return world

    early = ["marker"]
    middle = ["marker", "directories", "topology"]
    late = middle + ["identity"]
    for name, steps in {"mkdir": {"a": []}, "marker": {"a": early}, "directories": {"a": early + ["directories"], "b": early},
                        "topology": {"a": middle, "b": middle, "c": early}, "identity": {"a": late, "b": middle, "c": middle},
                        "complete": {"a": late, "b": late, "c": late}}.items():
        world = half_made(name, steps)
        done = world.create()
        contents = {tuple(sorted(p.name for p in (path / ".rainfs").rglob("*"))) for path in world.exports.values()}
        check(done.returncode == 0 and len(contents) == 1 and "creating" not in str(contents) and "0815" not in str(contents),
              f"after an interruption at '{name}' the next run makes the array", done.all)
        check(world.create().stdout.count("nothing was changed") == 1, "... and the one after it finds it made")
    unmarked = ["directories", "topology", "identity"]
    world = half_made("last", {"a": unmarked, "b": late, "c": late})
    done = world.create()
    check(done.returncode == 0 and "made up for" in done.stdout, "an interruption in the last moment is made up for", done.all)
    check((world.exports["b"] / ".rainfs/export.yaml").read_bytes() == (model.exports["b"] / ".rainfs/export.yaml").read_bytes(),
          "... with the identities that were there")
    world = half_made("last-unmounted", {"a": unmarked, "b": late})
    shutil.rmtree(world.exports["c"] / ".rainfs", ignore_errors=True)
    refused(world, "c", ["mount the NAS"], "... but not where an export is not mounted")
    world = half_made("foreign", {"a": early})
    (world.exports["a"] / ".rainfs/creating").write_text("other\n")
    refused(world, "a", ["interrupted creation of the array other"], "what another array's creation left is refused")


def test_probes(base):
    world = World(base, "probes")
    image = world.path / "image"
    with open(image, "wb") as file:
        file.truncate(8 << 20)
    # Inodes of 128 bytes have no room for nanoseconds.
    subprocess.run(["mkfs.ext4", "-q", "-I", "128", image], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["mount", "-o", "loop", image, world.exports["b"]], check=True)
    try:
        done = world.create()
        texts = {k: (path / ".rainfs/export.yaml").read_text() for k, path in world.exports.items()}
        topology = (world.exports["a"] / ".rainfs/array.yaml").read_text()
        check(done.returncode == 0 and "time_granularity_ns: 1000000000\n" in texts["b"] and "time_granularity_ns: 1\n" in texts["a"],
              "the granularity of times is measured for each export", done.all)
        check("time_granularity_ns: 1000000000\n" in topology, "the array's times are as coarse as the coarsest")
        check("lost+found" in os.listdir(world.exports["b"]), "what a new file system holds stays")
        weights = [int(line.split()[1]) for line in topology.splitlines() if line.startswith("    weight: ")]
        check(weights[1] <= 8 and weights[0] > 100, "the weight of an export is its capacity", topology)
    finally:
        subprocess.run(["umount", world.exports["b"]], check=True)

    world = World(base, "gap")
    world.write(replicas=3)
    done = world.create()
    check(done.returncode == 0 and "witness" in done.stderr and "closes this gap" in done.stderr,
          "as many replicas as racks: the gap and the witness are told", done.all)
    check("share a file system" in done.stderr, "racks on one file system are told", done.all)
    world = World(base, "witnessed")
    witness = world.path / "witness"
    witness.mkdir()
    world.write(replicas=3, extra=f"witnesses: [ {{ name: w1, path: {witness} }} ]\n")
    done = world.create()
    check(done.returncode == 0 and "closes this gap" not in done.stderr and (witness / ".rainfs/export.yaml").exists(),
          "a witness is made and closes the gap", done.all)
    check(world.create().returncode == 0, "an array with a witness is found made")


def test_node_paths(base):
    world = World(base, "paths")
    elsewhere = world.path / "elsewhere"
    world.exports["b"].rename(elsewhere)
    node = world.path / "node.yaml"
    node.write_text(f"paths: {{ nas-b: {elsewhere} }}\n")
    done = run("create", "--node-config", node, world.file)
    check(done.returncode == 0 and (elsewhere / ".rainfs/export.yaml").exists(), "the node's own paths are used", done.all)
    check(f'path: "{world.exports["b"]}"' in (elsewhere / ".rainfs/array.yaml").read_text(), "... and the array's recorded")


def test_where(base):
    path = base / "lonely"
    path.write_text("x")
    done = run("where", path, base / "nothing")
    check(done.returncode == 1 and f"{path}: is not in a RainFS mount" in done.stderr and "nothing: No such file" in done.stderr,
          "where tells of paths that are in no RainFS mount", done.all)
    # The attribute as a daemon gives it; where does not mind who did.
    answer = "disagree\nnas-a rack-a good 4096 1700000000.123456789\nnas-b rack-b stale 17 1600000000.000000000\nnas-c rack-c absent - -\n"
    try:
        os.setxattr(path, "user.rainfs.replicas", answer.encode())
    except OSError as error:
        check(False, "the test's own directory takes extended attributes", error)
        return
    done = run("where", path)
    rows = [line.split() for line in done.stdout.splitlines()]
    check(done.returncode == 1 and rows[0] == [f"{path}:", "disagree"] and rows[2][:4] == ["nas-a", "rack-a", "good", "4096"]
          and rows[2][-1].endswith(".123456789") and rows[4] == ["nas-c", "rack-c", "absent", "-", "-"], "where shows each replica", done.all)
    os.setxattr(path, "user.rainfs.replicas", answer.replace("disagree", "agree").encode())
    check(run("where", path).returncode == 0, "where succeeds if all replicas agree")
    os.setxattr(path, "user.rainfs.replicas", b"well\n")
    check("not understood" in run("where", path).stderr, "where tells of an answer that it does not understand")


def main():
    if os.geteuid() != 0:
        print("create_test.py needs root")
        sys.exit(77)
    if "RAINFS_TEST_NAMESPACE" not in os.environ:
        os.environ["RAINFS_TEST_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    base = Path(tempfile.mkdtemp(prefix="rainfs-create-"))
    try:
        for test in [test_usage, test_create, test_changed, test_refusals, test_failing_exports, test_interrupted, test_probes,
                     test_node_paths, test_where]:
            print(f"--- {test.__name__}", flush=True)
            test(base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(f"{len(failures)} failed" if failures else "all passed")
    sys.exit(1 if failures else 0)


main()
