#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command on a mounted array of five exports in three racks, then checks the replicas.

    on_array.py [--backing dir] [--replicas 2] [-o OPTIONS] [--daemon rainfs|mergerfs|none] -- COMMAND...

In the command {mount} is the mount point, {second} a second node's (mounted if it is named), {bare} an
empty bare directory, {export} the first export, {exports} all of them with colons between, {checker} a program that runs the checker. Exit status: the
command's; 1 also if a replica is not as it should be or a daemon does not end in order.
"""

import argparse
import os
import shlex
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from bed import Array, BedError, isolate  # noqa: E402


def substitute(word, values):
    for name, value in values.items():
        word = word.replace("{" + name + "}", value)
    return word


def fill_in(options, bed, first):
    bare = os.path.join(bed.base, "bare")
    os.mkdir(bare)
    checker = os.path.join(bed.base, "check")
    with open(checker, "w", encoding="utf-8") as out:
        out.write("#!/bin/sh\nexec " + shlex.join(bed.checker_command()) + "\n")
    os.chmod(checker, 0o755)
    paths = [export.path for export in bed.exports.values()]
    return {"mount": first, "bare": bare, "checker": checker, "export": paths[0], "exports": ":".join(paths)}


def node(bed, options):
    if options.daemon == "mergerfs":
        branches = ":".join(export.path for export in bed.exports.values())
        return bed.mount(command=["mergerfs", "-f", "-o", "allow_other,use_ino,category.create=ff", branches])
    return bed.mount(options.options)


def run(options):
    with Array(replicas=options.replicas, backing=options.backing) as bed:
        if options.daemon == "none":
            os.mkdir(os.path.join(bed.base, "mnt"))
            values = fill_in(options, bed, os.path.join(bed.base, "mnt"))
            return subprocess.call([substitute(w, values) for w in options.command], stdin=subprocess.DEVNULL)
        if options.daemon == "rainfs":
            bed.create()
        with node(bed, options) as first:
            values = fill_in(options, bed, first.path)
            if any("{second}" in word for word in options.command):
                with node(bed, options) as second:
                    values["second"] = second.path
                    status = subprocess.call([substitute(w, values) for w in options.command], stdin=subprocess.DEVNULL)
            else:
                status = subprocess.call([substitute(w, values) for w in options.command], stdin=subprocess.DEVNULL)
            if status:
                print(f"---- end of the log of {first.name}\n{first.log_tail()}----", file=sys.stderr)
        if options.daemon == "rainfs":
            bed.check()
        return status


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--backing", default="dir")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("-o", "--options", default="")
    parser.add_argument("--daemon", choices=("rainfs", "mergerfs", "none"), default="rainfs")
    parser.add_argument("command", nargs="+")
    try:
        return run(parser.parse_args())
    except BedError as error:
        print(f"on_array: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(isolate(main))
