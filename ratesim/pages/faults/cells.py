"""What the notebook on faults shows, one function for each of its cells, all made from the same runs (`broken`).

Every figure in a sentence is worked out from what was simulated: another fault or limit may give another.
"""

from __future__ import annotations

from collections.abc import Sequence

from ratesim.formatting import format_percent, format_seconds
from ratesim.pages.faults.analysis import FaultComparison, FaultRun, compare_under_faults, faults_of, turned
from ratesim.pages.faults.plots import before_and_with, timeline
from ratesim.pages.html import HTML, escape_html, figure_html, html_table, small_print
from ratesim.pages.interactive import Choice, InteractiveFigure, interactive
from ratesim.pages.repro_command import repro_command
from ratesim.pages.style import COLORS
from ratesim.simulation.cost_model.profile import Profile

__all__ = ["answer", "clients", "compare_under_faults", "over_time", "reproduce", "too_much", "turn"]

NOTABLE = 0.005  # a share of what an exact limiter admits: less is not worth a verdict
TURNED = ("redis", "hybrid lease 1 s", "hybrid eventual 100 ms")  # the candidates of the interactive figure
POLICIES = {
    "fail_open": "admit what they know no reason against",
    "fail_closed": "deny",
    "local": "keep to their share of the limit",
}


def answer(found: FaultComparison) -> HTML:
    """Who fails, who admits too much, and who does neither."""
    failing = sorted((each for each in found.candidates if each.faulty["failed"]), key=lambda each: -each.failed)
    leaking = sorted((each for each in found.candidates if _leaks(each)), key=lambda each: -each.over[1])
    denying = sorted((each for each in found.candidates if _denies(each)), key=lambda each: -each.short)
    spared = [each.name for each in found.candidates if each not in failing and not _leaks(each) and not _denies(each)]
    said = []
    if failing:
        parts = _shared([(each.name, format_percent(each.failed)) for each in failing])
        said.append(f"{parts} of the requests during the faults get no decision")
    if leaking:
        most = leaking[0]
        who = f"{len(leaking)} answer and admit" if len(leaking) > 1 else f"{most.name} answers and admits"
        which = f" {most.name} most," if len(leaking) > 1 else ""
        said.append(
            f"{who} more than before,{which} {format_percent(most.over[1])} too much instead of "
            f"{format_percent(most.over[0])}"
        )
    if denying:
        most = denying[0]
        who = (
            f"{len(denying)} deny what is due, {most.name} most," if len(denying) > 1 else f"{most.name} denies what is due,"
        )
        said.append(f"{who} {format_percent(most.short)} of it during the faults")
    if spared:
        said.append(f"nothing changes for {_listed(spared)}")
    verdict = "; ".join(said)
    more = [_what(found)]
    hybrids = [each for each in found.candidates if each.backend == "hybrid"]
    if hybrids:
        more.append(
            f"Without their store hybrids {POLICIES[found.setting.on_store_failure]} (on_store_failure = "
            f"{found.setting.on_store_failure}). What "
            "a store alone leaves without a decision, the service must admit or deny by itself."
        )
    late = [each for each in found.candidates if each.late]
    if late:
        worst = max(late, key=lambda each: each.late)
        more.append(
            f"A fault is not over when it is over: {worst.late} requests to {worst.name} failed afterwards, until its "
            "clients tried again (breaker_reset, 1 s, of docs/faults.md)."
        )
    alone = next((each for each in found.candidates if each.name == "memory"), None)
    if alone is not None and alone.over[0]:
        more.append(
            f"Memory alone notices no fault of a store, and admits {format_percent(alone.over[0])} too much when all "
            "is well."
        )
    return HTML(
        f'<p class="verdict">{escape_html(verdict[:1].upper() + verdict[1:])}.</p>'
        + "".join(f"<p>{escape_html(each)}</p>" for each in more)
    )


def _leaks(each: FaultRun) -> bool:
    """Whether faults make it admit more than it does anyway: by more than a tenth, which may be chance."""
    return each.over[1] > max(1.1 * each.over[0], NOTABLE)


def _denies(each: FaultRun) -> bool:
    """Whether it answers during the faults, and denies what is due."""
    return not each.faulty["failed"] and each.short > 2 * NOTABLE


def _shared(parts: Sequence[tuple[str, str]]) -> str:
    """Names with the same figure together: "redis and postgres leave 12 %"."""
    by: dict[str, list[str]] = {}
    for name, figure in parts:
        by.setdefault(figure, []).append(name)
    return ", and ".join(f"with {_listed(names)} {figure}" for figure, names in by.items())


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _what(found: FaultComparison) -> str:
    """Describe the traffic and the faults."""
    setting = found.setting
    told = []
    for fault in setting.faults:
        whom = "" if fault.nodes is None else f" of node {fault.nodes[0]}"
        if fault.nodes is not None and len(fault.nodes) > 1:
            whom = f" of nodes {_listed([str(node) for node in fault.nodes])}"
        told.append(f"a {fault.kind.replace('_', ' ')}{whom} at {fault.start:g} s for {fault.duration:g} s")
    return (
        f"{setting.requests:g} requests per second for {setting.keys} keys at {setting.nodes} nodes, {setting.limit} for "
        f"each; {_listed(told)}."
    )


def over_time(found: FaultComparison) -> HTML:
    """Show the outcome of the requests, second by second."""
    note = "Simulated, one run. Above the line: more is admitted than an exact limiter would. Shaded: a fault holds."
    return figure_html(timeline(found.candidates, found.setting.faults), note)


def clients(found: FaultComparison) -> HTML:
    """Show the clients' view without faults, and during each fault."""
    head = ["candidate", "phase", "requests", "admitted", "denied", "no decision", "by nobody's decision", "median", "99 %"]
    rows = []
    for each in found.candidates:
        dot = f'<span class="dot" style="background:{COLORS[each.backend]}"></span>'
        for number, row in enumerate(each.phases.to_dict("records")):
            cells = [
                row["phase"],
                f"{row['requests']:,}",
                *(_part(row[name], row["requests"]) for name in ("admitted", "denied", "failed", "fail_open")),
                format_seconds(row["latency_p50"]),
                format_seconds(row["latency_p99"]),
            ]
            rows.append([dot + escape_html(each.name) if number == 0 else "", *map(escape_html, cells)])
    errors = [f"{each.name}: {each.faulty['errors']}" for each in found.candidates if each.faulty["errors"]]
    note = (
        "A request belongs to every fault that held when it was sent; healthy is all the rest, also what is still failing "
        "after a fault. By nobody's decision: admitted only because the store was away."
    )
    told = f" Errors: {'; '.join(errors)}." if errors else ""
    return HTML(html_table(head, rows).data + small_print(note + told))


def _part(count: int, of: int) -> str:
    return "none" if count == 0 else format_percent(count / of)


def too_much(found: FaultComparison) -> HTML:
    """Over-admission without and with faults."""
    note = "Over the whole run, in windows of the limit's period, of the requests that got a decision."
    return figure_html(before_and_with(found.candidates), note)


def turn(found: FaultComparison) -> InteractiveFigure:
    """Show an outage of the store of a chosen length, with a chosen answer of the hybrids."""
    setting = found.setting

    def picture(on_store_failure: str, duration: float) -> HTML:
        faults = faults_of("partition", 5.0, duration, setting.nodes)
        result = turned(setting, TURNED, on_store_failure=on_store_failure, faults=faults)
        told = ", ".join(
            f"{each.name} {format_percent(each.over[1])} (without: {format_percent(each.over[0])})" for each in result
        )
        cut = f"No node reaches the store for {duration:g} s; on_store_failure = {on_store_failure}."
        caption = f"{cut} Admitted too much: {told}."
        return figure_html(timeline(result, faults), caption)

    return interactive(
        picture,
        on_store_failure=Choice("without the store", tuple(POLICIES), setting.on_store_failure),
        duration=Choice("for", (1.0, 3.0, 10.0, 30.0), 3.0, format_seconds),
    )


def reproduce(found: FaultComparison) -> HTML:
    """Show the command that gives the same numbers again."""
    same = "Same parameters and the same measured costs: same numbers. "
    line = repro_command("faults", **found.given)
    return HTML(f"<p><code>{escape_html(line)}</code></p><p>{escape_html(same + Profile.load().describe())}</p>")
