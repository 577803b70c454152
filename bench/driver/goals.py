"""The goals of the project against what was measured."""

from . import tables

OFF, STRICT, BOTH = "nebula, governance off", "nebula, strict", "nebula, strict, both cores"
TIMES = "{:.2f} ×".format


def goal_rows(samples):
    """(goal, measured, verdict) for each goal that this run can judge."""
    rows = []

    def judge(goal, suite, numbers, is_met, text):
        value = tables.median(numbers)
        if value is not None:
            rows.append([goal, suite, text(value), "met" if is_met(value) else "**missed**"])

    for suite in ("json32", "json256", "body28k"):
        found = samples.get(suite, {})
        judge("CPU per request, governance off ≤ 1.2 × nginx", suite,
              tables.ratios(found, OFF, "nginx", tables.per_request), lambda v: v <= 1.2, TIMES)
        judge("CPU per request, governance on (strict) ≤ 2 × nginx", suite,
              tables.ratios(found, STRICT, "nginx", tables.per_request), lambda v: v <= 2, TIMES)
        judge("≥ 30 × less CPU than Portkey, governance on", suite,
              tables.ratios(found, "Portkey", STRICT, tables.per_request), lambda v: v >= 30, TIMES)
        judge("throughput lost to governance ≤ 10 % (both cores allowed)", suite,
              tables.ratios(found, BOTH, OFF, tables.rate), lambda v: v >= 0.9,
              lambda v: f"{(1 - v) * 100:.0f} %")
    for suite in ("sse100", "sse400"):
        found = samples.get(suite, {})
        for peer in (OFF, STRICT):
            judge(f"CPU per event ≤ 1.2 × nginx ({peer})", suite,
                  tables.ratios(found, peer, "nginx", tables.per_frame), lambda v: v <= 1.2, TIMES)
    for suite in ("idle1000", "idle10000"):
        found = samples.get(suite, {})
        judge("≤ 15 KiB per idle connection", suite, tables.values(found, STRICT, tables.per_connection),
              lambda v: v <= 15, lambda v: f"{v:.1f} KiB")
    for suite in ("idle10000", "held"):
        found = samples.get(suite, {})
        judge("10,000 idle connections or open streams ≤ 256 MiB", suite,
              tables.values(found, STRICT, tables.rss_at_10_000), lambda v: v <= 256, lambda v: f"{v:.0f} MiB")
    return rows
