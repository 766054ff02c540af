"""Disturbance: whether other work on the machine disturbed a live replay, told by everything but its latencies.

A storage may be slow; that is what a replay is to find out. So other things are asked: the covariates of the machine during
the replay and during the measurement of its costs (`covariates.py`), and how late the process was woken where it slept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ratesim.formatting import format_percent, format_seconds
from ratesim.simulation.validation.covariates import Covariates, causes

__all__ = ["disturbance"]

# How late a loop is woken that sleeps 2 ms on a machine that is left alone. Measured on two cores (2026-11-29): 0.2 ms at
# the median and below 1 ms in 99 of 100; without a timerfd a loop is woken up to 1 ms later.
WAKE_P50, WAKE_P99 = 1.5e-3, 3e-3


def disturbance(replayed: Covariates, costs: Covariates, wakes: NDArray[np.float64]) -> str:
    """Say what disturbed a replay, with its figure; "" on a machine that was left alone.

    Parameters
    ----------
    replayed, costs
        Of the replay, and of the measurement of the costs with which it is simulated.
    wakes
        Seconds by which the loop was woken late for each request that found it asleep.
    """
    for seen, where in ((replayed, ""), (costs, ", while its costs were measured")):
        for cause in causes(seen, costs):
            return _figure(cause, seen, costs) + where
    p50, p99 = np.quantile(wakes, (0.5, 0.99)) if len(wakes) else (0.0, 0.0)
    if p50 > WAKE_P50:
        return f"the process was woken {format_seconds(p50)} late at the median"
    if p99 > WAKE_P99:
        return f"the process was woken {format_seconds(p99)} late or later in one of 100 sleeps"
    return ""


def _figure(cause: str, seen: Covariates, costs: Covariates) -> str:
    if cause == "pace":
        slowness = [pace / costs.pace[core][1] for core, paces in seen.pace.items() for pace in paces]
        least, most = np.nanmin(slowness), np.nanmax(slowness)
        return f"the same piece of work took {least:.2g} to {most:.2g} times as long as usual"
    if cause == "steal":
        return f"the hypervisor gave {format_percent(seen.steal)} of the machine to others"
    if cause == "other programs":
        return f"other programs used {format_percent(seen.others)} of the machine"
    return cause  # the pace is not known
