"""The recommendation as Markdown, short enough for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ratesim.formatting import escape_control_chars, format_percent, format_seconds

if TYPE_CHECKING:
    from ratesim.recommendation.decide.recommendation import Recommendation

__all__ = ["markdown", "plain", "table"]


def markdown(recommendation: Recommendation) -> str:
    """Write verdict, numbers, confidence and caveat; the contenders as a table; the rest folded."""
    lines = [f"## {plain(recommendation.verdict)}", ""]
    lines += [f"- **{plain(each.value)}** {plain(each.what)} ({plain(each.against)})" for each in recommendation.numbers]
    lines += ["", plain(recommendation.confidence.sentence), ""]
    lines += [plain(recommendation.size), ""] if recommendation.size else []
    lines += [f"**But** {plain(recommendation.caveat)}", ""]
    rows = [
        (
            f"**{each.candidate}**" if each.candidate == recommendation.choice else each.candidate,
            "passes" if each.passes else "fails" if each.fails else "too close",
            each.p99.figure(format_seconds),
            format_percent(each.over_admission.mean),
            f"{each.cost:,.2f} {recommendation.currency}",
            "not tried" if each.blast_radius is None else format_percent(each.blast_radius),
        )
        for each in recommendation.assessments
    ]
    lines += table(("candidate", "", "p99", "over-admission", "a month", "blast radius"), rows)
    lines += [f"\n- {plain(each.sentence)}" for each in recommendation.relaxations]
    changes = [each.sentence for each in recommendation.headroom] + [each.sentence for each in recommendation.flips]
    lines += _folded("What would change the answer", [f"- {plain(each)}" for each in changes])
    others = [f"- {plain(each.candidate)}: {plain(each.reason)}" for each in recommendation.rejected]
    lines += _folded(f"Why not the other {len(others)}", others)
    requirements = ", ".join(f"{key} {value}" for key, value in recommendation.requirements.items() if value is not None)
    lines += ["", plain(f"Scenario {recommendation.scenario}: {recommendation.limit}; {requirements}.")]
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; cells are texts, in which only ** means something."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [f"**{plain(cell[2:-2])}**" if cell.startswith("**") else plain(cell) for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def plain(text: str) -> str:
    """Escape a text, on one line, so that nothing in it means anything to Markdown or HTML, no address either."""
    return re.sub(r"([\\`*_{}\[\]<>|#~@&]|:(?=//)|(?<=www)\.)", r"\\\1", escape_control_chars(" ".join(text.split())))


def _folded(summary: str, lines: Sequence[str]) -> list[str]:
    return ["", "<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>"] if lines else []
