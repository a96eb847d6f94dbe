#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the same calls in two directories and compares what they answer.

    parity.py MOUNT BARE [--only PATTERN] [--list] [--verbose] [--known FILE]

Each case runs in a process of its own, in a fresh subdirectory, first in BARE (the reference), then in
MOUNT: results, errnos and attributes are written down and compared line by line. Times are compared by
what changed, except where a test sets them. Run it as root: many cases become an ordinary user on the way.

--known FILE lists differences that are meant: "CASE: reason" a line. One that no longer differs is an
error, so that the list stays true. Exit status: 0 nothing differs, 1 something does, 2 it could not run.
"""

import argparse
import errno
import fnmatch
import hashlib
import importlib
import os
import pickle
import select
import shutil
import signal
import stat
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "support")]

MODULES = ("opening", "namespace", "renaming", "listing", "attributes", "access_lists", "data", "mapping", "locking",
           "users")
CASE_SECONDS = 180  # a call that hangs must end the case, not the suite
PAST = 1_000_000_000_000_000_000  # 2001-09-09: what a call changes is newer
SETTLE = 0.012  # longer than a tick of the kernel's file clock

_cases = {}


class User:
    def __init__(self, uid, gid, groups=()):
        self.uid, self.gid, self.groups = uid, gid, list(groups)


NOBODY = User(65534, 65534)
ALICE = User(1001, 1001, [2001, 2002])
BOB = User(1002, 1002, [2001])


def case(function, name=None):
    """Registers a case under its function's name (as words joined by dashes)."""
    name = (name or function.__name__).replace("_", "-")
    if name in _cases:
        raise ValueError(f"two cases named {name}")
    _cases[name] = function
    return function


def cases(prefix, variants):
    """Registers one case per variant: the function is called with the variant after the recorder."""
    def register(function):
        for key, variant in (variants.items() if isinstance(variants, dict) else ((str(v), v) for v in variants)):
            case(lambda c, variant=variant: function(c, variant), f"{prefix}-{key}")
        return function
    return register


def kind_of(mode):
    return {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
            stat.S_IFSOCK: "socket", stat.S_IFCHR: "chr", stat.S_IFBLK: "blk"}[stat.S_IFMT(mode)]


class Recorder:
    """What a case is given: makes calls and writes down what they answered."""

    def __init__(self):
        self.log = []

    def note(self, label, value):
        self.log.append((label, repr(value)))

    def _call(self, keep, function, arguments, keywords):
        label = getattr(function, "__name__", "call")
        label += "".join(f" {_brief(a)}" for a in arguments if isinstance(a, (str, bytes)))
        try:
            result = function(*arguments, **keywords)
        except OSError as error:
            self.log.append((label, _errno(error)))
            return None
        self.log.append((label, _brief(result) if keep else "ok"))
        return result

    def ok(self, function, *arguments, **keywords):
        """Makes a call; only whether it worked, or its errno, is compared. Gives its result, or None."""
        return self._call(False, function, arguments, keywords)

    def value(self, function, *arguments, **keywords):
        """The same, with the result compared too."""
        return self._call(True, function, arguments, keywords)

    def stat(self, path, follow=False):
        """Type, mode, owner and what else a stat says that does not depend on the file system below."""
        label = f"stat {_brief(path)}"
        try:
            found = os.stat(path, follow_symlinks=follow) if not isinstance(path, int) else os.fstat(path)
        except OSError as error:
            self.log.append((label, _errno(error)))
            return None
        words = [kind_of(found.st_mode), oct(stat.S_IMODE(found.st_mode)), f"{found.st_uid}:{found.st_gid}"]
        if not stat.S_ISDIR(found.st_mode):
            words += [f"nlink={found.st_nlink}", f"size={found.st_size}"]
        if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
            words.append(f"rdev={os.major(found.st_rdev)},{os.minor(found.st_rdev)}")
        self.log.append((label, " ".join(words)))
        return found

    def changes(self, paths, function, *arguments, **keywords):
        """Makes a call and compares which times of which paths it changed."""
        paths = [paths] if isinstance(paths, (str, bytes)) else paths
        for path in paths:
            os.utime(path, ns=(PAST, PAST), follow_symlinks=False)
        before = {path: os.lstat(path) for path in paths}
        time.sleep(SETTLE)
        result = self.ok(function, *arguments, **keywords)
        for path in paths:
            try:
                after = os.lstat(path)
            except OSError as error:
                self.log.append((f"times {_brief(path)}", _errno(error)))
                continue
            changed = [n for n in ("atime", "mtime", "ctime")
                       if getattr(after, f"st_{n}_ns") != getattr(before[path], f"st_{n}_ns")]
            self.log.append((f"times {_brief(path)}", " ".join(changed) or "none"))
        return result

    def by(self, user):
        """Decorator: runs the function at once, in a child that really is that user."""
        def now(function):
            def as_user(recorder):
                self.log = recorder.log  # the case goes on using the name it has for its recorder
                _become(user)
                function()
            outcome = run_in_child(as_user, CASE_SECONDS)
            self.log += [(f"[uid {user.uid}] {label}", value) for label, value in outcome]
            return function
        return now

    # Shorthands for preparing things, which must work on both sides.
    def file(self, path="f", data=b"0123456789", mode=0o644):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, data)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        return path

    def read(self, path, label=None):
        """The whole of a file, compared."""
        def contents():
            with open(path, "rb") as data:
                return data.read()
        self.log.append((label or f"contents {_brief(path)}", _brief(_attempt(contents))))

    def names(self, path="."):
        self.log.append((f"names {_brief(path)}", _brief(sorted(os.listdir(os.fsencode(path))))))


def _attempt(function):
    try:
        return function()
    except OSError as error:
        return _errno(error)


def _errno(error):
    return errno.errorcode.get(error.errno, str(error.errno))


def _brief(value):
    text = value if isinstance(value, str) else repr(value)
    if len(text) > 160:
        text = f"{text[:60]}...({len(text)}, {hashlib.sha1(text.encode('utf-8', 'surrogateescape')).hexdigest()[:12]})"
    return text


def _become(user):
    os.setgroups(user.groups)
    os.setgid(user.gid)
    os.setuid(user.uid)


def run_in_child(function, seconds):
    """Runs a function with a recorder in a child process; gives its log, whatever becomes of the child."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        recorder = Recorder()
        try:
            function(recorder)
        except OSError as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            recorder.log.append(("unexpected", f"{_errno(error)} in {where.line}"))
        except BaseException:
            recorder.log.append(("unexpected", traceback.format_exc()))
        try:
            view = memoryview(pickle.dumps(recorder.log))
            while view:
                view = view[os.write(writing, view):]
        finally:
            os._exit(0)
    os.close(writing)
    data, end = b"", time.monotonic() + seconds
    while True:
        ready, _, _ = select.select([reading], [], [], max(0, end - time.monotonic()))
        if not ready:
            os.kill(pid, signal.SIGKILL)
            break
        chunk = os.read(reading, 1 << 16)
        if not chunk:
            break
        data += chunk
    os.close(reading)
    if time.monotonic() >= end:
        return [("unexpected", f"hangs for more than {seconds} s")]
    _, status = os.waitpid(pid, 0)
    try:
        log = pickle.loads(data)
    except (EOFError, pickle.UnpicklingError):
        log = []
    if status:
        log.append(("ended by", signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else status))
    return log


def remove_tree(path):
    shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        os.system(f"chmod -R u+rwx '{path}' 2>/dev/null; rm -rf '{path}'")


def run_side(name, function, top):
    place = os.path.join(top, name)
    os.mkdir(place, 0o777)
    os.chmod(place, 0o777)

    def inside(recorder):
        os.chdir(place)
        os.umask(0o022)
        function(recorder)
    log = run_in_child(inside, CASE_SECONDS)
    remove_tree(place)
    return log


def differences(mount, bare):
    lines = []
    for index in range(max(len(mount), len(bare))):
        left = mount[index] if index < len(mount) else ("(end)", "")
        right = bare[index] if index < len(bare) else ("(end)", "")
        if left != right:
            label = left[0] if left[0] == right[0] else f"{left[0]} / {right[0]}"
            lines.append(f"{label}: mount {left[1]}, bare {right[1]}")
    return lines


def read_known(path):
    known = {}
    if path:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                if line.strip() and not line.startswith("#"):
                    name, _, reason = line.partition(":")
                    known[name.strip()] = reason.strip()
    return known


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("mount", nargs="?")
    parser.add_argument("bare", nargs="?")
    parser.add_argument("--only", default="*", metavar="PATTERN")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="print what the bare directory answers")
    parser.add_argument("--known", metavar="FILE")
    parser.add_argument("--show", type=int, default=8, metavar="N", help="differing lines to print per case (default 8)")
    options = parser.parse_args(arguments)
    for module in MODULES:
        importlib.import_module("parity_cases." + module)
    chosen = {name: f for name, f in _cases.items() if fnmatch.fnmatch(name, options.only)}
    if options.list:
        print("\n".join(chosen))
        return 0
    if not options.mount or not options.bare:
        parser.error("two directories are needed")
    if os.geteuid() != 0:
        print("parity: must be root, to become other users", file=sys.stderr)
        return 2
    known = read_known(options.known)
    unknown_names = known.keys() - _cases.keys()
    if unknown_names or not chosen:
        print(f"parity: no such case: {', '.join(unknown_names) or options.only}", file=sys.stderr)
        return 2
    return compare(chosen, options, known)


def compare(chosen, options, known):
    tops = [os.path.join(d, f"parity-{os.getpid()}-{side}") for side, d in (("a", options.mount), ("b", options.bare))]
    differing, stale, broken, calls = 0, [], [], 0
    try:
        for top in tops:
            os.mkdir(top, 0o755)
        for name, function in chosen.items():
            bare = run_side(name, function, tops[1])
            if options.verbose:
                print("\n".join(f"{name}: {label}: {value}" for label, value in bare))
            mount = run_side(name, function, tops[0])
            calls += len(bare)
            if any(label.endswith("unexpected") for label, _ in bare) or not bare:
                broken.append(name)
                print(f"{name}: BROKEN on the bare directory: {dict(bare).get('unexpected', 'no calls')}")
                continue
            lines = differences(mount, bare)
            if not lines:
                stale += [name] if name in known else []
                continue
            if name in known:
                print(f"{name}: differs as known: {known[name]}")
                continue
            differing += 1
            print(f"{name}: {len(lines)} of {len(bare)} differ", flush=True)
            for line in lines[:options.show]:
                print(f"    {line}")
            if len(lines) > options.show:
                print(f"    ... and {len(lines) - options.show} more")
    finally:
        for top in tops:
            remove_tree(top)
    for name in stale:
        print(f"{name}: is listed as a known difference, but does not differ")
    print(f"{calls} calls compared")
    print(f"{len(chosen)} cases, {differing} differ" + (f", {len(broken)} broken" if broken else "")
          + (f", {len(stale)} wrongly known" if stale else ""))
    return 1 if differing or broken or stale else 0


if __name__ == "__main__":
    sys.modules["parity"] = sys.modules["__main__"]  # the cases register with this very module
    sys.exit(main())
