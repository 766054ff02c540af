"""The assessments of contenders as a tidy frame, one row for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ratesim.recommendation.assess.assessment import Assessment

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["contender_frame"]

PLAIN = ("candidate", "backend", "routing", "storage", "algorithm", "persistence", "failed_share", "blast_radius", "servers")
INTERVALS = {
    "latency_p50": "p50",
    "latency_p99": "p99",
    "over_admission": "over_admission",
    "worst_excess": "worst_excess",
    "false_denial": "false_denial",
}


def contender_frame(assessments: Sequence[Assessment], choice: str | None, currency: str) -> pd.DataFrame:
    """Make the frame; see `Recommendation.to_frame` for its columns."""
    import pandas as pd

    return pd.DataFrame([_row(each, choice, currency) for each in assessments])


def _row(each: Assessment, choice: str | None, currency: str) -> dict[str, Any]:
    verdict = "passes" if each.passes else "fails" if each.fails else "too close"
    row: dict[str, Any] = {"verdict": "chosen" if each.candidate == choice else verdict}
    row |= {name: getattr(each, name) for name in PLAIN}
    for column, name in INTERVALS.items():
        interval = getattr(each, name)
        row |= {column: interval.mean, f"{column}_low": interval.low, f"{column}_high": interval.high}
    row |= {"cost_per_month": each.cost, "currency": currency}
    row["missed"] = "; ".join(check.label for check in each.missed)
    first = {name: row.pop(name) for name in ("candidate", "verdict")}
    return first | row
