import numpy as np
import pytest
from numpy.typing import NDArray

from traffic import EdgeHerd, InTurn, OnOff, PerKey, Poisson, Steady, TraceError, Uniform, Workload, Zipf


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
    source = RECIPE.trace(np.random.default_rng(1)).provenance.source
    assert "Poisson(rate=50.0)" in source
    assert "Zipf(n=100, s=1.1)" in source
    assert "duration=20.0" in source


def test_a_negative_cost_is_an_error() -> None:
    with pytest.raises(TraceError, match="cost"):
        Workload(Steady(10.0), Uniform(3), duration=2.0, cost=-1.0).trace(np.random.default_rng(0))


def test_a_workload_that_ends_before_the_first_arrival_is_an_empty_trace() -> None:
    assert len(Workload(Poisson(1e-6), Uniform(3), duration=1.0).trace(np.random.default_rng(0))) == 0


# Every key at times of its own


def test_per_key_every_key_has_a_sample_of_its_own() -> None:
    trace = PerKey(Poisson(20.0), 3, duration=50.0, cost=2.0, start=100.0).trace(np.random.default_rng(1))
    rng = np.random.default_rng(1)
    for key in range(3):
        own = Poisson(20.0).times(50.0, rng, 100.0)
        assert trace.time[trace.key == key].tolist() == own.tolist()
    assert trace.keys == Uniform(3).names()
    assert (np.diff(trace.time) >= 0).all()
    assert set(trace.cost.tolist()) == {2.0}
    assert trace.provenance.notes == ()
    assert "PerKey(arrivals=Poisson(rate=20.0), n=3" in trace.provenance.source


def test_clients_who_come_and_go_keep_out_of_step() -> None:
    trace = PerKey(OnOff(rate=20.0, on=2.0, off=6.0), 200, duration=40.0).trace(np.random.default_rng(2))
    per_second = np.array([np.histogram(trace.time[trace.key == key], bins=40, range=(0, 40))[0] for key in range(200)])
    # Each key is silent in most seconds; all together hardly vary.
    assert (per_second == 0).mean() > 0.5
    assert per_second.sum(axis=0).std() < 0.25 * per_second.sum(axis=0).mean()


def test_per_key_costs_may_be_drawn() -> None:
    trace = PerKey(Steady(10.0), 2, duration=2.0, cost=Exponential()).trace(np.random.default_rng(0))
    assert len(set(trace.cost.tolist())) == 40


def test_per_key_without_arrivals_is_an_empty_trace() -> None:
    assert len(PerKey(Poisson(1e-6), 3, duration=1.0).trace(np.random.default_rng(0))) == 0


def test_at_every_edge_every_key_asks_as_often_before_as_after() -> None:
    recipe = Workload(EdgeHerd(60.0, size=30, spread=1.0, before=0.5), InTurn(5), duration=300.0)
    trace = recipe.trace(np.random.default_rng(1))
    late = np.mod(trace.time, 60.0) < 30.0
    for key in range(5):
        counts = np.unique(np.round(trace.time[(trace.key == key) & late] / 60.0), return_counts=True)[1]
        assert counts.tolist() == [3, 3, 3, 3]
        assert np.count_nonzero((trace.key == key) & ~late) == 12
