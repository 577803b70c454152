"""Which loads are run, and the order in which peers take turns."""

import copy
import os
import shutil
import sys
import tempfile
import time

from .measure import run_load
from .processes import Program, StartError, cores, fd_limit


class Suite:
    """`kind` picks the table: json, open, sse, idle or held."""

    def __init__(self, name, title, kind, arguments, warmup, duration, rounds=2, slow_peers=True,
                 extra_peers=False, direct=True, interval_ms=20):
        self.name, self.title, self.kind, self.arguments = name, title, kind, arguments
        self.warmup, self.duration, self.rounds = warmup, duration, rounds
        self.slow_peers, self.extra_peers, self.direct = slow_peers, extra_peers, direct
        self.interval_ms = interval_ms

    def takes(self, peer):
        if peer.is_slow and not self.slow_peers:
            return False
        if peer.is_extra and not self.extra_peers:
            return False
        return self.direct or peer.name != "direct"

    def load_arguments(self):
        words = list(self.arguments) + ["--warmup", str(self.warmup), "--duration", str(self.duration)]
        return words


def all_suites(quick, seconds, rounds):
    """The suites in order of importance: when time runs out, the last are left out."""
    span, turns = (0.8, 1) if quick else (seconds, rounds)
    sse = ["--stream", "--tokens", "100"]
    idle = ["--idle", "--connections"]
    # A proxied stream takes two descriptors of the proxy.
    held = min(10_000, (fd_limit() - 1_000) // 2)

    def timed(name, title, kind, arguments, warmup, **more):
        extra = 0.5 if kind == "sse" else 0
        return Suite(name, title, kind, arguments, warmup, span + extra, turns, **more)

    suites = [
        timed("json32", "JSON request/response, 32 connections", "json", ["--connections", "32"], 0.4,
              extra_peers=True),
        timed("sse100", "SSE, 100 streams × 50 events/s", "sse", [*sse, "--connections", "100"], 0.8),
        Suite("idle1000", "1,000 idle keep-alive connections", "idle", [*idle, "1000"], 0, 0.5, 1,
              direct=False),
        timed("json256", "JSON request/response, 256 connections", "json", ["--connections", "256"], 0.5,
              extra_peers=True),
        timed("open", "JSON on a fixed schedule, 4,000 requests/s over 64 connections", "open",
              ["--connections", "64", "--rate", "4000"], 0.4, slow_peers=False, extra_peers=True),
        timed("sse400", "SSE, 400 streams × 50 events/s", "sse", [*sse, "--connections", "400"], 0.8,
              slow_peers=False),
        Suite("idle10000", "10,000 idle keep-alive connections", "idle", [*idle, "10000"], 0, 0.5, 1,
              slow_peers=False, direct=False),
        timed("body28k", "28 KB request bodies, 32 connections", "json",
              ["--connections", "32", "--body-bytes", "28672"], 0.4),
        Suite("held", f"{held:,} open streams, one event every 2 s each", "held",
              ["--stream", "--tokens", "1000", "--connections", str(held)], 5, 2, 1, slow_peers=False,
              direct=False, interval_ms=2000),
    ]
    return [s for s in suites if s.name in ("json32", "sse100", "idle1000", "json256")] if quick else suites


class Bench:
    """Holds the running peers and collects samples: samples[suite][peer] = one report per round."""

    def __init__(self, options, peers):
        self.options, self.peers = options, peers
        self.samples, self.notes = {}, []
        self.deadline = time.monotonic() + options.budget
        base = options.work_dir or os.path.join(options.root, "build")
        os.makedirs(base, exist_ok=True)
        # On the real disk beside the build, not in a memory file system: strict must pay for its sync.
        self.directory = tempfile.mkdtemp(prefix="bench-", dir=base)
        self.log = os.path.join(self.directory, "load.log")
        self.upstreams = {}
        self.serial = 0

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def upstream(self, interval_ms):
        if interval_ms not in self.upstreams:
            argv = [self.options.upstream, "--interval-ms", interval_ms]
            program = Program(argv, [cores()[1]], log=self.log)
            ports = (int(line.rsplit(":", 1)[1]) for line in program.lines(5) if "listening" in line)
            port = next(ports, None)
            if port is None:
                program.fail("did not listen")
            self.upstreams[interval_ms] = port
        return self.upstreams[interval_ms]

    def start(self, peer, interval_ms=20):
        self.serial += 1
        directory = os.path.join(self.directory, f"{self.serial}")
        os.mkdir(directory)
        peer.start(self.upstream(interval_ms), directory)

    def stop(self, peer, with_note=True):
        note = peer.stop()
        if note and with_note and note not in self.notes:
            self.notes.append(note)

    def start_all(self):
        for peer in list(self.peers):
            reason = peer.missing()
            if reason is None:
                try:
                    self.start(peer)
                except (StartError, OSError, ValueError, KeyError) as error:
                    reason = f"did not start: {error}"
                    self.stop(peer, with_note=False)
            if reason is not None:
                self.notes.append(f"{peer.name} was left out: {reason}")
                self.peers.remove(peer)

    def run(self, suites):
        timed = [s for s in suites if s.kind not in ("idle", "held")]
        if timed:
            self.start_all()
        for suite in suites:
            needed = (suite.warmup + suite.duration + 0.4) * len(self.peers)
            if time.monotonic() + needed > self.deadline:
                self.notes.append(f"left out for lack of time: {suite.title}")
                continue
            self.say(f"{suite.title} …")
            self.samples[suite.name] = {}
            if suite.kind in ("idle", "held"):
                self.run_fresh(suite)
            else:
                self.run_alternating(suite)
        for peer in self.peers:
            self.stop(peer)

    def run_alternating(self, suite):
        peers = [p for p in self.peers if suite.takes(p)]
        for turn in range(suite.rounds):
            if turn and time.monotonic() + (suite.warmup + suite.duration + 0.4) * len(peers) > self.deadline:
                self.notes.append(f"{suite.title}: {turn} of {suite.rounds} rounds, for lack of time")
                return
            for peer in peers if turn % 2 == 0 else reversed(peers):
                self.measure(suite, peer)

    def run_fresh(self, suite):
        """Memory is compared between processes of the same age: each peer starts anew and alone."""
        for template in self.peers:
            if not suite.takes(template) or template.missing() or time.monotonic() > self.deadline:
                continue
            peer = copy.copy(template)
            peer.program = None
            try:
                self.start(peer, suite.interval_ms)
                warm = ["--connections", "1", "--warmup", "0", "--duration", "0.2"]
                run_load(self.options.load, peer, warm, 1, self.log)
                self.measure(suite, peer, peer.program.rss_bytes())
            except (StartError, OSError, ValueError, KeyError) as error:
                self.notes.append(f"{suite.title}: {peer.name} did not start: {error}")
            finally:
                self.stop(peer, with_note=False)

    def measure(self, suite, peer, base_rss=0):
        try:
            seconds = suite.warmup + suite.duration
            report = run_load(self.options.load, peer, suite.load_arguments(), seconds, self.log)
        except StartError as error:
            self.notes.append(f"{suite.title}: {peer.name}: {error}")
            report = None
        if report:
            report["base_rss"] = base_rss
            if report["error_count"]:
                self.notes.append(f"{suite.title}: {peer.name}: errors {report['errors']}")
        self.samples[suite.name].setdefault(peer.name, []).append(report)

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)
