import numpy as np
import pytest

from traffic import Lognormal


def test_costs_have_their_mean_and_the_spread_of_their_logarithm() -> None:
    costs = Lognormal(300.0, 0.7).draw(100_000, np.random.default_rng(1))
    assert costs.mean() == pytest.approx(300.0, rel=0.02)
    assert np.log(costs).std() == pytest.approx(0.7, rel=0.02)
    assert costs.min() > 0


def test_numbers_that_make_no_sense_are_named() -> None:
    with pytest.raises(ValueError, match="mean must be a positive finite number, got 0"):
        Lognormal(0.0, 1.0)
    with pytest.raises(ValueError, match="sigma"):
        Lognormal(1.0, float("inf"))
