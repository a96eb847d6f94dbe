#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every kind of damage to replicas is repaired, and what nobody can judge is kept."""

import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))

from bed import BedError  # noqa: E402
from scrub_bed import OLD, expect, fill, holders, main, original, scrub  # noqa: E402


# ---- what can befall a replica: each function damages one path, and says what the scrub has to say of it -----------

def replica(bed, path, number=0):
    return f"{holders(bed, path)[number].store}/{path}"


def lost(bed, path):
    os.unlink(replica(bed, path))


def short_and_newer(bed, path):
    victim = replica(bed, path, 1)
    os.truncate(victim, 1)
    os.utime(victim, (OLD, OLD + 10_000_000))


def emptied(bed, path):
    victim = replica(bed, path)
    before = os.stat(victim)
    os.truncate(victim, 0)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))


def damaged_first(bed, path):
    holders(bed, path)[0].corrupt(path, 0, b"\0\1\2\3")


def damaged_second(bed, path):
    holders(bed, path)[1].corrupt(path, 0, b"\0\1\2\3")


def swapped_with_its_neighbour(bed, path):
    neighbour = path + "-neighbour"
    for export in holders(bed, path):
        if os.path.exists(f"{export.store}/{neighbour}"):
            os.rename(f"{export.store}/{path}", f"{export.store}/{path}~")
            os.rename(f"{export.store}/{neighbour}", f"{export.store}/{path}")
            os.rename(f"{export.store}/{path}~", f"{export.store}/{neighbour}")
            return
    raise BedError("no export holds both")


def extra(bed, path):
    here = holders(bed, path)
    racks = {e.rack for e in here}
    third = next(e for e in bed.exports.values() if e.rack not in racks)
    subprocess.run(["cp", "-a", f"{here[0].store}/{path}", f"{third.store}/{path}"], check=True)


def two_in_one_rack(bed, path):
    """One replica moves to the sibling of the other."""
    here = holders(bed, path)
    for stays, goes in (here, here[::-1]):
        sibling = [e for e in bed.rack(stays.rack) if e is not stays]
        if sibling:
            subprocess.run(["cp", "-a", f"{goes.store}/{path}", f"{sibling[0].store}/{path}"], check=True)
            os.unlink(f"{goes.store}/{path}")
            return
    raise BedError("no rack with two exports")


def other_owner(bed, path):
    os.chown(replica(bed, path), 1234, 1234)


def other_mode(bed, path):
    os.chmod(replica(bed, path), 0o600)


def other_time(bed, path):
    os.utime(replica(bed, path), (OLD, OLD - 1000))


def attribute_lost(bed, path):
    os.removexattr(replica(bed, path), "user.colour")


def attribute_changed(bed, path):
    os.setxattr(replica(bed, path), "user.colour", b"blue")


def acl_lost(bed, path):
    subprocess.run(["setfacl", "-b", replica(bed, path)], check=True)


def link_broken(bed, path):
    victim = replica(bed, path)
    subprocess.run(["cp", "-a", victim, victim + "~"], check=True)
    os.rename(victim + "~", victim)


CAPABILITY = bytes([1, 0, 0, 2, 0, 4]) + bytes(14)  # cap_net_bind_service, effective: what a new owner takes away


def given_away(bed, path):
    """A new owner costs it the setuid bit and the capability."""
    os.chown(replica(bed, path), 1234, 1234)


def directory_lost(bed, path):
    shutil.rmtree(replica(bed, path))


def a_file_where_a_directory_is(bed, path):
    victim = replica(bed, path)
    os.rmdir(victim)
    with open(victim, "w", encoding="ascii") as out:
        out.write("not a directory")
    os.utime(victim, (OLD, OLD))


DAMAGE = [  # what, to what kind of thing, what the scrub says of it
    (lost, "file", "repaired"),
    (short_and_newer, "file", "damaged"),
    (emptied, "file", "conflict"),
    (damaged_first, "file", "damaged"),
    (damaged_second, "file", "damaged"),
    (swapped_with_its_neighbour, "neighbours", "damaged"),
    (extra, "file", "repaired"),
    (two_in_one_rack, "file", "repaired"),
    (other_owner, "file", "repaired"),
    (other_mode, "file", "repaired"),
    (other_time, "file", "repaired"),
    (attribute_lost, "file", "repaired"),
    (attribute_changed, "file", "repaired"),
    (acl_lost, "file", "repaired"),
    (link_broken, "links", "repaired"),
    (lost, "links", "repaired"),
    (lost, "symlink", "repaired"),
    (lost, "fifo", "repaired"),
    (lost, "holes", "repaired"),
    (lost, "mighty", "repaired"),
    (given_away, "mighty", "repaired"),
    (directory_lost, "directory", "repaired"),
    (other_mode, "directory", "repaired"),
    (other_owner, "directory", "repaired"),
    (a_file_where_a_directory_is, "empty", "conflict"),
]


def make(path, kind):
    if kind in ("directory", "empty"):
        os.mkdir(path, 0o755)
        if kind == "directory":
            make(path + "/inside", "file")
        return
    if kind == "symlink":
        os.symlink("to nowhere", path)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        with open(path, "wb") as out:
            if kind == "holes":
                out.seek(8 << 20)
            out.write(os.fsencode(path) * 200)
            if kind == "holes":
                out.truncate(16 << 20)
        os.setxattr(path, "user.colour", b"green")
        subprocess.run(["setfacl", "-m", "u:1234:r", path], check=True)
    if kind == "mighty":
        os.chown(path, 77, 78)
        os.chmod(path, 0o6755)
        os.setxattr(path, "security.capability", CAPABILITY)
    if kind == "links":
        os.link(path, path + "-other-name")
    if kind == "neighbours":
        make(path + "-neighbour", "file")
    os.utime(path, (OLD, OLD + 5), follow_symlinks=False)


def every_kind_of_damage_is_repaired(bed):
    cases = [(f"t/{damage.__name__}-{kind}", damage, kind, finding) for damage, kind, finding in DAMAGE]
    with bed.mount() as node:
        os.mkdir(f"{node.path}/t")
        for path, damage, kind, _ in cases:
            for attempt in range(50):  # where the replicas of the neighbours come to lie is not in our hands
                make(f"{node.path}/{path}", kind)
                if kind != "neighbours" or set(holders(bed, path)) & set(holders(bed, path + "-neighbour")):
                    break
                os.unlink(f"{node.path}/{path}-neighbour")
                os.unlink(f"{node.path}/{path}")
                path += "x"
            if kind == "neighbours":
                cases = [(path, *case[1:]) if case[1] is damage else case for case in cases]
        originals = original(bed, node.path)
    time.sleep(2.5)  # what is younger may be in the middle of being made
    scrub(bed, "--deep", statuses=(0,))
    for export in bed.exports.values():
        if os.path.getsize(f"{export.store}/.rainfs/scrub/catalogue.xxh128"):
            subprocess.run(["xxhsum", "--quiet", "-c", ".rainfs/scrub/catalogue.xxh128"], cwd=export.store, check=True)
    for path, damage, _, _ in cases:
        damage(bed, path)
    time.sleep(2.5)
    listing = [sorted(os.listdir(f"{e.store}/t")) for e in bed.exports.values()]
    expect(scrub(bed, "--dry-run", statuses=(1, 5)).stdout, "a dry run says what it would do")
    expect(listing == [sorted(os.listdir(f"{e.store}/t")) for e in bed.exports.values()], "a dry run does nothing")
    done = scrub(bed, "--deep", statuses=(1,))
    unsaid = [path for path, _, _, finding in cases if f"{finding}: /{path}" not in done.stdout]
    expect(not unsaid, f"not reported as expected: {unsaid}\n{done.stdout}")
    bed.check(originals=originals, state_clean=True)
    for export in holders(bed, "t/lost-holes"):
        expect(os.stat(f"{export.store}/t/lost-holes").st_blocks < 1000, "holes stay holes")
    for path in ("t/lost-mighty", "t/given_away-mighty"):
        for export in holders(bed, path):
            stat = os.stat(f"{export.store}/{path}")
            expect((stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) == (77, 78, 0o6755), f"{path}: {stat}")
            expect(os.getxattr(f"{export.store}/{path}", "security.capability") == CAPABILITY, f"{path} keeps its capability")
    scrub(bed, "--deep", statuses=(0,))


def contents_that_nobody_can_judge_are_kept(bed):
    with bed.mount() as node:
        with open(f"{node.path}/f", "wb") as out:
            out.write(b"a" * 1000)
    holders(bed, "f")[0].corrupt("f", 5, b"Z")
    time.sleep(2.5)
    scrub(bed, "--deep", statuses=(4,))
    contents = {open(f"{e.store}/f", "rb").read() for e in holders(bed, "f")}
    expect(len(contents) == 2, "both versions stay")
    scrub(bed, "--deep", "--resolve", "keep", statuses=(0,))
    scrub(bed, "--deep", "--resolve", "newest", statuses=(1,))
    bed.check(state_clean=True)
    listed = bed.rainfsctl("trash", "list", bed.config).stdout
    expect("conflicts/" in listed, f"the loser is listed: {listed}")


def leads_elsewhere(bed, path, number):
    victim = replica(bed, path, number)
    before = os.lstat(victim)
    os.unlink(victim)
    os.symlink("tO nowhere", victim)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)


def a_link_that_leads_elsewhere_is_seen(bed):
    with bed.mount() as node:
        make(f"{node.path}/link", "symlink")
    leads_elsewhere(bed, "link", 1)
    time.sleep(2.5)
    done = scrub(bed, statuses=(4,))
    expect("conflict: /link" in done.stdout and "left: /link" in done.stdout, done.stdout)
    expect({os.readlink(f"{e.store}/link") for e in holders(bed, "link")} == {"to nowhere", "tO nowhere"}, "both stay")
    scrub(bed, "--resolve", "newest", statuses=(1,))
    expect({os.readlink(f"{e.store}/link") for e in holders(bed, "link")} == {"tO nowhere"}, "the one that was made last is taken")
    aside = [f"{folder}/contents" for e in bed.exports.values() for folder, _, files in os.walk(f"{e.store}/.rainfs/conflicts") if "path" in files]
    expect([os.readlink(path) for path in aside] == ["to nowhere"], "the other one is kept aside")
    bed.check(state_clean=True)


def of_three_links_the_majority_is_right(bed):
    with bed.mount() as node:
        make(f"{node.path}/link", "symlink")
    leads_elsewhere(bed, "link", 0)
    time.sleep(2.5)
    scrub(bed, statuses=(1,))
    expect({os.readlink(f"{e.store}/link") for e in holders(bed, "link")} == {"to nowhere"}, "what most say is right")
    bed.check(state_clean=True)
    scrub(bed, statuses=(0,))


of_three_links_the_majority_is_right.bed = {"replicas": 3}


def damage_to_all_replicas_is_seen_and_not_taken_for_good(bed):
    with bed.mount() as node:
        with open(f"{node.path}/f", "wb") as out:
            out.write(b"a" * 1000)
    time.sleep(2.5)
    scrub(bed, "--deep", statuses=(0,))
    for export in holders(bed, "f"):
        export.corrupt("f", 5, b"Z")
    for _ in range(2):  # nor at the second time
        done = scrub(bed, "--deep", statuses=(4,))
        expect("damaged: /f" in done.stdout, done.stdout)
    scrub(bed, "--deep", "--resolve", "newest", statuses=(0,))
    scrub(bed, "--deep", statuses=(0,))


def of_three_replicas_the_majority_is_right_without_a_checksum(bed):
    with bed.mount() as node:
        fill(node.path, 12, files=5)
        originals = original(bed, node.path)
    for number, name in enumerate(("f2", "f3", "f4")):
        holders(bed, f"d0/{name}")[number].corrupt(f"d0/{name}", 0, b"\0\1\2\3")
    time.sleep(2.5)
    scrub(bed, "--deep", statuses=(1,))
    bed.check(originals=originals, state_clean=True)


of_three_replicas_the_majority_is_right_without_a_checksum.bed = {"replicas": 3}


def an_export_that_fills_up_meanwhile_is_gone_round(bed):
    with bed.mount() as node:
        fill(node.path, 13, directories=4, files=40)
        originals = original(bed, node.path)
    for d in range(4):
        for i in range(2, 40):
            if bed["nas1"] in holders(bed, f"d{d}/f{i}"):
                os.unlink(f"{bed['nas1'].store}/d{d}/f{i}")
    bed["nas1"].fill(leave=300_000)
    time.sleep(2.5)
    scrub(bed)
    bed.check(originals=originals, state_clean=True)
    bed["nas1"].unfill()
    scrub(bed, statuses=(0, 1))
    bed.check(originals=originals, state_clean=True)


an_export_that_fills_up_meanwhile_is_gone_round.bed = {"backing": {"nas1": "tmpfs:48M", "*": "dir"}}


def where_no_other_export_has_room_a_full_one_is_reported(bed):
    with bed.mount() as node:
        fill(node.path, 14, files=20)
        originals = original(bed, node.path)
    for i in range(2, 20):
        os.unlink(f"{bed['nas1'].store}/d0/f{i}")
    bed["nas1"].fill(leave=100_000)
    time.sleep(2.5)
    done = scrub(bed, statuses=(4, 5))
    expect("left: /d0/" in done.stdout, done.stdout)
    bed["nas1"].unfill()
    time.sleep(2.5)
    scrub(bed, statuses=(1,))
    bed.check(originals=originals, state_clean=True)


where_no_other_export_has_room_a_full_one_is_reported.bed = {"racks": {"rack-a": ["nas1"], "rack-b": ["nas2"]},
                                                             "backing": {"nas1": "tmpfs:48M", "*": "dir"}}


def files_from_before_the_array_are_all_kept(bed):
    names = list(bed.exports)
    for number, name in enumerate(names[:3]):
        path = f"{bed[name].store}/same"
        with open(path, "w", encoding="ascii") as out:
            out.write(f"version {number}\n" * (number + 1))
        os.utime(path, (OLD + number, OLD + number))
    for name in names:
        with open(f"{bed[name].store}/only-{name}", "w", encoding="ascii") as out:
            out.write(name)
        os.utime(f"{bed[name].store}/only-{name}", (OLD, OLD))
    time.sleep(2.5)
    done = scrub(bed, statuses=(1,))
    bed.check(state_clean=True)
    kept = set()
    for export in bed.exports.values():
        for folder, _, files in os.walk(export.store):
            for file in files:
                if file in ("same", "contents"):
                    with open(f"{folder}/{file}", encoding="ascii") as text:
                        kept.add(text.read())
    expect(kept == {f"version {n}\n" * (n + 1) for n in range(3)}, f"nothing is lost: {kept}")
    expect(done.stdout.count("conflict: /same") == 2, f"all are listed: {done.stdout}")


if __name__ == "__main__":
    main([every_kind_of_damage_is_repaired, contents_that_nobody_can_judge_are_kept,
          a_link_that_leads_elsewhere_is_seen, of_three_links_the_majority_is_right,
          damage_to_all_replicas_is_seen_and_not_taken_for_good,
          of_three_replicas_the_majority_is_right_without_a_checksum, an_export_that_fills_up_meanwhile_is_gone_round,
          where_no_other_export_has_room_a_full_one_is_reported, files_from_before_the_array_are_all_kept], __doc__)
