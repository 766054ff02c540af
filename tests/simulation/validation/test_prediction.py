"""The prediction that a calibration is held against."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from ratesim.simulation.cost_model.cost_fit import fit_cold
from ratesim.simulation.cost_model.lone_requests import Lone
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


# wake, ask, served, answer of lone requests to Valkey by gap: medians on AMD EPYC, 2 cores, 2026-11-29.
MEASURED = {
    0.0: (0.0, 45e-6, 123e-6, 22e-6),
    0.4e-3: (112e-6, 65e-6, 142e-6, 29e-6),
    1e-3: (121e-6, 74e-6, 151e-6, 31e-6),
    2e-3: (177e-6, 132e-6, 224e-6, 50e-6),
    4e-3: (277e-6, 198e-6, 297e-6, 69e-6),
    8e-3: (383e-6, 237e-6, 332e-6, 74e-6),
}
AFTER = 43e-6


def test_lone_requests_are_predicted_as_they_were_measured() -> None:
    lone = []
    for gap, (wake, ask, served, answer) in MEASURED.items():
        unasked = max(gap - wake - ask - served - answer - AFTER, 0.0)
        lone.append(Lone(unasked + served, wake, ask, served, answer, AFTER))
    costs = msgspec.structs.replace(COSTS, cold=fit_cold(COSTS, lone))
    for gap, (_, ask, served, answer) in list(MEASURED.items())[1:]:
        even = Trace(1.7e9 + gap * np.arange(100), np.zeros(100, np.int64), ["user:1"])
        assert np.median(predict("redis", costs, even)) == pytest.approx(ask + served + answer, rel=0.06)
