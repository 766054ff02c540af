"""ratesim: where should the state of an API's rate limiter live? A laboratory that answers by evidence."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports
from ratesim.limit import Decision, InvalidLimitError, Limit, parse_limits

if TYPE_CHECKING:
    from ratesim.recommendation import recommend
    from ratesim.simulation.engine.run import run
    from ratesim.simulation.experiments.sweep import sweep
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["Decision", "InvalidLimitError", "Limit", "Scenario", "parse_limits", "recommend", "run", "sweep"]

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent unless the application configures logging

# The laboratory brings pandas and SimPy with it; a service that only limits should not wait for them.
__getattr__ = lazy_exports(
    __name__,
    {
        "Scenario": "ratesim.simulation.scenario.scenario",
        "recommend": "ratesim.recommendation",
        "run": "ratesim.simulation.engine.run",
        "sweep": "ratesim.simulation.experiments.sweep",
    },
)
