"""Decisions: the recommendation that a study speaks for, its wording, its check, and the difference of two.

`recommendation.recommend_by_evidence` is the entry. It makes no run and derives no assessment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.recommendation.decide.check import CheckResult
    from ratesim.recommendation.decide.diff import DiffError, RecommendationDiff
    from ratesim.recommendation.decide.recommendation import Recommendation, recommend_by_evidence

__all__ = ["CheckResult", "DiffError", "Recommendation", "RecommendationDiff", "recommend_by_evidence"]

__getattr__ = lazy_exports(
    __name__,
    {
        "CheckResult": "ratesim.recommendation.decide.check",
        "DiffError": "ratesim.recommendation.decide.diff",
        "RecommendationDiff": "ratesim.recommendation.decide.diff",
        "Recommendation": "ratesim.recommendation.decide.recommendation",
        "recommend_by_evidence": "ratesim.recommendation.decide.recommendation",
    },
)
