"""The result of a run: its columns, its accuracy against an exact limiter, and its distributions.

Use `run_result.RunResult`, `accuracy.measure_accuracy`, `oracle.exact` and `histogram.Histogram`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.simulation.results.accuracy import Accuracy, measure_accuracy
    from ratesim.simulation.results.histogram import Histogram
    from ratesim.simulation.results.oracle import exact, exact_trace
    from ratesim.simulation.results.run_result import RunResult, jain

__all__ = ["Accuracy", "Histogram", "RunResult", "exact", "exact_trace", "jain", "measure_accuracy"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Accuracy": "ratesim.simulation.results.accuracy",
        "measure_accuracy": "ratesim.simulation.results.accuracy",
        "Histogram": "ratesim.simulation.results.histogram",
        "exact": "ratesim.simulation.results.oracle",
        "exact_trace": "ratesim.simulation.results.oracle",
        "RunResult": "ratesim.simulation.results.run_result",
        "jain": "ratesim.simulation.results.run_result",
    },
)
