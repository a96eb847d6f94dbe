#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Operating an array: status without and with a mount, the files in .rainfs, orders, and the service manager.

usage: operate_test.py        (needs root, /dev/fuse and a build)
"""
import json
import os
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from bed import Array, isolate, program, wait_until  # noqa: E402

RACKS = {"rack-a": ["nas1"], "rack-b": ["nas2"], "rack-c": ["nas3"]}
DEADLINES = "deadlines: { metadata: 1s, data: 2s, probe: 500ms }"
failures = []


def check(condition, promise, detail=""):
    print(("ok      " if condition else "FAILED  ") + promise, flush=True)
    if not condition:
        failures.append(promise)
        if detail:
            print("        " + str(detail).replace("\n", "\n        "), flush=True)


def ctl(*arguments, timeout=60):
    done = subprocess.run([program("rainfsctl"), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=timeout)
    done.all = f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def status_json(target):
    done = ctl("status", "--json", target)
    return done.returncode, json.loads(done.stdout)


def metric(node, line):
    with open(node.path + "/.rainfs/metrics", encoding="utf-8") as text:
        for found in text:
            if found.startswith(line + " "):
                return float(found.split()[-1])
    return None


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
            check(metric(node, 'rainfs_operation_seconds_count{operation="create"}') == 1, "operations are counted by kind")
            written = sum(metric(node, f'rainfs_export_written_bytes_total{{export="{e}",rack="{r[0]}"}}') or 0
                          for e, r in (("nas1", ("rack-a",)), ("nas2", ("rack-b",)), ("nas3", ("rack-c",))))
            check(written == 10000, "and by export, each replica", written)

            wait_until(lambda: os.path.exists(bed["nas1"].store + "/.rainfs/nodes/n1"), "the node's mark")
            code, report = status_json(bed.config)
            check(code == 0 and [m["node"] for m in report["mounts"] if m["alive"]] == ["n1"],
                  "the mount is seen without it", report["mounts"])

            bed["nas2"].vanish()
            wait_until(lambda: metric(node, 'rainfs_export_online{export="nas2",rack="rack-b"}') == 0, "nas2 is missed")
            code, report = status_json(node.path)
            nas2 = next(e for e in report["exports"] if e["name"] == "nas2")
            check(code == 1 and nas2["absent_since_s"] > 0, "the daemon knows since when an export is absent", nas2)
            bed["nas1"].vanish()
            wait_until(lambda: metric(node, 'rainfs_export_online{export="nas1",rack="rack-a"}') == 0, "nas1 is missed")
            done = ctl("status", node.path)
            check(done.returncode == 2, "two racks away: 2 through the mount, too", done.all)
            bed["nas1"].come_back()
            bed["nas2"].come_back()
            wait_until(lambda: ctl("status", node.path).returncode == 0, "healthy again")

            orders(bed, node)
        check(not os.path.exists(bed["nas1"].store + "/.rainfs/nodes/n1"), "an orderly end takes the node's mark away")


def facts_are_told():
    with Array({"rack-a": ["nas1"], "rack-b": ["nas2"]}, extra=DEADLINES) as bed:
        bed.create()
        with bed.mount() as node:
            bed["nas2"].vanish()
            wait_until(lambda: metric(node, 'rainfs_export_online{export="nas2",rack="rack-b"}') == 0, "nas2 is missed")
            for i in range(3):
                with open(f"{node.path}/f{i}", "w") as out:
                    out.write("x")
            bed["nas2"].come_back()
            wait_until(lambda: metric(node, 'rainfs_export_online{export="nas2",rack="rack-b"}') == 1, "nas2 is back")
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


def main():
    without_a_mount()
    hung()
    with_a_mount()
    facts_are_told()
    service_manager()
    print(f"{len(failures)} failed" if failures else "all kept")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(isolate(main))
