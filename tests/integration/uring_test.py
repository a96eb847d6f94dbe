#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The mount option uring: requests by FUSE over io_uring, where the kernel offers it, and by the device where it does not.

usage: uring_test.py [NAME...]        (needs root, /dev/fuse and a build)

The kernel's parameter is set for as long as the suite runs; mounts that do not ask for it do not notice.
"""

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))
import exposition  # noqa: E402
from bed import Array, BedError, expect, isolate, wait_until  # noqa: E402
from machine import URING_PARAMETER, abort_fuse, in_child, kernel_parameter  # noqa: E402
from promises import run_named  # noqa: E402

RACKS = {"rack-a": ["nas1"], "rack-b": ["nas2"], "rack-c": ["nas3"]}
DEADLINES = "deadlines: { metadata: 1s, data: 2s, probe: 500ms }"
FRESH = "uring,attr_timeout=0s,entry_timeout=0s"
IO_URING_ENTER = 426  # on all architectures
MANY = 150  # more than a queue has threads for requests that end (fuse::Options::most_threads)
PATIENCE_S = 60
ROUNDS = 8
PROCESSORS = sorted(os.sched_getaffinity(0))


def offered():
    return kernel_parameter(URING_PARAMETER, "Y")


def tasks(node, file):
    """What /proc says of each thread of the daemon."""
    for task in os.listdir(f"/proc/{node.pid}/task"):
        try:
            with open(f"/proc/{node.pid}/task/{task}/comm", encoding="ascii") as comm, \
                    open(f"/proc/{node.pid}/task/{task}/{file}", encoding="ascii") as said:
                yield comm.read().strip(), said.read()
        except OSError:
            pass  # it ended


def threads_of(node):
    return [name for name, _ in tasks(node, "stat")]


def in_rings(node):
    """Threads for requests that wait in a ring."""
    return sum(name == "rainfs-fuse" and said.split()[0] == str(IO_URING_ENTER) for name, said in tasks(node, "syscall"))


def told_over_io_uring(node):
    """As the metrics, the status for people and the status for programs say."""
    with open(f"{node.path}/.rainfs/metrics", encoding="ascii") as file:
        metrics = exposition.parse(file.read())["rainfs_over_io_uring"].value()
    with open(f"{node.path}/.rainfs/status", encoding="utf-8") as file:
        text = ", over io_uring:" in file.read()
    with open(f"{node.path}/.rainfs/status.json", encoding="utf-8") as file:
        programs = json.load(file)["daemon"]["over_io_uring"]
    expect(metrics == int(text) and programs == text, f"all say the same: {metrics}, {text}, {programs}")
    return text


def served_by_rings(node):
    wait_until(lambda: "requests come over io_uring" in node.log_tail(), "it says so")
    expect(told_over_io_uring(node), "the status says so")
    wait_until(lambda: in_rings(node) >= len(PROCESSORS), "a thread waits in the ring of each processor")


class Child:
    """A process of one processor that does something and then lives until it is killed."""

    def __init__(self, processor, action):
        def there():
            os.sched_setaffinity(0, {processor})
            action()

        self.pid = in_child(there)

    def done(self):
        """None, or how it ended: 0, an errno, or minus a signal."""
        if not hasattr(self, "status"):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if not pid:
                return None
            self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def end(self):
        if self.done() is None:
            os.kill(self.pid, signal.SIGKILL)
            wait_until(lambda: self.done() is not None, "a killed process ends")


@contextlib.contextmanager
def ends_with_the_mount():
    """A file that is open beyond the end of its mount cannot be closed without an error."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
            raise


def without_the_offer_requests_come_from_the_device():
    refused = kernel_parameter(URING_PARAMETER, "N") if os.path.exists(URING_PARAMETER) else contextlib.nullcontext()
    with refused, Array(RACKS) as bed:
        bed.create()
        node = bed.mount("uring")
        with open(f"{node.path}/f", "w", encoding="ascii") as out:
            out.write("text")
        wait_until(lambda: "does not offer FUSE over io_uring" in node.log_tail(), "it says so")
        expect(in_rings(node) == 0, "no thread waits in a ring")
        expect(not told_over_io_uring(node), "and the status says so")
        node.unmount()
        bed.check(state_clean=True)


def programs_run_over_io_uring():
    with offered(), Array(RACKS) as bed:
        bed.create()
        node = bed.mount("uring")
        served_by_rings(node)
        only = [word for name in ("cp", "git", "sqlite", "fio") for word in ("--only", name)]
        subprocess.run([sys.executable, os.path.join(HERE, "programs.py"), node.path, *only, "--after",
                        " ".join(bed.checker_command())], stdin=subprocess.DEVNULL, check=True, timeout=600)
        node.unmount()
        bed.check(state_clean=True)


def a_hung_export_keeps_no_queue_waiting():
    """Each processor's queue: many that must wait for the export, and then those that need not."""
    with offered(), Array(RACKS, extra=DEADLINES, backing="flaky") as bed:
        bed.create()
        node = bed.mount(FRESH)
        served_by_rings(node)
        for number in range(MANY):
            with open(f"{node.path}/{number}", "w", encoding="ascii") as out:
                out.write("text")
        bed["nas2"].hang()
        begun = time.monotonic()
        children = [Child(processor, lambda n=number: os.stat(f"{node.path}/{n}"))
                    for processor in PROCESSORS for number in range(MANY)]
        try:
            wait_until(lambda: all(child.done() is not None for child in children), "all have an answer", PATIENCE_S)
            expect(all(child.done() == 0 for child in children), "and it is a good one")
            print(f"        {len(children)} processes have their answers after {time.monotonic() - begun:.1f} s")
        finally:
            for child in children:
                child.end()
            bed["nas2"].release()


def many_wait_for_a_lock(node, top):
    os.mkdir(top)
    path = f"{top}/lock"

    def take():
        with open(path, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)

    with open(path, "w+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        children = [Child(PROCESSORS[0], take) for _ in range(MANY)]
        try:
            os.sched_setaffinity(0, {PROCESSORS[0]})  # the same queue
            wait_until(lambda: threads_of(node).count("rainfs-lock") == MANY, "all wait", PATIENCE_S)
            os.mkdir(f"{top}/beside")
            for child in children[:10]:
                child.end()  # interrupted
            fcntl.flock(held, fcntl.LOCK_UN)
            wait_until(lambda: all(child.done() is not None for child in children), "each has had the lock", PATIENCE_S)
            expect(all(child.done() == 0 for child in children[10:]), "without an error")
        finally:
            os.sched_setaffinity(0, PROCESSORS)
            for child in children:
                child.end()


def locks_that_are_waited_for_keep_no_queue_waiting():
    """Whoever holds the lock needs the queue to give it back, and others need it for other things."""
    with offered(), Array(RACKS) as bed:
        bed.create()
        node = bed.mount("uring")
        served_by_rings(node)
        for number in range(ROUNDS):  # how entries and requests meet in the queue is chance
            many_wait_for_a_lock(node, f"{node.path}/{number}")
        node.unmount()
        bed.check(state_clean=True)


def who_waits_when_the_connection_ends_is_told():
    """One that waits for a lock when the daemon is killed, and when the connection is aborted: then, too, one that waits for
    an export that hangs. (A daemon with a thread that hangs cannot end, whatever the requests come by.)"""
    for end in ("killed", "aborted"):
        with offered(), Array(RACKS, extra="deadlines: { metadata: 20s, data: 20s, probe: 10s }", backing="flaky") as bed:
            bed.create()
            node = bed.mount(FRESH)
            served_by_rings(node)
            os.mkdir(f"{node.path}/d")

            def take():
                with open(f"{node.path}/lock", "r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)

            with ends_with_the_mount(), open(f"{node.path}/lock", "w+b") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                waiting = [Child(PROCESSORS[0], take)]
                try:
                    wait_until(lambda: "rainfs-lock" in threads_of(node), "one waits for the lock")
                    if end == "killed":
                        node.kill()
                    else:
                        bed["nas2"].hang()
                        waiting.append(Child(PROCESSORS[-1], lambda: os.stat(f"{node.path}/d")))
                        time.sleep(0.5)
                        expect(all(child.done() is None for child in waiting), "both wait")
                        abort_fuse(node.path)
                    wait_until(lambda: all(child.done() is not None for child in waiting), f"{end}: all are told", PATIENCE_S)
                    for child in waiting:
                        expect(child.done() in (errno.ENOTCONN, errno.ECONNABORTED), f"{end}: told {child.done()}")
                finally:
                    for child in waiting:
                        child.end()
                    bed["nas2"].release()
            wait_until(lambda: node.process.poll() is not None, f"{end}: the daemon ends", PATIENCE_S)
            subprocess.run(["umount", node.path], check=False, stderr=subprocess.DEVNULL)
            again = bed.mount(FRESH)
            expect(os.path.isdir(f"{again.path}/d"), "the next mount serves")
            again.unmount()


def a_stop_in_the_middle_of_work_is_an_orderly_one():
    with offered(), Array(RACKS) as bed:
        bed.create()
        node = bed.mount("uring")
        served_by_rings(node)
        stop = threading.Event()

        def work(number):
            top = f"{node.path}/{number}"
            with contextlib.suppress(OSError):  # the end of the mount
                while not stop.is_set():
                    os.mkdir(top)
                    with open(f"{top}/f", "wb") as out:
                        out.write(b"x" * 200_000)
                    os.unlink(f"{top}/f")
                    os.rmdir(top)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(1)
            node.process.send_signal(signal.SIGTERM)
            wait_until(lambda: node.process.poll() is not None, "it ends", PATIENCE_S)
            expect(node.process.returncode == 0, f"without an error:\n{node.log_tail()}")
        finally:
            stop.set()
            for thread in threads:
                thread.join()


TESTS = [
    without_the_offer_requests_come_from_the_device,
    programs_run_over_io_uring,
    a_hung_export_keeps_no_queue_waiting,
    locks_that_are_waited_for_keep_no_queue_waiting,
    who_waits_when_the_connection_ends_is_told,
    a_stop_in_the_middle_of_work_is_an_orderly_one,
]


def main():
    tests = TESTS
    if not os.path.exists(URING_PARAMETER):
        print("NOTE: this kernel has no FUSE over io_uring: only that RainFS does without it is tested", flush=True)
        tests = TESTS[:1]
    return run_named(tests, sys.argv[1:], BedError)


if __name__ == "__main__":
    sys.exit(isolate(main))
