#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every option, mount option and configuration key refuses a wrong value, in one message that names it.

What there is to refuse is taken from the programs themselves (--help, and the known names in their messages): what is
added without a wrong value here fails this test.

usage: wrong_values_test.py BUILD_DIRECTORY
"""
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BUILD = Path(sys.argv[1]).resolve()
failures = []
checked = 0

# (where, key): wrong values, as YAML. "where" is what the key belongs to, see TEMPLATES.
KEYS = {
    ("array", "array"): ["''", "'a b'", "[x]"],
    ("array", "replicas"): ["0", "two", "-1", "4", "9999999999999999999999"],
    ("array", "min_replicas"): ["0", "3", "x"],
    ("array", "quorum"): ["loose", "''", "[strict]"],
    ("array", "missing"): ["loose"],
    ("array", "reserve"): ["5", "101%", "-1%", "x%"],
    ("array", "racks"): ["[]", "x", "{ name: a }"],
    ("array", "witnesses"): ["x", "[ { name: w1 } ]", "[ { name: na, path: /w } ]"],
    ("array", "policies"): ["x", "[ { replicas: 1 } ]"],
    ("array", "deadlines"): ["5s", "[ 5s ]"],
    ("array", "reads"): ["fast", "1"],
    ("array", "coherence"): ["none"],
    ("array", "trash"): ["14d"],
    ("array", "scrub"): ["weekly"],
    ("rack", "name"): ["''", "'a b'", "b"],
    ("rack", "exports"): ["[]", "x"],
    ("export", "name"): ["''", "a/b", "nb"],
    ("export", "path"): ["relative", "/", "/a/../b", "''"],
    ("export", "raid"): ["1", "six"],
    ("export", "weight"): ["heavy", "0", "-1", "12"],
    ("witness", "name"): ["''", "na"],
    ("witness", "path"): ["relative", "/"],
    ("policy", "path"): ["/", "/a/../b", "/.rainfs"],
    ("policy", "replicas"): ["0", "4", "x"],
    ("policy", "min_replicas"): ["0", "3"],
    ("policy", "quorum"): ["loose"],
    ("policy", "missing"): ["loose"],
    ("deadlines", "metadata"): ["5", "0s", "5 parsecs", "2d"],
    ("deadlines", "data"): ["5", "0s", "-1s"],
    ("deadlines", "probe"): ["5", "0s", "x"],
    ("trash", "days"): ["14d", "-1", "100000"],
    ("trash", "max"): ["5", "101%"],
    ("scrub", "rate"): ["200", "fast", "-1MB"],
    ("scrub", "grace"): ["5", "-1s"],
    ("scrub", "deep_every"): ["14", "x"],
    ("scrub", "at"): ["25:00", "Someday 02:00", "Sat 2", "Sat 02:60"],
    ("node", "node"): ["'a b'", "''"],
    ("node", "rack"): ["'a b'"],
    ("node", "paths"): ["x", "{ na: relative }", "{ 'a b': /x }"],
    ("node", "attr_timeout"): ["1", "-1s", "2d"],
    ("node", "entry_timeout"): ["1", "-1s"],
    ("node", "log_level"): ["loud", "7"],
}
MOUNT_OPTIONS = {
    "ro": ["ro=1"], "rw": ["rw=1"], "allow_other": ["allow_other=yes"], "uring": ["uring=on"],
    "rack": ["rack", "rack=", "rack=a b"], "node": ["node", "node=a/b"], "reads": ["reads=fast", "reads"],
    "coherence": ["coherence=none"], "attr_timeout": ["attr_timeout=x", "attr_timeout=2d", "attr_timeout=-1"],
    "entry_timeout": ["entry_timeout=x", "entry_timeout=2d"], "log_level": ["log_level=loud"], "config": ["config", "config="],
}
FLAG = None  # takes no value, and refuses one
# (program and command, option): wrong values. {file} is a good file of an array, {dir} a directory.
OPTIONS = {
    ("rainfs", "--foreground"): FLAG, ("rainfs", "--debug"): FLAG, ("rainfs", "--help"): FLAG, ("rainfs", "--version"): FLAG,
    ("rainfs", "--options"): ["bogus"], ("rainfs", "--log"): [""],
    ("rainfs-scrub", "--ledger"): FLAG, ("rainfs-scrub", "--deep"): FLAG, ("rainfs-scrub", "--watch"): FLAG,
    ("rainfs-scrub", "--dry-run"): FLAG, ("rainfs-scrub", "--balance"): FLAG, ("rainfs-scrub", "--json"): FLAG,
    ("rainfs-scrub", "--quiet"): FLAG, ("rainfs-scrub", "--help"): FLAG, ("rainfs-scrub", "--version"): FLAG,
    ("rainfs-scrub", "--rate"): ["fast", "-1", ""], ("rainfs-scrub", "--jobs"): ["0", "-1", "x", "1000"],
    ("rainfs-scrub", "--grace"): ["x", "-1s", ""], ("rainfs-scrub", "--shard"): ["1", "0/4", "5/4", "x/4", "1/0", "/"],
    ("rainfs-scrub", "--resolve"): ["oldest", ""],
    ("rainfsctl add", "--yes"): FLAG, ("rainfsctl add", "--balance"): FLAG,
    ("rainfsctl create", "--node-config"): ["/nowhere/node.yaml", ""],
    ("rainfsctl drain", "--yes"): FLAG, ("rainfsctl drain", "--force"): FLAG, ("rainfsctl drain", "--cancel"): FLAG,
    ("rainfsctl replicas", "--yes"): FLAG, ("rainfsctl replicas", "--no-scrub"): FLAG,
    ("rainfsctl report", "--html"): ["/nowhere/page.html", "{dir}", ""],
    ("rainfsctl rejoin", "--yes"): FLAG, ("rainfsctl rejoin", "--as-it-is"): FLAG, ("rainfsctl rejoin", "--no-scrub"): FLAG,
    ("rainfsctl retire", "--yes"): FLAG, ("rainfsctl retire", "--force"): FLAG, ("rainfsctl retire", "--no-scrub"): FLAG,
    ("rainfsctl status", "--json"): FLAG, ("rainfsctl status", "--watch"): FLAG,
    ("rainfsctl update", "--yes"): FLAG,
    ("rainfsctl trash", "--yes"): FLAG, ("rainfsctl trash", "--to"): [""], ("rainfsctl trash", "--days"): ["x", "-1", ""],
    ("rainfsctl trash", "--conflicts"): FLAG,
}
# What must stand before an option's wrong value is looked at.
OPERANDS = {"rainfs": ["{file}", "{dir}"], "rainfs-scrub": ["{file}"], "rainfsctl add": ["{file}", "na"],
            "rainfsctl create": ["{file}"], "rainfsctl drain": ["{file}", "na"], "rainfsctl replicas": ["{file}", "1"],
            "rainfsctl report": ["{file}"], "rainfsctl rejoin": ["{file}", "na"], "rainfsctl retire": ["{file}", "na"], "rainfsctl status": ["{file}"],
            "rainfsctl update": ["{file}"],
            "rainfsctl trash": ["empty", "{file}"]}


def check(condition, promise, detail=""):
    global checked
    checked += 1
    if not condition:
        failures.append(promise)
        print("FAILED  " + promise + "\n        " + str(detail).replace("\n", "\n        "), flush=True)


def run(*command):
    return subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=60)


def program(name):
    return BUILD / "src/cli" / name


def config(directory, where="", key="", value=""):
    """A good file of an array, but for one key."""
    def body(place, good):
        fields = dict(good)
        if place == where:
            fields[key] = value
        return fields

    def flow(fields):
        return "{ " + ", ".join(f"{k}: {v}" for k, v in fields.items()) + " }"

    export = flow(body("export", {"name": "na", "path": f"{directory}/a"}))
    rack = body("rack", {"name": "a", "exports": f"[ {export} ]"})
    top = {"array": "x", "replicas": "2",
           "racks": f"[ {flow(rack)}, {{ name: b, exports: [ {{ name: nb, path: {directory}/b }} ] }} ]"}
    for place, name, good in (("witness", "witnesses", {"name": "w", "path": f"{directory}/w"}), ("policy", "policies", {"path": "/p"})):
        if place == where:
            top[name] = f"[ {flow(body(place, good))} ]"
    if where in ("deadlines", "trash", "scrub"):
        top[where] = flow(body(where, {}))
    return "\n".join(f"{k}: {v}" for k, v in body("array", top).items()) + "\n"


def complaint_about(directory, where, key, value):
    file, node = directory / "x.yaml", directory / "node.yaml"
    file.write_text(config(directory, where, key, value), encoding="utf-8")
    node.write_text(f"{key}: {value}\n" if where == "node" else "", encoding="utf-8")
    return run(program("rainfsctl"), "create", "--node-config", node, file)


def known_keys(directory):
    """The keys that the program itself names when it is given one that it does not know."""
    found = set()
    for where in ("array", "rack", "export", "witness", "policy", "deadlines", "trash", "scrub", "node"):
        text = complaint_about(directory, where, "bogus", "1").stderr
        known = re.search(r"'bogus'.*known here: (.*)", text)
        check(known, f"an unknown key of {where} is refused, and the known ones are named", text)
        found |= {(where, key) for key in re.split(r",\s*", known.group(1).strip())} if known else set()
    return found


def keys(directory):
    known = known_keys(directory)
    check(known == set(KEYS), "every key has wrong values here, and none is here that does not exist", known ^ set(KEYS))
    for (where, key), values in KEYS.items():
        for value in values:
            done = complaint_about(directory, where, key, value)
            name = "node.yaml" if where == "node" else "x.yaml"
            check(done.returncode != 0 and re.search(rf"{name}:\d+: ", done.stderr),
                  f"{where}: {key}: {value} is refused with file and line", done.stdout + done.stderr)
            check(not (directory / "a" / ".rainfs").exists(), f"{where}: {key}: {value} left the exports alone")


def mount_options(directory):
    file = directory / "x.yaml"
    file.write_text(config(directory), encoding="utf-8")
    text = run(program("rainfs"), file, directory, "-o", "bogus").stderr
    known = set(re.findall(r"\b([a-z_]+)=?(?=,| and the)", text.split("known are", 1)[-1]))
    check(known == set(MOUNT_OPTIONS), "every mount option has wrong values here", known ^ set(MOUNT_OPTIONS))
    for option, values in MOUNT_OPTIONS.items():
        for value in values:
            done = run(program("rainfs"), file, directory, "-o", value)
            check(done.returncode == 1 and option in done.stderr, f"-o {value} is refused by name", done.stderr)


def options_there_are():
    found = set()
    commands = re.findall(r"^  ([a-z-]+)\b", run(program("rainfsctl"), "--help").stdout, re.MULTILINE)
    for name in ["rainfs", "rainfs-scrub"] + ["rainfsctl " + c for c in commands]:
        text = run(program(name.split()[0]), *name.split()[1:], "--help").stdout
        options = re.findall(r"^ +(?:-\w(?:,| \[) )?(--[a-z][a-z-]*)", text, re.MULTILINE)
        found |= {(name, option) for option in options if not (option == "--help" and name.startswith("rainfsctl"))}
    return found


def options(directory):
    there = options_there_are()
    check(there == set(OPTIONS), "every option has wrong values here", there ^ set(OPTIONS))
    file = directory / "x.yaml"
    file.write_text(config(directory), encoding="utf-8")
    fill = lambda word: word.replace("{file}", str(file)).replace("{dir}", str(directory))
    for (name, option), values in OPTIONS.items():
        words = name.split()
        for value in ["yes"] if values is FLAG else values:
            done = run(program(words[0]), *words[1:], *map(fill, OPERANDS[name]), f"{option}={fill(value)}")
            said = done.stderr
            named = option.lstrip("-") in said or (fill(value) and fill(value) in said)
            check(done.returncode not in (0, 32) and said.strip() and named, f"{name} {option}={value} is refused by name",
                  f"exit {done.returncode}\n{done.stdout}{said}")
    for name in OPERANDS:
        words = name.split()
        done = run(program(words[0]), *words[1:], *map(fill, OPERANDS[name]), "--bogus")
        check(done.returncode != 0 and "bogus" in done.stderr, f"{name} --bogus is refused by name", done.stderr)


def main():
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name).resolve()
        for export in ("a", "b", "w"):
            (directory / export).mkdir()
        keys(directory)
        mount_options(directory)
        options(directory)
    print(f"{len(failures)} of {checked} failed" if failures else f"all {checked} refused")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
