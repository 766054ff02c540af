"""What the notebook on consistency shows, one function for each of its cells, all made from one map (`mapped`).

Every figure in a sentence is worked out from what was simulated: another limit, traffic or seed may give another.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pandas as pd

from ratesim.durations import write_duration
from ratesim.formatting import format_amount, format_percent, format_seconds
from ratesim.pages.consistency.analysis import Map, cheapest, mapped, trial
from ratesim.pages.consistency.plots import intervals, latencies, one_window, skews, trade_off
from ratesim.pages.html import HTML, escape_html, figure_html, html_table, small_print
from ratesim.pages.interactive import Choice, InteractiveFigure, interactive
from ratesim.pages.repro_command import reproduction, seed_range
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.scenario.fields import seconds, share, write_share

__all__ = ["answer", "by_interval", "by_skew", "mapped", "place", "policies", "reproduce", "turn", "waits"]

BEARABLE = (0.0, 0.001, 0.01, 0.1, 1.0)  # shares of the limit
WITHIN = (1e-4, 2e-3, 1e-2)  # seconds


def answer(found: Map, bearable: str | float, p99: str | float) -> HTML:
    """Show the policy for these requirements, such as "1%" and "2ms", and the trade-off in three sentences."""
    over, within = share(bearable), seconds(p99)
    rows = found.part("policies")
    chosen = cheapest(rows, over, within)
    most = f"at most {format_percent(over)} over-admission" if over else "no over-admission"
    asked = f"{most} and a 99th percentile of at most {format_seconds(within)}"
    if chosen is None:
        verdict = f"No policy has {asked} under this traffic"
    else:
        row = _of(rows, chosen)
        verdict = (
            f"{chosen[0].upper()}{chosen[1:]}: of the policies with {asked}, it needs the fewest operations at Redis, "
            f"{_two(row['operations'])} per request"
        )
    strong, lease = _of(rows, "strong"), _of(rows, "lease")
    slow, fast = _of(rows, "eventual, 1 s"), _of(rows, "eventual, 10 ms")
    said = [
        "There are two ways to exclude over-admission. "
        f"The strong policy asks Redis for every request. Its median latency is {format_seconds(strong['p50'])}. "
        f"The lease policy borrows quota from Redis. Its median latency is {format_seconds(lease['p50'])}. "
        f"It needs {_two(lease['operations'])} operations at Redis per request. "
        f"Its false denial is {format_percent(lease['denied'])}.",
        "An eventual policy shares its counts with Redis in the background and accepts over-admission. "
        f"At a sync interval of 1 s, it needs {_two(slow['operations'])} operations per request, and its over-admission "
        f"is {format_percent(slow['over'])}. At a sync interval of 10 ms, it needs {_two(fast['operations'])} operations "
        f"per request, and its over-admission is {format_percent(fast['over'])}. If a node sees a key less than once per "
        "sync interval, the key costs more operations than a decision at Redis would.",
        "The write policy (write-through, -behind, -around) affects the latency and the load. The maximum staleness of a "
        "view affects the accuracy.",
    ]
    lines = "".join(f"<p>{escape_html(each)}</p>" for each in said)
    return HTML(f'<p class="verdict">{escape_html(verdict)}.</p>{lines}')


def _of(rows: pd.DataFrame, policy: str) -> dict[Hashable, Any]:
    return rows[rows["policy"] == policy].to_dict("records")[0]


def policies(found: Map) -> HTML:
    """Every policy under the same traffic, as a map and a table."""
    traffic = found.traffic
    note = (
        f"The limit is {traffic.limit} for each key, in fixed windows. {traffic.sentence()} All nodes and Redis are in one "
        "zone. Color shows the storage or the consistency."
    )
    table = []
    for row in found.part("policies").to_dict("records"):
        age = "none" if pd.isna(row["age"]) else format_seconds(row["age"])
        cells = [
            row["policy"],
            format_percent(row["over"]),
            format_percent(row["denied"]),
            format_seconds(row["p50"]),
            format_seconds(row["p99"]),
        ]
        table.append([escape_html(cell) for cell in (*cells, _two(row["operations"]), format_percent(row["busy"]), age)])
    head = ["policy", "over-admission", "false denial", "median", "99th percentile", "operations per request"]
    head += ["Redis utilization", "staleness, 99th percentile"]
    return HTML(figure_html(trade_off(found), note).data + html_table(head, table).data)


def waits(found: Map) -> HTML:
    """How long requests wait."""
    return figure_html(
        latencies(found),
        "All nodes and Redis are in one zone. In a hybrid, a request waits for Redis if it is the first for its key, if the "
        "view is too old, or if it must write.",
    )


def by_interval(found: Map) -> HTML:
    """Sync interval and number of nodes."""
    rows = found.part("nodes", "nodes")
    short = rows[rows["policy"] == rows["policy"].iloc[0]]
    interval, nodes = str(short["policy"].iloc[0]).split(", ")[1], int(short["nodes"].max())
    said = (
        "Over-admission grows with the sync interval and with the requests that the other nodes admit in it. It stops "
        "growing once every node has used up the limit. The load grows with the number of nodes, because each node has its "
        f"own views of the same keys. With a sync interval of {interval} and {nodes} nodes, Redis performs "
        f"{_two(short['operations'].max())} operations per request. If Redis decided every request, it would perform one."
    )
    return HTML(
        figure_html(intervals(found), "Views live for one sync interval. Dotted line: one operation per request.").data
        + _p(said)
    )


def by_skew(found: Map) -> HTML:
    """How unequal the keys are."""
    if found.traffic.log:
        return HTML(_p("A log has keys of its own, so their skew is not varied. Without a log, this part shows it."))
    rows = found.part("skew", "skew")
    eventual = rows[rows["policy"] != "lease"]
    said = (
        "Deltas and leases combine the requests for a key at a node. The load therefore depends on the number of these "
        "requests in one sync interval. With equal keys, the eventual policy needs "
        f"{_two(eventual['operations'].iloc[0])} operations per request. With the most unequal keys, it needs "
        f"{_two(eventual['operations'].iloc[-1])}. Over-admission occurs only for keys over their limit."
    )
    lease = float(rows[rows["policy"] == "lease"]["over"].max())
    note = f"In the left panel, the over-admission of leases is {'at most ' if lease else ''}{format_percent(lease)}."
    return HTML(figure_html(skews(found), note).data + _p(said))


def turn(found: Map) -> InteractiveFigure:
    """One window of the busiest key, by sync interval and number of nodes."""

    def picture(interval: float, nodes: int) -> HTML:
        tried = trial(replace(found.traffic, nodes=nodes), interval, found.seed)
        row = tried.row
        note = (
            f"The over-admission of all keys is {format_percent(row['over_admission'])}. Redis performs "
            f"{_two(row['l2_operations_per_request'])} operations per request. The median latency is "
            f"{format_seconds(row['latency_p50'])}."
        )
        return figure_html(one_window(tried), note)

    return interactive(
        picture,
        interval=Choice("sync interval", (0.003, 0.01, 0.03, 0.1, 0.3, 1.0), 0.1, format_seconds),
        nodes=Choice("nodes", (1, 2, 4, 8, 16, 32), found.traffic.nodes),
    )


def place(found: Map) -> HTML:
    """Show the cheapest policy for an over-admission and a latency."""
    rows = found.part("policies")
    head = ["over-admission, at most", *(f"99th percentile of at most {format_seconds(p99)}" for p99 in WITHIN)]
    table = [
        [
            escape_html(format_percent(most) if most else "nothing"),
            *(escape_html(cheapest(rows, most, p99) or "none") for p99 in WITHIN),
        ]
        for most in BEARABLE
    ]
    note = (
        "Each cell names the policy with the fewest operations at Redis under this traffic. Change the parameters at the "
        "top of the page to match your traffic."
    )
    return HTML(html_table(head, table).data + small_print(note))


def reproduce(found: Map, bearable: str | float, p99: str | float) -> HTML:
    """Show the command that gives the same numbers again."""
    same = "The same parameters and the same measured costs of Redis give the same numbers."
    given = {**found.given, "duration": write_duration(found.traffic.duration)}
    given |= {"bearable": write_share(share(bearable)), "p99": write_duration(seconds(p99))}
    return reproduction("consistency", given, seed_range(found.seed, found.seeds), same, Profile.load().describe())


def _two(value: float) -> str:
    """Write operations per request, in a sentence as in the table."""
    return format_amount(value, 2)


def _p(text: str) -> str:
    return f"<p>{escape_html(text)}</p>"
