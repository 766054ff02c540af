"""The benchmark of the hybrid says what it measures."""

from __future__ import annotations

import pytest

from ratesim.benchmarks.hybrid import decision_rates, expected_flushes, operations_per_request


@pytest.mark.parametrize("m", [0.1, 0.5, 1.0, 2.0, 5.0, 20.0])
def test_l2_is_asked_as_often_as_an_interval_has_a_request(m: float) -> None:
    assert operations_per_request(m) == pytest.approx(expected_flushes(m), rel=0.03)


@pytest.mark.nightly
def test_an_eventual_decision_keeps_half_the_speed_of_memory() -> None:
    """A ratio within one run, the best of three: other work on the machine meets both."""
    assert (
        max(hybrid / memory for memory, hybrid in (decision_rates("fixed_window", simulated=False) for _ in range(3))) >= 0.5
    )
