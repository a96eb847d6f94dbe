#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that every file of an array lies as R equal plain copies on exports in R distinct racks.

Reads the exports only, never a mount, and shares no code with RainFS: what it says holds for anyone who
looks at the NAS boxes with nothing but ls and cmp. It changes nothing (not even access times, where the
kernel lets it) and follows no symbolic link. The array should be idle while it runs.

    check_replicas.py -R 2 --export nas1:rack-a:/nas/nas1 --export nas2:rack-b:/nas/nas2 ...

Exit status: 0 all is well, 1 violations were found, 2 it could not be run.
"""

import argparse
import collections
import errno
import fnmatch
import os
import resource
import stat
import sys

PRIVATE_DIRECTORY = b".rainfs"  # at the top of an export only
LEFTOVERS = (b".nfs[0-9a-f]*", b".fuse_hidden*", b".rainfs*", b"*.rainfs-tmp*", b".#rainfs*")
BLOCK = 1 << 20
KINDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket", stat.S_IFCHR: "character device", stat.S_IFBLK: "block device",
}

Export = collections.namedtuple("Export", "name rack path")
Violation = collections.namedtuple("Violation", "kind path detail")


def shown(path):
    """A byte path as printable text; bytes that are no UTF-8 come out as escapes."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text) or "/"


class Report:
    """What was seen. Violations are all counted, but only the first `keep` are remembered."""

    def __init__(self, keep=200):
        self.keep = keep
        self.violations = []
        self.by_kind = collections.Counter()
        self.counts = collections.Counter()
        self.information = collections.Counter()

    def violation(self, kind, path, detail):
        self.by_kind[kind] += 1
        if len(self.violations) < self.keep:
            self.violations.append(Violation(kind, path, detail))

    @property
    def total(self):
        return sum(self.by_kind.values())


class Copy:
    """One name on one export: its lstat, and ways to its target, attributes and data beneath a descriptor."""

    def __init__(self, label, parent_fd, name):
        self.label = label
        self.parent_fd = parent_fd
        self.name = name
        self.stat = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        self.kind = stat.S_IFMT(self.stat.st_mode)

    def target(self):
        return os.readlink(self.name, dir_fd=self.parent_fd)

    def open(self, flags):
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(self.name, flags | os.O_NOATIME, dir_fd=self.parent_fd)
        except PermissionError:
            return os.open(self.name, flags, dir_fd=self.parent_fd)

    def attributes(self):
        """Extended attributes that belong to the file: the user's, ACLs, capabilities, trusted ones."""
        path = b"/proc/self/fd/%d/%s" % (self.parent_fd, self.name)
        found = {}
        try:
            for name in os.listxattr(path, follow_symlinks=False):
                if name.startswith(("user.", "trusted.", "system.posix_acl_")) or name == "security.capability":
                    found[name] = os.getxattr(path, name, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENODATA):
                raise
        return found


def data_ranges(descriptor, size):
    """The parts of a file that are not holes, as (start, end)."""
    ranges, at = [], 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                break
            if error.errno == errno.EINVAL:  # a file system that knows no holes
                return [(0, size)]
            raise
        ranges.append((start, min(end, size)))
        at = end
    return ranges


def merged(ranges):
    result = []
    for start, end in sorted(ranges):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def first_difference(copies, size):
    """Offset of the first byte in which copies of one size differ, with the label of the odd one; else None.

    Every byte that is data in any copy is compared in all; what is a hole in all of them is equal.
    """
    descriptors = []
    try:
        for copy in copies:
            descriptors.append(copy.open(os.O_RDONLY))
        ranges = merged(r for d in descriptors for r in data_ranges(d, size))
        for start, end in ranges:
            at = start
            while at < end:
                wanted = min(BLOCK, end - at)
                blocks = [os.pread(d, wanted, at) for d in descriptors]
                for copy, block in zip(copies[1:], blocks[1:]):
                    if block != blocks[0]:
                        same = os.path.commonprefix([block, blocks[0]])
                        return at + len(same), copy.label
                if len(blocks[0]) != wanted:
                    return at + len(blocks[0]), copies[0].label
                at += wanted
        return None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class Directory:
    """An open directory, one per export (or of the original); closed when its frame of the walk ends."""

    def __init__(self, label, descriptor):
        self.label = label
        self.descriptor = descriptor

    @staticmethod
    def open(label, name, parent_fd=None):
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        if parent_fd is not None:
            flags |= os.O_NOFOLLOW
        return Directory(label, os.open(name, flags, dir_fd=parent_fd))

    def names(self):
        return {os.fsencode(name) for name in os.listdir(self.descriptor)}

    def close(self):
        os.close(self.descriptor)


class Checker:
    def __init__(self, exports, replicas=2, policies=(), originals=(), contents_only=False,
                 allow_leftovers=False, state_clean=False, keep=200):
        self.exports = {export.name: export for export in exports}
        self.replicas = replicas
        # The longest subtree that holds a path decides, as in the array's own configuration.
        self.policies = sorted(((p.strip(b"/"), r) for p, r in policies), key=lambda p: -len(p[0]))
        self.originals = [(tree, at.strip(b"/")) for tree, at in originals]
        self.contents_only = contents_only
        self.allow_leftovers = allow_leftovers
        self.state_clean = state_clean
        self.report = Report(keep)
        self.links = {}  # export -> {(device, inode): set of paths}, for files of more than one name
        self.linked = {}  # path -> {export: (device, inode)}

    # ---- the walk -----------------------------------------------------------------------------------

    def run(self):
        roots = {}
        for export in self.exports.values():
            roots[export.name] = Directory.open(export.name, export.path)
        if self.state_clean:
            for export in self.exports.values():
                self.check_state(export)
        self.walk(roots)
        self.check_links()
        for tree, at in self.originals:
            self.compare_original(tree, at)
        return self.report

    def walk(self, roots):
        frames = [(b"", roots, self.visit(b"", roots))]
        while frames:
            path, directories, children = frames[-1]
            name = next(children, None)
            if name is None:
                for directory in directories.values():
                    directory.close()
                frames.pop()
                continue
            below = path + b"/" + name if path else name
            opened = {}
            for label, directory in directories.items():
                try:
                    opened[label] = Directory.open(label, name, directory.descriptor)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                        self.report.violation("unreadable", below, f"{label}: {error.strerror}")
            frames.append((below, opened, self.visit(below, opened)))

    def visit(self, path, directories):
        """Checks all names of one directory, then yields those to go down into."""
        names = {}
        for directory in directories.values():
            for name in directory.names():
                if path == b"" and name == PRIVATE_DIRECTORY:
                    continue
                names.setdefault(name, []).append(directory)
        below = []
        for name in sorted(names):
            full = path + b"/" + name if path else name
            try:
                copies = [Copy(d.label, d.descriptor, name) for d in names[name]]
                kinds = {copy.kind for copy in copies}
                if not self.allow_leftovers and any(fnmatch.fnmatchcase(name, p) for p in LEFTOVERS):
                    self.report.violation("leftover", full, "on " + ", ".join(c.label for c in copies))
                if len(kinds) > 1:
                    self.report.violation("type", full, ", ".join(f"{c.label}: {KINDS[c.kind]}" for c in copies))
                if kinds == {stat.S_IFDIR}:
                    self.check_directory(full, copies, len(directories))
                elif len(kinds) == 1:
                    self.check_file(full, copies)
                if stat.S_IFDIR in kinds:
                    below.append(name)
            except OSError as error:
                self.report.violation("unreadable", full, str(error))
        yield from below

    # ---- one name -----------------------------------------------------------------------------------

    def wanted(self, path):
        for subtree, replicas in self.policies:
            if path == subtree or path.startswith(subtree + b"/"):
                return replicas
        return self.replicas

    def check_directory(self, path, copies, of):
        self.report.counts["directories"] += 1
        if len(copies) < len(self.exports):
            self.report.information["directories not on every export"] += 1
        self.check_equal(path, copies, ("mode", "uid", "gid"))
        self.check_attributes(path, copies)

    def check_file(self, path, copies):
        report = self.report
        report.counts[KINDS[copies[0].kind]] += 1
        report.counts["replicas"] += len(copies)
        report.counts["bytes"] += copies[0].stat.st_size if copies[0].kind == stat.S_IFREG else 0
        wanted = self.wanted(path)
        where = ", ".join(f"{c.label} ({self.exports[c.label].rack})" for c in copies)
        if len(copies) != wanted:
            report.violation("count", path, f"{len(copies)} replicas instead of {wanted}: {where}")
        if len({self.exports[c.label].rack for c in copies}) != len(copies):
            report.violation("rack", path, f"two replicas in one rack: {where}")
        self.check_equal(path, copies, ("mode", "uid", "gid", "mtime_ns", "nlink"))
        self.check_attributes(path, copies)
        self.note_links(path, copies)
        kind = copies[0].kind
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            self.check_equal(path, copies, ("rdev",))
        elif kind == stat.S_IFLNK:
            targets = {c.label: c.target() for c in copies}
            if len(set(targets.values())) > 1:
                report.violation("target", path, ", ".join(f"{k}: {shown(v)}" for k, v in targets.items()))
        elif kind == stat.S_IFREG and self.check_equal(path, copies, ("size",)) and len(copies) > 1:
            odd = first_difference(copies, copies[0].stat.st_size)
            if odd:
                report.violation("contents", path, f"byte {odd[0]} differs between {copies[0].label} and {odd[1]}")

    def check_equal(self, path, copies, fields):
        equal = True
        for field in fields:
            values = [getattr(copy.stat, "st_" + field) for copy in copies]
            if any(value != values[0] for value in values):
                text = (lambda v: oct(v)) if field == "mode" else str
                self.report.violation(field, path, ", ".join(f"{c.label}: {text(v)}" for c, v in zip(copies, values)))
                equal = False
        return equal

    def check_attributes(self, path, copies):
        first = copies[0].attributes()
        for copy in copies[1:]:
            other = copy.attributes()
            odd = sorted(name for name in first.keys() | other.keys() if first.get(name) != other.get(name))
            if odd:
                kind = "acl" if all(name.startswith("system.posix_acl_") for name in odd) else "xattr"
                self.report.violation(kind, path, f"{copies[0].label} and {copy.label} differ in {', '.join(odd)}")

    # ---- hard links ---------------------------------------------------------------------------------

    def note_links(self, path, copies):
        if all(copy.stat.st_nlink == 1 for copy in copies):
            return
        for copy in copies:
            identity = (copy.stat.st_dev, copy.stat.st_ino)
            self.links.setdefault(copy.label, {}).setdefault(identity, [copy.stat.st_nlink, set()])[1].add(path)
            self.linked.setdefault(path, {})[copy.label] = identity

    def check_links(self):
        for path, identities in sorted(self.linked.items()):
            groups = {label: self.links[label][identity] for label, identity in identities.items()}
            names = [group[1] for group in groups.values()]
            if any(n != names[0] for n in names):
                detail = "; ".join(f"{label}: " + ", ".join(map(shown, sorted(g[1])[:4])) for label, g in groups.items())
                self.report.violation("hard-links", path, detail)
            for label, (count, found) in groups.items():
                if count != len(found) and path == min(found):
                    self.report.violation("nlink", path, f"{label}: {count} links, but {len(found)} names in the tree")

    # ---- RainFS's own directory, when asked to look ------------------------------------------------

    def check_state(self, export):
        for part, kind in ((b"ledger", "fact"), (b"tmp", "temporary")):
            top = os.path.join(export.path, PRIVATE_DIRECTORY, part)
            for folder, _, files in os.walk(top):
                for name in files:
                    self.report.violation(kind, os.path.join(folder, name)[len(export.path):], f"on {export.name}")

    # ---- the original -------------------------------------------------------------------------------

    def compare_original(self, tree, at):
        """Every name of the original must be in the array with its contents and metadata, and no other."""
        report = self.report
        pending = [b""]
        while pending:
            relative = pending.pop()
            source = os.path.join(tree, relative) if relative else tree
            expected = {n for n in map(os.fsencode, os.listdir(source)) if relative or n != PRIVATE_DIRECTORY}
            found = {}
            for export in self.exports.values():
                folder = os.path.join(export.path, *(p for p in (at, relative) if p))
                try:
                    for name in map(os.fsencode, os.listdir(folder)):
                        if (at or relative or name != PRIVATE_DIRECTORY) and name not in found:
                            found[name] = (export.name, os.path.join(folder, name))
                except (FileNotFoundError, NotADirectoryError):
                    continue
            for name in sorted(expected | found.keys()):
                path = os.path.join(relative, name) if relative else name
                if name not in found:
                    report.violation("missing", path, "is in the original and on no export")
                elif name not in expected:
                    report.violation("extra", path, f"is on {found[name][0]} and not in the original")
                elif self.equals_original(path, os.path.join(source, name), *found[name]):
                    pending.append(path)

    def equals_original(self, path, source, label, replica):
        """Compares one name with one of its replicas (those are compared with each other elsewhere).
        True where both are directories."""
        report = self.report
        report.counts["compared with the original"] += 1
        descriptors = [os.open(os.path.dirname(p), os.O_RDONLY | os.O_DIRECTORY) for p in (source, replica)]
        try:
            original = Copy("original", descriptors[0], os.path.basename(source))
            copy = Copy(label, descriptors[1], os.path.basename(replica))
            if original.kind != copy.kind:
                report.violation("type", path, f"original: {KINDS[original.kind]}, {label}: {KINDS[copy.kind]}")
                return False
            if not self.contents_only:
                fields = ["mode", "uid", "gid"] + (["mtime_ns"] if copy.kind != stat.S_IFDIR else [])
                self.check_equal(path, [original, copy], fields)
                self.check_attributes(path, [original, copy])
            if copy.kind == stat.S_IFLNK and original.target() != copy.target():
                report.violation("target", path, f"original: {shown(original.target())}, {label}: {shown(copy.target())}")
            if copy.kind == stat.S_IFREG and self.check_equal(path, [original, copy], ["size"]):
                odd = first_difference([original, copy], copy.stat.st_size)
                if odd:
                    report.violation("contents", path, f"byte {odd[0]} differs between the original and {label}")
                self.check_holes(path, original, copy)
            return copy.kind == stat.S_IFDIR
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def check_holes(self, path, original, copy):
        """A file that is mostly a hole must not have become gigabytes of zeros."""
        allocated, kept = original.stat.st_blocks * 512, copy.stat.st_blocks * 512
        if allocated + 16 * BLOCK < original.stat.st_size and kept > allocated + 16 * BLOCK:
            self.report.violation("holes", path, f"original: {allocated} bytes allocated, {copy.label}: {kept}")


def print_report(report, limit, out=sys.stdout):
    for violation in report.violations[:limit]:
        print(f"{violation.kind:>11}  {shown(violation.path)}: {violation.detail}", file=out)
    if report.total > limit:
        print(f"{'...':>11}  and {report.total - min(limit, len(report.violations))} more", file=out)
    for text, count in sorted(report.information.items()):
        print(f"info: {count} {text}", file=out)
    seen = ", ".join(f"{count} {kind}" for kind, count in sorted(report.counts.items())) or "nothing"
    print(f"seen: {seen}", file=out)
    if report.total:
        print("violations: " + ", ".join(f"{n} {k}" for k, n in sorted(report.by_kind.items())), file=out)
    else:
        print("all replicas are as they should be", file=out)


def parse_export(text):
    parts = text.split(":", 2)
    if len(parts) != 3 or not all(parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:RACK:PATH")
    return Export(parts[0], parts[1], os.fsencode(parts[2]).rstrip(b"/") or b"/")


def parse_policy(text):
    subtree, _, replicas = text.rpartition(":")
    if not subtree or not replicas.isdigit() or int(replicas) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not SUBTREE:R")
    return os.fsencode(subtree), int(replicas)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--export", action="append", type=parse_export, required=True, metavar="NAME:RACK:PATH")
    parser.add_argument("-R", "--replicas", type=int, default=2)
    parser.add_argument("--policy", action="append", type=parse_policy, default=[], metavar="SUBTREE:R")
    parser.add_argument("--original", type=os.fsencode, metavar="DIR", help="compare with this source tree")
    parser.add_argument("--at", type=os.fsencode, default=b"", metavar="SUBTREE", help="where the original was copied to")
    parser.add_argument("--contents-only", action="store_true", help="of the original, compare no owner, mode, times, xattrs")
    parser.add_argument("--allow-leftovers", action="store_true", help="users may really have files named .nfs0001 and the like")
    parser.add_argument("--state-clean", action="store_true", help="there must be no fact and no temporary file in .rainfs")
    parser.add_argument("--show", type=int, default=50, metavar="N", help="violations to print (default 50)")
    options = parser.parse_args(arguments)
    names = [export.name for export in options.export]
    if len(set(names)) != len(names):
        parser.error("two exports with the same name")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a descriptor per export and level of the tree
    originals = [(options.original.rstrip(b"/") or b"/", options.at)] if options.original else []
    checker = Checker(options.export, options.replicas, options.policy, originals, options.contents_only,
                      options.allow_leftovers, options.state_clean, max(options.show, 1))
    try:
        report = checker.run()
    except OSError as error:
        print(f"check_replicas: {error}", file=sys.stderr)
        return 2
    print_report(report, options.show)
    return 1 if report.total else 0


if __name__ == "__main__":
    sys.exit(main())
