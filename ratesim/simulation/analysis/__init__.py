"""Stand-alone studies that pages show: of algorithms, of eviction, of saturation, and of the pressure of a limit.

None of them runs a scenario. Each module has functions from a limit and traffic to a table or a small result class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.simulation.analysis.algorithm_comparison import AlgorithmSummary, compare, summarize
    from ratesim.simulation.analysis.backend_saturation import saturate
    from ratesim.simulation.analysis.eviction_accuracy import OverAdmission, hit_ratio, over_admission
    from ratesim.simulation.analysis.eviction_cost import PolicyCost, policy_costs
    from ratesim.simulation.analysis.limit_pressure import LimitPressure
    from ratesim.simulation.analysis.two_window_error import TwoWindow, two_window

__all__ = [
    "AlgorithmSummary",
    "LimitPressure",
    "OverAdmission",
    "PolicyCost",
    "TwoWindow",
    "compare",
    "hit_ratio",
    "over_admission",
    "policy_costs",
    "saturate",
    "summarize",
    "two_window",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "AlgorithmSummary": "ratesim.simulation.analysis.algorithm_comparison",
        "compare": "ratesim.simulation.analysis.algorithm_comparison",
        "summarize": "ratesim.simulation.analysis.algorithm_comparison",
        "saturate": "ratesim.simulation.analysis.backend_saturation",
        "OverAdmission": "ratesim.simulation.analysis.eviction_accuracy",
        "hit_ratio": "ratesim.simulation.analysis.eviction_accuracy",
        "over_admission": "ratesim.simulation.analysis.eviction_accuracy",
        "PolicyCost": "ratesim.simulation.analysis.eviction_cost",
        "policy_costs": "ratesim.simulation.analysis.eviction_cost",
        "LimitPressure": "ratesim.simulation.analysis.limit_pressure",
        "TwoWindow": "ratesim.simulation.analysis.two_window_error",
        "two_window": "ratesim.simulation.analysis.two_window_error",
    },
)
