"""The first half of a report, as HTML, one function for each cell: the verdict, what was asked, why, and why not the others.

Everything that comes from a log or a scenario goes through `escape_html`.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratesim.formatting import format_percent, format_range, format_seconds
from ratesim.pages.html import HTML, details, escape_html, figure_html, html_table, small_print
from ratesim.pages.recommendation.plots import latency_against_over_admission
from ratesim.pages.style import COLORS
from ratesim.recommendation.decide.recommendation import Recommendation

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratesim.recommendation.assess.assessment import Assessment, Interval
    from ratesim.recommendation.investigate.study import Study

__all__ = ["answer", "candidates", "rejected", "setting", "tradeoff", "verdict"]


LIVE = "{} live / own simulation (ratio)"
CONTROL = (
    "Beside it is the same replay simulated: the same requests at the same rate on one node over loopback, with costs that "
    "were measured on the same server in the same minute. The ratio is simulated over live. So these columns are a control "
    "of the model, and no figures of your deployment. A latency counts from when a request was due. If the process slept "
    "then, it counts from when it was awake and began, because it would have slept without a limiter, too."
)


def answer(scenario: str, out: str = "", profile: str = "", prices: str = "", live: bool = True) -> Study:
    """Run or load the study of a scenario. Finished results in the directory `out` are used again."""
    from ratesim.recommendation.assess.prices import Prices
    from ratesim.recommendation.investigate.study import study
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Scenario

    costs = Profile.load(Path(profile)) if profile else None
    paid = Prices.load(Path(prices)) if prices else None
    where = Path(out) if out else None
    # On a thread: the live replays bring an event loop of their own, and in a notebook this one already runs one.
    with ThreadPoolExecutor(1) as thread:
        asked = Scenario.load(scenario)
        return thread.submit(study, asked, out=where, profile=costs, prices=paid, live=live).result()


def verdict(study: Study, recommendation: Recommendation) -> HTML:
    """Show the box that is read first: the choice, three numbers, its confidence and one caveat.

    Below it are the nearest candidates if there is no choice, and the lines of the log that did not parse.
    """
    kind = "verdict" if recommendation.choice else "verdict none"
    told = "".join(
        f"<li><b>{escape_html(each.value)}</b><span>{escape_html(each.what)}</span><small>{escape_html(each.against)}</small></li>"
        for each in recommendation.numbers
    )
    box = [
        f'<section class="{kind}" aria-label="The verdict"><p class="choice">{escape_html(recommendation.verdict)}</p>',
        f'<ul class="numbers">{told}</ul>',
        f'<p class="confidence">{escape_html(recommendation.confidence.sentence)}</p>',
        f"<p>{escape_html(recommendation.size)}</p>" if recommendation.size else "",
        f'<p class="caveat"><b>But</b> {escape_html(recommendation.caveat)}</p></section>',
    ]
    return HTML("\n".join([*box, _nearest(recommendation), _skipped(study)]))


def _nearest(recommendation: Recommendation) -> str:
    if not recommendation.closest_misses:
        return ""
    items = [
        f"<li><b>{escape_html(each.candidate)}</b> {escape_html(each.reason)}</li>" for each in recommendation.closest_misses
    ]
    relaxed = [f"<li>{escape_html(each.sentence)}</li>" for each in recommendation.relaxations]
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
        f"false denials at most {format_percent(wants.max_false_denial)}" if wants.max_false_denial is not None else "",
        f"{wants.persistence} persistence" if wants.persistence != "none" else "",
        f"room for {wants.key_count:,} keys",
        f"only {' and '.join(wants.allowed)}" if len(wants.allowed) < 4 else "",
    ]
    deployment = scenario.deployment
    notes = f", {', '.join(origin.notes)}" if origin.notes else ""
    traffic = f"{study.summary['requests']:,.0f} requests of {study.summary['keys']:,.0f} keys, {_source(study)}{notes}"
    each = "key" if scenario.workload.key is None else scenario.workload.key
    limit = (
        f"{scenario.limit.rate} for each {each}, "
        f"{scenario.limit.algorithm}; an exact limiter denies {format_percent(denied)}"
    )
    where = f"{deployment.type}, {deployment.nodes} API nodes, {deployment.routing}, network {deployment.network}"
    where += f", a Redis of {deployment.shards} primaries" if deployment.shards > 1 else ""
    rows = [("Traffic", traffic), ("Limit", limit), ("Deployment", where), ("Required", ", ".join(filter(None, required)))]
    return html_table(
        ["", ""], [[escape_html(left), escape_html(right)] for left, right in rows], header=False, label="The question"
    )


def candidates(study: Study, recommendation: Recommendation) -> HTML:
    """Show the contenders against the requirements: simulated figures with intervals, and live measurements."""
    measured = {row["candidate"]: row for row in study.live_rows}
    currency = recommendation.currency
    head = ["candidate", "", "p99", "over-admission", "false denials", "a month", "blast radius", "on the front"]
    varied = len({each.algorithm for each in recommendation.assessments}) > 1
    several = _has_several(recommendation)
    head += ["worst window"] * varied + ["p50"] + [LIVE.format("p50"), LIVE.format("p99")] * bool(measured)
    rows = []
    for each in recommendation.assessments:
        live = measured.get(each.candidate, {})
        lives = [_live(live, name) if live else "" for name in ("p50", "p99")]
        chosen = each.candidate == recommendation.choice
        state = "chosen" if chosen else "passes" if each.passes else "fails" if each.fails else "too close"
        name = f'<span class="dot" style="background:{COLORS[each.backend]}"></span>{escape_html(each.candidate)}'
        rows.append(
            [
                (f"<b>{name}</b>" if chosen else name) + (_servers(each) if several else ""),
                f'<span class="{state.replace(" ", "-")}">{state}</span>',
                _interval(each.p99, format_seconds),
                _interval(each.over_admission, format_percent),
                _interval(each.false_denial, format_percent),
                escape_html(f"{each.cost:,.2f} {currency}"),
                "not tried" if each.blast_radius is None else escape_html(format_percent(each.blast_radius)),
                "yes" if each.candidate in recommendation.front else "no",
                *[escape_html(f"{1 + each.worst_excess:.2f} x the rate")] * varied,
                _interval(each.p50, format_seconds),
                *(lives if measured else ()),
            ]
        )
    return HTML(
        html_table(head, rows, caption="The contenders").data + "".join(map(small_print, _notes(study, recommendation)))
    )


def _notes(study: Study, recommendation: Recommendation) -> list[str]:
    most = max(each.p99.seeds for each in recommendation.assessments)
    notes = [
        f"Simulated over up to {most} seed(s), 95 % intervals in small print. {recommendation.profile.sentence}",
        _model_errors(recommendation),
        "Blast radius: in the worst of the faults below, affected requests over the requests that came while it held. A "
        "candidate is on the Pareto front if no other one is at least as good in p99, over-admission, cost, blast "
        "radius and moving parts, and better in one of them.",
    ]
    if _has_several(recommendation):
        notes.append(
            "Below a name are its servers, primaries + replicas. Three Sentinels watch a pair of them; answers wait for a "
            "synchronous standby."
        )
    failed = [
        f"{each.candidate} {format_percent(each.failed_share)}" for each in recommendation.assessments if each.failed_share
    ]
    if failed:
        notes.append(f"Requests without a decision are in no latency here: {', '.join(failed)}.")
    if live := study.live_rows:
        where = ", ".join(dict.fromkeys(f"{row['candidate']} on {row['server']}" for row in live))
        told = "; ".join(dict.fromkeys(str(row["note"]) for row in live))
        notes.append(f"Live columns: a replay on this machine, without the modeled network: {where}; {told}. {CONTROL}")
        notes += [
            f"{row['candidate']}: the machine was disturbed in each of its replays, so their figures are not its storage's: "
            f"{row['disturbed']}."
            for row in live
            if row["disturbed"]
        ]
        notes += [
            f"{row['candidate']}: {row['errors']} of {row['requests']} live requests failed."
            for row in live
            if row["errors"]
        ]
    elif not len(study.live):
        notes.append("No candidate was replayed live.")
    return notes + [f"{name} was not measured live: {why.rstrip('.')}." for name, why in study.live_failures.items()]


def _live(row: dict[str, Any], quantile: str) -> str:
    """Return a quantile of a live replay beside that of its own simulation, and simulated over measured."""
    if row["disturbed"]:
        return "machine disturbed"
    measured, simulated = (float(row.get(f"{of}_{quantile}", math.nan)) for of in ("latency", "simulated"))
    if math.isnan(simulated):  # of a study that an older version made
        return escape_html(format_seconds(measured))
    return escape_html(f"{format_seconds(measured)} / {format_seconds(simulated)} ({simulated / measured:.2f})")


def _model_errors(recommendation: Recommendation) -> str:
    """Say how large the model's error is in the interval of each p99, and whose verdict that is."""
    known = {each.candidate: each.model_error for each in recommendation.assessments if each.model_error is not None}
    said = "; ".join(f"{name} {error.share}" for name, error in known.items())
    whose = "; ".join(dict.fromkeys(error.verdict for error in known.values()))
    return (
        "The interval of a latency is 95 % over the seeds, and the model's error at both ends. Of the p99 that is: "
        f"{said}. {whose[:1].upper()}{whose[1:]}. Above that a simulated latency is a lower bound."
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


def rejected(recommendation: Recommendation) -> HTML:
    """Show why each other candidate was rejected: the contenders, and folded those that were screened out."""
    tried = {each.candidate for each in recommendation.assessments}
    near = [
        [escape_html(each.candidate), escape_html(each.reason)]
        for each in recommendation.rejected
        if each.candidate in tried
    ]
    far = [
        [escape_html(each.candidate), escape_html(each.reason)]
        for each in recommendation.rejected
        if each.candidate not in tried
    ]
    if not near and not far:
        return HTML("<p>There was no other candidate.</p>")
    parts = html_table(["candidate", "why not"], near, caption="The other contenders").data if near else ""
    if far:
        table = html_table(["candidate", "why not"], far, label="Screened out").data
        part = escape_html(recommendation.parts["screening"])
        what = f"{len(far)} more, simulated on a small part of the traffic only ({part})"
        parts += details(what, table)
    return HTML(parts)


def _skipped(study: Study) -> str:
    origin = study.provenance
    if not origin.skipped:
        return ""
    lines = "".join(f"<li><code>{escape_html(line)}</code></li>" for line in origin.examples[:3])
    were = "was" if origin.skipped == 1 else "were"
    said = f"{origin.skipped:,} of {origin.lines:,} lines of {_source(study)} did not parse and {were} left out"
    return f'<div class="note"><p>{escape_html(said)}; the first of them:</p><ul>{lines}</ul></div>'


def _source(study: Study) -> str:
    log = study.scenario.workload.log
    return study.provenance.source if log is None else Path(log).name


def _has_several(recommendation: Recommendation) -> bool:
    """Tell whether any contender has more than one server."""
    return any(each.standby or each.topology in ("cluster", "sentinel") for each in recommendation.assessments)


def _servers(each: Assessment) -> str:
    """Return the topology and its servers in small print: "cluster, 3 + 3"."""
    if each.topology == "none":
        return ""
    replicas = f" + {each.servers * each.replicas}" if each.replicas else ""
    kind = "synchronous standby" if each.standby else each.topology
    return f"<br><small>{escape_html(f'{kind}, {each.servers}{replicas}')}</small>"


def _interval(value: Interval, unit: Callable[[float], str]) -> str:
    mean = escape_html(value.figure(unit))
    if value.low == value.high:
        return mean
    if value.is_lower_bound:
        return f"{mean}<br><small>{escape_html(unit(value.mean))} simulated</small>"
    return f"{mean}<br><small>{escape_html(format_range(value.low, value.high, unit))}</small>"
