"""The laboratory: a scenario and a candidate go in, and what the run admitted, how fast and at what cost comes out.

The packages build on each other in this order: `network` and `queueing`, `cost_model` and `scenario`, `results`, `engine`
(one run, in SimPy), `kernel` (the same run, compiled), `analysis` (studies without a run), `experiments` (many runs) and
`validation` (the model beside real servers). `runner.run` makes one run, by either engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.experiments.replicate import replicate
    from ratesim.simulation.experiments.sweep import sweep
    from ratesim.simulation.results.run_result import RunResult
    from ratesim.simulation.runner import run
    from ratesim.simulation.scenario.scenario import Candidate, Scenario

__all__ = ["Candidate", "Profile", "RunResult", "Scenario", "replicate", "run", "sweep"]

__getattr__ = lazy_exports(
    __name__,
    {
        "Candidate": "ratesim.simulation.scenario.scenario",
        "Profile": "ratesim.simulation.cost_model.profile",
        "RunResult": "ratesim.simulation.results.run_result",
        "Scenario": "ratesim.simulation.scenario.scenario",
        "replicate": "ratesim.simulation.experiments.replicate",
        "run": "ratesim.simulation.runner",
        "sweep": "ratesim.simulation.experiments.sweep",
    },
)
