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
        "A replica flushes a key once per interval if it admitted anything for it: operations per request are "
        "(1 − exp(−x))/x for x requests of a key at one replica in an interval. For long intervals that is one over x, for "
        "short ones it is one: then nothing is gathered any more, and Redis is asked as often as if it decided every "
        "request. In operations per second it is active keys × replicas / interval, as the gateway's code says, until it is "
        "all the requests there are.",
        f"So the same interval can be long or short. At {format_seconds(GATEWAY)} a replica sends at most {1 / GATEWAY:g} "
        "operations per second for one key, whatever is asked; that Redis stays idle where there is one key, as in the "
        f"gateway's measurement, is no surprise. Here it is {at(few, GATEWAY):.2g} operations per request for {few} key, "
        f"and {at(many, GATEWAY):.2g} for the same traffic over {many} keys; at {format_seconds(KONG_FLOOR)}, "
        f"{at(few, KONG_FLOOR):.2g} and {at(many, KONG_FLOOR):.2g}. Kong limits consumers: for one that a node sees once "
        f"per second {format_seconds(KONG_FLOOR)} is where syncing begins to save anything, and "
        f"{format_seconds(KONG_LEAST)}, the least "
        f"that Kong accepts, saves where a node gets more than {1 / KONG_LEAST:g} requests per second for one key.",
        "It can cost more than asking Redis for every request (Kong's sync_rate = 0): a limiter that also reads a view "
        f"which is older than the interval does {reading['operations']:.2g} operations per request at "
        f"{format_seconds(reading['interval'])}, {reading['utilization'] / always:.1f} times the load, and half of "
        "its requests "
        f"wait {format_seconds(reading['latency'])} or longer for a read, as they would for a decision. With "
        "sync_rate = −1 there "
        "is no load, and the overshoot beyond the upper bend.",
    ]
    note = (
        f"{replicas} replicas, {offered:g} requests per second in all, none denied; every replica also reads each key once, "
        f"when it first sees it. Right: of one Redis. {Profile.load().describe()} Where many keys share a flush, Redis' "
        "time falls before the number of operations does. Not simulated: timers and processor time of the gateway."
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
        table.append(_row(n, "none", "", "0, ask always", strong, limit.rate))
        for allowed in ALLOWED:
            simple = allowed * limit.rate / rule(n, found.offered, 1.0)
            d = interval_for(limit, n, found.offered, allowed * limit.rate, near)
            if d is None:
                least = expected(limit, n, found.offered, near * 1e-3, near)
                cells = [
                    f"{n}",
                    format_percent(allowed),
                    format_seconds(simple),
                    "no interval does",
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
                        for cell in (f"{n}", format_percent(allowed), format_seconds(simple), "any does", "", "", "", "")
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
        "d = overshoot you can bear / ((replicas − 1) × what one replica is asked per second), less what bends it: the gap "
        "between a replica's requests, and Redis' answer. "
    )
    if ratios:
        said += (
            f"Simulated with that d, the mean overshoot is {min(ratios):.2f} to {max(ratios):.2f} times what was allowed, "
            f"and the worst window {max(worst):.2f} times. Where requests are dense, no view is older than two intervals "
            "and an answer: halve d where every single window must keep to it. "
        )
    said += (
        "Take the rate from the worst traffic that you must stand, not from the limit: the overshoot grows with what is "
        f"asked. With {MIDDLE} replicas a d below {format_seconds(low)} buys nothing, one above "
        f"{format_seconds(high)} costs nothing more."
    )
    head = ["replicas", "overshoot allowed", "d by the rule", "d with its bends", "simulated overshoot", "worst window"]
    head += ["operations per admitted request", "Redis busy"]
    note = "Overshoot in % of the limit, per window. Redis busy: over the whole run, by this one key."
    return HTML(f"<p>{escape_html(said)}</p>{html_table(head, table).data}{small_print(note)}")


def _row(n: int, allowed: str, simple: str, interval: str, it: Any, rate: float) -> list[str]:
    measured = [format_percent(it["overshoot"] / rate), format_percent(max(it["worst"], 0.0) / rate)]
    measured += [f"{it['operations'] / it['admitted']:.2g}", format_percent(it["utilization"])]
    return [escape_html(cell) for cell in (f"{n}", allowed, simple, interval, *measured)]
