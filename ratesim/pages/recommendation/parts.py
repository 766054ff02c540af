"""The parts of a report, as HTML: what the notebook shows, one function for each of its cells.

Everything that comes from a log or a scenario goes through `escaped`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratesim.pages.html import HTML, escaped, html_table
from ratesim.pages.recommendation.plots import latency_against_over_admission
from ratesim.pages.style import COLOURS, to_svg
from ratesim.recommendation.choice import Recommendation
from ratesim.wording import bytes_of, seconds, share, span

if TYPE_CHECKING:
    from ratesim.recommendation.evidence import Assessment, Interval
    from ratesim.recommendation.study import Study

__all__ = ["answer", "candidates", "losers", "reproduce", "rule_table", "setting", "tradeoff", "verdict"]

# What the design sketch claims a decision takes, in seconds: at least, less than.
CLAIMS = {"memory": (0.0, 1e-5), "redis": (1e-4, 1e-3), "postgres": (1e-3, 5e-3)}
NAMES = {"memory": "Memory", "redis": "Redis", "postgres": "PostgreSQL"}


def answer(scenario: str, out: str = "", profile: str = "", live: bool = True) -> Study:
    """The study of a scenario; what lies finished in the directory `out` is not computed again."""
    from ratesim.recommendation.study import study
    from ratesim.simulation.profile import Profile
    from ratesim.simulation.scenario import Scenario

    chosen = Profile.load(Path(profile)) if profile else None
    where = Path(out) if out else None
    # On a thread: the live replays bring an event loop of their own, and in a notebook this one already runs one.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(study, Scenario.load(scenario), out=where, profile=chosen, live=live).result()


def verdict(study: Study, recommendation: Recommendation) -> HTML:
    """The recommendation, how sure it is, and what stands in its way: a limit that does not bind, lines that were lost."""
    kind = "verdict" if recommendation.choice else "verdict none"
    parts = [f'<p class="{kind}">{escaped(recommendation.verdict)}</p>']
    if recommendation.binding:
        parts.append(f'<p class="note">{escaped(recommendation.binding)}</p>')
    if recommendation.confidence:
        parts.append(f"<p>{escaped(recommendation.confidence)}</p>")
    if recommendation.nearest:
        items = [f"<li><b>{escaped(each.candidate)}</b> {escaped(each.reason)}</li>" for each in recommendation.nearest]
        parts.append(f"<p>The nearest:</p><ul>{''.join(items)}</ul>")
    return HTML("\n".join([*parts, _skipped(study)]))


def setting(study: Study) -> HTML:
    """What was asked, in a few lines: traffic, limit, deployment, requirements."""
    scenario, origin = study.scenario, study.origin
    requests = int(study.results["requests"].iloc[0])
    denied = study.binding["exact_denied_share"]
    wants = scenario.requirements
    required = [
        f"p99 at most {seconds(wants.p99)}" if wants.p99 else "",
        f"over-admission {'exactly 0' if wants.max_over_admission == 0 else f'at most {share(wants.max_over_admission)}'}"
        if wants.max_over_admission is not None
        else "",
        f"{wants.persistence} persistence" if wants.persistence != "none" else "",
        f"room for {wants.key_count:,} keys",
    ]
    deployment = scenario.deployment
    notes = f", {', '.join(origin.notes)}" if origin.notes else ""
    rows = [
        ("Traffic", f"{requests:,} requests of {_source(study)}{notes}"),
        (
            "Limit",
            f"{scenario.limit.rate} for {_each(scenario.workload.key)}, {scenario.limit.algorithm}; "
            f"an exact limiter denies {share(denied)}",
        ),
        (
            "Deployment",
            f"{deployment.type}, {deployment.nodes} API nodes, {deployment.routing}, network {deployment.network}",
        ),
        ("Required", ", ".join(filter(None, required))),
    ]
    return html_table(["", ""], [[escaped(left), escaped(right)] for left, right in rows], header=False)


def _each(key: str | None) -> str:
    return "each key" if key is None else f"each {key}"


def candidates(study: Study, recommendation: Recommendation) -> HTML:
    """One row for each candidate, in the order of rank: simulated figures with intervals, and what was measured live."""
    measured = {row["candidate"]: row for row in study.live.to_dict("records")}
    head = ["candidate", "", "p50", "p99", "over-admission", "false denials", "L2 operations per request"]
    head += ["store's time per request", "bytes per key", "p50 measured live", "p99 measured live"]
    rows = []
    for each in recommendation.assessments:
        live = measured.get(each.candidate, {})
        chosen = each.candidate == recommendation.choice
        state = "chosen" if chosen else "passes" if each.passes else "fails"
        if state == "fails" and not any(check.verdict == "fails" for check in each.checks):
            state = "too close"
        name = f'<span class="dot" style="background:{COLOURS[each.backend]}"></span>{escaped(each.candidate)}'
        rows.append(
            [
                f"<b>{name}</b>" if chosen else name,
                f'<span class="{state.replace(" ", "-")}">{state}</span>',
                _interval(each.p50, seconds),
                _interval(each.p99, seconds),
                _interval(each.over_admission, share),
                _interval(each.false_denial, share),
                f"{each.l2_operations_per_request:.3g}",
                seconds(each.l2_busy_per_request) if each.l2_busy_per_request else "none",
                "unknown" if math.isnan(each.bytes_per_key) else f"{each.bytes_per_key:,.0f}",
                seconds(live["latency_p50"]) if live else "",
                seconds(live["latency_p99"]) if live else "",
            ]
        )
    notes = [
        f"Simulated over {recommendation.assessments[0].p99.seeds} seed(s), 95 % intervals in small print. "
        f"{study.profile.describe()}",
        _room(study, recommendation.assessments),
    ]
    failed = [f"{each.candidate} {share(each.failed_share)}" for each in recommendation.assessments if each.failed_share]
    if failed:
        notes.append(f"Requests without a decision, which no latency here counts: {', '.join(failed)}.")
    if measured:
        servers = dict.fromkeys(f"{name} on {row['server']}" for name, row in measured.items())
        told = dict.fromkeys(str(row["note"]) for row in measured.values())
        notes.append(
            f"Measured live on this machine, without the modelled network: {', '.join(servers)}; {'; '.join(told)}."
        )
        notes += [
            f"{name}: {row['errors']} of {row['requests']} live requests failed."
            for name, row in measured.items()
            if row["errors"]
        ]
    else:
        notes.append("Nothing was replayed live.")
    small = "".join(f"<p class='small'>{escaped(note)}</p>" for note in notes)
    return HTML(html_table(head, rows).data + small)


def tradeoff(study: Study, recommendation: Recommendation) -> HTML:
    """The figure: latency against over-admission."""
    figure, alt = latency_against_over_admission(recommendation, study.scenario.requirements)
    keys = "".join(f'<span class="dot" style="background:{colour}"></span>{name} ' for name, colour in COLOURS.items())
    caption = "Bars: 95 % intervals. Star: the choice. Square: sticky routing. Below the dotted line: exactly 0."
    return HTML(f'<figure>{to_svg(figure, alt)}<figcaption class="small">{keys}<br>{caption}</figcaption></figure>')


def losers(recommendation: Recommendation) -> HTML:
    """Why each other candidate lost."""
    rows = [[escaped(each.candidate), escaped(each.reason)] for each in recommendation.losers]
    return html_table(["candidate", "why not"], rows) if rows else HTML("<p>There was no other candidate.</p>")


def rule_table(study: Study, recommendation: Recommendation) -> HTML:
    """What the design sketch would have chosen, and its latency claims beside what was measured."""
    measured: dict[str, Any] = {}
    backends = {each.candidate: each.backend for each in recommendation.assessments}
    for row in study.live.to_dict("records"):
        measured.setdefault(backends.get(row["candidate"], ""), row)
    rows = []
    for backend, (least, most) in CLAIMS.items():
        claim = f"{least * 1e3:g} to {most * 1e3:g} ms" if least else f"less than {most * 1e3:g} ms"
        alone = study.profile.backends[backend].latency_p50
        found = measured.get(backend)
        if found is None:
            rows.append([NAMES[backend], claim, seconds(alone), "not measured", "", ""])
            continue
        p50, p99 = found["latency_p50"], found["latency_p99"]
        held = "holds" if least <= p50 < most else "is faster" if p50 < least else "is slower"
        rows.append([NAMES[backend], claim, seconds(alone), seconds(p50), seconds(p99), held])
    table = html_table(
        [
            "backend",
            "the sketch's claim",
            "p50 one at a time, from the profile",
            "p50 measured live",
            "p99 measured live",
            "the claim, live, at the median",
        ],
        rows,
    )
    late = ", ".join(f"{row['candidate']} {seconds(row['lateness_p99'])}" for row in measured.values())
    waits = "A live latency counts from when the request was due, and so contains what the sending process itself was late"
    note = f"<p class='small'>{escaped(waits)} (p99: {escaped(late)}).</p>" if late else ""
    return HTML(f"<p>{escaped(recommendation.sketch.sentence)}</p>{table.data}{note}")


def reproduce(study: Study, recommendation: Recommendation, scenario: str) -> HTML:
    """The command, seeds, versions, machine, profile and scenario that give this report again."""
    text = study.scenario.to_toml() if not Path(scenario).is_file() else Path(scenario).read_text("utf-8")
    first, count = study.scenario.seed, study.scenario.replications
    environment = dict(study.environment)
    machine, cores = environment.pop("machine", "unknown"), environment.pop("cores", "unknown")
    rows = [
        ("Command", "ratesim report --scenario scenario.toml --profile profile.json --out again"),
        ("Seeds", f"{first} to {first + count - 1}" if count > 1 else str(first)),
        ("Machine", f"{machine}, {cores} cores"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in environment.items())),
        ("Profile", study.profile.describe()),
    ]
    same = "The files lie beside this report. Same seed and profile: same simulated numbers; what is measured live varies."
    parts = [
        html_table(
            ["", ""],
            [[escaped(a), f"<code>{escaped(b)}</code>" if a == "Command" else escaped(b)] for a, b in rows],
            header=False,
        ).data
    ]
    parts.append(f"<p class='small'>{same}</p><p>The scenario:</p><pre>{escaped(text, lines=True)}</pre>")
    if recommendation.choice:
        parts.append(
            f"<p>The chosen configuration, storage.toml:</p><pre>{escaped(recommendation.storage_toml, lines=True)}</pre>"
        )
    return HTML("\n".join(parts))


def _skipped(study: Study) -> str:
    origin = study.origin
    if not origin.skipped:
        return ""
    lines = "".join(f"<li><code>{escaped(line)}</code></li>" for line in origin.examples[:3])
    were = "was" if origin.skipped == 1 else "were"
    said = f"{origin.skipped:,} of {origin.lines:,} lines of {_source(study)} did not parse and {were} left out"
    return f'<div class="note"><p>{escaped(said)}; the first of them:</p><ul>{lines}</ul></div>'


def _source(study: Study) -> str:
    log = study.scenario.workload.log
    return study.origin.source if log is None else Path(log).name


def _room(study: Study, assessments: Sequence[Assessment]) -> str:
    keys = study.scenario.requirements.key_count
    known = [each for each in assessments if not math.isnan(each.bytes_per_key)]
    sizes: dict[str, list[float]] = {}
    for each in known:
        sizes.setdefault(each.backend, []).append(each.bytes_per_key * keys)
    shown = [
        f"{name} {bytes_of(min(of)) if min(of) == max(of) else span(min(of), max(of), bytes_of)}"
        for name, of in sizes.items()
    ]
    return f"{keys:,} keys would take: {', '.join(shown)}." if shown else ""


def _interval(value: Interval, unit: object) -> str:
    assert callable(unit)
    mean = escaped(unit(value.mean))
    if value.low == value.high:
        return mean
    return f"{mean}<br><small>{escaped(span(value.low, value.high, unit))}</small>"
