"""The second half of a report, a function for each cell: assumptions, faults, cost, baseline, files, method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratesim.formatting import format_amount, format_count, format_percent, format_seconds
from ratesim.pages.html import HTML, details, escape_html, html_table, small_print
from ratesim.pages.recommendation.contender_tables import requests_of
from ratesim.pages.recommendation.portable import has_standard_input, lasting
from ratesim.pages.repro_command import repro_command, reproduction_table
from ratesim.recommendation.decide.recommendation import Recommendation
from ratesim.recommendation.investigate.budget import SECONDS
from ratesim.recommendation.investigate.headroom import WORDS
from ratesim.simulation.scenario.temporary_files import is_temporary
from ratesim.simulation.scenario.workload import READ

if TYPE_CHECKING:
    from ratesim.recommendation.investigate.fault_impact import FaultImpact
    from ratesim.recommendation.investigate.study import Study

# Where a report first shows the baseline, it says what that is.
BASELINE = (
    "The rule-of-thumb baseline is a table of rules that chooses a backend from the latency target, the type of the "
    "deployment and the persistence alone. It never looks at the traffic. <code>docs/recommendation.md</code> describes it."
)

FEW = 100  # decisions: below, a 99th percentile is the slowest one

__all__ = ["cost", "faults", "method", "ready", "rules", "what_would_change"]


def what_would_change(recommendation: Recommendation) -> HTML:
    """How much more load the choice bears, and which assumption would make it another."""
    name = recommendation.choice or (recommendation.closest_misses[0].candidate if recommendation.closest_misses else "")
    parts = [f"<h3>More load on {escape_html(name)}</h3>"]
    if recommendation.headroom:
        rows = [
            [
                escape_html(f"{WORDS[each.requirement][0]}, {each.way}"),
                "not today" if each.meets is None else escape_html("at least " * (each.fails is None) + _times(each.meets)),
                "not found" if each.fails is None else escape_html(_times(each.fails) + " (not shown)" * each.is_open),
                escape_html(each.sentence),
            ]
            for each in recommendation.headroom
        ]
        head = ["requirement, and source of the load", "met up to", "missed from", ""]
        parts.append(html_table(head, rows, caption="Load, in multiples of today's").data)
        parts.append(
            small_print(
                f"Found without faults, on {requests_of(recommendation, 'more load')}: first larger and larger loads, then "
                "by bisection between the last load that met the requirement and the first that missed it, or is not shown "
                "to meet it: within the model's error, or at a load at which the model was not validated."
            )
        )
    else:
        parts.append("<p>No requirement has a number that load could break.</p>")
    parts.append("<h3>Other assumptions</h3>")
    if "other assumptions" in recommendation.parts:
        where = requests_of(recommendation, "other assumptions")
        parts.append(small_print(f"Each was varied alone, without faults, on {where}."))
    told = sorted(recommendation.flips, key=lambda each: not each.flips)  # what flips comes first
    items = "".join(
        f"<li>{f'<b>{said}</b>' if each.flips else said}</li>" for each in told if (said := escape_html(each.sentence))
    )
    parts.append(f"<ul>{items}</ul>" if items else "<p>No assumption was varied.</p>")
    return HTML("\n".join(parts))


def _times(factor: float) -> str:
    return f"{format_amount(factor)} x"


def faults(recommendation: Recommendation) -> HTML:
    """Show the contenders under faults, and what it means to let requests without a decision through, or to refuse them."""
    order = {each.candidate: number for number, each in enumerate(recommendation.assessments)}
    impacts = sorted(recommendation.fault_impacts, key=lambda each: order[each.candidate])
    first = recommendation.assessments[0].candidate
    mine = [_fault_row(each) for each in impacts if each.candidate == first]
    others = [_fault_row(each) for each in impacts if each.candidate != first]
    head = [
        "fault",
        "candidate",
        "requests meanwhile",
        "undecided",
        "p99 of decisions",
        "p99 of any answer",
        "let through: over-admission",
        "refused: false denials",
        "affected",
    ]
    text = (
        "A fault of the scenario begins when that says, and any other where most requests come. Requests meanwhile: also "
        "those that clients try again. Undecided: "
        "requests with an error, and those that a hybrid answers by on_store_failure, because its store is away and its "
        "view too old. Let through: the API admits them, and a hybrid by fail_open, which still denies what an old view "
        "denies; the figure is the over-admission while the fault holds. Refused: the API denies them all, and so does a "
        "hybrid by fail_closed; the figure is the false denials. Both come from the same run, and from "
        "one under each policy for a hybrid's views of a store that only answers late or seldom. Affected: "
        "requests with an error, and wrong decisions beyond those without the fault, over the requests that came while it "
        "held. It is more than 100 % if the damage outlasts the fault."
    )
    fewest = min((each.requests for each in impacts if each.is_thin), default=None)
    if fewest is not None:
        text += f" The shares rest on few requests: during a fault come as few as {fewest:,}."
    caption = f"Faults of {first}, each simulated alone on {requests_of(recommendation, 'faults')}"
    table = html_table(head, mine, caption=caption).data
    more = (
        details(
            "Faults of the other contenders",
            html_table(head, others, label="Faults of the other contenders").data,
            on_paper=False,
        )
        if others
        else ""
    )
    return HTML(table + more + small_print(text) + _lost(recommendation))


def _fault_row(each: FaultImpact) -> list[str]:
    texts = (
        each.fault,
        each.candidate,
        f"{each.requests:,}" if each.requests else "none came",
        format_percent(each.undecided_share),
        _decided_p99(each),
        format_seconds(each.answer_p99) if each.requests else "none came",
        "without bound" if each.open_over_admission is None else format_percent(each.open_over_admission),
        format_percent(each.closed_false_denial),
        format_percent(each.affected_share),
    )
    return [escape_html(text) for text in texts]


def _decided_p99(each: FaultImpact) -> str:
    """Return the 99th percentile of decisions; of what was not decided there is none."""
    decided = round(each.requests * (1 - each.undecided_share))
    if each.p99 is None or not decided:
        return "none decided"
    if each.undecided_share and decided < FEW:
        return f"only {decided} decided"
    return ("at least " if each.p99_is_lower_bound else "") + format_seconds(each.p99)


def _lost(recommendation: Recommendation) -> str:
    """Say of each contender with a store what its loss takes away, worked out from its settings and servers."""
    alike: dict[str, list[str]] = {}  # candidates on the same store lose the same
    for each in recommendation.assessments:
        needs = recommendation.capacities[each.candidate]
        if needs.outage is not None:
            said = [needs.outage.sentence] + ([] if needs.crash is None else [needs.crash.sentence])
            alike.setdefault(" ".join(said), []).append(each.candidate)
    if not alike:
        return ""
    rows = [[escape_html(", ".join(names)), escape_html(said)] for said, names in alike.items()]
    table = html_table(["candidates", "what is lost"], rows, label="What the loss of the store takes away").data
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
        f"Unit prices in {prices.currency} of {prices.date}: {mine}. Sized for the busiest second of all of the "
        f"traffic, with what a request took in the runs on {requests_of(recommendation, 'in full')}, less the cold caches "
        "of a server that was idle there. Paid for all month."
    )
    return HTML(
        f"<p>{escape_html(said)}</p>{money}{note}{details('What each needs in the busiest second', things, on_paper=False)}"
    )


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
    names = ", ".join(name for name in recommendation.files if name != next(iter(recommendation.files)))
    return HTML(first + (details(f"Beside this report: {names}", "".join(rest), on_paper=False) if rest else ""))


def method(study: Study, recommendation: Recommendation, given: Mapping[str, Any]) -> HTML:
    """How it was found out, and the command, seeds, versions, machine, profile and scenario that give this report again.

    given: the parameters of the notebook. Those of `ratesim report` name the files that lie beside it.
    """
    scenario = Path(given["scenario"])
    is_whole = not any(given.get(name) for name in (*READ, "busiest", "limit", "nodes", "network"))
    text = scenario.read_text("utf-8") if is_whole and scenario.is_file() else study.scenario.to_toml()
    workload = study.scenario.workload
    if any(map(is_temporary, (*workload.logs, workload.key_file or ""))):
        text = lasting(study.scenario).to_toml()
    first = study.scenario.seed
    count = len(study.findings.screened.assessments)
    stages = [
        f"{format_count(count, 'candidate')}, once each, on {requests_of(recommendation, 'screening')}.",
        f"{len(recommendation.assessments)} contenders, the best of each kind and the cheapest that may pass, on "
        f"{requests_of(recommendation, 'in full')}; more seeds where the interval lay across a threshold.",
        "Faults, more load and other assumptions, as shown above.",
    ]
    for each in recommendation.whole:
        passed = "meets" if each.passes else "does not meet"
        stages.append(f"{each.candidate}, once, on all of the traffic: it {passed} the requirements there.")
    command, same = repro_command("recommendation", given), "The same parameters and profile give"
    if (given["scenario"], given["out"]) == ("scenario.toml", "."):
        command = "ratesim report --scenario scenario.toml --profile profile.json --prices prices.toml --out again"
        command += "" if given["live"] else " --no-live"
        command += "" if given["seconds"] == SECONDS else f" --seconds {given['seconds']:g}"
        same = "The files lie beside this report. The same seed and profile give"
    table = reproduction_table(command, f"from {first} on", study.environment, recommendation.profile.sentence)
    same += " the same simulated numbers; live ones vary."
    if has_standard_input(study.scenario):
        same += " The log came from standard input, which is not kept: write it to a file, and name that in scenario.toml."
    steps = "".join(f"<li>{escape_html(each)}</li>" for each in stages)
    asked = details("The scenario", f"<pre>{escape_html(text, lines=True)}</pre>")
    return HTML(f"<ol>{steps}</ol>{table}{small_print(same)}{asked}")
