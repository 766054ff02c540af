import numpy as np
import pytest
from numpy.typing import NDArray

from traffic import Poisson, Steady, TraceError, Uniform, Workload, Zipf


class Exponential:
    """Costs with mean 3."""

    def draw(self, size: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return rng.exponential(3.0, size)


RECIPE = Workload(Poisson(50.0), Zipf(100, 1.1), duration=20.0, start=1.7e9)


def test_a_workload_becomes_a_trace_of_its_arrivals_keys_and_cost() -> None:
    trace = Workload(Steady(10.0), Uniform(3), duration=2.0, cost=2.5, start=100.0).trace(np.random.default_rng(0))
    assert trace.time.tolist() == Steady(10.0).times(2.0, np.random.default_rng(0), 100.0).tolist()
    assert trace.keys == Uniform(3).names()
    assert trace.cost.tolist() == [2.5] * 20
    assert trace.session.tolist() == trace.key.tolist()


def test_the_same_seed_gives_the_same_trace() -> None:
    assert RECIPE.trace(np.random.default_rng(1)) == RECIPE.trace(np.random.default_rng(1))
    assert RECIPE.trace(np.random.default_rng(1)) != RECIPE.trace(np.random.default_rng(2))


def test_costs_may_be_drawn_and_leave_times_and_keys_as_they_were() -> None:
    plain = RECIPE.trace(np.random.default_rng(1))
    costly = Workload(RECIPE.arrivals, RECIPE.keys, RECIPE.duration, Exponential(), RECIPE.start)
    drawn = costly.trace(np.random.default_rng(1))
    assert len(set(drawn.cost.tolist())) == len(drawn)
    assert drawn.time.tolist() == plain.time.tolist()
    assert drawn.key.tolist() == plain.key.tolist()


def test_the_origin_tells_the_recipe() -> None:
    source = RECIPE.trace(np.random.default_rng(1)).origin.source
    assert "Poisson(rate=50.0)" in source
    assert "Zipf(n=100, s=1.1)" in source
    assert "duration=20.0" in source


def test_a_negative_cost_is_an_error() -> None:
    with pytest.raises(TraceError, match="cost"):
        Workload(Steady(10.0), Uniform(3), duration=2.0, cost=-1.0).trace(np.random.default_rng(0))


def test_a_workload_that_ends_before_the_first_arrival_is_an_empty_trace() -> None:
    assert len(Workload(Poisson(1e-6), Uniform(3), duration=1.0).trace(np.random.default_rng(0))) == 0
