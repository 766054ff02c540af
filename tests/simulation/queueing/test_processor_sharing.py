"""Processors that are shared, against the theory of processor sharing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import simpy

from ratesim.runtime import SimRuntime
from ratesim.simulation.queueing.processor_sharing import MultiCoreCPU

REPLICATIONS = 12
T_99 = 3.106  # Student's t, two-sided, 11 degrees of freedom


def stays(make: Callable[[SimRuntime], MultiCoreCPU], arrivals: list[float], needs: list[float]) -> list[float]:
    """How long each customer was there; Little's law is checked on the way."""
    runtime = SimRuntime(simpy.Environment())
    shared, found = make(runtime), [0.0] * len(needs)

    async def customer(i: int) -> None:
        await runtime.sleep(arrivals[i])
        came = runtime.time()
        await shared.spend(needs[i])
        found[i] = runtime.time() - came

    for i in range(len(needs)):
        runtime.spawn(customer(i))
    runtime.env.run()
    assert shared.inside == 0
    shared.close(runtime.time())
    assert shared.stats.arrivals == len(needs)
    assert shared.stats.services == pytest.approx(sum(needs))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("constant", [False, True], ids=["exponential", "constant"])
@pytest.mark.parametrize("utilization", [0.3, 0.7, 0.9])
def test_a_mean_stay_is_service_over_what_is_idle_whatever_the_services_are(utilization: float, constant: bool) -> None:
    """1 / (1 - rho): Kleinrock, 1967; that only the mean of the services counts: Sakata, Noguchi and Oizumi, 1971."""
    rng, means = np.random.default_rng(11), []
    customers = 8000 if utilization == 0.9 else 2500
    for _ in range(REPLICATIONS):
        arrivals = np.cumsum(rng.exponential(1.0 / utilization, customers)).tolist()
        needs = [1.0] * customers if constant else rng.exponential(1.0, customers).tolist()
        means.append(np.mean(stays(lambda runtime: MultiCoreCPU(runtime, {1: 1.0}), arrivals, needs)[customers // 10 :]))
    half = T_99 * np.std(means, ddof=1) / REPLICATIONS**0.5
    assert abs(np.mean(means) - 1.0 / (1.0 - utilization)) < half
    assert half < 0.25 / (1.0 - utilization), "the interval is narrow enough to mean something"


def test_two_cores_serve_two_as_fast_as_one_and_more_in_proportion() -> None:
    def cores(runtime: SimRuntime) -> MultiCoreCPU:
        return MultiCoreCPU(runtime, {1: 1.0, 2: 2.0})

    assert stays(cores, [0.0], [1.0]) == pytest.approx([1.0])
    assert stays(cores, [0.0, 0.0], [1.0, 1.0]) == pytest.approx([1.0, 1.0])
    assert stays(cores, [0.0] * 4, [1.0] * 4) == pytest.approx([2.0] * 4)


def test_a_speedup_between_two_measured_ones_lies_between_them() -> None:
    speeds = {1: 1.0, 4: 2.5}
    assert stays(lambda runtime: MultiCoreCPU(runtime, speeds), [0.0, 0.0], [1.0, 1.0]) == pytest.approx([2.0 / 1.5] * 2)


def test_a_processor_that_loses_somebody_breaks_little_s_law_and_says_so() -> None:
    class Forgetful(MultiCoreCPU):
        def _leave(self, now: float) -> None:
            super()._leave(now)
            self._noted[-2] *= 0.99

    with pytest.raises(AssertionError, match="Little"):
        stays(lambda runtime: Forgetful(runtime, {1: 1.0}), [0.0, 0.5], [1.0, 1.0])


def test_those_who_are_still_inside_count_with_their_stay_so_far() -> None:
    runtime = SimRuntime(simpy.Environment())
    shared = MultiCoreCPU(runtime, {1: 1.0})
    shared.spend(5.0)
    runtime.env.run(until=2.0)
    shared.spend(5.0)
    runtime.env.run(until=3.0)
    shared.close(3.0)
    assert shared.stats.inside == pytest.approx(3.0 + 1.0)
    assert shared.stats.served == pytest.approx(3.0)
    assert shared.stats.peak == 2
