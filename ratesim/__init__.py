"""ratesim: where should the state of an API's rate limiter live? A laboratory that answers by evidence."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports
from ratesim.limit import Decision, InvalidLimitError, Limit, parse_limits

if TYPE_CHECKING:
    from ratesim.recommendation import recommend
    from ratesim.recommendation.decide.recommendation import Recommendation
    from ratesim.recommendation.investigate.study import Study, study
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.experiments.replicate import ReplicationResult, replicate
    from ratesim.simulation.experiments.sweep import sweep
    from ratesim.simulation.results.run_result import RunResult
    from ratesim.simulation.runner import run
    from ratesim.simulation.scenario.names import named_candidates
    from ratesim.simulation.scenario.scenario import Candidate, Scenario
    from traffic import Trace

__all__ = [
    "Candidate",
    "Decision",
    "InvalidLimitError",
    "Limit",
    "Profile",
    "Recommendation",
    "ReplicationResult",
    "RunResult",
    "Scenario",
    "Study",
    "Trace",
    "named_candidates",
    "parse_limits",
    "recommend",
    "replicate",
    "run",
    "study",
    "sweep",
]

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent unless the application configures logging


def __dir__() -> list[str]:
    """Name what is exported, and the modules that are loaded, so that a notebook completes those and nothing else."""
    modules = (name for name in globals() if not name.startswith("_") and f"{__name__}.{name}" in sys.modules)
    return sorted({*__all__, *modules, "__all__", "__doc__", "__version__"})


# The laboratory brings pandas and SimPy with it; a service that only limits should not wait for them.
__getattr__ = lazy_exports(
    __name__,
    {
        "Candidate": "ratesim.simulation.scenario.scenario",
        "Profile": "ratesim.simulation.cost_model.profile",
        "Recommendation": "ratesim.recommendation.decide.recommendation",
        "ReplicationResult": "ratesim.simulation.experiments.replicate",
        "RunResult": "ratesim.simulation.results.run_result",
        "Scenario": "ratesim.simulation.scenario.scenario",
        "Study": "ratesim.recommendation.investigate.study",
        "Trace": "traffic",
        "named_candidates": "ratesim.simulation.scenario.names",
        "recommend": "ratesim.recommendation",
        "replicate": "ratesim.simulation.experiments.replicate",
        "run": "ratesim.simulation.runner",
        "study": "ratesim.recommendation.investigate.study",
        "sweep": "ratesim.simulation.experiments.sweep",
    },
)
