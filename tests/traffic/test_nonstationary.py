import numpy as np
import pytest

from traffic import Diurnal, FlashCrowd
from traffic.arrivals import Arrivals

DAY = Diurnal(50.0, 0.8, day=20.0)
CROWD = FlashCrowd(20.0, surge=10.0, at=10.0, ramp=4.0, hold=6.0, fade=8.0)


@pytest.mark.parametrize("process", [DAY, CROWD], ids=["day", "crowd"])
def test_times_ascend_from_the_start_and_belong_to_the_seed(process: Arrivals) -> None:
    times = process.times(40.0, np.random.default_rng(1), 1.7e9)
    assert (np.diff(times) >= 0).all()
    assert 1.7e9 <= times[0] <= times[-1] <= 1.7e9 + 40.0
    assert times.tolist() == process.times(40.0, np.random.default_rng(1), 1.7e9).tolist()
    assert times.tolist() != process.times(40.0, np.random.default_rng(2), 1.7e9).tolist()


def counts(process: Arrivals, edges: list[float], runs: int = 400) -> np.ndarray:
    """Mean arrivals between edges, over runs."""
    rng = np.random.default_rng(3)
    return np.mean([np.histogram(process.times(edges[-1], rng), edges)[0] for _ in range(runs)], axis=0)


def within_four_errors(counted: np.ndarray, expected: list[float], runs: int = 400) -> bool:
    return bool((np.abs(counted - expected) < 4 * np.sqrt(np.array(expected) / runs)).all())


def test_a_day_begins_at_its_lowest_and_has_its_rate_in_the_mean() -> None:
    # The integral of 50 (1 - 0.8 cos(2 pi t / 20)) over quarters of a day: 250 -+ 50 * 0.8 * 20 / (2 pi).
    swing = 50 * 0.8 * 20 / (2 * np.pi)
    assert within_four_errors(counts(DAY, [0, 5, 10, 15, 20]), [250 - swing, 250 + swing, 250 + swing, 250 - swing])


def test_a_crowd_grows_stays_and_fades_in_straight_lines() -> None:
    # 20/s alone, and up to 180/s more: half of it on the way up and on the way down.
    expected = [200, 4 * (20 + 90), 6 * 200, 8 * (20 + 90), 12 * 20]
    assert within_four_errors(counts(CROWD, [0, 10, 14, 20, 28, 40]), expected)


@pytest.mark.parametrize(
    ("process", "says"),
    [
        (lambda: Diurnal(0.0, 0.5), "rate must be a positive"),
        (lambda: Diurnal(1.0, 1.5), "amplitude must be a share"),
        (lambda: FlashCrowd(1.0, 0.5, 1, 1, 1, 1), "surge must be"),
        (lambda: FlashCrowd(1.0, 2.0, -1, 1, 1, 1), "at must be"),
        (lambda: FlashCrowd(1.0, 2.0, 1, 1, 0, 1), "hold must be a positive"),
        (lambda: DAY.times(0.0, np.random.default_rng(0)), "duration must be a positive"),
    ],
)
def test_numbers_that_make_no_sense_are_named(process, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        process()
