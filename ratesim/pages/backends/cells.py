"""What the notebook on backends shows, one function for each of its cells, all made from one comparison (`compared`).

Every figure in a sentence is worked out from what was simulated: other traffic may give another.
"""

from __future__ import annotations

from ratesim.formatting import format_amount, format_percent, format_range, format_seconds
from ratesim.pages.backends.analysis import BackendResult, Comparison, compared, named, seen
from ratesim.pages.backends.plots import admissions, latencies, times
from ratesim.pages.html import HTML, escape_html, figure_html, html_table, small_print
from ratesim.pages.interactive import Choice, InteractiveFigure, interactive
from ratesim.pages.repro_command import reproduction
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
    verdict = f"{_capital(fast.name)} answers fastest. Its 99th percentile is {fast.p99_text}. "
    verdict += f"It has {_much(fast.over)}"
    if exact and fast.over:
        best = min(exact, key=_fastest)
        verdict += (
            f". Of the {len(exact)} candidates without over-admission, {best.name} answers fastest. "
            f"Its 99th percentile is {best.p99_text}"
        )
    said = [_binds(found)]
    asking = [each for each in found.seen if each.operations > 0.0]
    if asking:
        slow = max(asking, key=_fastest)
        medians = [float(each.row["latency_p50"]) for each in asking]
        more = " or more" if any(each.error.p50_is_lower_bound for each in asking) else ""
        said.append(
            "The median latency of the candidates that ask a store is "
            f"{format_range(min(medians), max(medians), format_seconds)}{more}. "
            f"{_capital(slow.name)} is the slowest. Its 99th percentile is {slow.p99_text}."
        )
    hybrids = [each for each in asking if each.backend == "hybrid"]
    if hybrids:
        least, most = (pick(hybrids, key=lambda each: each.operations) for pick in (min, max))
        said.append(
            f"The hybrids need {_two(least.operations)} ({least.name}) to {_two(most.operations)} ({most.name}) store "
            "operations per request."
        )
        if most.operations > MORE:
            said.append(
                "A store alone needs only one operation per request. A hybrid needs more if a node sees a key so rarely "
                "that it reads and writes the store for every request."
            )
    failed = [
        f"{each.name} {format_percent(each.row['failed'] / each.row['requests'])}"
        for each in found.seen
        if each.row["failed"]
    ]
    if failed:
        said.append(f"Requests without a decision: {', '.join(failed)}.")
    return HTML(f'<p class="verdict">{escape_html(verdict)}.</p>' + "".join(f"<p>{escape_html(each)}</p>" for each in said))


def _fastest(each: BackendResult) -> float:
    return each.p99


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _much(over: float) -> str:
    return f"{format_percent(over)} over-admission" if over else "no over-admission"


def _binds(found: Comparison) -> str:
    """Describe the traffic and the deployment, and say whether the limit is binding."""
    spec, denied = found.scenario.limit, found.limit_pressure.exact_denied_share
    said = (
        f"The traffic is {found.requests:,} requests for {found.keys:,} keys. "
        f"The limit is {spec.rate} for {found.scenario.workload.limited} ({spec.algorithm}). "
        f"The deployment has {found.scenario.deployment.nodes} nodes, network {found.scenario.deployment.network}. "
        f"An exact limiter denies {format_percent(denied)} of the requests."
    )
    if denied < BINDING_SHARE:
        said += " This share is too small to tell candidates apart by their over-admission."
        if found.limit_pressure.suggestion:
            pressure = found.limit_pressure
            said += f" {pressure.suggestion} would deny {format_percent(pressure.suggested_denied_share)}."
    return said


def _two(value: float) -> str:
    """Write operations per request, in a sentence as in the table."""
    return format_amount(value, 2)


def table(found: Comparison) -> HTML:
    """All figures, one row for each candidate."""
    head = ["candidate", "median", "99th percentile", "maximum", "over-admission", "false denial", "worst window"]
    head += ["store operations per request", "store utilization", "bytes per request", "bytes per key"]
    rows = []
    for each in found.seen:
        row = each.row
        cells = [
            each.p50_text,
            each.p99_text,
            format_seconds(row["latency_max"]),
            format_percent(row["over_admission"]),
            format_percent(row["false_denial"]),
            f"{1.0 + row['worst_excess']:.2f} ×",
            _two(row["l2_operations_per_request"]),
            format_percent(row["utilization"]),
            f"{row['bytes_to_store_per_request'] + row['bytes_from_store_per_request']:,.0f}",
            "unknown" if row["bytes_per_key"] != row["bytes_per_key"] else f"{row['bytes_per_key']:,.0f}",
        ]
        dot = f'<span class="dot" style="background:{COLORS[each.backend]}"></span>'
        rows.append([dot + escape_html(each.name), *map(escape_html, cells)])
    note = (
        "Median, 99th percentile and maximum: the latency. Worst window: the largest cost admitted for one key in one "
        "period, as a multiple of the cost that the limit permits in a period. Bytes per request: the bytes sent to the "
        "store and received from it. Bytes per key: the memory for one key in the store and on the node that holds it."
    )
    errors = "; ".join(f"{each.name} {each.error.share}" for each in found.seen)
    whose = "; ".join(dict.fromkeys(each.error.verdict for each in found.seen))
    note += f" The model's error of the 99th percentile: {errors}. {_capital(whose)}. Above that a latency is a lower bound."
    skipped = f" {found.skipped:,} lines of the log did not parse and are excluded." if found.skipped else ""
    return HTML(html_table(head, rows).data + small_print(note + skipped))


def quick(found: Comparison) -> HTML:
    """How fast the answers are."""
    return figure_html(
        latencies(found.seen),
        "The latencies come from one simulated run. Color shows the backend. Requests without a decision are excluded. An "
        "arrow shows that the latency is a lower bound.",
    )


def correct(found: Comparison) -> HTML:
    """Show the over-admission."""
    note = "Both shares cover windows of the limit's period and are summed over all keys."
    return figure_html(admissions(found.seen), note)


def where(found: Comparison) -> HTML:
    """Where the time goes."""
    note = "The node's processor and the store also do background work, for which no request waits. Memory has no store."
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
        told = ", ".join(f"{each.name} {format_percent(each.over)}" for each in result if each.over) or "none"
        caption = (
            f"Deployment: {nodes} nodes, network {network}. Traffic: the first {result[0].row['requests']:,} requests. "
            f"Over-admission: {told}."
        )
        return figure_html(latencies(result), caption)

    return interactive(
        turned,
        nodes=Choice("nodes", (1, 2, 4, 8, 16, 32), deployment.nodes),
        network=Choice("network", tuple(PRESETS), deployment.network),
    )


def reproduce(found: Comparison) -> HTML:
    """Show the command that gives the same numbers again."""
    same = "The same parameters and the same measured costs give the same numbers."
    return reproduction("backends", found.given, str(found.seed), same, Profile.load().describe())
