"""Queues by Lindley's recursion, against queueing theory."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim.simulation.network.counter_rng import draw, draws
from ratesim.simulation.network.links import PRESETS
from ratesim.simulation.queueing.fifo_station import FifoStation, lindley_waits
from ratesim.simulation.validation.queueing_theory import QUEUES, UTILIZATIONS, compare_wait, erlang_c, mean_wait
from traffic import Trace


def test_little_s_law_is_an_identity_of_comings_and_goings() -> None:
    """With the partial stays of those who are still inside at the end; counted here once more, beside the account."""
    rng = np.random.default_rng(7)
    station = FifoStation(4)
    arrivals = np.cumsum(rng.exponential(0.28, 5000))
    ends = np.array([station.serve(at, float(rng.exponential(1.0))) for at in arrivals.tolist()])
    end = arrivals[-1]
    inside = np.minimum(ends, end) - arrivals
    steps = np.concatenate([arrivals, np.minimum(ends, end)])
    order = np.argsort(steps, kind="stable")
    number = np.cumsum(np.concatenate([np.ones(5000), -np.ones(5000)])[order])
    area = float((number[:-1] * np.diff(steps[order])).sum())
    assert area == pytest.approx(inside.sum(), rel=1e-9)


@pytest.mark.parametrize("utilization", UTILIZATIONS)
@pytest.mark.parametrize("queue", QUEUES)
def test_waits_are_those_of_queueing_theory(queue: str, utilization: float) -> None:
    wait = compare_wait(queue, utilization)
    assert wait.agrees, wait
    assert wait.half_width < 0.1 * wait.theory, "the interval is narrow enough to mean something"


def test_theory_s_waits_are_the_textbook_s() -> None:
    assert mean_wait(1, 0.5, False) == pytest.approx(1.0)  # rho / (1 - rho)
    assert mean_wait(1, 0.5, True) == pytest.approx(0.5)
    assert mean_wait(2, 0.5, False) == pytest.approx(1 / 3)


def test_erlang_s_formula_is_that_of_one_server_for_one_server() -> None:
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)


def test_two_servers_serve_two_at_once() -> None:
    station = FifoStation(2)
    assert [station.serve(0.0, 1.0) for _ in range(4)] == [1.0, 1.0, 2.0, 2.0]
    assert station.busy == 4.0


def test_draws_are_uniform_and_belong_to_their_arguments() -> None:
    values = np.array([draw(1, f"user:{i}", 1.7e9 + i, purpose) for i in range(4000) for purpose in (1, 2, 3)])
    counts, _ = np.histogram(values, 20, (0, 1))
    assert ((counts - 600) ** 2 / 600).sum() < 43.8  # chi-square, 19 degrees of freedom, 0.001
    assert draw(1, "a", 2.0, 3) == draw(1, "a", 2.0, 3)
    assert len({draw(s, i, t, p) for s in (1, 2) for i in "ab" for t in (1.0, 2.0) for p in (1, 2)}) == 16


def test_the_median_of_a_link_is_its_median() -> None:
    for link in PRESETS.values():
        assert link.delay(0.5) == pytest.approx(link.median)
        assert link.source


def test_a_queue_that_is_known_beforehand_takes_as_long_as_one_that_is_met_step_by_step() -> None:
    rng = np.random.default_rng(3)
    arrival, queue = np.cumsum(rng.exponential(0.3, 2000)), rng.integers(0, 3, 2000)
    stations, service = [FifoStation() for _ in range(3)], rng.exponential(0.7, 2000)
    met = [
        stations[which].serve(at, seconds) - at
        for at, which, seconds in zip(arrival.tolist(), queue.tolist(), service.tolist(), strict=True)
    ]
    assert lindley_waits(arrival, queue, service)[1] == pytest.approx(met, abs=1e-9)


def test_several_servers_may_finish_out_of_order_and_one_does_not() -> None:
    assert FifoStation(1).in_order
    assert not FifoStation(2).in_order


def test_draws_of_a_whole_trace_are_those_of_its_requests() -> None:
    rng = np.random.default_rng(4)
    keys = ["user", "ключ", "half \ud800 pair", ""]
    trace = Trace(1.7e9 + np.sort(rng.uniform(0, 9, 500)), rng.integers(0, 4, 500), keys)
    together = draws(7, trace, 2)
    one_by_one = [draw(7, keys[key], time, 2) for key, time in zip(trace.key.tolist(), trace.time.tolist(), strict=True)]
    assert together.tolist() == one_by_one
    assert 0.4 < together.mean() < 0.6
    link = PRESETS["mobile_edge"]
    assert link.delays(together) == pytest.approx([link.delay(uniform) for uniform in one_by_one], rel=1e-9)
