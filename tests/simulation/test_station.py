"""Queues by Lindley's recursion, against queueing theory."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim.simulation.network import PRESETS, draw, draws
from ratesim.simulation.station import Station, queued
from traffic import Trace

REPLICATIONS = 20
T_99 = 2.861  # Student's t, two-sided, 19 degrees of freedom


def erlang_c(servers: int, load: float) -> float:
    """The probability that a customer of M/M/c waits (Kleinrock, Queueing Systems 1, 3.5). load: arrivals per service.

    The terms load**k / k! are summed as ratios to the last, so that nothing overflows."""
    term = total = 1.0
    for k in range(servers, 0, -1):
        term *= k / load
        total += term
    return 1.0 / (1.0 + (1.0 - load / servers) * (total - 1.0))


def waits(servers: int, utilisation: float, constant: bool, customers: int, rng: np.random.Generator) -> float:
    """The mean wait in one queue, of a service time of 1, after it has warmed up."""
    station = Station(servers)
    arrivals = np.cumsum(rng.exponential(1.0 / (utilisation * servers), customers))
    services = np.ones(customers) if constant else rng.exponential(1.0, customers)
    ends = [station.take(a, s) for a, s in zip(arrivals.tolist(), services.tolist(), strict=True)]
    stays = np.array(ends) - arrivals
    # Little's law, with the partial stays of those who are still inside at the end: the mean number in the system, counted
    # from comings and goings, is the rate of arrivals times the mean stay. An identity, if comings and goings are right.
    end = arrivals[-1]
    inside = np.minimum(ends, end) - arrivals
    steps = np.concatenate([arrivals, np.minimum(ends, end)])
    order = np.argsort(steps, kind="stable")
    number = np.cumsum(np.concatenate([np.ones(customers), -np.ones(customers)])[order])
    area = float((number[:-1] * np.diff(steps[order])).sum())
    assert area == pytest.approx(inside.sum(), rel=1e-9)
    return float((stays - services)[customers // 10 :].mean())


@pytest.mark.parametrize("utilisation", [0.3, 0.7, 0.9])
@pytest.mark.parametrize(("servers", "constant"), [(1, False), (1, True), (4, False)], ids=["M/M/1", "M/D/1", "M/M/4"])
def test_waits_are_those_of_queueing_theory(servers: int, constant: bool, utilisation: float) -> None:
    """Pollaczek and Khinchine: half of M/M/1's wait where the service takes always the same."""
    rng = np.random.default_rng(7)
    customers = 60_000 if utilisation == 0.9 else 20_000
    means = [waits(servers, utilisation, constant, customers, rng) for _ in range(REPLICATIONS)]
    expected = erlang_c(servers, utilisation * servers) / (servers * (1 - utilisation)) * (0.5 if constant else 1.0)
    half = T_99 * np.std(means, ddof=1) / REPLICATIONS**0.5
    assert abs(np.mean(means) - expected) < half
    assert half < 0.1 * expected, "the interval is narrow enough to mean something"


def test_erlang_s_formula_is_that_of_one_server_for_one_server() -> None:
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)


def test_two_servers_serve_two_at_once() -> None:
    station = Station(2)
    assert [station.take(0.0, 1.0) for _ in range(4)] == [1.0, 1.0, 2.0, 2.0]
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
    stations = [Station() for _ in range(3)]
    met = [stations[which].take(at, 0.7) - at for at, which in zip(arrival.tolist(), queue.tolist(), strict=True)]
    assert queued(arrival, queue, 0.7) == pytest.approx(met, abs=1e-9)


def test_several_servers_may_finish_out_of_order_and_one_does_not() -> None:
    assert Station(1).in_order
    assert not Station(2).in_order


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
