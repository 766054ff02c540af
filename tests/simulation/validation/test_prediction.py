"""The prediction that a calibration is held against."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim.simulation.cost_model.profile import CLUSTER, BackendCosts, Cost
from ratesim.simulation.validation.prediction import predict
from traffic import Trace

COSTS = BackendCosts(
    client_cpu=1e-4, client=Cost(fixed=30e-6, item=10e-6), split=(0.5, 0.25, 0.25), round_trip=50e-6, fixed=20e-6, item=15e-6
)
APART = Trace(1.7e9 + np.arange(5.0), np.zeros(5, np.int64), ["user:1"])


@pytest.mark.parametrize("kind", ["redis", CLUSTER, "postgres"])
def test_requests_that_are_far_apart_take_the_sum_of_their_parts(kind: str) -> None:
    parts = 0.75 * 40e-6 + 50e-6 + 35e-6  # what is behind the answer is in no latency
    assert predict(kind, COSTS, APART) == pytest.approx(np.full(5, parts), rel=0.01)


def test_a_commit_is_waited_for_and_slow_phases_are_left_out() -> None:
    durable = BackendCosts(client_cpu=1e-4, fixed=35e-6, commit=Cost(fixed=1e-3), latency_p50=1e-3)
    quick = BackendCosts(client_cpu=1e-4, fixed=35e-6)
    difference = predict("postgres", durable, APART) - predict("postgres", quick, APART)
    assert difference == pytest.approx(np.full(5, 1e-3), rel=0.01)
