"""What the notebook on faults shows, one function for each of its cells, all made from the same runs (`broken`).

Every figure in a sentence is worked out from what was simulated: another fault or limit may give another.
"""

from __future__ import annotations

from collections.abc import Sequence

from ratesim.formatting import format_percent, format_seconds
from ratesim.limit import Limit
from ratesim.pages.faults.analysis import FaultComparison, FaultRun, compare_under_faults, faults_of, turned
from ratesim.pages.faults.plots import before_and_with, timeline
from ratesim.pages.html import HTML, escape_html, figure_html, html_table, small_print
from ratesim.pages.interactive import Choice, InteractiveFigure, interactive
from ratesim.pages.repro_command import reproduction
from ratesim.pages.style import COLORS
from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.results.run_result import AROUND, aftermath
from ratesim.simulation.scenario.topology import PRIMARIES

__all__ = ["answer", "clients", "compare_under_faults", "over_time", "reproduce", "too_much", "turn"]

NOTABLE = 0.005  # a share of what an exact limiter admits: less is not worth a verdict
TURNED = ("redis", "hybrid lease 1 s", "hybrid eventual 100 ms")  # the candidates of the interactive figure
POLICIES = {
    "fail_open": "admit each request that their own memory gives no reason to deny",
    "fail_closed": "deny every request that they cannot decide alone",
    "local": "enforce an equal share of the limit at each node",
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
        subject = f"{len(leaking)} candidates over-admit" if len(leaking) > 1 else f"{most.name} over-admits"
        said.append(f"{subject} more with the faults than without them")
        said.append(
            f"the over-admission of {most.name} is {'the largest, ' if len(leaking) > 1 else ''}"
            f"{format_percent(most.over[1])} instead of {format_percent(most.over[0])}"
        )
    if denying:
        most = denying[0]
        subject = f"{len(denying)} candidates deny" if len(denying) > 1 else f"{most.name} denies"
        said.append(f"{subject} requests that an exact limiter admits")
        said.append(
            f"{most.name} denies {'the most, ' if len(denying) > 1 else ''}{format_percent(most.short)} of them "
            "during the faults"
        )
    if spared:
        said.append(f"nothing changes for {_listed(spared)}")
    verdict = ". ".join(each[:1].upper() + each[1:] for each in said)
    more = [_what(found)]
    hybrids = [each for each in found.candidates if each.backend == "hybrid"]
    if hybrids:
        more.append(
            f"Without their store, hybrids {POLICIES[found.setting.on_store_failure]} (on_store_failure = "
            f"{found.setting.on_store_failure}). A store alone gives no decision while it is unreachable. The service "
            "itself must then admit or deny the request."
        )
    worst = max(found.candidates, key=lambda each: each.around)
    if worst.around:
        seconds = format_seconds(aftermath(found.setting.candidate(worst.name)))
        more.append(
            f"Requests may still fail after the end of a fault, until clients try the store again. With {worst.name}, "
            f"{format_percent(worst.around)} of the requests {AROUND} get no decision: of those that were under way when it "
            f"began, or came within {seconds} of its end (command_timeout and breaker_reset, docs/faults.md)."
        )
    alone = next((each for each in found.candidates if each.name == "memory"), None)
    if alone is not None and alone.over[0]:
        more.append(
            "Memory alone does not depend on a store. Its over-admission without any fault is "
            f"{format_percent(alone.over[0])}."
        )
    return HTML(f'<p class="verdict">{escape_html(verdict)}.</p>' + "".join(f"<p>{escape_html(each)}</p>" for each in more))


def _leaks(each: FaultRun) -> bool:
    """Whether faults make it admit more than it does anyway: by more than a tenth, which may be chance."""
    return each.over[1] > max(1.1 * each.over[0], NOTABLE)


def _denies(each: FaultRun) -> bool:
    """Whether it answers during the faults, and denies what is due."""
    return not each.faulty["failed"] and each.short > 2 * NOTABLE


def _shared(parts: Sequence[tuple[str, str]]) -> str:
    """Names with the same figure together: "with redis and postgres, 12 %"."""
    by: dict[str, list[str]] = {}
    for name, figure in parts:
        by.setdefault(figure, []).append(name)
    return ", and ".join(f"with {_listed(names)}, {figure}" for figure, names in by.items())


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
    cluster = (
        f" Redis is a cluster of {PRIMARIES} primaries here, and the first hands all of its slots to the second, at no more "
        "than 10 keys at once."
        if setting.is_on_cluster
        else ""
    )
    traffic = f"The traffic is {setting.requests:g} requests per second for {setting.keys} keys at {setting.nodes} nodes."
    if setting.log:
        traffic = setting.log.sentence(Limit.parse(setting.limit), setting.requests, setting.duration)
        traffic += f" Each request goes to one of {setting.nodes} nodes."
    return (
        f"{traffic} The limit is {setting.limit} for each key. "
        f"The {'faults are' if len(told) > 1 else 'fault is'} {_listed(told)}.{cluster}"
    )


def over_time(found: FaultComparison) -> HTML:
    """Show the outcome of the requests, second by second."""
    note = (
        "Each strip shows one simulated run. Where the admitted requests rise above the line, the candidate admits more "
        "than an exact limiter. Shading marks an active fault."
    )
    return figure_html(timeline(found.candidates, found.setting.faults), note)


def clients(found: FaultComparison) -> HTML:
    """Show the clients' view without faults, and during each fault."""
    head = ["candidate", "phase", "requests", "admitted", "denied", "no decision", "failed open", "median"]
    head += ["99th percentile"]
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
    lasts = format_seconds(aftermath(found.setting.candidate(found.candidates[0].name)))
    errors = [f"{each.name}: {each.faulty['errors']}" for each in found.candidates if each.faulty["errors"]]
    note = (
        "A request belongs to every fault that was active when it was sent. Around a fault are the requests that were under "
        f"way when one began, or came within {lasts} of its end: so long a client may wait for a lost answer and leave the "
        "store alone. Failed open: admitted only because the store was unreachable. Median and 99th percentile: the latency "
        "of the decisions; an answer that asks neither the store nor a memory takes no time here."
    )
    told = f" Errors: {'; '.join(errors)}." if errors else ""
    return HTML(html_table(head, rows).data + small_print(note + told))


def _part(count: int, of: int) -> str:
    return "none" if count == 0 else format_percent(count / of)


def too_much(found: FaultComparison) -> HTML:
    """Over-admission without and with faults."""
    note = (
        "Over-admission covers the whole run, in windows of the limit's period. "
        "It includes only requests that got a decision."
    )
    return figure_html(before_and_with(found.candidates), note)


def turn(found: FaultComparison) -> InteractiveFigure:
    """Show an outage of the store of a chosen length, with a chosen answer of the hybrids."""
    setting = found.setting

    def picture(on_store_failure: str, duration: float) -> HTML:
        faults = faults_of("partition", 5.0, duration, setting.nodes)
        result = turned(setting, TURNED, on_store_failure=on_store_failure, faults=faults)
        told = ", ".join(
            f"{each.name} {format_percent(each.over[1])} ({format_percent(each.over[0])} without the fault)"
            for each in result
        )
        cut = f"No node reaches the store for {duration:g} s. The hybrids have on_store_failure = {on_store_failure}."
        caption = f"{cut} Over-admission: {told}."
        return figure_html(timeline(result, faults), caption)

    return interactive(
        picture,
        on_store_failure=Choice("without the store", tuple(POLICIES), setting.on_store_failure),
        duration=Choice("for", (1.0, 3.0, 10.0, 30.0), 3.0, format_seconds),
    )


def reproduce(found: FaultComparison) -> HTML:
    """Show the command that gives the same numbers again."""
    same = "The same parameters and the same measured costs give the same numbers."
    return reproduction("faults", found.given, str(found.setting.seed), same, Profile.load().describe())
