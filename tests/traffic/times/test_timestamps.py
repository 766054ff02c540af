from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from traffic.times.timestamps import TimeError, TimeReader, TimeUnit

MOMENT = 1715322324.0  # 2024-05-10 06:25:24 UTC
HOUR, DAY = 3600.0, 86400.0
BERLIN = ZoneInfo("Europe/Berlin")
NO_ZONE = "stamps without a zone are read as UTC"


def read(values: Sequence[Any], reader: TimeReader | None = None) -> list[float]:
    return (reader or TimeReader()).read(pa.array(values)).seconds.tolist()


def grain(values: Sequence[Any]) -> list[float]:
    return [float(f"{each:.3g}") for each in TimeReader().read(pa.array(values)).grain]


@pytest.mark.parametrize(
    ("text", "seconds", "within"),
    [
        ("10/May/2024:06:25:24 +0000", MOMENT, 1),
        ("[10/May/2024:08:25:24 +0200]", MOMENT, 1),
        ("[10/May/2024:06:25:24.512 +0000]", MOMENT + 0.512, 0.001),
        ("10/May/2024:06:25:24,512", MOMENT + 0.512, 0.001),
        ("10/May/2024:06:25:24.655", MOMENT + 0.655, 0.001),
        ("10/May/2024 06:25:24", MOMENT, 1),
        ("[5/10/24 2:25:24:512 EDT]", MOMENT + 0.512, 0.001),
        ("2024-05-10T06:25:24Z", MOMENT, 1),
        ("2024-05-10t06:25:24z", MOMENT, 1),
        ("2024-05-10 06:25:24", MOMENT, 1),
        ("2024-05-10\t06:25:24", MOMENT, 1),
        (" 2024-05-10 06:25:24 ", MOMENT, 1),
        ('"2024-05-10 06:25:24"', MOMENT, 1),
        ("2024-05-10T08:25:24+02:00", MOMENT, 1),
        ("2024-05-10T08:25:24+0200", MOMENT, 1),
        ("2024-05-10T08:25:24+02", MOMENT, 1),
        ("2024-05-10T08:25:24+02:00[Europe/Paris]", MOMENT, 1),
        ("2024-05-09 22:55:24.5 -0730", MOMENT + 0.5, 0.1),
        ("2024-05-10 06:25:24 GMT", MOMENT, 1),
        ("2024-05-10 06:25:24.512345 UTC", MOMENT + 0.512345, 1e-6),
        ("2024-05-10T06:25:24,512345678Z", MOMENT + 0.512345678, 1e-9),
        ("2024-05-10T06:25:24.51234567890123456789Z", MOMENT + 0.512345678901234, 1e-20),
        ("2024-05-10 06:25:24.512345678 +0000 UTC m=+0.012", MOMENT + 0.512345678, 1e-9),
        ("20240510T062524Z", MOMENT, 1),
        ("20240510-06:25:24.512", MOMENT + 0.512, 0.001),
        ("20240510062524", MOMENT, 1),
        ("20240510062524512", MOMENT + 0.512, 0.001),
        ("2024-05-10T06:25Z", MOMENT - 24, 60),
        ("2024-05-10 06:25", MOMENT - 24, 60),
        ("2024-05-10", MOMENT - 23124, DAY),
        ("20240510", MOMENT - 23124, DAY),
        ("2024/05/10 06:25:25", MOMENT + 1, 1),
        ("Fri, 10 May 2024 06:25:24 GMT", MOMENT, 1),
        ("10 May 2024 06:25:24.512", MOMENT + 0.512, 0.001),
        ("Fri, 10 May 2024 02:25:24 EDT", MOMENT, 1),
        ("Friday, 10-May-24 06:25:24 GMT", MOMENT, 1),
        ("Fri May 10 06:25:24 2024", MOMENT, 1),
        ("[Fri May 10 06:25:24.512345 2024]", MOMENT + 0.512345, 1e-6),
        ("Thu May  9 23:25:24 PDT 2024", MOMENT, 1),
        ("Fri May 10 2024 08:25:24 GMT+0200 (Central European Summer Time)", MOMENT, 1),
        ("May 10, 2024 @ 06:25:24.512", MOMENT + 0.512, 0.001),
        ("May 10, 2024, 6:25:24 AM", MOMENT, 1),
        ("May 10, 2024, 6:25:24\u202fPM", MOMENT + 12 * HOUR, 1),
        ("5/10/2024 6:25", MOMENT - 24, 60),
        ("5/10/2024 6:25:24 AM", MOMENT, 1),
        ("05/10/2024 12:25:24 AM", MOMENT - 6 * HOUR, 1),
        ("5/10/24 12:25:24 PM", MOMENT + 6 * HOUR, 1),
        ("10.05.2024 06:25:24", MOMENT, 1),
        ("10.5.24, 06:25", MOMENT - 24, 60),
        ("45422.26764", MOMENT + 0.096, 0.864),
        ("45422,26764", MOMENT + 0.096, 0.864),
        ("45422.267638888888", MOMENT, 8.64e-8),
        ("1715322324", MOMENT, 1),
        ("1715322324.512", MOMENT + 0.512, 0.001),
        ("1715322324,512", MOMENT + 0.512, 0.001),
        ("[1715322324.512]", MOMENT + 0.512, 0.001),
        ("1.715322324512E9", MOMENT + 0.512, 0.001),
        ("1.715322324E+12", MOMENT, 1),
        ("1715322324512", MOMENT + 0.512, 0.001),
        ("1715322324512.25", MOMENT + 0.51225, 1e-5),
        ("1715322324512345", MOMENT + 0.512345, 1e-6),
        ("1715322324512345678", MOMENT + 0.512345678, 1e-9),
        ("133597959240000000", MOMENT, 1e-7),  # Windows FILETIME
        ("638509191240000000", MOMENT, 1e-7),  # .NET ticks
        ("2016-12-31T23:59:60Z", 1483228800.0, 1),
        ("2017-01-01 08:59:60 +0900", 1483228800.0, 1),
    ],
)
def test_every_form_is_found_by_itself(text: str, seconds: float, within: float) -> None:
    stamps = TimeReader().read(pa.array([text]))
    assert stamps.seconds.tolist() == [pytest.approx(seconds, abs=3e-7, rel=0)]
    assert stamps.grain.tolist() == [pytest.approx(within, rel=1e-6)]
    judged = TimeReader().judge(pa.array([text]))
    assert (judged.share, judged.own_clock) == (1.0, False)


@pytest.mark.parametrize(
    "bad",
    [
        *(
            "",
            " ",
            "-",
            "x",
            "now",
            "today",
            "NaT",
            "nan",
            "inf",
            "-inf",
            "1e999999",
            "[]",
            "10 May",
            "06:25:24",
            "May 2024",
        ),
        *(
            "2024-13-01",
            "2024-02-30",
            "2023-02-29 00:00",
            "2024-05-10T24:00:00",
            "2024-05-10T06:60:00",
            "2024-05-10T06:25:61",
        ),
        *("2016-12-31T23:58:60Z", "2016-12-31T23:59:60+01:00", "10/Mai/2024:06:25:24 +0000", "10/May/2024:06:25:24 +1500"),
        *("13:25:24 PM 10 May 2024", "5/10/2024 13:25 PM", "5/10/2024 0:25 AM", "10/05-2024 06:25", "31.04.2024 06:25"),
        *("1989-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "2100-01-01", "9999-12-31T00:00:00Z", "0001-01-01"),
        *("55000000000", "1e300", "99999999999999999999999", "20241310062524", "1.7E12", "-1715322324", "0", "3.5"),
        *(
            "2024-05-10 06:25:24 CEST",
            "2024-05-10 06:25:24 IST",
            "May 10 06:25:24",
            "2024-05-10T06:25:24ZZ",
            "2024-05-10\x00",
        ),
        *("\u0662\u0660\u0662\u0664-05-10", "2024-05-10T06:25:24Z" * 9),
    ],
)
def test_what_is_no_time_among_times_is_nan(bad: str) -> None:
    good = "2024-05-10T06:25:24Z"
    assert np.isnan(read([good, bad, None, good])).tolist() == [False, True, True, False]


def test_forms_may_be_mixed_in_a_column() -> None:
    texts = [
        "10/May/2024:06:25:24 +0000",
        "1715322324",
        "2024-05-10T06:25:24.5Z",
        "1715322324512",
        "Fri May 10 06:25:24 2024",
    ]
    assert read(texts * 50) == [MOMENT, MOMENT, MOMENT + 0.5, MOMENT + 0.512, MOMENT] * 50


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_integers_and_timestamps_have_the_grain_of_their_unit(unit: str, factor: int) -> None:
    whole = int(MOMENT)
    columns = [pa.array([whole * factor, None]), pa.array([whole * factor, None], pa.timestamp(unit, "Europe/Berlin"))]
    for column in columns:
        stamps = TimeReader().read(column)
        np.testing.assert_array_equal(stamps.seconds, [MOMENT, np.nan])
        assert stamps.grain[0] == pytest.approx(1 / factor)
    fine = TimeReader().read(pa.array([whole * factor + factor // 8], pa.timestamp(unit, "UTC")))
    assert fine.seconds.tolist() == [MOMENT + factor // 8 / factor]


def test_timestamps_of_a_column_without_a_zone_are_local() -> None:
    column = pa.array([datetime(2024, 5, 10, 8, 25, 24)])
    reader = TimeReader(zone=BERLIN)
    assert reader.read(column).seconds.tolist() == [MOMENT]
    assert not reader.notes()
    reader = TimeReader()
    assert reader.read(column).seconds.tolist() == [MOMENT + 2 * HOUR]
    assert reader.notes()[0].startswith(NO_ZONE)


@pytest.mark.parametrize(
    ("column", "seconds", "within"),
    [
        (pa.array([date(2024, 5, 10)]), MOMENT - 23124, DAY),
        (pa.array([Decimal("1715322324.512")]), MOMENT + 0.512, 0.001),
        (pa.array([1715322324.512]), MOMENT + 0.512, 0),
        (pa.array([1715322324512.0]), MOMENT + 0.512, 0.001),
        (pa.array([45422.267638888888]), MOMENT, 0),
        (pa.array(["2024-05-10T06:25:24Z"], pa.large_string()), MOMENT, 1),
        (pa.array(["2024-05-10T06:25:24Z"], pa.string_view()), MOMENT, 1),
        (pa.chunked_array([["2024-05-10T06:25:24Z"], []], pa.string()), MOMENT, 1),
        (pa.array([20240510062524]), MOMENT, 1),
        (pa.array([1715322324], pa.uint32()), MOMENT, 1),
        (pa.array([True]), np.nan, 0),
        (pa.array([None]), np.nan, 0),
        (pa.array([[1715322324]]), np.nan, 0),
        (pa.array([2**64 - 1], pa.uint64()), np.nan, 1),
        (pa.array([datetime(1970, 1, 1)], pa.timestamp("ms")), np.nan, 0.001),
        (pa.array(["2024-05-11", "2024-05-10T06:25:24Z"])[1:], MOMENT, 1),
    ],
)
def test_columns_of_all_types_are_read(column: pa.Array, seconds: float, within: float) -> None:
    stamps = TimeReader().read(column)
    np.testing.assert_array_equal(stamps.seconds, [seconds])
    assert stamps.grain.tolist() == [pytest.approx(within)]


def test_floats_are_exact_unless_all_of_them_are_whole() -> None:
    assert grain([1715322324.0, 1715322325.0]) == [1, 1]
    assert grain([1715322324.0, 1715322325.5]) == [0, 0]


def test_floats_that_no_integer_holds_are_no_times() -> None:
    np.testing.assert_array_equal(
        read([1e300, -np.inf, np.nan, MOMENT, MOMENT + 0.5]), [np.nan] * 3 + [MOMENT, MOMENT + 0.5]
    )


def test_bytes_beneath_a_null_are_no_time() -> None:
    text = pa.array(["2024-05-10", "2024-05-11"])
    column = pa.StringArray.from_buffers(2, *text.buffers()[1:], null_bitmap=pa.py_buffer(b"\x01"))
    np.testing.assert_array_equal(TimeReader().read(column).seconds, [MOMENT - 23124, np.nan])


def test_a_dictionary_is_read_as_its_values() -> None:
    texts = pa.array(["2024-05-10T06:25:24Z", None, "-", "2024-05-10T06:25:25", "2024-05-10T06:25:24Z"])
    plain, encoded = TimeReader(), TimeReader()
    expected, got = plain.read(texts), encoded.read(texts.dictionary_encode())
    np.testing.assert_array_equal(got.seconds, expected.seconds)
    np.testing.assert_array_equal(got.grain[[0, 3, 4]], expected.grain[[0, 3, 4]])
    np.testing.assert_array_equal(TimeReader().read(texts.dictionary_encode()[3:]).seconds, expected.seconds[3:])
    assert encoded.notes() == plain.notes() == (f"{NO_ZONE} (1); --time-zone names another",)


def test_an_empty_column_holds_no_time() -> None:
    for type_ in (pa.string(), pa.int64(), pa.float64(), pa.null(), pa.dictionary(pa.int32(), pa.string())):
        assert TimeReader().judge(pa.array([], type_)).share == 0
        assert not len(TimeReader().read(pa.array([], type_)).seconds)


# Day and month


@pytest.mark.parametrize(
    ("texts", "first", "why"),
    [
        (["10/05/2024 06:25", "13/05/2024 06:25"], MOMENT - 24, ""),
        (["05/10/2024 06:25", "05/13/2024 06:25"], MOMENT - 24, ""),
        (["05-10-2024 06:25", "05-13-2024 06:25"], MOMENT - 24, ""),
        (["10/05/2024 06:25", "11/05/2024 06:25"], MOMENT - 24, "the order dmy, in which the days follow one another"),
        (["10/05/2024 06:25", "09/06/2024 06:25"], MOMENT - 24, "the order dmy, in which the stamps go back less often"),
        (["05/10/2024 06:25", "05/10/2024 07:25"], MOMENT - 24, "the order mdy, though no stamp says so"),
        (["24/05/10 06:25", "24/05/11 00:01"], MOMENT - 24, "the order ymd, in which the days follow one another"),
        (["24-05-10 06:25", "24-06-09 06:25"], MOMENT - 24, "the order ymd, in which the stamps go back less often"),
        (["24-05-10 06:25", "99-05-31 06:25"], MOMENT - 24, ""),
        (["10-05-24 06:25", "11-05-24 00:01"], MOMENT - 24, "the order dmy, in which the days follow one another"),
        (["10-05-24 06:25", "31-05-00 06:25"], MOMENT - 24, ""),
        (["05/10/24 06:25", "05/11/24 00:01"], MOMENT - 24, "the order mdy, in which the days follow one another"),
    ],
)
def test_the_order_of_day_and_month_is_that_of_the_values_or_said(texts: list[str], first: float, why: str) -> None:
    reader = TimeReader(zone=UTC)
    assert read(texts, reader)[0] == first
    assert len(reader.notes()) == bool(why)
    assert not why or why in reader.notes()[0]


def test_an_order_that_is_given_is_taken() -> None:
    for order, month in (("dmy", 10), ("mdy", 5)):
        reader = TimeReader(order, UTC)  # type: ignore[arg-type]
        assert read(["05/10/2024"], reader) == [datetime(2024, month, 15 - month, tzinfo=UTC).timestamp()]
        assert not reader.notes()
    assert read(["24/05/10"], TimeReader("ymd", UTC)) == [datetime(2024, 5, 10, tzinfo=UTC).timestamp()]


def test_an_order_that_was_assumed_and_is_contradicted_is_refused() -> None:
    reader = TimeReader()
    reader.learn(pa.array(["05/10/2024 06:25"]))
    with pytest.raises(
        TimeError, match=r"^'13/10/2024 06:25' contradicts the order mdy, .* give --time-unit dmy, mdy or ymd$"
    ):
        read(["05/10/2024 06:25", "13/10/2024 06:25"], reader)


def test_an_order_that_the_values_say_is_not_contradicted_by_a_damaged_one() -> None:
    assert np.isnan(read(["05/13/2024", "05/14/2024", "13/05/2024"])).tolist() == [False, False, True]


# Zones


def test_a_zone_is_that_of_stamps_without_one_only() -> None:
    texts = ["2024-05-10 08:25:24", "2024-05-10 06:25:24Z", "2024-01-10 07:25:24", "2024-05-10 06:25:24 UTC"]
    reader = TimeReader(zone=BERLIN)
    assert read(texts, reader) == [MOMENT, MOMENT, MOMENT - 121 * DAY, MOMENT]
    assert not reader.notes()
    assert read(["2024-05-10 08:25:24"], TimeReader(zone=timezone(timedelta(hours=2)))) == [MOMENT]


def test_stamps_of_more_zones_than_there_are_take_no_time_and_are_no_times() -> None:
    names = [
        f"{first}{second}{third}" for first in "ABCDEFGHIJ" for second in "QXY" for third in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    ]
    texts = [f"2024-05-10 08:25:24 {name}" for name in [*names, "CEST", "UTC"]]
    seconds = read(texts, TimeReader(zone=BERLIN))
    assert np.isnan(seconds[:-2]).all()
    assert seconds[-1] == MOMENT + 2 * HOUR


def test_a_zone_that_is_assumed_is_said() -> None:
    reader = TimeReader()
    read(["2024-05-10 06:25:24", "2024-05-10 06:25:24Z", "-"], reader)
    read(["45422.26764", "2024-05-10"], reader)
    assert reader.notes() == (f"{NO_ZONE} (2); --time-zone names another",)


def test_names_of_zones_are_those_of_the_zone_that_is_given() -> None:
    texts = ["2024-05-10 08:25:24 CEST", "2024-05-10 08:25:24 CET", "2024-01-10 07:25:24 CET", "2024-05-10 08:25:24 MSK"]
    np.testing.assert_array_equal(read(texts, TimeReader(zone=BERLIN)), [MOMENT, np.nan, MOMENT - 121 * DAY, np.nan])
    twice = ["2024-10-27 02:30:00 CEST", "2024-10-27 02:30:00 CET"]
    first, second = read(twice, TimeReader(zone=BERLIN))
    assert second - first == HOUR


def test_a_time_that_was_left_out_is_read_as_if_the_clock_were_not_set_and_counted() -> None:
    reader = TimeReader(zone=BERLIN)
    before, skipped, after = read(["2024-03-31 01:59:59", "2024-03-31 02:30:00", "2024-03-31 03:30:01"], reader)
    assert (skipped - before, after - skipped) == (1801, 1)
    assert reader.notes() == (
        "stamps that the clock of Europe/Berlin left out, set forward, are read as if it were not (1)",
    )


def test_times_that_exist_twice_are_told_apart_by_the_order_of_the_lines() -> None:
    local = [f"2024-10-27 {time}" for time in ("01:59", "02:10", "02:09", "02:50", "02:05", "02:55", "03:00")]
    reader = TimeReader(zone=BERLIN)
    settled = reader.settle(np.array(read(local, reader)))
    start = datetime(2024, 10, 26, 23, 59, tzinfo=UTC).timestamp()
    np.testing.assert_array_equal((settled - start) / 60, [0, 11, 10, 51, 66, 116, 121])
    assert not reader.notes()


def test_times_that_exist_twice_and_only_go_ahead_are_counted() -> None:
    reader = TimeReader(zone=BERLIN)
    seconds = np.array(read([f"2024-10-27 {time}" for time in ("01:59", "02:10", "02:50", "03:00")], reader))
    np.testing.assert_array_equal(reader.settle(seconds), seconds)
    assert reader.notes() == ("stamps that the clock of Europe/Berlin showed twice, set back, are read as the first (2)",)


@pytest.mark.parametrize("times", [("02:10", "02:50", "02:05", "02:50", "02:01"), ("02:10", "02:50", "02:11", "02:40")])
def test_times_of_several_files_in_turn_are_not_told_apart(times: tuple[str, ...]) -> None:
    reader = TimeReader(zone=BERLIN)
    seconds = np.array(read([f"2024-10-27 {time}" for time in times], reader))
    reader.settle(seconds)
    assert bool(reader.notes()) == (len(times) == 5)


def test_times_with_a_zone_do_not_exist_twice() -> None:
    reader = TimeReader(zone=BERLIN)
    seconds = np.array(read(["2024-10-27T00:50:00Z", "2024-10-27T00:05:00Z"], reader))
    np.testing.assert_array_equal(reader.settle(seconds), seconds)
    assert not reader.notes()


# Numbers


def test_days_of_excel_are_local_and_small_numbers_like_them_are_a_clock() -> None:
    assert read(["45422.35097"], TimeReader(zone=BERLIN)) == [pytest.approx(MOMENT, abs=0.5)]
    for values in ([45422, 45423], [40000.5, 50000.25]):
        assert TimeReader().judge(pa.array(values)).own_clock


def test_small_numbers_that_do_not_go_back_are_a_clock_of_the_logs_own() -> None:
    for values in (["0", "0.5", "0.5", "31"], [0, 13, 27], [0.25, 0.5], [5], [-3.0, 1e6]):
        reader = TimeReader()
        judged = reader.judge(pa.array(values))
        assert judged.own_clock
        assert judged.share == 1
        assert read(values, reader) == [float(each) for each in values]
        assert reader.notes()[0].startswith("numbers are small and do not go back: seconds of the log's own clock")
    assert grain(["0", "0.5", "31"]) == [0, 0, 0]
    assert grain(["0", "5", "31"]) == [1, 1, 1]


# The last ones are nanoseconds, from 0.7 to 3 s, of the size of seconds since 1970.
@pytest.mark.parametrize(
    "values",
    [[12.5, 0.4, 3.1], ["12.5", "0.4", "3.1"], [200, 429, 200], [7, 7, 7], [9 * 10**8, 7 * 10**8, 3 * 10**9, 2 * 10**9]],
)
def test_durations_and_codes_are_no_times(values: list[Any]) -> None:
    assert TimeReader().judge(pa.array(values)).share == 0
    assert np.isnan(read(values)).all()


def test_a_clock_of_concurrent_requests_may_go_back_a_little_and_durations_are_no_clock() -> None:
    rng = np.random.default_rng(3)
    clock = np.arange(1000) * 0.1 + rng.random(1000)
    assert TimeReader().judge(pa.array(clock)).own_clock
    assert TimeReader().judge(pa.array(rng.exponential(size=1000))).share == 0


def test_a_unit_that_is_given_is_not_guessed() -> None:
    cases: list[tuple[TimeUnit, list[str], list[float]]] = [
        ("ms", ["0", "500", "1000000000000", "200"], [0, 0.5, 1e9, 0.2]),
        ("s", ["12.5", "0.4"], [12.5, 0.4]),
        ("iso", ["20240510", "20240510062524"], [MOMENT - 23124, MOMENT]),
        ("excel", ["45422", "45423", "2305843009213739521"], [MOMENT - 23124, MOMENT - 23124 + DAY, np.nan]),
        ("ns", ["17153223240000"], [17153.22324]),
    ]
    for unit, texts, seconds in cases:
        assert read(texts, TimeReader(unit)) == pytest.approx(seconds, nan_ok=True)
    assert np.isnan(read(["1715322324512"], TimeReader("s"))).all()  # 54,000 years ahead


def test_a_unit_that_is_guessed_is_said_unless_it_is_seconds() -> None:
    reader = TimeReader()
    read([1715322324512], reader)
    assert reader.notes() == ("numbers are read as milliseconds since 1970 by their size",)
    reader = TimeReader()
    read([1715322324], reader)
    assert not reader.notes()


def test_one_odd_number_does_not_move_the_others() -> None:
    np.testing.assert_array_equal(read([0, 1715322324, 1715322325, 1715322326]), [np.nan, MOMENT, MOMENT + 1, MOMENT + 2])
    np.testing.assert_array_equal(read([9999999999999999, 1715322324, 5, 1715322325]), [np.nan, MOMENT, np.nan, MOMENT + 1])


# Decisions


def test_judging_decides_nothing_and_the_first_values_read_decide() -> None:
    reader = TimeReader()
    reader.judge(pa.array([0.0, 1.0]))
    assert read([12.5, 0.4, 3.1, MOMENT, MOMENT, MOMENT, MOMENT], reader)[3] == MOMENT
    np.testing.assert_array_equal(read([0.0, 1.0], reader), [np.nan, np.nan])


def test_nothing_is_decided_by_what_is_no_stamp() -> None:
    reader = TimeReader()
    reader.learn(pa.array(["", "x", None]))
    assert read([0, 1], reader) == [0, 1]


def test_blocks_are_read_by_threads_as_by_one() -> None:
    blocks = [pa.array([f"10/05/2024 06:{minute:02}" for minute in range(60)]) for _ in range(40)]
    reader = TimeReader("dmy")
    with ThreadPoolExecutor(4) as pool:
        seconds = list(pool.map(lambda block: reader.read(block).seconds, blocks))
    assert all((each == seconds[0]).all() for each in seconds)
    assert reader.notes() == (f"{NO_ZONE} (2400); --time-zone names another",)


@pytest.mark.parametrize(
    ("values", "share", "form", "within"),
    [
        (["2024-05-10T06:25:24Z"] * 3 + ["-"], 0.75, "ISO 8601", 1),
        (["2024-05-10T06:25:24.5Z", "2024-05-10T06:25:24Z", None, None], 0.5, "ISO 8601 with fraction", 0.1),
        (["10/May/2024:06:25:24 +0000"] * 19 + ["10/May/2024:06:25:24.512 +0000"], 1, "access log", 1),
        (["5/10/2024 6:25", "5/13/2024 6:25"], 1, "month/day/year", 60),
        (["13/5/2024 6:25"], 1, "day/month/year", 60),
        ([1715322324512], 1, "milliseconds since 1970", 0.001),
        ([45422.26, 45422.27], 1, "days of Excel", 0),
        ([0, 1], 1, "seconds of the log's own clock", 1),
        (["GET /a HTTP/1.1", "203.0.113.7"], 0, "", np.inf),
    ],
)
def test_a_judgement_names_share_form_and_finest_usual_grain(
    values: list[Any], share: float, form: str, within: float
) -> None:
    judged = TimeReader().judge(pa.array(values))
    assert (judged.share, judged.form) == (share, form)
    assert judged.grain == pytest.approx(within)


# Errors


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("yesterday", "its form is unknown"),
        ("06:25:24", "it has no date; --time date+time joins two fields"),
        ("May 10 06:25:24", "it has no year, so put one before it"),
        (
            "2024-05-10 06:25:24 CEST",
            "the zone CEST has several meanings, so say where the clock stood with --time-zone Area/City",
        ),
        ("2024-02-30", "there is no such day or hour in the years 1990 to 2099"),
        ("99999999999", "the number is in none of the years 1990 to 2099 in any unit"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_value_a_reason_and_the_forms_known(value: str, reason: str) -> None:
    told = TimeReader().unreadable("when\x1b", pa.array(["2024-05-10", None, value]))
    assert told.startswith(f"field 'when\\x1b' has no time in '{value}': {reason}")
    assert "the forms known are 10/May/2024:06:25:24 +0200, 2024-05-10T06:25:24.512Z," in told
    assert "\n" not in told


def test_durations_and_empty_fields_are_refused_as_such() -> None:
    assert "as seconds since 1970 it is beyond the year 2099" in TimeReader("s").unreadable("t", pa.array([1715322324512]))
    assert "small numbers that go up and down are durations" in TimeReader().unreadable("time", pa.array([12.5, 0.4, 3.1]))
    assert TimeReader().unreadable("t", pa.array([None, None], pa.string())).startswith("field 't' has no values")
