"""One measurement: the load runs, and the peer's CPU time and memory are read at the same two moments."""

import json
import time

from .processes import Program, StartError, busy_jiffies, cores

JIFFY_NS = 10_000_000


def run_load(binary, peer, arguments, seconds, log):
    """Runs the load generator against a started peer. Returns its report with the peer's costs added:
    cpu_ns, busiest_ns (the thread that used most), threads, rss, other_share (of the peer's core)."""
    is_stream = "--stream" in arguments
    url = f"http://127.0.0.1:{peer.stream_port if is_stream else peer.json_port}/v1/chat/completions"
    argv = [binary, "--url", url, *arguments]
    if peer.key:
        argv += ["--key", peer.key]
    for header in peer.headers:
        argv += ["--header", header]
    proxy_cpu, load_cpu = cores()
    load = Program(argv, [load_cpu], log=log)
    before = after = {}
    rss = 0
    report = None
    try:
        # Generous: the load ends by itself; this only bounds a load that hangs.
        for line in load.lines(seconds + 60):
            if line == "start":
                before = peer.program.cpu_by_thread() if peer.program else {}
                busy, began = busy_jiffies(proxy_cpu), time.monotonic()
            elif line == "stop":
                after = peer.program.cpu_by_thread() if peer.program else {}
                busy, took = busy_jiffies(proxy_cpu) - busy, time.monotonic() - began
                rss = peer.program.rss_bytes() if peer.program else 0
            elif line.startswith("{"):
                report = json.loads(line)
        if report is None:
            load.fail("gave no report")
    finally:
        load.stop()
    if peer.program and peer.program.popen.poll() is not None:
        raise StartError(f"{peer.name} ended during the measurement")
    threads = {}
    for thread, (name, ns) in after.items():
        used = ns - before.get(thread, (name, 0))[1]
        threads[name] = threads.get(name, 0) + used
    report["threads"] = threads
    report["cpu_ns"] = sum(threads.values())
    report["busiest_ns"] = max((ns - before.get(t, ("", 0))[1] for t, (_, ns) in after.items()), default=0)
    report["rss"] = rss
    report["other_share"] = max(0.0, (busy * JIFFY_NS - report["cpu_ns"]) / (took * 1e9))
    return report
