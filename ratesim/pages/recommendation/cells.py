"""The first half of a report, as HTML, one function for each cell: the verdict, what was asked, why, and why not the others.

Everything that comes from a log or a scenario goes through `escape_html`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratesim.formatting import format_amount, format_count, format_excess, format_percent, format_seconds
from ratesim.pages.html import HTML, details, escape_html, figure_html, html_table, prose
from ratesim.pages.recommendation.contender_tables import candidates, requests_of
from ratesim.pages.recommendation.plots import latency_against_over_admission
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.recommendation.decide.rejection_groups import rejection_groups
from ratesim.recommendation.investigate.fault_impact import failing
from ratesim.recommendation.investigate.log_reading import limited as limited_to

if TYPE_CHECKING:
    from collections.abc import Container

    from ratesim.recommendation.assess.rejections import Rejection
    from ratesim.recommendation.investigate.study import Study
    from ratesim.simulation.scenario.workload import WorkloadSpec

__all__ = ["answer", "candidates", "rejected", "setting", "tradeoff", "verdict"]


def answer(
    scenario: str = "quickstart",
    out: str = "",
    profile: str = "",
    prices: str = "",
    live: bool = True,
    show_keys: bool = False,
    seconds: float | None = None,
    **asked: Any,
) -> Study:
    """Run or load the study of a scenario. Finished results in the directory `out` are used again.

    asked: further parameters of `scenario_from_parameters`.
    """
    from ratesim.pages.scenario_parameters import scenario_from_parameters
    from ratesim.recommendation.assess.prices import Prices
    from ratesim.recommendation.investigate.study import study
    from ratesim.simulation.cost_model.profile import Profile

    costs = Profile.load(Path(profile)) if profile else None
    paid = Prices.load(Path(prices)) if prices else None
    where = Path(out) if out else None
    # On a thread: the live replays bring an event loop of their own, and in a notebook this one already runs one.
    with ThreadPoolExecutor(1) as thread:
        question = scenario_from_parameters(scenario, **asked)
        shown: dict[str, Any] = {"live": live, "show_keys": show_keys, "seconds": seconds}
        return thread.submit(study, question, out=where, profile=costs, prices=paid, **shown).result()


def verdict(study: Study, recommendation: Recommendation) -> HTML:
    """Show the box that is read first: the choice, three numbers, its confidence and one caveat.

    Before it is what is lost of the log, if that is much. Below it are how the log was read, what the other preferences
    would choose, the nearest candidates if there is no choice, and the lines of the log that did not parse.
    """
    kind = "verdict" if recommendation.choice else "verdict none"
    told = "".join(
        f"<li><b>{escape_html(each.value)}</b><span>{escape_html(each.what)}</span><small>{escape_html(each.against)}</small></li>"
        for each in recommendation.numbers
    )
    note = recommendation.lost_note
    box = [
        f'<p class="note"><b>Lost lines</b> {prose(note)}</p>' if note else "",
        f'<section class="{kind}" aria-label="The verdict"><p class="choice">{prose(recommendation.verdict)}</p>',
        f'<ul class="numbers">{told}</ul>',
        f'<div class="why"><div><p class="confidence">{prose(recommendation.confidence.sentence)}</p>',
        f"<p>{escape_html(recommendation.size)}</p>" if recommendation.size else "",
        f'</div><p class="caveat"><b>But</b> {prose(recommendation.caveat)}</p></div></section>',
        _read(recommendation),
    ]
    return HTML(
        "\n".join([*box, _alternatives(recommendation), _reasons(recommendation), _nearest(recommendation), _skipped(study)])
    )


def _read(recommendation: Recommendation) -> str:
    """Say how the log was read, and what was taken for what in it."""
    if recommendation.log is None:
        return ""
    read = recommendation.log
    said = " ".join(filter(None, (read.note, *read.assumed, read.stamps_note)))
    return f'<p class="brief read">{prose(said)}</p>'


def _alternatives(recommendation: Recommendation) -> str:
    """Say what the other preferences would choose."""
    items = "".join(f"<li>{prose(each.sentence)}</li>" for each in recommendation.alternatives)
    return f'<div class="brief"><p>With another preference:</p><ul class="alternatives">{items}</ul></div>' if items else ""


def _reasons(recommendation: Recommendation) -> str:
    """Fold away what the confidence rests on: it is the least level that one of these allows."""
    rows = [[escape_html(text) for text in (each.name, each.level, each.text)] for each in recommendation.confidence.reasons]
    if not rows:
        return ""
    head = ["rests on", "allows at most", "evidence"]
    return details("What the confidence rests on", html_table(head, rows, label="What the confidence rests on").data)


def _nearest(recommendation: Recommendation) -> str:
    if not recommendation.closest_misses:
        return ""
    items = [f"<li><b>{escape_html(each.candidate)}</b> {prose(each.reason)}</li>" for each in recommendation.closest_misses]
    relaxed = [f"<li>{prose(each.sentence)}</li>" for each in recommendation.relaxations]
    would = f"<p>What would let one pass:</p><ul>{''.join(relaxed)}</ul>" if relaxed else ""
    none = "" if relaxed else "<p>No single requirement, relaxed, would let one pass: each misses more than one.</p>"
    return f"<p>The nearest:</p><ul>{''.join(items)}</ul>{would}{none}"


def setting(study: Study) -> HTML:
    """Show the question in a few lines: traffic, limit, deployment, requirements."""
    scenario, origin = study.scenario, study.provenance
    denied = study.limit_pressure.exact_denied_share
    wants = scenario.requirements
    required = [
        f"p99 at most {format_seconds(wants.p99)}" if wants.p99 else "",
        "over-admission "
        f"{'exactly 0' if wants.max_over_admission == 0 else f'at most {format_percent(wants.max_over_admission)}'}"
        if wants.max_over_admission is not None
        else "",
        f"busiest window at most {format_excess(wants.max_worst_excess)}" if wants.max_worst_excess is not None else "",
        f"false denials at most {format_percent(wants.max_false_denial)}" if wants.max_false_denial is not None else "",
        f"{wants.persistence} persistence" if wants.persistence != "none" else "",
        f"room for {format_count(wants.keys, 'key')}",
        f"only {' and '.join(wants.allowed)}" if len(wants.allowed) < 4 else "",
    ]
    deployment = scenario.deployment
    notes = f", {', '.join(origin.notes)}" if origin.notes else ""
    count, keys = (int(study.summary[name]) for name in ("requests", "keys"))
    traffic = f"{format_count(count, 'request')} of {format_count(keys, 'key')}, {_source(study)}{notes}"
    limited = "all requests together" if keys == 1 else limited_to(origin, scenario.workload)
    limit = (
        f"{scenario.limit.rate}{scenario.workload.counted} for {limited}, "
        f"{scenario.limit.algorithm}; an exact limiter denies {format_percent(denied)} of the requests"
    )
    where = f"{deployment.type}, {deployment.nodes} API nodes, {deployment.routing}, network {deployment.network}"
    where += f", a Redis of {deployment.shards} primaries" if deployment.shards > 1 else ""
    rows = [("Traffic", traffic), ("Limit", limit), ("Deployment", where), ("Required", ", ".join(filter(None, required)))]
    if scenario.faults:
        rows.append(("Faults", f"{failing(scenario)}; the contenders' figures are with all of them"))
    rows += [("Assumed", " ".join(study.assumed))] if study.assumed else []
    return html_table(
        ["", ""], [[escape_html(left), prose(right)] for left, right in rows], header=False, label="The question"
    )


def tradeoff(study: Study, recommendation: Recommendation) -> HTML:
    """Show the figure of latency against over-admission."""
    keys = ", ".join(f"{name} in {color}" for name, color in NAMED.items())
    caption = (
        "Bars: 95 % intervals, of a latency with the model's error; an arrow: a lower bound, open at the top. Star: the "
        f"choice. Square: sticky routing. Below the dotted line: exactly 0. Colors: {keys}."
    )
    return figure_html(latency_against_over_admission(recommendation, study.scenario.requirements), caption)


NAMED = {"memory": "orange", "redis": "vermilion", "postgres": "blue", "hybrid": "green"}


def rejected(study: Study, recommendation: Recommendation) -> HTML:
    """Show why each other candidate was rejected: the contenders one by one, those that were screened out by group."""
    tried = {each.candidate for each in recommendation.assessments}
    near = [_why_not(each) for each in recommendation.rejected if each.candidate in tried]
    far = [_why_not(each) for each in recommendation.rejected if each.candidate not in tried]
    if not near and not far:
        return HTML("<p>There was no other candidate.</p>")
    parts = []
    if near:
        caption = f"The other contenders, on {requests_of(recommendation, 'in full')}"
        parts.append(html_table(["candidate", "why not"], near, caption=caption).data)
    if far:
        parts.append(_screened_out(study, recommendation, tried))
        each = html_table(["candidate", "why not"], far, label="Screened out, one by one").data
        parts.append(details(f"Each of the {len(far)} by itself", each, on_paper=False))
    return HTML("".join(parts) + _moving_parts(recommendation))


def _moving_parts(recommendation: Recommendation) -> str:
    rows = [
        [escape_html(name), str(len(parts)), escape_html(", ".join(parts) or "none")]
        for name, parts in recommendation.moving_parts.items()
    ]
    table = html_table(["candidate", "moving parts", "which"], rows, label="Moving parts").data
    return details("Moving parts of each contender", table, on_paper=False)


def _why_not(each: Rejection) -> list[str]:
    return [escape_html(each.candidate), escape_html(each.reason)]


def _screened_out(study: Study, recommendation: Recommendation, tried: Container[str]) -> str:
    screened = study.findings.screened.assessments
    out = [each for each in screened if each.candidate not in tried]
    best = next((each for each in screened if each.candidate == recommendation.choice), None)
    groups = rejection_groups(out, best, recommendation.currency, study.scenario.requirements.prefer)
    rows = [
        [escape_html(text) for text in (each.family, len(each.candidates), each.reason, each.figures)] for each in groups
    ]
    caption = f"{len(out)} more, screened out by one run each, on {requests_of(recommendation, 'screening')}"
    return html_table(["family", "candidates", "why not", "figures"], rows, caption=caption).data


def _skipped(study: Study) -> str:
    origin = study.provenance
    if not origin.skipped:
        return ""
    lines = "".join(f"<li><code>{escape_html(line)}</code></li>" for line in origin.examples[:3])
    were = "was" if origin.skipped == 1 else "were"
    said = f"{origin.skipped:,} of {origin.lines:,} lines of {_source(study)} did not parse and {were} left out"
    return f'<details class="note"><summary>{escape_html(said)}</summary><ul>{lines}</ul></details>'


def _source(study: Study) -> str:
    workload = study.scenario.workload
    return _recipe(workload) if workload.log is None else workload.log_name


def _recipe(workload: WorkloadSpec) -> str:
    """Say in a few words what makes the traffic that no log tells; the scenario at the end of the page has all of it."""
    users = workload.clients.users if workload.clients else None
    if users is not None:
        return f"a closed loop of {format_count(users, 'user')} for {format_seconds(workload.duration)}"
    rate = format_amount(workload.requests_per_second or 0.0)
    came = f"a recipe of {rate} requests/s for {format_seconds(workload.duration)}"
    return f"{came}, arrivals {workload.arrivals}, popularity {workload.popularity}"
