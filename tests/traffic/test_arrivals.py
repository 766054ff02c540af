import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traffic import Poisson, Steady
from traffic.arrivals import Arrivals

PROCESSES = [Poisson, Steady]


@pytest.mark.parametrize("process", PROCESSES)
@given(
    rate=st.floats(0.01, 100),
    duration=st.floats(0.01, 100),
    start=st.sampled_from([0.0, -5.0, 1.7e9]),
    seed=st.integers(0, 2**32),
)
def test_times_ascend_within_the_duration(
    process: type[Poisson], rate: float, duration: float, start: float, seed: int
) -> None:
    times = process(rate).times(duration, np.random.default_rng(seed), start)
    assert times.dtype == np.float64
    assert (np.diff(times) >= 0).all()
    assert ((times >= start) & (times <= start + duration)).all()


@pytest.mark.parametrize("process", PROCESSES)
def test_the_start_shifts_the_same_arrivals(process: type[Poisson]) -> None:
    arrivals: Arrivals = process(50.0)
    here = arrivals.times(10.0, np.random.default_rng(1))
    there = arrivals.times(10.0, np.random.default_rng(1), start=1024.0)
    np.testing.assert_allclose(there - 1024.0, here, atol=1e-9)


def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others() -> None:
    one, same, other = (Poisson(20.0).times(60.0, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()


def test_poisson_counts_have_mean_and_variance_rate_times_duration() -> None:
    rng = np.random.default_rng(2)
    counts = np.array([len(Poisson(8.0).times(5.0, rng)) for _ in range(4000)])
    # Mean and variance are both 40; their standard errors here are 0.1 and about 0.9.
    assert abs(counts.mean() - 40) < 0.5
    assert abs(counts.var() - 40) < 4.5


def test_poisson_gaps_are_exponential() -> None:
    gaps = np.diff(Poisson(100.0).times(200.0, np.random.default_rng(3)))
    uniform = np.sort(-np.expm1(-100.0 * gaps))
    n = len(uniform)
    distance = np.abs(uniform - (np.arange(n) + 0.5) / n).max()
    assert distance * np.sqrt(n) < 1.95  # Kolmogorov-Smirnov, 0.1 %


def test_steady_arrivals_are_evenly_spaced_from_the_start() -> None:
    assert Steady(4.0).times(1.0, np.random.default_rng(0), start=10.0).tolist() == [10.0, 10.25, 10.5, 10.75]


def test_steady_arrivals_draw_nothing() -> None:
    rng, untouched = np.random.default_rng(0), np.random.default_rng(0)
    Steady(4.0).times(10.0, rng)
    assert rng.random() == untouched.random()


def test_no_steady_arrival_comes_at_the_end_even_if_the_product_rounds_up() -> None:
    duration = 29 / 7
    assert 7 * duration > 29
    assert len(Steady(7).times(duration, np.random.default_rng(0))) == 29


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_rate_and_duration_must_be_positive_and_finite(process: type[Poisson], value: float) -> None:
    with pytest.raises(ValueError, match=f"{process.__name__}: rate"):
        process(value)
    with pytest.raises(ValueError, match=f"{process.__name__}: duration"):
        process(1.0).times(value, np.random.default_rng(0))
