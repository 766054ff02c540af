"""The segments of a request, live and simulated."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim.simulation.cost_model.profile import BackendCosts, Coldness, Cost
from ratesim.simulation.validation.segments import live_segments, simulated_segments
from traffic.live_replay import LiveResult


def replayed(due: list[float], began: list[float], started: list[float], finished: list[float]) -> LiveResult:
    n = len(due)
    arrays = (np.array(each) for each in (due, started, finished))
    nothing = np.zeros(n, bool)
    return LiveResult(*arrays, [None] * n, nothing, {}, 0, 10, np.array(began) > np.array(due), np.array(began))


def test_live_segments_add_up_to_the_latency():
    """Two lone requests, and two that travel together: the second of these waits for the first to begin."""
    result = replayed([0.0, 1.0, 2.0, 2.0], [0.1, 1.1, 2.1, 2.1], [0.1, 1.1, 2.1, 2.15], [0.7, 1.7, 2.75, 2.75])
    written, read = np.array([0.2, 1.2, 2.25]), np.array([0.6, 1.6, 2.65])
    found = live_segments(result, written, read)
    assert found == pytest.approx({"late": 0.1, "wait": 0.0, "ask": 0.1, "served": 0.4, "answer": 0.1, "total": 0.625})


def test_a_request_whose_batch_is_not_known_has_no_segments():
    result = replayed([0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.5, 1.5])
    found = live_segments(result, np.array([0.1]), np.array([0.4]))
    assert (found["ask"], found["served"], found["answer"]) == pytest.approx((0.1, 0.3, 0.1))
    assert np.isnan(live_segments(result, np.empty(0), np.empty(0))["ask"])
    unread = live_segments(result, np.array([0.1, 1.1]), np.array([0.4, np.nan]))
    assert unread["served"] == pytest.approx(0.3)


def test_simulated_segments_are_the_parts_of_the_model_and_what_is_left_is_waiting():
    cold = Coldness(
        idle=(0.0, 0.008), wake=(0.0, 0.0), ask=(0.0, 2e-4), answer=(0.0, 5e-5), after=(0.0, 0.0), served=(0.0, 1e-4)
    )
    costs = BackendCosts(
        client_cpu=1e-4,
        client=Cost(fixed=4e-5, item=6e-5),
        split=(0.5, 0.2, 0.3),
        cold=cold,
        round_trip=2e-5,
        fixed=1e-5,
        item=2e-5,
    )
    found = simulated_segments(costs, np.full(100, 0.02), 1e-3, 1.0)
    assert found["ask"] == pytest.approx(0.5 * 1e-4 + 2e-4)
    assert found["served"] == pytest.approx(5e-5 + 1e-4)
    assert found["answer"] == pytest.approx(0.2 * 1e-4 + 5e-5)
    assert sum(found[name] for name in ("wait", "ask", "served", "answer")) == pytest.approx(found["total"])
    busy = simulated_segments(costs, np.full(100, 1e-5), 1e-3, 1.0)
    assert busy["ask"] == pytest.approx(0.5 * 1e-4)
    together = simulated_segments(costs, np.full(100, 0.02), 1e-3, 4.0)
    assert np.isnan(together["ask"])
    assert together["total"] == 1e-3
