"""The second half of a report, a function for each cell: assumptions, faults, cost, baseline, files, method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ratesim.formatting import format_amount, format_percent, format_seconds
from ratesim.pages.html import HTML, details, escape_html, html_table, small_print
from ratesim.recommendation.decide.recommendation import Recommendation

if TYPE_CHECKING:
    from ratesim.recommendation.investigate.study import Study

# Where a report first shows the baseline, it says what that is.
BASELINE = (
    "The rule-of-thumb baseline is a table of rules that chooses a backend from the latency target, the type of the "
    "deployment and the persistence alone. It never looks at the traffic. <code>docs/recommendation.md</code> describes it."
)

__all__ = ["cost", "faults", "method", "ready", "rules", "what_would_change"]


def what_would_change(recommendation: Recommendation) -> HTML:
    """How much more load the choice bears, and which assumption would make it another."""
    name = recommendation.choice or (recommendation.closest_misses[0].candidate if recommendation.closest_misses else "")
    parts = [f"<h3>More load on {escape_html(name)}</h3>"]
    if recommendation.headroom:
        rows = [
            [
                escape_html(f"{each.requirement.replace('_', ' ')}, {each.way}"),
                "not today" if each.meets is None else escape_html(_times(each.meets)),
                "not found" if each.fails is None else escape_html(_times(each.fails) + " (not shown)" * each.is_open),
                escape_html(each.sentence),
            ]
            for each in recommendation.headroom
        ]
        head = ["requirement, and source of the load", "met up to", "missed from", ""]
        parts.append(html_table(head, rows, caption="Load, in multiples of today's").data)
        parts.append(
            small_print(
                "Found by runs at these loads: first larger and larger, then by bisection between the last load that met "
                "the requirement and the first that missed it, or is not shown to meet it: within the model's error, or at "
                "a load at which the model was not validated."
            )
        )
    else:
        parts.append("<p>No requirement has a number that load could break.</p>")
    parts.append("<h3>Other assumptions</h3>")
    told = sorted(recommendation.flips, key=lambda each: not each.flips)  # what flips comes first
    items = "".join(
        f"<li>{f'<b>{said}</b>' if each.flips else said}</li>" for each in told if (said := escape_html(each.sentence))
    )
    parts.append(f"<ul>{items}</ul>" if items else "<p>No assumption was varied.</p>")
    return HTML("\n".join(parts))


def _times(factor: float) -> str:
    return f"{format_amount(factor)} x"


def faults(recommendation: Recommendation) -> HTML:
    """Show the contenders under faults."""
    order = {each.candidate: number for number, each in enumerate(recommendation.assessments)}
    rows = [
        [
            escape_html(each.fault),
            escape_html(each.candidate),
            f"{each.requests:,}" if each.requests else "none came",
            escape_html(format_percent(each.failed_share)),
            escape_html(("at least " if each.p99_is_lower_bound else "") + format_seconds(each.p99)),
            escape_html(f"{format_percent(each.healthy)} → {format_percent(each.over_admission)}"),
            escape_html(format_percent(each.affected_share)),
        ]
        for each in sorted(recommendation.fault_impacts, key=lambda each: order[each.candidate])
    ]
    head = ["fault", "candidate", "requests meanwhile", "without a decision", "p99 meanwhile", "over-admission", "affected"]
    mine = [row for row in rows if row[1] == escape_html(recommendation.assessments[0].candidate)]
    others = [row for row in rows if row not in mine]
    note = small_print(
        f"Each fault is simulated alone, on {recommendation.parts['faults']}, from when most requests come. "
        "Over-admission is that of this whole part, without and with the fault. Affected: requests without a decision, "
        "and wrong decisions beyond those without the fault, over the requests that came while it held. It is more than "
        "100 % if the damage outlasts the fault."
    )
    first = html_table(head, mine, caption=f"Faults of {recommendation.assessments[0].candidate}").data
    more = (
        details("The other contenders", html_table(head, others, label="Faults of the other contenders").data)
        if others
        else ""
    )
    return HTML(first + more + note + _lost(recommendation))


def _lost(recommendation: Recommendation) -> str:
    """Say of each contender with a store what its loss takes away, worked out from its settings and servers."""
    rows = []
    for each in recommendation.assessments:
        needs = recommendation.capacities[each.candidate]
        if needs.outage is not None:
            said = [needs.outage.sentence] + ([] if needs.crash is None else [needs.crash.sentence])
            rows.append([escape_html(each.candidate), escape_html(" ".join(said))])
    if not rows:
        return ""
    table = html_table(["candidate", "what is lost"], rows, label="What the loss of the store takes away").data
    return details("What the loss of the store takes away, by settings and servers, in the busiest second", table)


def cost(study: Study, recommendation: Recommendation) -> HTML:
    """Show the resources that each contender needs at the peak, and their price."""
    from ratesim.pages.capacity.cells import needed, paid
    from ratesim.recommendation.assess.prices import Prices

    prices = study.prices
    mine = "an example, in no vendor's favor: put your own with --prices" if prices == Prices.load() else "yours"
    ranked = {each.candidate: recommendation.capacities[each.candidate] for each in recommendation.assessments}
    over = {each.candidate: each.over_admission.mean for each in recommendation.assessments}
    said = " ".join(next(iter(ranked.values())).sentences)
    money = paid(ranked, lambda each: escape_html(each.candidate)).data
    things = needed(ranked, lambda each: escape_html(each.candidate), over.__getitem__).data
    note = small_print(
        f"Unit prices in {prices.currency} of {prices.date}: {mine}. Sized for the busiest second, paid for all month."
    )
    return HTML(f"<p>{escape_html(said)}</p>{money}{note}{details('What each needs in the busiest second', things)}")


def rules(study: Study, recommendation: Recommendation) -> HTML:
    """Show the choice of the rule-of-thumb baseline, and its claims beside the measured figures."""
    rows = [
        [escape_html(text) for text in (each.backend, each.claim, each.measured or "nothing", each.holds, each.why)]
        for each in recommendation.claims
    ]
    head = ["backend", "claim of the baseline", "measured", "holds", "why"]
    table = html_table(head, rows, caption="The claims of the rule-of-thumb baseline beside the measured figures").data
    opened = f"It would open <code>{escape_html(recommendation.baseline.storage)}</code>."
    lead = f"<p>{BASELINE}</p><p>{escape_html(recommendation.baseline.sentence)} {opened}</p>"
    lead += table
    if late := [
        f"{row['candidate']} {format_seconds(row['lateness_p99'])}" for row in study.live_rows if not row["disturbed"]
    ]:
        lead += small_print(
            f"The process of a live replay sent its requests late, waking up included (p99: {', '.join(late)})."
        )
    return HTML(lead)


def ready(recommendation: Recommendation) -> HTML:
    """Show the configuration, ready to use. The files lie beside the report."""
    if not recommendation.files:
        return HTML("<p>Nothing is chosen, so there is nothing to configure.</p>")
    parts = [
        f"<h3>{escape_html(name)}</h3><pre>{escape_html(text, lines=True)}</pre>"
        for name, text in recommendation.files.items()
    ]
    first, *rest = parts
    return HTML(first + (details("The other files", "".join(rest)) if rest else ""))


def method(study: Study, recommendation: Recommendation, scenario: str) -> HTML:
    """How it was found out, and the command, seeds, versions, machine, profile and scenario that give this report again."""
    text = study.scenario.to_toml() if not Path(scenario).is_file() else Path(scenario).read_text("utf-8")
    first = study.scenario.seed
    environment = dict(study.environment)
    machine, cores = environment.pop("machine", "unknown"), environment.pop("cores", "unknown")
    date = environment.pop("date", "unknown")
    count = len(study.findings.screened.assessments)
    stages = [
        f"{count} candidate{'s' * (count > 1)}, once each, on a small part: {recommendation.parts['screening']}.",
        f"{len(recommendation.assessments)} contenders, the best of each kind and the cheapest that may pass, in full: "
        f"{recommendation.parts['in full']}; more seeds where the interval lay across a threshold.",
        "Faults, more load and other assumptions, as shown above.",
    ]
    for each in recommendation.whole:
        passed = "meets" if each.passes else "does not meet"
        stages.append(f"{each.candidate}, once, on all of the traffic: it {passed} the requirements there.")
    rows = [
        ("Command", "ratesim report --scenario scenario.toml --profile profile.json --prices prices.toml --out again"),
        ("Seeds", f"from {first} on"),
        ("Machine", f"{machine}, {cores} cores"),
        ("Date", date),
        ("Versions", ", ".join(f"{name} {version}" for name, version in environment.items())),
        ("Profile", recommendation.profile.sentence),
    ]
    table = html_table(
        ["", ""],
        [[escape_html(a), f"<code>{escape_html(b)}</code>" if a == "Command" else escape_html(b)] for a, b in rows],
        header=False,
        label="How to reproduce this",
    ).data
    same = "The files lie beside this report. The same seed and profile give the same simulated numbers; live ones vary."
    steps = "".join(f"<li>{escape_html(each)}</li>" for each in stages)
    asked = details("The scenario", f"<pre>{escape_html(text, lines=True)}</pre>")
    return HTML(f"<ol>{steps}</ol>{table}{small_print(same)}{asked}")
