import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traffic import MMPP, EdgeHerd, OnOff, Poisson, Steady
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


# On and off


ON_OFF = OnOff(rate=20.0, on=2.0, off=6.0)


@given(
    rate=st.floats(0.01, 100),
    on=st.floats(0.01, 100),
    off=st.floats(0.01, 100),
    duration=st.floats(0.01, 50),
    start=st.sampled_from([0.0, -5.0, 1.7e9]),
    seed=st.integers(0, 2**32),
)
def test_on_off_times_ascend_within_the_duration(
    rate: float, on: float, off: float, duration: float, start: float, seed: int
) -> None:
    times = OnOff(rate, on, off).times(duration, np.random.default_rng(seed), start)
    assert times.dtype == np.float64
    assert (np.diff(times) >= 0).all()
    assert ((times >= start) & (times <= start + duration)).all()


def test_on_off_begins_in_the_long_run_so_that_every_stretch_has_the_same_mean() -> None:
    rng = np.random.default_rng(4)
    counts = np.array([np.histogram(ON_OFF.times(8.0, rng), bins=4, range=(0, 8))[0] for _ in range(3000)])
    # 20 requests/s for a quarter of the time. The standard deviation of a count is about 15, of its mean 0.28.
    np.testing.assert_allclose(counts.mean(axis=0), 10.0, atol=1.4)


def test_on_off_pauses_are_what_the_exponential_phases_leave_between_requests() -> None:
    gaps = np.diff(ON_OFF.times(40_000.0, np.random.default_rng(5)))
    # Kuczura 1973: a gap is hyperexponential, of two phases with these rates and weights.
    rate, end, begin = 20.0, 1 / 2.0, 1 / 6.0
    root = np.sqrt((rate + end + begin) ** 2 - 4 * rate * begin)
    fast, slow = (rate + end + begin + root) / 2, (rate + end + begin - root) / 2
    share = (rate - slow) / (fast - slow)
    uniform = np.sort(1 - share * np.exp(-fast * gaps) - (1 - share) * np.exp(-slow * gaps))
    n = len(uniform)
    assert n > 150_000
    assert np.abs(uniform - (np.arange(n) + 0.5) / n).max() * np.sqrt(n) < 1.95


def test_the_same_seed_gives_the_same_phases() -> None:
    one, same, other = (ON_OFF.times(60.0, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert one.tobytes() == same.tobytes()
    assert one.tobytes() != other.tobytes()


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
@pytest.mark.parametrize("name", ["rate", "on", "off"])
def test_numbers_of_on_off_must_be_positive_and_finite(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"OnOff: {name}"):
        OnOff(**{"rate": 1.0, "on": 1.0, "off": 1.0, name: value})
    with pytest.raises(ValueError, match="OnOff: duration"):
        ON_OFF.times(value, np.random.default_rng(0))


# At the edges of windows


@given(
    period=st.floats(0.01, 1e5),
    size=st.integers(1, 9),
    share=st.floats(0.001, 0.5),
    before=st.floats(0, 1),
    edges=st.floats(0.1, 20),
    start=st.sampled_from([0.0, -5.0, 1.7e9]),
    seed=st.integers(0, 2**32),
)
def test_a_herd_ascends_within_the_duration_and_comes_whole(
    period: float, size: int, share: float, before: float, edges: float, start: float, seed: int
) -> None:
    herd, duration = EdgeHerd(period, size, share * period, before), edges * period
    times = herd.times(duration, np.random.default_rng(seed), start)
    assert len(times) % size == 0
    assert (np.diff(times) >= 0).all()
    assert ((times >= start) & (times <= start + duration)).all()


@pytest.mark.parametrize("start", [0.0, 1.7e9 - 20.0, -90.0])
def test_a_herd_comes_just_after_every_edge(start: float) -> None:
    times = EdgeHerd(60.0, size=50, spread=0.5).times(600.0, np.random.default_rng(1), start)
    after = times - np.floor(times / 60.0) * 60.0
    assert ((after >= 0) & (after < 0.5)).all()
    edges, counts = np.unique(np.floor(times / 60.0) * 60.0, return_counts=True)
    first = np.ceil(start / 60.0) * 60.0
    assert edges.tolist() == (first + np.arange(10) * 60.0).tolist()
    assert (counts == 50).all()


def test_a_herd_may_come_half_before_and_half_after_an_edge() -> None:
    times = EdgeHerd(60.0, size=50, spread=2.0, before=0.5).times(600.0, np.random.default_rng(1)).reshape(-1, 50)
    edges = np.arange(60.0, 600.0, 60.0)[:, None]  # the one at 0 would begin before the start
    assert ((times[:, :25] >= edges - 2.0) & (times[:, :25] < edges)).all()
    assert ((times[:, 25:] >= edges) & (times[:, 25:] < edges + 2.0)).all()


def test_no_early_request_rounds_onto_the_edge() -> None:
    # Around 1.7e9 floats are 238 ns apart, more than this spread.
    times = EdgeHerd(10.0, size=100, spread=1e-7, before=1.0).times(1000.0, np.random.default_rng(1), 1.7e9)
    assert len(times) == 10_000
    assert (np.mod(times, 10.0) > 9.0).all()


def test_a_herd_is_uniform_within_its_spread() -> None:
    times = EdgeHerd(10.0, size=500, spread=2.0).times(100.0, np.random.default_rng(3))
    uniform = np.sort(np.mod(times, 10.0)) / 2.0
    n = len(uniform)
    assert np.abs(uniform - (np.arange(n) + 0.5) / n).max() * np.sqrt(n) < 1.95


def test_without_an_edge_between_start_and_end_nobody_comes() -> None:
    assert len(EdgeHerd(60.0, 5, 1.0).times(30.0, np.random.default_rng(0), 10.0)) == 0


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        *(({key: bad}, key) for key in ("period", "spread") for bad in (0.0, -1.0, np.inf, np.nan)),
        ({"size": 0}, "size"),
        ({"spread": 31.0}, "spread"),
        *(({"before": bad}, "before") for bad in (-0.1, 1.1, np.nan)),
    ],
)
def test_a_herd_that_cannot_be_is_an_error_that_names_the_argument(wrong: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=f"EdgeHerd: {name}"):
        EdgeHerd(**{"period": 60.0, "size": 5, "spread": 1.0, **wrong})  # type: ignore[arg-type]


# Bursts upon a quiet stream


def test_bursty_counts_have_the_mean_and_the_variance_of_a_modulated_process() -> None:
    process, t = MMPP(quiet=5.0, busy=50.0, quiet_for=3.0, busy_for=1.0), 4.0
    rng = np.random.default_rng(9)
    counts = np.array([len(process.times(t, rng)) for _ in range(8000)])
    # The rate is 50 with probability 1/4, else 5, and forgets its phase at r = 1/3 + 1/1 per second; the variance of the
    # count is its mean and twice the integral of (t - u) times the rate's covariance, 45**2 * 3/16 * exp(-r u).
    mean, r = t * (5 * 3 + 50) / 4, 4 / 3
    variance = mean + 2 * 45**2 * 3 / 16 / r * (t - (1 - np.exp(-r * t)) / r)
    assert counts.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / 8000))
    assert counts.var() == pytest.approx(variance, rel=0.06)


def test_bursty_arrivals_ascend_and_the_start_shifts_them() -> None:
    process = MMPP(2.0, 40.0, 5.0, 1.0)
    here = process.times(30.0, np.random.default_rng(1))
    assert (np.diff(here) >= 0).all()
    assert process.times(30.0, np.random.default_rng(1), 1024.0) - 1024.0 == pytest.approx(here, abs=1e-9)
    with pytest.raises(ValueError, match="busy_for must be a positive"):
        MMPP(1.0, 2.0, 3.0, 0.0)
