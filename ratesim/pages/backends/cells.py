"""What the notebook on backends shows, one function for each of its cells, all made from one comparison (`compared`).

Every figure in a sentence is worked out from what was simulated: other traffic may give another.
"""

from __future__ import annotations

from ratesim.formatting import format_percent, format_range, format_seconds
from ratesim.pages.backends.analysis import BackendResult, Comparison, compared, named, seen
from ratesim.pages.backends.plots import admissions, latencies, times
from ratesim.pages.html import HTML, escape_html, figure_html, html_table, small_print
from ratesim.pages.interactive import Choice, InteractiveFigure, interactive
from ratesim.pages.repro_command import repro_command
from ratesim.pages.style import COLORS
from ratesim.simulation.analysis.limit_pressure import BINDING_SHARE
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.network.links import PRESETS

__all__ = ["answer", "compared", "correct", "elsewhere", "quick", "reproduce", "table", "where"]

TURNED = (
    "memory",
    "redis",
    "postgres",
    "hybrid lease 1 s",
    "hybrid eventual 100 ms",
)  # the candidates of the interactive figure
HEAD = 4000  # requests of it
MORE = 1.05  # times per request: more is more than asking each time


def answer(found: Comparison) -> HTML:
    """Who is fastest, who is exact, and what lies between them."""
    fast = min(found.seen, key=_fastest)
    exact = [each for each in found.seen if each.over == 0.0]
    verdict = f"{_capital(fast.name)} answers fastest, 99 % within {format_seconds(fast.p99)}, and admits {_much(fast.over)}"
    if exact and fast.over:
        best = min(exact, key=_fastest)
        verdict += f"; of the {len(exact)} that admit nothing too much it is {best.name}, {format_seconds(best.p99)}"
    said = [_binds(found)]
    asking = [each for each in found.seen if each.operations > 0.0]
    if asking:
        slow = max(asking, key=_fastest)
        medians = [float(each.row["latency_p50"]) for each in asking]
        said.append(
            f"Of those that ask a store the median is {format_range(min(medians), max(medians), format_seconds)}; "
            f"{slow.name} is slowest, "
            f"99 % within {format_seconds(slow.p99)}."
        )
    hybrids = [each for each in asking if each.backend == "hybrid"]
    if hybrids:
        least, most = (pick(hybrids, key=lambda each: each.operations) for pick in (min, max))
        said.append(
            f"The hybrids ask it {least.operations:.2g} ({least.name}) to {most.operations:.2g} times per request "
            f"({most.name})."
        )
        if most.operations > MORE:
            said.append(
                "More than once per request is more than a store alone is asked: a node sees a key so seldom that it reads "
                "and writes for each request."
            )
    failed = [
        f"{each.name} {format_percent(each.row['failed'] / each.row['requests'])}"
        for each in found.seen
        if each.row["failed"]
    ]
    if failed:
        said.append(f"Requests that got no decision: {', '.join(failed)}.")
    return HTML(f'<p class="verdict">{escape_html(verdict)}.</p>' + "".join(f"<p>{escape_html(each)}</p>" for each in said))


def _fastest(each: BackendResult) -> float:
    return each.p99


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _much(over: float) -> str:
    return f"{format_percent(over)} too much" if over else "nothing too much"


def _binds(found: Comparison) -> str:
    """Say what was asked, and whether the limit is binding."""
    spec, denied = found.scenario.limit, found.limit_pressure.exact_denied_share
    said = (
        f"{found.requests:,} requests for {found.keys:,} keys, {spec.rate} for each ({spec.algorithm}), "
        f"{found.scenario.deployment.nodes} nodes, network {found.scenario.deployment.network}; an exact limiter denies "
        f"{format_percent(denied)}."
    )
    if denied < BINDING_SHARE:
        said += " That is too little to tell candidates apart by what they admit."
        if found.limit_pressure.suggestion:
            said += f" A limit of {found.limit_pressure.suggestion} would."
    return said


def table(found: Comparison) -> HTML:
    """All figures, one row for each candidate."""
    head = ["candidate", "median", "99 %", "longest", "too much", "falsely denied", "worst window"]
    head += ["operations per request", "store busy", "bytes per request", "bytes per key"]
    rows = []
    for each in found.seen:
        row = each.row
        cells = [
            format_seconds(row["latency_p50"]),
            format_seconds(row["latency_p99"]),
            format_seconds(row["latency_max"]),
            format_percent(row["over_admission"]),
            format_percent(row["false_denial"]),
            f"{1.0 + row['worst_excess']:.2f} ×",
            f"{row['l2_operations_per_request']:.2f}",
            format_percent(row["utilization"]),
            f"{row['bytes_to_store_per_request'] + row['bytes_from_store_per_request']:,.0f}",
            "unknown" if row["bytes_per_key"] != row["bytes_per_key"] else f"{row['bytes_per_key']:,.0f}",
        ]
        dot = f'<span class="dot" style="background:{COLORS[each.backend]}"></span>'
        rows.append([dot + escape_html(each.name), *map(escape_html, cells)])
    note = (
        "Worst window: the most that one key was admitted in a period, in multiples of what the limit permits there. Bytes "
        "per request: on the wire to the store and back. Bytes per key: in the store, and on the node that knows it."
    )
    skipped = f" {found.skipped:,} lines of the log did not parse and were left out." if found.skipped else ""
    return HTML(html_table(head, rows).data + small_print(note + skipped))


def quick(found: Comparison) -> HTML:
    """How fast the answers are."""
    return figure_html(
        latencies(found.seen), "Simulated, one run. Colors: the backend. Requests without a decision are left out."
    )


def correct(found: Comparison) -> HTML:
    """Show the over-admission."""
    return figure_html(admissions(found.seen), "Over windows of the limit's period, summed over all keys.")


def where(found: Comparison) -> HTML:
    """Where the time goes."""
    note = "Processor and store also work in the background, for nobody who waits. Memory has no store."
    return figure_html(times(found.seen), note)


def elsewhere(found: Comparison) -> InteractiveFigure:
    """Latencies in other networks, with other numbers of nodes."""
    deployment = found.scenario.deployment
    workload = found.scenario.workload.model_copy(update={"head": min(HEAD, found.scenario.workload.head or HEAD)})
    chosen = named(found.scenario, TURNED)

    def turned(nodes: int, network: str) -> HTML:
        moved = deployment.model_copy(update={"nodes": nodes, "network": network, "type": "clustered", "rtt": None})
        scenario = found.scenario.model_copy(update={"deployment": moved, "workload": workload, "faults": (), "warmup": 0.0})
        result = seen(scenario, chosen, found.seed)
        told = ", ".join(f"{each.name} {_much(each.over)}" for each in result if each.over) or "none of them too much"
        caption = f"{nodes} nodes, network {network}, the first {result[0].row['requests']:,} requests. Admitted: {told}."
        return figure_html(latencies(result), caption)

    return interactive(
        turned,
        nodes=Choice("nodes", (1, 2, 4, 8, 16, 32), deployment.nodes),
        network=Choice("network", tuple(PRESETS), deployment.network),
    )


def reproduce(found: Comparison) -> HTML:
    """Show the command that gives the same numbers again."""
    same = "Same parameters and the same measured costs: same numbers. "
    line = repro_command("backends", **found.given, seed=found.seed)
    return HTML(f"<p><code>{escape_html(line)}</code></p><p>{escape_html(same + Profile.load().describe())}</p>")
