"""The recommendation as Markdown, short enough for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ratesim.formatting import escape_control_chars, format_excess, format_money, format_percent, format_seconds

if TYPE_CHECKING:
    from ratesim.recommendation.assess.assessment import Assessment
    from ratesim.recommendation.decide.recommendation import Recommendation
    from ratesim.recommendation.decide.rejection_groups import RejectionGroup

__all__ = ["markdown", "plain", "table"]

MOST_LINES = 59
CONTENDERS = 8  # rows of the table
SENTENCES = 4  # of a list that is not folded
FOLD = 6  # lines around what is folded
NAMED = 3  # candidates of a group


def markdown(recommendation: Recommendation, groups: Sequence[RejectionGroup] = ()) -> str:
    """Write what is lost of the log, verdict, numbers, confidence, caveat, what was read and assumed; the rest folded.

    It has fewer than 60 lines, however many candidates there are.

    Parameters
    ----------
    recommendation
        What is written.
    groups
        The candidates that were only screened, by group, see `rejection_groups`.
    """
    lines = [f"**Lost lines** {plain(recommendation.lost_note)}", ""] if recommendation.lost_note else []
    lines += [f"## {plain(recommendation.verdict)}", ""]
    lines += [f"- **{plain(each.value)}** {plain(each.what)} ({plain(each.against)})" for each in recommendation.numbers]
    lines += ["", plain(recommendation.confidence.sentence), ""]
    lines += [plain(recommendation.size), ""] if recommendation.size else []
    lines += [f"**But** {plain(recommendation.caveat)}", ""]
    read = recommendation.log
    about_log = " ".join(filter(None, (read.note, read.stamps_note))) if read else ""
    lines += [f"**Read** {plain(about_log)}", ""] if about_log else []
    assumed = " ".join(recommendation.assumed)
    lines += [f"**Assumed** {plain(assumed)}", ""] if assumed else []
    others = _cut([f"- {plain(each.sentence)}" for each in recommendation.alternatives], SENTENCES)
    lines += [*others, ""] if others else []
    lines += _contenders(recommendation)
    relaxations = _cut([f"- {plain(each.sentence)}" for each in recommendation.relaxations], SENTENCES)
    lines += ["", *relaxations] if relaxations else []
    last = [
        "",
        plain(f"Scenario {recommendation.scenario}: {recommendation.limit}{_required(recommendation.requirements)}."),
    ]
    flips = [each.sentence for each in recommendation.flips if each.value is not None]
    kept = [each.sentence for each in recommendation.flips if each.value is None]
    changes = [f"- {plain(each)}" for each in (*(load.sentence for load in recommendation.headroom), *flips, *kept)]
    rejected = _rejected(recommendation, groups)
    room = MOST_LINES - len(lines) - len(last) - 2 * FOLD
    lines += _folded("What would change the answer", _cut(changes, max(room - min(len(rejected), room // 2), 1)))
    room = MOST_LINES - len(lines) - len(last) - FOLD
    lines += _folded(f"Why not the other {len(recommendation.rejected)}", _cut(rejected, max(room, 1)))
    return "\n".join(lines + last) + "\n"


def _required(requirements: Mapping[str, Any]) -> str:
    """Write what was required with units, without what is so unless it is said: "; p99 2ms, persistence session"."""
    from ratesim.simulation.scenario.fields import unit_of
    from ratesim.simulation.scenario.scenario import Requirements

    default = Requirements().model_dump(mode="json")
    said = []
    for name, value in requirements.items():
        unit = unit_of(Requirements.model_fields[name])
        if value is not None and value != default[name]:
            text = unit.write(value) if unit is not None and isinstance(value, int | float) else value
            said.append(f"{name} {' or '.join(text) if isinstance(text, list) else text}")
    return f"; {', '.join(said)}" if said else ""


def _contenders(recommendation: Recommendation) -> list[str]:
    shown = recommendation.assessments[:CONTENDERS]
    head = ("candidate", "", "p99", "over-admission", "busiest window", "a month", "blast radius")
    lines = table(head, [_row(each, recommendation) for each in shown])
    left_out = len(recommendation.assessments) - len(shown)
    return lines + (["", f"{left_out} more contenders are in the report."] if left_out else [])


def _row(each: Assessment, recommendation: Recommendation) -> tuple[str, ...]:
    is_choice = each.candidate == recommendation.choice
    return (
        f"**{each.candidate}**" if is_choice else each.candidate,
        "chosen" if is_choice else "passes" if each.passes else "fails" if each.fails else "too close",
        each.p99.figure(format_seconds),
        format_percent(each.over_admission.mean),
        each.worst_excess.figure(format_excess),
        format_money(each.cost, recommendation.currency),
        "not tried" if each.blast_radius is None else format_percent(each.blast_radius),
    )


def _rejected(recommendation: Recommendation, groups: Sequence[RejectionGroup]) -> list[str]:
    """Say why each contender was rejected, and each group of the others; each candidate where there are no groups."""
    contenders = {each.candidate for each in recommendation.assessments}
    lines = [
        f"- {plain(each.candidate)}: {plain(each.reason)}"
        for each in recommendation.rejected
        if each.candidate in contenders or not groups
    ]
    for group in groups:
        more = len(group.candidates) - NAMED
        names = ", ".join(group.candidates[:NAMED]) + (f" and {more} more" if more > 0 else "")
        reason = f"{group.reason}, {group.figures}" if group.figures else group.reason
        lines.append(f"- {plain(group.family)} ({plain(names)}): {plain(reason)}")
    return lines


def _cut(lines: Sequence[str], most: int) -> list[str]:
    """Return at most so many lines, the last of which says how many are left out."""
    return [*lines] if len(lines) <= most else [*lines[: most - 1], f"- and {len(lines) - most + 1} more in the report"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; cells are texts, in which only ** means something."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [f"**{plain(cell[2:-2])}**" if cell.startswith("**") else plain(cell) for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def plain(text: str) -> str:
    """Escape a text, on one line, so that nothing in it means anything to Markdown or HTML, no address either."""
    return re.sub(
        r"([\\`*_{}\[\]<>|#~@&]|:(?=//)|(?<=www)\.|^[-+](?= )|(?:(?<=^\d)|(?<=^\d\d))[.)](?= ))",
        r"\\\1",
        escape_control_chars(" ".join(text.split())),
    )


def _folded(summary: str, lines: Sequence[str]) -> list[str]:
    return ["", "<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>"] if lines else []
