"""The half of the incident notebook that an engineer takes home: what syncing costs Redis, and which interval to choose.

Every figure in a sentence is worked out from what was simulated: another limit, load or seed may give another.
"""

from __future__ import annotations

import math
from typing import Any

from ratesim.formatting import format_percent, format_seconds
from ratesim.pages.html import HTML, escape_html, figure_html, html_table, small_print
from ratesim.pages.incident.analysis import ALLOWED, MIDDLE, Replay, summary
from ratesim.pages.incident.cells import NEAR
from ratesim.pages.incident.plots import loads
from ratesim.pages.incident.rule import bends, expected, interval_for, rule
from ratesim.pages.incident.sources import GATEWAY, KONG_FLOOR, KONG_LEAST
from ratesim.simulation.cost_model.profile import Profile

__all__ = ["choose", "load"]


def load(found: Replay) -> HTML:
    """Show the load on Redis by interval, beside Kong's advice."""
    rows = found.part("load")
    synced = rows[rows["interval"] > 0.0]
    replicas, offered = int(rows["replicas"].iloc[0]), float(rows["offered"].iloc[0])
    always = float(rows[rows["interval"] == 0.0]["utilization"].mean())
    reading = synced[synced["reads"]].iloc[0]
    few, many = int(synced["keys"].min()), int(synced["keys"].max())

    def at(keys: int, interval: float) -> float:
        of = synced[(synced["keys"] == keys) & ~synced["reads"]].set_index("interval")
        return float(of["operations"][interval])

    said = [
        "A replica flushes a key once per interval if it admitted a request for the key. With x requests for a key at one "
        "replica in an interval, the number of operations per request is (1 − exp(−x))/x. For long intervals, this is one "
        "over x. For short intervals, it is one: a flush no longer combines requests, and Redis is asked as often as if it "
        "decided every request. The number of operations per second is active keys × replicas / interval, as the gateway's "
        "code says. It is bounded by the number of requests per second.",
        f"The effect of an interval therefore depends on the traffic. At {format_seconds(GATEWAY)}, a replica sends at most "
        f"{1 / GATEWAY:g} operations per second for one key, whatever the demand. An idle Redis with one key, as in the "
        f"gateway's measurement, is therefore expected. Here, the load is {at(few, GATEWAY):.2g} operations per request for "
        f"{few} key, and {at(many, GATEWAY):.2g} for the same traffic over {many} keys. At {format_seconds(KONG_FLOOR)}, it "
        f"is {at(few, KONG_FLOOR):.2g} and {at(many, KONG_FLOOR):.2g}. Kong limits consumers. For a consumer that a node "
        f"sees once per second, syncing starts to save operations at {format_seconds(KONG_FLOOR)}. The shortest interval "
        f"that Kong accepts, {format_seconds(KONG_LEAST)}, saves operations if a node gets more than {1 / KONG_LEAST:g} "
        "requests per second for one key.",
        "Syncing can cost more than asking Redis for every request (Kong's sync_rate = 0). A limiter that also reads a view "
        f"older than the interval sends {reading['operations']:.2g} operations per request at "
        f"{format_seconds(reading['interval'])}, {reading['utilization'] / always:.1f} times the load. Half of its requests "
        f"wait {format_seconds(reading['latency'])} or longer for a read, as they would for a decision. With sync_rate = "
        "−1, there is no load, and the overshoot is that beyond the upper bend.",
    ]
    note = (
        f"{replicas} replicas receive {offered:g} requests per second in total, and none is denied. Every replica also "
        f"reads each key once, at its first request. Right: utilization of one Redis. {Profile.load().describe()} Where "
        "many keys share a flush, Redis' time falls before the number of operations does. Not simulated: "
        "timers and processor time of the gateway."
    )
    return HTML(figure_html(loads(found), note).data + "".join(f"<p>{escape_html(each)}</p>" for each in said))


def choose(found: Replay) -> HTML:
    """Which interval keeps an overshoot, checked by simulating it."""
    limit, near = found.limit, found.answers[NEAR]
    chosen = found.beside("chosen").set_index(["replicas", "interval"])
    ends = summary(found.part("replicas"), ["replicas", "interval"]).set_index(["replicas", "interval"])
    table, ratios, worst = [], [], []
    for n in dict.fromkeys(found.part("replicas")["replicas"]):
        strong, local = ends.loc[(n, 0.0)], ends.loc[(n, math.inf)]
        table.append(_row(n, "none", "", "0, ask for every request", strong, limit.rate))
        for allowed in ALLOWED:
            simple = allowed * limit.rate / rule(n, found.offered, 1.0)
            d = interval_for(limit, n, found.offered, allowed * limit.rate, near)
            if d is None:
                least = expected(limit, n, found.offered, near * 1e-3, near)
                cells = [
                    f"{n}",
                    format_percent(allowed),
                    format_seconds(simple),
                    "no interval suffices",
                    f"at least {100 * least / limit.rate:.3g} %",
                    "",
                    "",
                    "",
                ]
                table.append([escape_html(cell) for cell in cells])
                continue
            if math.isinf(d):
                table.append(
                    [
                        escape_html(cell)
                        for cell in (
                            f"{n}",
                            format_percent(allowed),
                            format_seconds(simple),
                            "any interval suffices",
                            "",
                            "",
                            "",
                            "",
                        )
                    ]
                )
                continue
            it = chosen.loc[(n, d)]
            ratios.append(it["overshoot"] / (allowed * limit.rate))
            worst.append(it["worst"] / (allowed * limit.rate))
            table.append(_row(n, format_percent(allowed), format_seconds(simple), format_seconds(d), it, limit.rate))
        table.append(_row(n, "all", "", "never syncs", local, limit.rate))
    low, high = bends(limit, MIDDLE, found.offered, near)
    said = (
        "d = tolerable overshoot / ((replicas − 1) × requests per second at one replica). The bends shorten d, because of "
        "the gap between a replica's requests and the latency of Redis. "
    )
    if ratios:
        said += (
            f"With that d, the simulated mean overshoot is {min(ratios):.2f} to {max(ratios):.2f} times the allowed "
            f"overshoot. The worst window has {max(worst):.2f} times the allowed overshoot. Where requests are dense, the "
            "staleness of a view is at most two intervals and one answer. Halve d if every single window must meet "
            "the allowed overshoot. "
        )
    said += (
        "Take the rate from the highest expected traffic, not from the limit, because the overshoot grows with the demand. "
        f"With {MIDDLE} replicas, a d below {format_seconds(low)} does not reduce the overshoot, and a d above "
        f"{format_seconds(high)} does not increase it."
    )
    head = ["replicas", "overshoot allowed", "d by the rule", "d with its bends", "simulated overshoot", "worst window"]
    head += ["operations per admitted request", "Redis busy"]
    note = "Overshoot in % of the limit, per window. Redis busy: over the whole run, by this one key."
    return HTML(f"<p>{escape_html(said)}</p>{html_table(head, table).data}{small_print(note)}")


def _row(n: int, allowed: str, simple: str, interval: str, it: Any, rate: float) -> list[str]:
    measured = [format_percent(it["overshoot"] / rate), format_percent(max(it["worst"], 0.0) / rate)]
    measured += [f"{it['operations'] / it['admitted']:.2g}", format_percent(it["utilization"])]
    return [escape_html(cell) for cell in (f"{n}", allowed, simple, interval, *measured)]
