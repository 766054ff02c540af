"""What the notebook on consistency shows, one function for each of its cells, all made from one map (`mapped`).

Every figure in a sentence is worked out from what was simulated: another limit, traffic or seed may give another.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pandas as pd

from ratesim.formatting import format_percent, format_seconds
from ratesim.pages.consistency.analysis import Map, cheapest, mapped, trial
from ratesim.pages.consistency.plots import intervals, latencies, one_window, skews, trade_off
from ratesim.pages.html import HTML, escape_html, figure_html, html_table, small_print
from ratesim.pages.interactive import Choice, InteractiveFigure, interactive
from ratesim.pages.repro_command import repro_command
from ratesim.simulation.cost_model.profile import Profile

__all__ = ["answer", "by_interval", "by_skew", "mapped", "place", "policies", "reproduce", "turn", "waits"]

BEARABLE = (0.0, 0.001, 0.01, 0.1, 1.0)  # shares of the limit
WITHIN = (1e-4, 2e-3, 1e-2)  # seconds


def answer(found: Map, bearable: float, p99: float) -> HTML:
    """Show the policy for these requirements, and the trade-off in three sentences."""
    rows = found.part("policies")
    chosen = cheapest(rows, bearable, p99)
    most = f"at most {format_percent(bearable)}" if bearable else "nothing"
    asked = f"{most} too much, 99 % of the answers within {format_seconds(p99)}"
    if chosen is None:
        verdict = f"No policy: {asked} is more than any gives here"
    else:
        row = _of(rows, chosen)
        verdict = (
            f"{chosen[0].upper()}{chosen[1:]}: of all that give {asked}, it asks Redis least, "
            f"{row['operations']:.2g} times per request"
        )
    strong, lease = _of(rows, "strong"), _of(rows, "lease")
    slow, fast = _of(rows, "eventual, 1 s"), _of(rows, "eventual, 10 ms")
    said = [
        f"Whoever must admit nothing too much asks Redis for every request and waits {format_seconds(strong['p50'])}, "
        "or borrows: "
        f"leases answer half of the requests within {format_seconds(lease['p50'])}, ask {lease['operations']:.2g} times per "
        f"request, and falsely deny {format_percent(lease['denied'])} of what is due.",
        f"Whoever can bear more shares in the background: synced every second, a node asks {slow['operations']:.2g} times "
        f"per request and all together admit {format_percent(slow['over'])} too much; every 10 ms, "
        f"{fast['operations']:.2g} times "
        f"and {format_percent(fast['over'])}. A key that a node sees less than once in an interval costs more than "
        "asking would.",
        "How a delta reaches Redis (write-through, -behind, -around) moves the waiting and the load; how old a view may be "
        "moves the truth.",
    ]
    lines = "".join(f"<p>{escape_html(each)}</p>" for each in said)
    return HTML(f'<p class="verdict">{escape_html(verdict)}.</p>{lines}')


def _of(rows: pd.DataFrame, policy: str) -> dict[Hashable, Any]:
    return rows[rows["policy"] == policy].to_dict("records")[0]


def policies(found: Map) -> HTML:
    """Every policy under the same traffic, as a map and a table."""
    traffic = found.traffic
    note = (
        f"{traffic.limit} for each of {traffic.keys} keys, fixed window; {traffic.requests:,.0f} requests per second to any "
        f"of {traffic.nodes} nodes, keys by Zipf's law with exponent {traffic.skew:g}; one zone. Colors: who decides."
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
        table.append([escape_html(cell) for cell in (*cells, f"{row['operations']:.2f}", format_percent(row["busy"]), age)])
    head = ["policy", "too much", "falsely denied", "median", "99 %", "operations per request", "Redis busy", "views, 99 %"]
    return HTML(figure_html(trade_off(found), note).data + html_table(head, table).data)


def waits(found: Map) -> HTML:
    """How long requests wait."""
    return figure_html(
        latencies(found), "Simulated in one zone. What waits is a first request for a key, a view that is too old, a write."
    )


def by_interval(found: Map) -> HTML:
    """Sync interval and number of nodes."""
    rows = found.part("nodes", "nodes")
    short = rows[rows["policy"] == rows["policy"].iloc[0]]
    interval, nodes = str(short["policy"].iloc[0]).split(", ")[1], int(short["nodes"].max())
    said = (
        "Over-admission grows with the interval and with what the other nodes admit in it, until everybody's limit is used "
        f"up. The load grows with the nodes: each has its own views of the same keys. With {interval} and {nodes} nodes "
        f"Redis is asked {short['operations'].max():.2g} times per request; if it decided, once."
    )
    return HTML(
        figure_html(intervals(found), "Views live as long as the interval. Dotted: asking for every request.").data
        + _p(said)
    )


def by_skew(found: Map) -> HTML:
    """How unequal the keys are."""
    rows = found.part("skew", "skew")
    eventual = rows[rows["policy"] != "lease"]
    said = (
        "Deltas and leases gather the requests of a key at a node, so what counts is how many of them fall into one "
        f"interval: with equal keys eventual asks {eventual['operations'].iloc[0]:.2g} times per request, with the most "
        f"unequal {eventual['operations'].iloc[-1]:.2g}. What is admitted too much is admitted "
        "of the keys that are over their limit."
    )
    return HTML(figure_html(skews(found), "Left: leases admit exactly 0 too much.").data + _p(said))


def turn(found: Map) -> InteractiveFigure:
    """One window of the busiest key, by sync interval and number of nodes."""

    def picture(interval: float, nodes: int) -> HTML:
        tried = trial(replace(found.traffic, nodes=nodes), interval, found.seed)
        row = tried.row
        note = (
            f"Of all keys {format_percent(row['over_admission'])} too much; {row['l2_operations_per_request']:.2g} "
            "operations at "
            f"Redis per request; half of the answers within {format_seconds(row['latency_p50'])}."
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
    head = ["too much, at most", *(f"99 % within {format_seconds(p99)}" for p99 in WITHIN)]
    table = [
        [
            escape_html(format_percent(most) if most else "nothing"),
            *(escape_html(cheapest(rows, most, p99) or "none") for p99 in WITHIN),
        ]
        for most in BEARABLE
    ]
    note = "The policy that asks Redis least, under this traffic. Change the parameters at the top to yours."
    return HTML(html_table(head, table).data + small_print(note))


def reproduce(found: Map) -> HTML:
    """Show the command that gives the same numbers again."""
    traffic = found.traffic
    line = repro_command(
        "consistency",
        limit=str(traffic.limit),
        requests=traffic.requests,
        keys=traffic.keys,
        skew=traffic.skew,
        nodes=traffic.nodes,
        seed=found.seed,
        seeds=found.seeds,
        duration=traffic.duration,
    )
    same = "Same parameters and the same measured costs of Redis: same numbers. "
    return HTML(f"<p><code>{escape_html(line)}</code></p>" + _p(same + Profile.load().describe()))


def _p(text: str) -> str:
    return f"<p>{escape_html(text)}</p>"
