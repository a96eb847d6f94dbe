#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Operating an array: status without and with a mount, the files in .rainfs, orders, and the service manager.

usage: operate_test.py        (needs root, /dev/fuse and a build)
"""
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import exposition  # noqa: E402
from bed import Array, isolate, program, wait_until  # noqa: E402
from machine import FUSE_CONNECTIONS  # noqa: E402
from promises import check, failures  # noqa: E402

RACKS = {"rack-a": ["nas1"], "rack-b": ["nas2"], "rack-c": ["nas3"]}
DEADLINES = "deadlines: { metadata: 1s, data: 2s, probe: 500ms }"


def ctl(*arguments, timeout=60):
    done = subprocess.run([program("rainfsctl"), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=timeout)
    done.all = f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def status_json(target):
    done = ctl("status", "--json", target)
    return done.returncode, json.loads(done.stdout)


def metrics(node):
    with open(node.path + "/.rainfs/metrics", encoding="utf-8") as text:
        return exposition.parse(text.read())


def metric(node, family, suffix="", **labels):
    return metrics(node)[family].value(suffix, **labels)


def export_of(report, name):
    return next(e for e in report["exports"] if e["name"] == name)


def refused(errno_name, action):
    try:
        action()
    except OSError as error:
        return errno_name == error.strerror or errno_name == errno_of(error)
    return False


def errno_of(error):
    import errno
    return errno.errorcode.get(error.errno, "")


def without_a_mount():
    with Array(RACKS, extra=DEADLINES) as bed:
        done = ctl("status", bed.config)
        check(done.returncode == 2 and "rainfsctl create" in done.stdout, "an array that was not made is unavailable, and it "
              "is said what to do", done.all)
        bed.create()
        done = ctl("status", bed.config)
        check(done.returncode == 0 and "healthy" in done.stdout, "a whole array is healthy: 0", done.all)
        bed["nas2"].vanish()
        done = ctl("status", bed.config)
        check(done.returncode == 1 and "nas2" in done.stdout and "not mounted" in done.stdout,
              "one rack away is degraded: 1, and named with the reason", done.all)
        bed["nas3"].vanish()
        code, report = status_json(bed.config)
        check(code == 2 and report["health"] == "unavailable" and report["racks_complete"] == 1,
              "more racks away than R-1 is unavailable: 2", report)
        bed["nas2"].come_back()
        bed["nas3"].come_back()
        check(ctl("status", bed.config).returncode == 0, "and healthy again when they are back")
        check(ctl("status", "/nowhere").returncode == 3, "what cannot be told is 3")
        check(ctl("status", "--bogus").returncode == 3, "and so is wrong usage")
        done = ctl("tolerance", bed.config)
        check(done.returncode == 0 and "1 rack whole, or any 1 disk" in done.stdout, "tolerance tells this array's losses",
              done.all)
        page = os.path.join(bed.base, "report.html")
        done = ctl("report", "--html", page, bed.config)
        check(done.returncode == 0 and "nas3" in open(page, encoding="utf-8").read(), "report writes a page", done.all)


def hung():
    with Array(RACKS, extra=DEADLINES, backing={"nas2": "flaky", "*": "dir"}) as bed:
        bed.create()
        bed["nas2"].hang()
        try:
            done = ctl("status", bed.config, timeout=60)
            check(done.returncode == 1 and "does not answer" in done.stdout,
                  "status does not hang on a hung export, and tells which it is", done.all)
        finally:
            bed["nas2"].release()


def with_a_mount():
    with Array(RACKS, extra=DEADLINES) as bed:
        bed.create()
        with bed.mount(options="node=n1,attr_timeout=0s") as node:
            directory = node.path + "/.rainfs"
            check(".rainfs" not in os.listdir(node.path), ".rainfs is not listed")
            check(sorted(os.listdir(directory)) == ["control", "metrics", "status", "status.json"],
                  "its files are there for root")
            text = open(directory + "/status", encoding="utf-8").read()
            check("healthy" in text and "n1" in text, "status is the text", text)
            for call in (lambda: os.mkdir(directory + "/x"), lambda: os.unlink(directory + "/status"),
                         lambda: os.rmdir(directory), lambda: os.rename(directory, node.path + "/y"),
                         lambda: open(directory + "/x", "w"), lambda: os.chmod(directory + "/status", 0o644),
                         lambda: open(directory + "/status", "w"),
                         lambda: os.link(directory + "/status", node.path + "/y")):
                if not refused("EPERM", call):
                    check(False, "nothing in .rainfs can be made, removed or changed")
                    break
            else:
                check(True, "nothing in .rainfs can be made, removed or changed")
            as_nobody = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat",
                                        directory + "/status"], capture_output=True, text=True)
            check(as_nobody.returncode != 0 and "denied" in as_nobody.stderr, "ordinary users may not read it",
                  as_nobody.stderr)

            with open(node.path + "/file", "wb") as out:
                out.write(b"x" * 5000)
            with open(node.path + "/file", "rb") as back:
                back.read()
            check(metric(node, "rainfs_written_bytes_total") == 5000, "bytes written are counted once")
            check(metric(node, "rainfs_operation_seconds", "_count", operation="create") == 1, "operations are counted by kind")
            written = metric(node, "rainfs_export_written_bytes_total")
            check(written == 10000, "and by export, each replica", written)

            wait_until(lambda: os.path.exists(bed["nas1"].store + "/.rainfs/nodes/n1" + node.path.replace("/", "-")), "the node's mark")
            code, report = status_json(bed.config)
            check(code == 0 and [m["node"] for m in report["mounts"] if m["alive"]] == ["n1"],
                  "the mount is seen without it", report["mounts"])

            bed["nas2"].vanish()
            wait_until(lambda: metric(node, "rainfs_export_online", export="nas2") == 0, "nas2 is missed")
            code, report = status_json(node.path)
            nas2 = next(e for e in report["exports"] if e["name"] == "nas2")
            check(code == 1 and nas2["absent_since_s"] > 0, "the daemon knows since when an export is absent", nas2)
            bed["nas1"].vanish()
            wait_until(lambda: metric(node, "rainfs_export_online", export="nas1") == 0, "nas1 is missed")
            done = ctl("status", node.path)
            check(done.returncode == 2, "two racks away: 2 through the mount, too", done.all)
            bed["nas1"].come_back()
            bed["nas2"].come_back()
            wait_until(lambda: ctl("status", node.path).returncode == 0, "healthy again")

            metrics_are_complete(node)
            orders(bed, node)
            levels(bed, node)
        check(not os.path.exists(bed["nas1"].store + "/.rainfs/nodes/n1" + node.path.replace("/", "-")), "an orderly end takes the node's mark away")


# What the issue of operating asks metrics to tell, and the families that do.
FAMILIES = {
    "operations and their latency": "rainfs_operation_seconds", "errors": "rainfs_operation_errors_total",
    "bytes read": "rainfs_read_bytes_total", "bytes written": "rainfs_written_bytes_total",
    "latency of an export": "rainfs_export_operation_seconds", "errors of an export": "rainfs_export_errors_total",
    "bytes of an export": "rainfs_export_written_bytes_total", "breaker": "rainfs_export_online",
    "breaker openings": "rainfs_export_absences_total", "deadlines": "rainfs_export_missed_deadlines_total",
    "facts of an export": "rainfs_export_facts", "facts": "rainfs_facts", "facts recorded": "rainfs_facts_recorded_total",
    "open files": "rainfs_open_files", "cache": "rainfs_cached_nodes", "degraded writes": "rainfs_degraded_commits_total",
    "failovers": "rainfs_read_failovers_total", "health": "rainfs_health", "capacity": "rainfs_usable_bytes",
    "scrubs": "rainfs_scrub_running", "what runs": "rainfs_info",
}


def metrics_are_complete(node):
    wait_until(lambda: "rainfs_health" in metrics(node), "the first look at the array")
    found = metrics(node)
    missing = {what: name for what, name in FAMILIES.items() if name not in found}
    check(not missing, "each thing worth watching has a metric", missing)
    samples = [labels for family in found.values() for _, labels in family.samples]
    check(samples and all({"array", "mount"} <= {name for name, _ in labels} for labels in samples),
          "every sample says of which array and mount it is, so that those of several can be collected together")
    check(found["rainfs_operation_seconds"].value("_count", operation="lookup") > 0
          and found["rainfs_export_operation_seconds"].value("_count", export="nas1", work="metadata") > 0,
          "latencies are counted per operation and per export")


def state_is_told(bed, node, state, key, export, word):
    for target in (node.path, bed.config):
        wait_until(lambda: export_of(status_json(target)[1], export)[key], f"{export} is {state}")
        done = ctl("status", target)
        check(done.returncode == 1 and word in done.stdout and f"export {export}" in done.stdout,
              f"{state} is told, with 1, {'by the mount' if target == node.path else 'by the exports'}", done.all)


def slow_is_told():
    # Deadlines far beyond the delay, on a machine however busy.
    with Array(RACKS, extra="deadlines: { metadata: 20s, data: 20s, probe: 20s }", backing={"nas2": "flaky", "*": "dir"}) as bed:
        bed.create()
        with bed.mount(options="node=n1,attr_timeout=0s") as node:
            bed["nas2"].tell("add * * delay 60")
            state_is_told(bed, node, "slow", "slow", "nas2", "SLOW")
            bed["nas2"].release()


def draining_is_told():
    with Array({**RACKS, "rack-d": ["nas4"]}, extra=DEADLINES) as bed:
        bed.create()
        with bed.mount(options="node=n1,attr_timeout=0s") as node:
            with open(node.path + "/file", "w", encoding="utf-8") as out:
                out.write("x")
            # Interrupted before it ends: the flaky moment is when nas4 drains and nobody works on it.
            bed["nas1"].vanish()
            ctl("drain", "--yes", bed.config, "nas4", timeout=120)
            bed["nas1"].come_back()
            wait_until(lambda: metric(node, "rainfs_export_online", export="nas1") == 1, "nas1 is back")
            found = export_of(status_json(bed.config)[1], "nas4")["state"]
            if found == "draining":
                for target in (node.path, bed.config):
                    wait_until(lambda: export_of(status_json(target)[1], "nas4")["state"] == "draining", "it is known there")
                    done = ctl("status", target)
                    check(done.returncode == 1 and "draining" in done.stdout and "is being drained" in done.stdout,
                          "draining is told, with 1", done.all)
            check(found == "draining", "an interrupted drain leaves the export draining", found)
            done = ctl("drain", "--yes", bed.config, "nas4", timeout=120)
            check(done.returncode == 0, "and the same command goes on", done.all)


def states_are_told():
    """Each state an export can have, in text, JSON, metrics and exit status, with and without the mount."""
    backing = {"nas1": "tmpfs:64M", "nas2": "flaky", "nas3": "tmpfs:64M"}
    with Array(RACKS, extra=DEADLINES, backing=backing) as bed:
        bed.create()
        with bed.mount(options="node=n1,attr_timeout=0s") as node:
            def told(*words):
                state_is_told(bed, node, *words)

            bed["nas1"].read_only()
            told("read-only", "read_only", "nas1", "READ-ONLY")
            check(metric(node, "rainfs_export_read_only", export="nas1") == 1, "and counted")
            bed["nas1"].come_back()
            bed["nas3"].fill()
            told("full", "full", "nas3", "FULL")
            check(metric(node, "rainfs_export_full", export="nas3") == 1, "and counted")
            bed["nas3"].unfill()
            bed["nas2"].hang()
            try:
                begun = time.monotonic()
                done = [ctl("status", target, timeout=60) for target in (node.path, bed.config)]
                # Deadlines are 1 s and 0.5 s; what matters is that it ends, on a machine however busy.
                check(time.monotonic() - begun < 40 and all(d.returncode == 1 and "ABSENT" in d.stdout for d in done),
                      "a hung export is told as absent, with 1, and nobody waits for it", done[0].all + done[1].all)
                check("absent since" in done[0].stdout, "and since when", done[0].all)
            finally:
                bed["nas2"].release()
            wait_until(lambda: ctl("status", node.path).returncode == 0, "all is well again", 120)
            done = subprocess.run([program("rainfsctl"), "status", "--watch", node.path], stdout=subprocess.PIPE, text=True,
                                  preexec_fn=lambda: signal.alarm(8))
            check(done.stdout.count("state: healthy") >= 2, "--watch goes on", done.stdout)


def scrubs_are_told():
    with Array(RACKS, extra=DEADLINES + "\nscrub: { grace: 1s }") as bed:
        bed.create()
        with bed.mount(options="node=n1") as node:
            for i in range(30):
                with open(f"{node.path}/f{i}", "w", encoding="utf-8") as out:
                    out.write("x" * 100)
            bed["nas2"].vanish()
            wait_until(lambda: metric(node, "rainfs_export_online", export="nas2") == 0, "nas2 is missed")
            for i in range(30):
                with open(f"{node.path}/f{i}", "a", encoding="utf-8") as out:
                    out.write("y")
            time.sleep(2)  # the grace time
            scrub(bed)
            report = status_json(node.path)[1]
            done = ctl("status", node.path)
            few = report["scrub"]["fewer_than_r"]
            check(few > 0 and report["scrub"]["single"] == few and f"{few} with fewer than 2 replicas, {few} of them with one"
                  in done.stdout, "files with fewer than R replicas, and with one, are told", done.all)
            check(report["scrub"]["unrepaired"] >= few and report["scrub"]["files"] == 30 and report["scrub"]["started_s"] > 0,
                  "what the scrub left is told as the scrub wrote it", report["scrub"])
            bed["nas2"].come_back()
            wait_until(lambda: scrub(bed) < 4, "everything is repaired")
            code, report = status_json(node.path)
            check(code == 0 and report["scrub"]["fewer_than_r"] == 0 and len(report["scrubs"]) >= 2
                  and report["scrubs"][0]["finished_s"] >= report["scrubs"][-1]["finished_s"],
                  "and that it is well after the next; those before are remembered", report["scrubs"])
            running = subprocess.Popen([program("rainfs-scrub"), "--deep", "--rate", "200", "--quiet", bed.config],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                wait_until(lambda: "files" in status_json(node.path)[1]["scrub"]["progress"], "a running scrub is told")
                progress = status_json(node.path)[1]["scrub"]["progress"]
                check("of about 30" in progress and "contents" in progress, "a running scrub tells how far it is", progress)
                check(metric(node, "rainfs_scrub_running") == 1, "and is counted")
            finally:
                running.terminate()
                running.wait(60)
        page = os.path.join(bed.base, "report.html")
        done = ctl("report", "--html", page, bed.config)
        text = open(page, encoding="utf-8").read()
        check(done.returncode == 0 and "Scrub history" in text and "everything" in text, "and the page has their history", done.all)


def scrub(bed, *options):
    return subprocess.run([program("rainfs-scrub"), *options, bed.config], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, timeout=120).returncode


def facts_are_told():
    with Array({"rack-a": ["nas1"], "rack-b": ["nas2"]}, extra=DEADLINES) as bed:
        bed.create()
        with bed.mount() as node:
            bed["nas2"].vanish()
            wait_until(lambda: metric(node, "rainfs_export_online", export="nas2") == 0, "nas2 is missed")
            for i in range(3):
                with open(f"{node.path}/f{i}", "w") as out:
                    out.write("x")
            bed["nas2"].come_back()
            wait_until(lambda: metric(node, "rainfs_export_online", export="nas2") == 1, "nas2 is back")
            code, report = status_json(node.path)
            check(code == 1 and report["facts"]["count"] >= 3 and report["facts"]["oldest_s"] > 0,
                  "replicas that wait for repair are counted, with the age of the oldest", report["facts"])
            paths = {e["path"] for e in report["facts"]["examples"]}
            check({"f0", "f1", "f2"} <= paths, "and some are named", paths)
            check(report["daemon"]["degraded_commits"] >= 3, "commits with fewer replicas are counted", report["daemon"])


def control(node):
    return open(node.path + "/.rainfs/control", encoding="utf-8").read()


def orders(bed, node):
    done = ctl("log-level", "debug", node.path)
    check(done.returncode == 0 and "log-level: debug" in control(node), "the log level changes at run time", done.all)
    check(ctl("log-level", "loud", node.path).returncode == 2, "a level that does not exist is refused")
    with open(node.path + "/.rainfs/control", "wb", buffering=0) as file:
        check(refused("EINVAL", lambda: file.write(b"nonsense\n")), "an unknown order is EINVAL")
    before = open(bed.config, encoding="utf-8").read()

    def rewrite(text):
        with open(bed.config, "w", encoding="utf-8") as out:
            out.write(text)

    rewrite(before.replace("data: 2s", "data: 3s"))
    done = ctl("reload", node.path)
    check(done.returncode == 0 and "data 3s" in control(node), "new deadlines are obeyed after a reload", done.all)
    rewrite(before.replace("data: 2s", "data: 4s") + "bogus: 1\n")
    done = ctl("reload", node.path)
    check(done.returncode == 1 and "bogus" in done.stderr and "data 3s" in control(node),
          "a file with an error is refused as a whole, and it is said why", done.all)
    rewrite(before.replace("data: 2s", "data: 4s").replace("replicas: 2", "replicas: 3"))
    done = ctl("reload", node.path)
    check(done.returncode == 1 and "replicas" in done.stderr and "data 3s" in control(node),
          "so is one that changes what a reload cannot", done.all)
    rewrite(before.replace("data: 2s", "data: 5s"))
    os.kill(node.pid, signal.SIGHUP)
    wait_until(lambda: "data 5s" in control(node), "SIGHUP reloads")
    check(True, "SIGHUP reloads")
    rewrite(before)


def levels(bed, node):
    """What is logged follows the level at once."""
    ctl("log-level", "error", node.path)
    bed["nas3"].vanish()
    wait_until(lambda: metric(node, "rainfs_export_online", export="nas3") == 0, "nas3 is missed")
    quiet = "nas3" in node.log_tail(5)
    bed["nas3"].come_back()
    wait_until(lambda: metric(node, "rainfs_export_online", export="nas3") == 1, "nas3 is back")
    ctl("log-level", "info", node.path)
    bed["nas3"].vanish()
    wait_until(lambda: "export-absent: export nas3" in node.log_tail(5), "the line in the log")
    check(not quiet, "log-level decides what is logged")
    bed["nas3"].come_back()
    wait_until(lambda: metric(node, "rainfs_export_online", export="nas3") == 1, "nas3 is back")


def changes_take_effect():
    """New deadlines and another way of reading are not only said to be in force."""
    slow = "deadlines: { metadata: 50s, data: 50s, probe: 40s }"
    with Array(RACKS, extra=slow, backing={"nas2": "flaky", "*": "dir"}) as bed:
        bed.create()
        with bed.mount(options="node=n1,attr_timeout=0s,entry_timeout=0s") as node:
            for i in range(12):
                with open(f"{node.path}/f{i}", "wb") as out:
                    out.write(b"x" * 4096)

            def rewrite(text):
                with open(bed.config, "w", encoding="utf-8") as out:
                    out.write(text)

            def read_all():
                before = metric(node, "rainfs_read_bytes_total")
                for i in range(12):
                    descriptor = os.open(f"{node.path}/f{i}", os.O_RDONLY)
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                    os.read(descriptor, 4096)
                    os.close(descriptor)
                return metric(node, "rainfs_read_bytes_total") - before

            config = open(bed.config, encoding="utf-8").read()
            through = read_all()
            rewrite(config + "reads: passthrough\n")
            done = ctl("reload", node.path)
            past = read_all()
            check(done.returncode == 0 and through == 12 * 4096 and past < through,
                  "reads: passthrough after a reload: files on local disks are read past the daemon", (through, past, done.all))
            rewrite(config.replace(slow, "deadlines: { metadata: 1s, data: 1s, probe: 500ms }"))
            done = ctl("reload", node.path)
            bed["nas2"].hang()
            try:
                begun = time.monotonic()
                for i in range(12):
                    os.stat(f"{node.path}/f{i}")
                check(done.returncode == 0 and time.monotonic() - begun < 30,
                      "shorter deadlines after a reload: a hung export is waited for no longer", done.all)
            finally:
                bed["nas2"].release()


def updates():
    """What the array remembers follows its file by an order, never by itself."""
    with Array(RACKS, extra=DEADLINES) as bed:
        bed.create()
        with bed.mount(options="node=n1") as node:
            config = open(bed.config, encoding="utf-8").read()

            def rewrite(text):
                with open(bed.config, "w", encoding="utf-8") as out:
                    out.write(text)

            done = ctl("update", "--yes", bed.config)
            check(done.returncode == 0 and "as its file says" in done.stdout, "nothing to update is no failure", done.all)
            rewrite(config + "min_replicas: 2\nreserve: 7%\n")
            done = ctl("update", bed.config)
            check(done.returncode == 1 and "--yes" in done.stderr, "an update asks first", done.all)
            done = ctl("update", "--yes", bed.config)
            check(done.returncode == 0, "an update is taken", done.all)
            wait_until(lambda: status_json(node.path)[1]["min_replicas"] == 2, "the mounted node knows")
            check(ctl("reload", node.path).returncode == 0, "and the file is no longer refused")
            bed["nas2"].vanish()
            bed["nas3"].vanish()
            wait_until(lambda: metric(node, "rainfs_export_online", export="nas3") == 0
                       and metric(node, "rainfs_export_online", export="nas2") == 0, "two racks are missed")
            check(refused("EIO", lambda: open(node.path + "/few", "w", encoding="utf-8").close()),
                  "min_replicas: 2 is obeyed: one copy is not enough")
            bed["nas2"].come_back()
            bed["nas3"].come_back()
            rewrite(config.replace("replicas: 2", "replicas: 3") + "reserve: 9%\n")
            done = ctl("update", "--yes", bed.config)
            check(done.returncode == 1 and "replicas is 3" in done.stderr and "nothing was changed" in done.stderr,
                  "what would move files is refused, as a whole", done.all)
            weighted = config.replace(f"path: {bed['nas1'].path}", f"path: {bed['nas1'].path}, weight: 1000") \
                             .replace(f"path: {bed['nas2'].path}", f"path: {bed['nas2'].path}, weight: 1000") \
                             .replace(f"path: {bed['nas3'].path}", f"path: {bed['nas3'].path}, weight: 1")
            rewrite(weighted + "min_replicas: 2\nreserve: 7%\n")
            done = ctl("update", "--yes", bed.config)
            check(done.returncode == 0 and "--balance" in done.stdout, "weights are taken", done.all)
            done = ctl("update", "--yes", bed.config)
            check(done.returncode == 0 and "as its file says" in done.stdout, "once", done.all)
            time.sleep(3)
            for i in range(100):
                open(f"{node.path}/w{i}", "w", encoding="utf-8").close()
            light = sum(os.path.exists(f"{bed['nas3'].store}/w{i}") for i in range(100))
            check(light < 20, "and obeyed by the mounted node", f"{light} of 100 files on nas3")


def files_that_lie_there():
    """Exports that held files before: all of them are there at once, wherever a new file's replicas would lie."""
    with Array({**RACKS, "rack-d": ["nas4"]}, extra=DEADLINES) as bed:
        whole = open(bed.config, encoding="utf-8").read()
        last = whole.index("  - name: rack-d")
        with open(bed.config, "w", encoding="utf-8") as out:
            out.write(whole[:last] + DEADLINES + "\n")
        paths = []

        def put(export):
            os.makedirs(bed[export].store + f"/of-{export}/deep")
            for i in range(8):
                for path in (f"{export}-{i}", f"of-{export}/{i}", f"of-{export}/deep/{i}"):
                    with open(bed[export].store + "/" + path, "w", encoding="utf-8") as out:
                        out.write(path)
                    paths.append(path)

        def unread(node):
            bad = []
            for path in paths:
                try:
                    with open(node.path + "/" + path, encoding="utf-8") as file:
                        if file.read() != path:
                            bad.append(path)
                except OSError as error:
                    bad.append((path, error.strerror))
            return bad

        for export in ("nas1", "nas2", "nas3"):
            put(export)
        done = bed.create()
        check("rainfsctl replicas bed 2" in done.stdout, "create says what to do about files that lie there", done.stdout)
        with bed.mount(options="node=n1,attr_timeout=0s,entry_timeout=0s") as node:
            check(not unread(node), "every file that lay on an export is in the mount", unread(node)[:9])
            done = ctl("status", node.path)
            check(done.returncode == 1 and "rainfsctl replicas bed 2" in done.stdout, "status tells that they lack replicas", done.all)
            done = ctl("replicas", "--yes", bed.config, "2", timeout=120)
            check(done.returncode == 0, "replicas gives them all of theirs", done.all)
            wait_until(lambda: ctl("status", node.path).returncode == 0, "and that is the end of it")
            put("nas4")
            with open(bed.config, "w", encoding="utf-8") as out:
                out.write(whole)
            done = ctl("add", "--yes", bed.config, "nas4")
            check(done.returncode == 0 and "rainfsctl replicas" in done.stdout, "an export with files is added", done.all)
            wait_until(lambda: len(status_json(node.path)[1]["exports"]) == 4 and not unread(node), "what lies on it is in the mount")
            check(ctl("replicas", "--yes", bed.config, "2", timeout=120).returncode == 0, "and gets its replicas as well")
            wait_until(lambda: ctl("status", node.path).returncode == 0, "then all is well")
        bed.check()


def read_only_mount():
    with Array(RACKS, extra=DEADLINES) as bed:
        bed.create()
        with bed.mount(options="ro,node=n1") as node:
            text = open(bed.config, encoding="utf-8").read()
            with open(bed.config, "w", encoding="utf-8") as out:
                out.write(text.replace("data: 2s", "data: 3s"))
            done = ctl("reload", node.path)
            check(done.returncode == 0 and "data 3s" in control(node), "a read-only mount reloads too", done.all)
            with open(bed.config, "a", encoding="utf-8") as out:
                out.write("bogus: 1\n")
            done = ctl("reload", node.path)
            check(done.returncode == 1 and "bogus" in done.stderr, "and refuses what is wrong, saying why", done.all)


def service_manager():
    """A stand-in that speaks the notify protocol, as systemd does for Type=notify with WatchdogSec."""
    with Array(RACKS, extra=DEADLINES) as bed:
        bed.create()
        path = os.path.join(bed.base, "notify")
        heard = []
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(30)
            mount = os.path.join(bed.base, "mnt", "service")
            os.makedirs(mount)
            environment = dict(os.environ, NOTIFY_SOCKET=path, WATCHDOG_USEC="400000")
            daemon = subprocess.Popen([program("rainfs"), "--foreground", bed.config, mount], env=environment,
                                      stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                def hear(word):
                    while not any(word in line for line in heard):
                        heard.append(manager.recv(4096).decode())
                    return True
                check(hear("READY=1") and os.path.ismount(mount), "it says READY when the mount serves, not before")
                check(hear("WATCHDOG=1"), "it feeds the watchdog")
                daemon.send_signal(signal.SIGTERM)
                check(hear("STOPPING=1"), "it says STOPPING when asked to end")
                check(daemon.wait(30) == 0 and not os.path.ismount(mount), "and ends with 0, unmounted")
            finally:
                if daemon.poll() is None:
                    daemon.kill()
                    daemon.wait()
                    subprocess.run(["umount", "-l", mount], check=False)


def still_serves(mount, device):
    try:
        with open(f"{mount}/written", "w", encoding="ascii") as out:
            out.write("text")
        return os.stat(mount).st_dev == device  # not the directory beneath
    except OSError:
        return False


def the_end_of_a_mount_ends_no_other():
    """The kernel gives the number of a FUSE connection to the next mount at once: whoever ends the one that is gone must not meet it."""
    with Array(RACKS, extra=DEADLINES) as bed:
        bed.create()
        if not os.path.ismount(FUSE_CONNECTIONS):
            subprocess.run(["mount", "-t", "fusectl", "none", FUSE_CONNECTIONS], check=True)
        mount = os.path.join(bed.base, "mnt", "service")
        os.makedirs(mount)
        environment = dict(os.environ, NOTIFY_SOCKET=os.path.join(bed.base, "nobody"))
        supervisor = subprocess.Popen([program("rainfs"), "--foreground", bed.config, mount], env=environment,
                                      stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: os.path.ismount(mount), "it serves")
            number = os.stat(mount).st_dev

            def holds(descriptor):
                with contextlib.suppress(OSError):  # closed meanwhile
                    return os.readlink(descriptor).endswith("/abort")
                return False
            held = f"/proc/{supervisor.pid}/fd"
            wait_until(lambda: any(holds(f"{held}/{one}") for one in os.listdir(held)), "its supervisor holds the mount")
            with open(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children", encoding="ascii") as children:
                server = int(children.read())
            supervisor.send_signal(signal.SIGSTOP)
            subprocess.run(["umount", mount], check=True)

            def state():
                with open(f"/proc/{server}/stat", encoding="ascii") as stat:
                    return stat.read().rsplit(")", 1)[1].split()[0]
            wait_until(lambda: state() == "Z", "the server ends")
            others = [bed.mount() for _ in range(3)]
            devices = {node.path: os.stat(node.path).st_dev for node in others}
            check(number in devices.values(), "another mount has the number")
            supervisor.send_signal(signal.SIGCONT)
            check(supervisor.wait(30) == 0, "the supervisor ends with the server's status")
            check(all(still_serves(*one) for one in devices.items()), "and no other mount with it")
            for node in others:
                node.unmount()
        finally:
            if supervisor.poll() is None:
                supervisor.kill()
                supervisor.wait()
                subprocess.run(["umount", "-l", mount], check=False)


def main():
    without_a_mount()
    hung()
    with_a_mount()
    facts_are_told()
    states_are_told()
    slow_is_told()
    draining_is_told()
    scrubs_are_told()
    changes_take_effect()
    updates()
    files_that_lie_there()
    read_only_mount()
    service_manager()
    the_end_of_a_mount_ends_no_other()
    print(f"{len(failures)} failed" if failures else "all kept")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(isolate(main))
