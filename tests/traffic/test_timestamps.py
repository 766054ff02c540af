from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traffic.timestamps import TimestampParser, TimeUnit

MOMENT = datetime(2023, 11, 16, 18, 17, 3, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2023-11-16 18:17:03", MOMENT),
        ("2023-11-16T18:17:03", MOMENT),
        ("2023-11-16T18:17:03Z", MOMENT),
        ("2023-11-16T20:17:03+02:00", MOMENT),
        ("2023-11-16T10:47:03-0730", MOMENT),
        ("20231116T181703Z", MOMENT),
        ("2023-11-16 18:17:03.5", MOMENT + 0.5),
        ("2023-11-16 18:17:03.9799600", MOMENT + 0.97996),
        ("2023-11-16T18:17:03.123456789Z", MOMENT + 0.123456789),
        ("1969-12-31T23:59:59.25Z", -0.75),
        ("9999-12-31T00:00:00Z", 253402214400.0),
        (" 2023-11-16 18:17:03 ", MOMENT),
    ],
)
def test_iso_8601_text_is_a_time_in_utc_unless_it_says_otherwise(text: str, seconds: float) -> None:
    stamps = TimestampParser()
    assert stamps.seconds([text]).tolist() == [seconds]
    assert stamps.unit == "iso"


@given(
    st.lists(st.tuples(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60)), min_size=1)
)
def test_iso_8601_text_agrees_with_the_calendar_to_the_microsecond(moments: list[tuple[datetime, int]]) -> None:
    aware = [moment.replace(tzinfo=timezone(timedelta(minutes=east))) for moment, east in moments]
    read = TimestampParser().seconds([moment.isoformat() for moment in aware])
    np.testing.assert_allclose(read, [moment.timestamp() for moment in aware], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_the_unit_of_a_number_is_that_in_which_it_is_a_time_of_today(unit: TimeUnit, factor: int) -> None:
    moments = [1_700_000_000, 1_600_000_000, 200_000_000]
    for values in ([m * factor for m in moments], [str(m * factor) for m in moments]):
        stamps = TimestampParser()
        assert stamps.seconds(values).tolist() == moments
        assert stamps.unit == unit


def test_fractions_are_kept_as_finely_as_floats_can() -> None:
    assert TimestampParser().seconds(["1700000000.123456"]).tolist() == [1700000000.123456]
    assert TimestampParser().seconds([1700000000123456]).tolist() == [1700000000.123456]


def test_small_numbers_are_seconds_from_any_zero() -> None:
    assert TimestampParser().seconds(["0", "0.5", "-3", "1e9"]).tolist() == [0.0, 0.5, -3.0, 1e9]


def test_a_unit_that_is_given_is_not_guessed() -> None:
    assert TimestampParser("ms").seconds(["0", "500", "1e12"]).tolist() == [0.0, 0.5, 1e9]
    assert TimestampParser("iso").seconds(["20231116"]).tolist() == [1700092800.0]


def test_one_odd_number_does_not_move_the_others() -> None:
    stamps = TimestampParser()
    assert stamps.seconds(["9999999999999999", "1700000000", "1700000001"])[1:].tolist() == [1700000000.0, 1700000001.0]


def test_the_first_stamps_decide_for_the_rest() -> None:
    stamps = TimestampParser()
    stamps.seconds(["1700000000000"])
    assert stamps.seconds(["1700000000"]).tolist() == [1700000.0]


def test_nothing_is_decided_by_what_is_no_stamp() -> None:
    stamps = TimestampParser()
    assert np.isnan(stamps.seconds(["", "x", "now"])).all()
    assert stamps.unit is None
    assert stamps.seconds(["1700000000"]).tolist() == [1.7e9]


@pytest.mark.parametrize(
    "bad",
    ["", "-", "x", "now", "today", "NaT", "nan", "2023-13-01", "2023-11-16T25:00:00", "2016-12-31T23:59:60Z", None, []],
)
def test_what_is_no_time_is_nan(bad: object) -> None:
    for good in ("2023-11-16 18:17:03", "1700238000"):
        times = TimestampParser().seconds([good, bad, good])
        assert np.isnan(times).tolist() == [False, True, False]


@pytest.mark.parametrize("bad", ["inf", "-inf", "nan", 10**400, "1e400", "1e300", -1e12, 10**12])
def test_a_number_that_is_not_finite_or_beyond_all_calendars_is_no_time(bad: object) -> None:
    assert np.isnan(TimestampParser().seconds(["1700000000", bad, 1.5])).tolist() == [False, True, False]


def test_numbers_near_the_largest_are_no_times() -> None:
    assert np.isnan(TimestampParser().seconds([1.7e308, -1.7e308, "1.7e308"])).all()


def test_the_clock_is_never_asked() -> None:
    # Pandas reads these as the present.
    assert np.isnan(TimestampParser("iso").seconds(["now", " today", "NOW"])).all()
