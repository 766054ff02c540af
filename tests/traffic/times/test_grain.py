import numpy as np
import pytest
from numpy.typing import NDArray

from traffic.times.grain import coarsen, strays

START = 1715322300.0  # 2024-05-10 06:25:00 UTC
YEAR = 365 * 86400.0


def found(seconds: NDArray[np.float64], text: float | list[float]) -> list[float]:
    grain = np.broadcast_to(np.asarray(text, np.float32), seconds.shape)
    return [float(f"{each:.3g}") for each in np.unique(coarsen(seconds, grain))]


@pytest.mark.parametrize(
    ("step", "text"), [(60, 1), (60, 1e-3), (3600, 60), (3600, 1), (86400, 1), (1, 1e-3), (1, 0), (0.1, 1e-3), (0.01, 1e-4)]
)
def test_stamps_that_are_all_round_are_as_coarse_as_that(step: float, text: float) -> None:
    seconds = START - START % step + np.repeat(np.arange(7), 20) * step
    assert found(seconds, text) == [pytest.approx(step)]


def test_days_and_hours_begin_on_the_clock_of_their_zone() -> None:
    assert found(np.repeat(np.arange(9), 20) * 86400.0 + 5.5 * 3600, 1) == [86400]


def test_what_the_text_says_is_never_made_finer() -> None:
    assert found(START + np.repeat(np.arange(5), 20) * 60.0, 86400) == [86400]
    assert found(START + np.linspace(0, 60, 200), 1) == [1]


def test_seconds_among_fractions_are_coarse_and_fractions_stay_fine() -> None:
    # Two sources: one has whole seconds.
    rng = np.random.default_rng(1)
    seconds = np.concatenate([START + np.floor(rng.random(100) * 60), START + np.floor(rng.random(300) * 60e3) / 1e3])
    grain = coarsen(seconds, np.full(400, 1e-3, np.float32))
    assert set(grain[:100].tolist()) == {1.0}
    assert np.count_nonzero(grain[100:] == np.float32(1e-3)) > 260


def test_a_fraction_among_whole_seconds_changes_only_itself() -> None:
    seconds = np.append(START + np.repeat(np.arange(10.0), 10), START + 4.5)
    assert coarsen(seconds, np.append(np.ones(100), 0.1).astype(np.float32)).tolist() == [1.0] * 100 + [np.float32(0.1)]
    assert coarsen(seconds, np.zeros(101, np.float32)).tolist() == [1.0] * 100 + [np.float32(0.1)]


def test_shorter_fractions_are_as_fine_as_the_others_where_zeros_are_left_out() -> None:
    thousandths = np.random.default_rng(5).integers(0, 60_000, 2000)
    text = 10.0 ** -np.array([len(f"{each / 1000:.3f}".rstrip("0").partition(".")[2]) for each in thousandths])
    assert set(text.tolist()) > {0.001, 0.01, 0.1}
    seconds = START + thousandths / 1000
    assert found(seconds, text.tolist()) == [0.001]
    text[:200] = 1.0  # too many to be chance
    assert found(seconds, text.tolist()) == [0.001, 1]


def test_numbers_of_an_own_clock_are_exact_unless_all_are_whole() -> None:
    assert found(np.arange(200) * 0.5, 0) == [0]
    assert found(np.arange(200.0), 1) == [1]


def test_a_long_log_is_judged_by_a_sample_of_it() -> None:
    seconds = START + np.repeat(np.arange(10_000.0), 30)
    seconds[[5, 77_777]] += 0.25
    grain = coarsen(seconds, np.full(len(seconds), 1e-3, np.float32))
    assert np.flatnonzero(grain != 1).tolist() == [5, 77_777]
    seconds[9] -= 9 * YEAR
    assert np.flatnonzero(strays(seconds)).tolist() == [9]


def test_stamps_spread_at_random_are_as_fine_as_their_text() -> None:
    rng = np.random.default_rng(2)
    for text in (1e-3, 1e-2, 0.1, 1.0):
        seconds = START + np.floor(rng.random(5000) * 3600 / text) * text
        assert found(seconds, text) == [pytest.approx(text)]


def test_timers_on_the_minute_among_others_prove_nothing() -> None:
    rng = np.random.default_rng(3)
    seconds = np.concatenate([START + np.repeat(np.arange(10), 30) * 60.0, START + np.floor(rng.random(700) * 600)])
    assert found(seconds, 1) == [1]


def test_a_job_that_runs_once_a_minute_keeps_its_seconds() -> None:
    assert found(START + np.arange(50) * 60.0, 1) == [1]


@pytest.mark.parametrize("seconds", [[START] * 10, [START, START + 60], [START]])
def test_a_few_round_stamps_are_chance(seconds: list[float]) -> None:
    assert found(np.array(seconds), 1) == [1]


def test_some_round_stamps_among_few_are_chance() -> None:
    assert found(START + np.concatenate([np.arange(8.0), np.arange(8) + 0.123]), 1e-3) == [0.001]


def test_lost_stamps_do_not_count() -> None:
    seconds = np.append(START + np.repeat(np.arange(7), 20) * 60.0, np.nan)
    assert coarsen(seconds, np.ones(141, np.float32)).tolist() == [60.0] * 140 + [1.0]
    assert coarsen(np.array([np.nan]), np.ones(1, np.float32)).tolist() == [1.0]
    assert not len(coarsen(np.zeros(0), np.zeros(0, np.float32)))


def test_a_stamp_years_from_all_others_is_a_stray() -> None:
    seconds = START + np.arange(300.0)
    seconds[[7, 70]] = START - 20 * YEAR, START + 3 * YEAR
    assert np.flatnonzero(strays(seconds)).tolist() == [7, 70]


def test_so_are_a_few_of_many_and_each_but_the_middle_one_of_a_few() -> None:
    assert np.count_nonzero(strays(START + np.append(np.arange(1000.0), [9 * YEAR] * 5))) == 5
    assert strays(START + np.arange(3) * 2 * YEAR).tolist() == [True, False, True]


@pytest.mark.parametrize(
    "seconds",
    [
        np.array([START, START + 9 * YEAR]),
        np.array([START - 2 * YEAR] * 10 + [START] * 30),
        START + np.arange(30) * 0.9 * YEAR,
        np.zeros(0),
        np.array([np.nan, START, np.nan]),
    ],
)
def test_several_logs_and_long_ones_have_no_strays(seconds: NDArray[np.float64]) -> None:
    assert not strays(seconds).any()


def test_lost_stamps_are_no_strays() -> None:
    assert strays(np.array([START, np.nan, START + 1, START + 2, START - 9 * YEAR])).tolist() == [False] * 4 + [True]
