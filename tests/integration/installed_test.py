#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is installed agrees with itself: man pages with --help and the configuration's keys in both directions, units
with systemd, the completion with the commands, and everything in its place.

usage: installed_test.py BUILD_DIRECTORY SOURCE_DIRECTORY
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from promises import check, failures  # noqa: E402

BUILD, SOURCE = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()


def run(*command, **options):
    return subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
                          **options)


def help_of(name, *arguments):
    done = run(BUILD / "src/cli" / name, *arguments, "--help")
    if done.returncode != 0 or not done.stdout:
        check(False, f"{name} {' '.join(arguments)} --help works", done.stderr)
    return done.stdout


def roff(page):
    text = (SOURCE / "docs/man" / page).read_text(encoding="utf-8").replace("\\-", "-")
    return re.sub(r"^\.EX$.*?^\.EE$", "", text, flags=re.MULTILINE | re.DOTALL)  # examples use other programs


def long_options(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def options_agree(program, page):
    helped, documented = long_options(help_of(program)), long_options(roff(page))
    check(helped <= documented, f"{page} has every option of {program} --help", helped - documented)
    check(documented <= helped, f"{page} has no option that {program} does not have", documented - helped)


def commands_agree():
    text = roff("rainfsctl.8")
    helped = set(re.findall(r"^  ([a-z-]+)\b", help_of("rainfsctl"), re.MULTILINE))
    sections = dict(re.findall(r'^\.SS "([a-z-]+)(.*?)(?=^\.S[SH] )', text, re.MULTILINE | re.DOTALL))
    check(helped == set(sections), "rainfsctl(8) has the commands of rainfsctl --help", helped ^ set(sections))
    for command in sorted(helped & set(sections)):
        own = long_options(help_of("rainfsctl", command)) - {"--help"}
        documented = long_options(sections[command])
        check(own == documented, f"rainfsctl(8) has the options of {command}", own ^ documented)
    completion = (SOURCE / "completions/rainfsctl").read_text(encoding="utf-8")
    for name in ("rainfs", "rainfs-scrub"):
        shown = subprocess.run(["bash", "-c", f'source "{SOURCE}/completions/rainfsctl"; COMP_WORDS=({name} --); COMP_CWORD=1; '
                                f'_rainfs_program {name} -- {name}; echo "${{COMPREPLY[@]}}"'], stdout=subprocess.PIPE, text=True)
        own = long_options(help_of(name))
        check(set(shown.stdout.split()) == own, f"the completion offers the options of {name}", own ^ set(shown.stdout.split()))
    for name in sorted(helped):
        shown = subprocess.run(["bash", "-c", f'source "{SOURCE}/completions/rainfsctl"; COMP_WORDS=(rainfsctl {name} --); COMP_CWORD=2; '
                                f'_rainfsctl rainfsctl -- {name}; echo "${{COMPREPLY[@]}}"'], stdout=subprocess.PIPE, text=True)
        own = long_options(help_of("rainfsctl", name))
        check(set(shown.stdout.split()) == own, f"the completion offers the options of rainfsctl {name}", own ^ set(shown.stdout.split()))
    offered = set(re.search(r'compgen -W \\\s+"([^"]*) --help', completion).group(1).split())
    check(helped == offered, "the completion offers the commands there are", helped ^ offered)


def keys_agree():
    """The program names its keys itself when it is given one that it does not know."""
    array = """array: x
bogus0: 1
racks:
  - { name: r, bogus1: 1, exports: [ { name: e, path: /e, bogus2: 1 } ] }
witnesses: [ { name: w, path: /w, bogus3: 1 } ]
policies: [ { path: /p, bogus4: 1 } ]
deadlines: { bogus5: 1 }
trash: { bogus6: 1 }
scrub: { bogus7: 1 }
"""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "x.yaml"
        file.write_text(array, encoding="utf-8")
        complaints = run(BUILD / "src/cli/rainfsctl", "create", file).stderr
    known = set()
    for number in range(8):
        found = re.search(rf"'bogus{number}'.*known here: (.*)", complaints)
        if not found:
            check(False, f"an unknown key is refused with those that are known (bogus{number})", complaints)
            return
        known |= set(re.split(r",\s*", found.group(1).strip()))
    known |= {"node", "rack", "paths", "attr_timeout", "entry_timeout", "log_level"}  # node.yaml's, checked below
    page = roff("rainfs.yaml.5")
    words = set(re.findall(r"[a-z][a-z_-]*", page))
    check(known <= words, "rainfs.yaml(5) has every key", known - words)
    headed = {name for line in re.findall(r"^\.TP\n\.BR? (.*)$", page, re.MULTILINE)
              for name in re.findall(r"[a-z_]+", line)}
    check(headed <= known, "rainfs.yaml(5) explains no key that does not exist", headed - known)
    node = (SOURCE / "config/node.yaml").read_text(encoding="utf-8")
    check(set(re.findall(r"^([a-z_]+):", node, re.MULTILINE)) ==
          {"node", "rack", "paths", "attr_timeout", "entry_timeout", "log_level"}, "the sample of node.yaml has its keys")


def mount_options_agree():
    done = run(BUILD / "src/cli/rainfs", SOURCE / "config/small.yaml", "/", "-o", "bogus")
    known = set(re.findall(r"\b([a-z_]+)=?(?=,| and the)", done.stderr.split("known are", 1)[-1]))
    page = roff("rainfs.8").split(".SH MOUNT OPTIONS", 1)[1].split(".SH ", 1)[0]
    documented = {name for line in re.findall(r"^\.TP\n\.BI?R? (.*)$", page, re.MULTILINE)
                  for name in re.findall(r"\b([a-z_]{2,})(?==|\b)", line.split(" ")[0] if "=" in line else line)}
    check(known == documented and "rack" in known, "rainfs(8) has the mount options there are", known ^ documented)


def units_are_good():
    with tempfile.TemporaryDirectory() as directory:
        for unit in (SOURCE / "systemd").glob("rainfs*"):
            text = unit.read_text(encoding="utf-8").replace("/usr/bin/rainfs", str(BUILD / "src/cli/rainfs"))
            (Path(directory) / unit.name).write_text(text, encoding="utf-8")
        names = ["rainfs@scratch.service", "rainfs-scrub@scratch.service", "rainfs-scrub@scratch.timer",
                 "rainfs-scrub-watch@scratch.service", "rainfs.target"]
        for name in ("rainfs@", "rainfs-scrub@", "rainfs-scrub-watch@"):
            shutil.copy(Path(directory) / f"{name}.service", Path(directory) / f"{name}scratch.service")
        shutil.copy(Path(directory) / "rainfs-scrub@.timer", Path(directory) / "rainfs-scrub@scratch.timer")
        done = run("systemd-analyze", "verify", "--man=no", *[Path(directory) / name for name in names])
        check(done.returncode == 0 and not done.stderr.strip(), "systemd finds nothing wrong with the units",
              done.stdout + done.stderr)
        broken = Path(directory) / "broken.service"
        broken.write_text("[Service]\nType=notify\nExecStart=/nowhere\nWatchdocSec=1\n", encoding="utf-8")
        done = run("systemd-analyze", "verify", "--man=no", broken)
        check(bool(done.stderr.strip()), "(and would have said so)")


def pages_are_good():
    for page in sorted((SOURCE / "docs/man").iterdir()):
        done = run("groff", "-man", "-Tutf8", "-ww", "-z", page)
        check(done.returncode == 0 and not done.stderr.strip(), f"{page.name} is good roff", done.stderr)


def all_is_in_place():
    with tempfile.TemporaryDirectory() as directory:
        done = run("meson", "install", "-C", BUILD, "--no-rebuild", "--skip-subprojects",
                   env=dict(os.environ, DESTDIR=directory))
        check(done.returncode == 0, "meson install works", done.stdout + done.stderr)
        prefix = run("meson", "introspect", "--buildoptions", BUILD).stdout
        usr = re.search(r'"name": "prefix", "value": "([^"]*)"', prefix).group(1)
        root = Path(directory + usr)
        for path in ("bin/rainfs", "bin/rainfsctl", "sbin/mount.rainfs", "sbin/mount.fuse.rainfs",
                     "lib/systemd/system/rainfs@.service", "lib/systemd/system/rainfs.target",
                     "lib/systemd/system/rainfs-scrub@.service", "lib/systemd/system/rainfs-scrub@.timer",
                     "lib/systemd/system/rainfs-scrub-watch@.service",
                     "share/man/man8/rainfs.8", "share/man/man8/rainfsctl.8", "share/man/man8/rainfs-scrub.8", "bin/rainfs-scrub", "share/man/man5/rainfs.yaml.5", "share/doc/rainfs/examples/small.yaml",
                     "share/bash-completion/completions/rainfsctl"):
            check((root / path).exists(), f"{path} is installed")


def main():
    options_agree("rainfs", "rainfs.8")
    if (BUILD / "src/cli/rainfs-scrub").exists():
        options_agree("rainfs-scrub", "rainfs-scrub.8")
    commands_agree()
    keys_agree()
    mount_options_agree()
    units_are_good()
    pages_are_good()
    all_is_in_place()
    print(f"{len(failures)} failed" if failures else "all agree")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
