# SPDX-License-Identifier: Apache-2.0
"""How suites tell what they found: a line for each promise, or for each test named after its promise."""
import subprocess
import sys
import time

failures = []  # promises that check() found broken


def check(condition, promise, detail=""):
    print(("ok      " if condition else "FAILED  ") + promise, flush=True)
    if not condition:
        failures.append(promise)
        if detail:
            print("        " + str(detail).replace("\n", "\n        "), flush=True)


def run_named(tests, names, *errors):
    """Runs the functions that are named, or all; the exit status. A test fails by raising what is given, or an error of the system."""
    unknown = set(names) - {test.__name__ for test in tests}
    if unknown:
        print(f"no such test: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    failed = 0
    for test in tests:
        if names and test.__name__ not in names:
            continue
        begun = time.monotonic()
        try:
            test()
            word = "ok      "
        except (OSError, subprocess.SubprocessError, *errors) as error:
            print(f"        {error}", flush=True)
            word = "FAILED  "
            failed += 1
        print(f"{word}{test.__name__.replace('_', ' ')} ({time.monotonic() - begun:.0f} s)", flush=True)
    return 1 if failed else 0
