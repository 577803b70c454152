"""Turns samples into Markdown."""

import statistics

MIB = 1024 * 1024


def values(samples, peer, pick):
    """One value per round of a peer; None where the round failed or says nothing."""
    found = []
    for report in samples.get(peer) or []:
        try:
            found.append(pick(report) if report else None)
        except (ZeroDivisionError, KeyError):
            found.append(None)
    return found


def median(numbers):
    known = [n for n in numbers if n is not None]
    return statistics.median(known) if known else None


def ratios(samples, peer, other, pick):
    """A peer against another inside the same round."""
    pairs = zip(values(samples, peer, pick), values(samples, other, pick))
    return [a / b for a, b in pairs if a is not None and b]


def show(number, digits=1):
    if number is None:
        return "-"
    return f"{number:,.{digits}f}"


def show_ratio(numbers):
    if not numbers:
        return "-"
    if len(numbers) == 1:
        return f"{numbers[0]:.2f}"
    return f"{statistics.median(numbers):.2f} [{min(numbers):.2f}–{max(numbers):.2f}]"


def per_request(report):
    return report["cpu_ns"] / 1e3 / report["requests"] if report["cpu_ns"] else None


def per_frame(report):
    return report["cpu_ns"] / 1e3 / report["frames"] if report["cpu_ns"] else None


def busiest_per_request(report):
    return report["busiest_ns"] / 1e3 / report["requests"] if report["busiest_ns"] else None


def per_connection(report):
    return (report["rss"] - report["base_rss"]) / 1024 / report["connections"]


def rss_at_10_000(report):
    """In MiB; from the cost of one where the limit of descriptors allowed fewer."""
    return (report["base_rss"] + per_connection(report) * 1024 * 10_000) / MIB


def rate(report):
    return report["requests_per_s"]


def field(*path):
    def pick(report):
        for name in path:
            report = report[name]
        return report
    return pick


def rss_mib(report):
    return report["rss"] / MIB if report["rss"] else None


def wrong(samples, peer):
    """Errors and answers that differ from what the upstream sent, over all rounds."""
    names = ("error_count", "altered_bodies", "altered_events", "broken_streams")
    counts = [sum(r.get(n, 0) for r in samples.get(peer) or [] if r) for n in names]
    return f"{counts[0]} / {sum(counts[1:])}"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" + " ---: |" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def json_table(samples):
    rows = []
    for peer in samples:
        rows.append([peer, show(median(values(samples, peer, rate)), 0),
                     show(median(values(samples, peer, per_request))),
                     show_ratio(ratios(samples, peer, "nginx", per_request)),
                     show(median(values(samples, peer, busiest_per_request))),
                     show(median(values(samples, peer, field("latency_us", "p50"))), 0),
                     show(median(values(samples, peer, field("latency_us", "p99"))), 0),
                     show(median(values(samples, peer, rss_mib))), wrong(samples, peer)])
    return table(["", "requests/s", "CPU µs/request", "× nginx", "of it busiest thread", "p50 µs", "p99 µs",
                  "RSS MiB", "errors / altered"], rows)


def open_table(samples):
    rows = []
    for peer in samples:
        row = [peer]
        for name in ("p50", "p99", "p999"):
            row.append(show(median(values(samples, peer, field("latency_us", name))), 0))
        for name in ("p50", "p99"):
            row.append(show(added(samples, peer, ("latency_us", name)), 0))
        row += [show(median(values(samples, peer, per_request))),
                show_ratio(ratios(samples, peer, "nginx", per_request)),
                show(median(values(samples, peer, field("unfinished"))), 0), wrong(samples, peer)]
        rows.append(row)
    return table(["", "p50 µs", "p99 µs", "p99.9 µs", "added p50", "added p99", "CPU µs/request", "× nginx",
                  "unfinished", "errors / altered"], rows)


def added(samples, peer, path):
    """What a peer adds to the direct way inside the same round."""
    if peer == "direct":
        return None
    pairs = zip(values(samples, peer, field(*path)), values(samples, "direct", field(*path)))
    return median([a - b for a, b in pairs if a is not None and b is not None])


def sse_table(samples):
    rows = []
    for peer in samples:
        row = [peer, show(median(values(samples, peer, field("frames_per_s"))), 0),
               show(median(values(samples, peer, per_frame))),
               show_ratio(ratios(samples, peer, "nginx", per_frame))]
        for name in ("p50", "p99"):
            row.append(show(median(values(samples, peer, field("frame_delay_us", name))), 0))
        for name in ("p50", "p99"):
            row.append(show(added(samples, peer, ("frame_delay_us", name)), 0))
        row += [show(median(values(samples, peer, field("streams_open"))), 0),
                show(median(values(samples, peer, rss_mib))), wrong(samples, peer)]
        rows.append(row)
    return table(["", "events/s", "CPU µs/event", "× nginx", "delay p50 µs", "delay p99 µs", "added p50",
                  "added p99", "streams held", "RSS MiB", "errors / altered"], rows)


def memory_table(samples, held_name):
    rows = []
    for peer in samples:
        row = [peer, show(median(values(samples, peer, lambda r: r["base_rss"] / MIB))),
               show(median(values(samples, peer, rss_mib))),
               show(median(values(samples, peer, per_connection)), 2)]
        row += [show(median(values(samples, peer, field(name))), 0) for name in held_name]
        rows.append(row + [wrong(samples, peer)])
    titles = {"connections_held": "held", "connections_alive": "answered again",
              "streams_open": "streams held"}
    return table(["", "RSS before, MiB", "RSS, MiB", "KiB per connection", *[titles[n] for n in held_name],
                  "errors / altered"], rows)


def render(suite, samples):
    if suite.kind == "json":
        return json_table(samples)
    if suite.kind == "open":
        return open_table(samples)
    if suite.kind == "sse":
        return sse_table(samples)
    if suite.kind == "idle":
        return memory_table(samples, ["connections_held", "connections_alive"])
    return memory_table(samples, ["streams_open"])


def noise(all_samples):
    """How much of the proxy's core something else used; trust absolute figures only where it is small."""
    shares = [r["other_share"] for s in all_samples.values() for rs in s.values() for r in rs if r]
    return (statistics.median(shares), max(shares)) if shares else (0.0, 0.0)
