import numpy as np
import pytest

from traffic import MMPP, Hawkes, OnOff, PerKey
from traffic.dispersion import dispersion, dispersion_law, skewness_of_rate


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_rate_of_hawkes_is_its_mean_from_the_start() -> None:
    process = Hawkes(40.0, 0.6, 0.5)
    counts = np.array([len(process.times(20.0, rng(seed))) for seed in range(400)])
    assert counts.mean() / 20 == pytest.approx(40.0, abs=4 * counts.std() / 20 / 20)
    first = [np.count_nonzero(process.times(20.0, rng(seed)) < 1.0) for seed in range(400)]
    assert np.mean(first) == pytest.approx(40.0, abs=4 * np.std(first) / 20)


def test_hawkes_counts_are_dispersed_as_its_theory_says() -> None:
    times = Hawkes(40.0, 0.6, 0.5).times(4000.0, rng(1))
    assert dispersion(times, 50.0) == pytest.approx(1 / (1 - 0.6) ** 2, rel=0.35)  # of 80 windows
    # The law at a length: Hawkes 1971, with r = (1 - branching) / delay.
    law = 1 + (6.25 - 1) * (1 - (1 - np.exp(-0.8)) / 0.8)
    assert dispersion(times, 1.0) == pytest.approx(law, rel=0.1)


def test_hawkes_without_children_is_poisson() -> None:
    times = Hawkes(20.0, 0.0, 1.0).times(2000.0, rng(2))
    assert dispersion(times, 1.0) == pytest.approx(1.0, abs=0.1)


def test_times_ascend_within_the_duration_and_belong_to_the_seed() -> None:
    one, same = (Hawkes(20.0, 0.5, 1.0).times(30.0, rng(3), start=100.0) for _ in range(2))
    assert one.tobytes() == same.tobytes()
    assert (np.diff(one) >= 0).all()
    assert one[0] >= 100.0
    assert one[-1] < 130.0


def test_a_fitted_hawkes_is_near_its_original() -> None:
    fitted = Hawkes.fit(Hawkes(50.0, 0.7, 0.5).times(4000.0, rng(1)))
    assert fitted.rate == pytest.approx(50.0, rel=0.02)
    assert fitted.branching == pytest.approx(0.7, abs=0.1)
    assert fitted.delay == pytest.approx(0.5, rel=0.6)


@pytest.mark.parametrize("true", [MMPP(5.0, 50.0, 9.0, 1.0), MMPP(10.0, 30.0, 2.0, 2.0)])
def test_a_fitted_mmpp_is_near_its_original(true: MMPP) -> None:
    times = true.times(10_000.0, rng(2))
    fitted = MMPP.fit(times)
    for name in ("quiet", "busy", "quiet_for", "busy_for"):
        assert getattr(fitted, name) == pytest.approx(getattr(true, name), rel=0.25), name
    held = fitted.quiet_for + fitted.busy_for
    mean = (fitted.quiet * fitted.quiet_for + fitted.busy * fitted.busy_for) / held
    assert mean == pytest.approx((len(times) - 1) / (times[-1] - times[0]), rel=1e-9)


def test_an_mmpp_that_is_silent_between_bursts_is_fitted_with_a_rate_above_zero() -> None:
    fitted = MMPP.fit(OnOff(40.0, 1.0, 9.0).times(20_000.0, rng(4)))
    assert 0 < fitted.quiet < 0.5
    assert fitted.busy == pytest.approx(40.0, rel=0.2)


@pytest.mark.parametrize("process", [MMPP, Hawkes])
def test_what_is_no_burst_cannot_be_fitted(process: type[MMPP] | type[Hawkes]) -> None:
    with pytest.raises(ValueError, match="no burstier than Poisson's"):
        process.fit(np.arange(1000.0))
    with pytest.raises(ValueError, match="at least 30 requests"):
        process.fit(np.arange(5.0))


def test_many_sources_with_a_heavy_tail_are_self_similar_and_others_are_not() -> None:
    def hurst(times: np.ndarray) -> float:
        """Estimate by the variance of means over windows, which falls as length**(2 H - 2) (Willinger et al. 1997)."""
        lengths = np.geomspace(1.0, 40.0, 12)
        counts = [np.bincount((times / each).astype(int))[: int(2000 / each)] / each for each in lengths]
        return float(1 + np.polyfit(np.log(lengths), np.log([each.var() for each in counts]), 1)[0] / 2)

    heavy = PerKey(OnOff(20.0, 1.0, 1.0, tail=1.4), 200, 2000.0).trace(rng(3)).time
    assert hurst(heavy) == pytest.approx((3 - 1.4) / 2, abs=0.1)
    assert hurst(PerKey(OnOff(20.0, 1.0, 1.0), 200, 2000.0).trace(rng(3)).time) == pytest.approx(0.5, abs=0.1)


def test_a_heavy_tail_keeps_the_mean_from_the_start() -> None:
    process = OnOff(100.0, 1.0, 3.0, tail=1.8)
    counts = np.array([len(process.times(10.0, rng(seed))) for seed in range(2000)]) / 10
    assert counts.mean() == pytest.approx(25.0, abs=4 * counts.std() / np.sqrt(2000))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Hawkes(1.0, 1.0, 1.0), "branching must be from 0 to below 1"),
        (lambda: Hawkes(0.0, 0.5, 1.0), "rate must be a positive"),
        (lambda: Hawkes(1.0, 0.5, 1.0).times(0.0, rng(1)), "duration must be a positive"),
        (lambda: OnOff(1.0, 1.0, 1.0, tail=1.0), "tail must be above 1"),
    ],
)
def test_what_makes_no_process_is_refused(make, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=says):
        make()


def test_the_law_of_dispersion_and_the_skewness_are_those_of_the_rate() -> None:
    times = MMPP(5.0, 50.0, 9.0, 1.0).times(20_000.0, rng(5))
    law = dispersion_law(times)
    # Variance of the rate 0.1 * 0.9 * 45**2, decay 1 / 9 + 1.
    assert law.limit == pytest.approx(1 + 2 * 182.25 / (9.5 * (1 / 9 + 1)), rel=0.25)
    assert law.decay == pytest.approx(1 / 9 + 1, rel=0.5)
    assert skewness_of_rate(times, 0.2) == pytest.approx(0.8 / 0.3, rel=0.1)
