"""Candidates held against requirements: figures with intervals, verdicts, capacities, prices, and their order.

It turns tables of runs into assessments and makes no run. `assessor.Assessor` is the entry; `prices.Prices` reads unit
prices, and `pareto.best` finds the choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.recommendation.assess.assessment import Assessment, Check, Interval
    from ratesim.recommendation.assess.assessor import AssessedRuns, Assessor
    from ratesim.recommendation.assess.capacity import Capacity
    from ratesim.recommendation.assess.pareto import best, rank
    from ratesim.recommendation.assess.prices import PriceError, Prices
    from ratesim.recommendation.assess.rejections import Rejection

__all__ = [
    "AssessedRuns",
    "Assessment",
    "Assessor",
    "Capacity",
    "Check",
    "Interval",
    "PriceError",
    "Prices",
    "Rejection",
    "best",
    "rank",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Assessment": "ratesim.recommendation.assess.assessment",
        "Check": "ratesim.recommendation.assess.assessment",
        "Interval": "ratesim.recommendation.assess.assessment",
        "AssessedRuns": "ratesim.recommendation.assess.assessor",
        "Assessor": "ratesim.recommendation.assess.assessor",
        "Capacity": "ratesim.recommendation.assess.capacity",
        "best": "ratesim.recommendation.assess.pareto",
        "rank": "ratesim.recommendation.assess.pareto",
        "PriceError": "ratesim.recommendation.assess.prices",
        "Prices": "ratesim.recommendation.assess.prices",
        "Rejection": "ratesim.recommendation.assess.rejections",
    },
)
