"""Many runs: sweeps over a grid, replication to a precision, and inquiries whose next run depends on the last.

A `Job` names one run, and its row is kept under the job's key, so no run is made twice. `sweep.sweep`, `replicate.replicate`
and `adaptive.run_adaptive` are the entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim._lazy import lazy_exports

if TYPE_CHECKING:
    from ratesim.simulation.experiments.adaptive import AdaptiveRuns, RunFailedError, gather, run_adaptive
    from ratesim.simulation.experiments.executors import ClusterError
    from ratesim.simulation.experiments.job import Job, jobs_of
    from ratesim.simulation.experiments.replicate import ReplicationResult, paired_differences
    from ratesim.simulation.experiments.result_store import ResultStore, ResultStoreError
    from ratesim.simulation.experiments.sweep import SweepError

__all__ = [
    "AdaptiveRuns",
    "ClusterError",
    "Job",
    "ReplicationResult",
    "ResultStore",
    "ResultStoreError",
    "RunFailedError",
    "SweepError",
    "gather",
    "jobs_of",
    "paired_differences",
    "run_adaptive",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "AdaptiveRuns": "ratesim.simulation.experiments.adaptive",
        "RunFailedError": "ratesim.simulation.experiments.adaptive",
        "gather": "ratesim.simulation.experiments.adaptive",
        "run_adaptive": "ratesim.simulation.experiments.adaptive",
        "ClusterError": "ratesim.simulation.experiments.executors",
        "Job": "ratesim.simulation.experiments.job",
        "jobs_of": "ratesim.simulation.experiments.job",
        "ReplicationResult": "ratesim.simulation.experiments.replicate",
        "paired_differences": "ratesim.simulation.experiments.replicate",
        "ResultStore": "ratesim.simulation.experiments.result_store",
        "ResultStoreError": "ratesim.simulation.experiments.result_store",
        "SweepError": "ratesim.simulation.experiments.sweep",
    },
)
