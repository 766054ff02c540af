"""Investigations: the runs that it takes to know which candidate to choose, and what the choice rests on.

`study.study` is the entry. It answers an `Investigation` with `Findings`: screening, replications, faults, headroom and
sensitivity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.recommendation.investigate.fault_impact import FaultImpact
    from ratesim.recommendation.investigate.headroom import Headroom
    from ratesim.recommendation.investigate.plan import Findings, Investigation
    from ratesim.recommendation.investigate.sensitivity import Flip
    from ratesim.recommendation.investigate.study import Study

__all__ = ["FaultImpact", "Findings", "Flip", "Headroom", "Investigation", "Study"]

__getattr__ = lazy_exports(
    __name__,
    {
        "FaultImpact": "ratesim.recommendation.investigate.fault_impact",
        "Headroom": "ratesim.recommendation.investigate.headroom",
        "Findings": "ratesim.recommendation.investigate.plan",
        "Investigation": "ratesim.recommendation.investigate.plan",
        "Flip": "ratesim.recommendation.investigate.sensitivity",
        "Study": "ratesim.recommendation.investigate.study",
    },
)
