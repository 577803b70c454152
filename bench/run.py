#!/usr/bin/env python3
"""Measures Nebula against its peers and prints Markdown. See bench/README.md."""

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys

from driver import tables
from driver.goals import goal_rows
from driver.peers import Nginx, all_peers
from driver.processes import StartError, cores, stop_all
from driver.suites import Bench, all_suites

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of at most a minute")
    parser.add_argument("--suites", default="", help="comma-separated names, default all")
    parser.add_argument("--peers", default="", help="comma-separated parts of names; nginx stays in")
    parser.add_argument("--seconds", type=float, default=1.2, help="measured time of one sample")
    parser.add_argument("--rounds", type=int, default=2, help="samples per peer and suite")
    parser.add_argument("--budget", type=float, default=0, help="seconds after which nothing new is begun")
    parser.add_argument("--bin-dir", default="", help="where nebula_bench_load and nebula_bench_upstream are")
    parser.add_argument("--work-dir", default="", help="for databases and logs; on a real disk")
    parser.add_argument("--json", default="", metavar="FILE", help="also writes every sample")
    options = parser.parse_args()
    options.root = ROOT
    options.budget = options.budget or (55 if options.quick else 230)
    folders = [options.bin_dir] if options.bin_dir else [os.path.join(ROOT, "build", "bench")]
    options.load = os.path.join(folders[0], "nebula_bench_load")
    options.upstream = os.path.join(folders[0], "nebula_bench_upstream")
    for program in (options.load, options.upstream):
        if not os.access(program, os.X_OK):
            parser.error(f"{program} is not built (targets nebula_bench_load, nebula_bench_upstream)")
    return options


def output_of(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, cwd=ROOT)
        return (done.stdout or done.stderr).strip()
    except OSError:
        return ""


def environment():
    with open("/proc/cpuinfo") as f:
        models = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    facts = [datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
             f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores",
             f"Linux {platform.release()}",
             output_of(Nginx.binary or "nginx", "-v").replace("nginx version: ", ""),
             f"node {output_of('node', '--version')}", f"load average {os.getloadavg()[0]:.2f}"]
    commit = output_of("git", "rev-parse", "--short=12", "HEAD")
    return facts + ([f"revision {commit}"] if commit else [])


def chosen(options):
    nebula = os.environ.get("NEBULA_BIN", os.path.join(ROOT, "build", "nebula"))
    peers = all_peers(os.path.abspath(nebula))
    if options.peers:
        parts = options.peers.split(",")
        peers = [p for p in peers if p.name == "nginx" or any(part in p.name for part in parts)]
    suites = all_suites(options.quick, options.seconds, options.rounds)
    if options.suites:
        names = options.suites.split(",")
        unknown = set(names) - {s.name for s in all_suites(False, 1, 1)}
        if unknown:
            sys.exit(f"no such suite: {', '.join(sorted(unknown))}")
        suites = [s for s in all_suites(False, options.seconds, options.rounds) if s.name in names]
    return peers, suites


def print_report(bench, suites, facts):
    proxy_cpu, load_cpu = cores()
    median_noise, worst_noise = tables.noise(bench.samples)
    print("## Measured " + "; ".join(facts) + "\n")
    print(f"Proxy under test on cpu {proxy_cpu}, load generator and upstream on cpu {load_cpu}. "
          f"Other work used {median_noise * 100:.0f} % of cpu {proxy_cpu} in the median sample, "
          f"{worst_noise * 100:.0f} % in the worst. "
          "Figures are medians over the rounds; ratios are taken inside a round: median [lowest–highest].\n")
    for suite in suites:
        if bench.samples.get(suite.name):
            print(f"### {suite.title}\n\n{tables.render(suite, bench.samples[suite.name])}\n")
    rows = goal_rows(bench.samples)
    if rows:
        print("### Goals\n\n" + tables.table(["goal", "suite", "measured", ""], rows) + "\n")
    if bench.notes:
        print("### Notes\n")
        for note in dict.fromkeys(bench.notes):
            print(f"- {note}")


def main():
    options = parse_options()
    # The driver itself stays off the core that is being measured.
    os.sched_setaffinity(0, {cores()[1]})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    facts = environment()
    peers, suites = chosen(options)
    bench = Bench(options, peers)
    try:
        bench.run(suites)
        print_report(bench, suites, facts)
        if options.json:
            with open(options.json, "w") as f:
                json.dump({"environment": facts, "samples": bench.samples, "notes": bench.notes}, f, indent=1)
    except StartError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        stop_all()
        bench.close()


if __name__ == "__main__":
    main()
