"""Numbers as text: what differs differs in print, and no digit before the point is lost."""

from __future__ import annotations

import math

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim.formatting import (
    format_amount,
    format_apart,
    format_bytes,
    format_excess,
    format_percent,
    format_range,
    format_seconds,
    format_within,
)
from ratesim.recommendation.assess.assessment import Interval

UNITS = (format_seconds, format_percent, format_bytes, format_amount)


@pytest.mark.parametrize(
    ("low", "high", "unit", "text"),
    [
        (0.0, 0.3, format_excess, "1.00 to 1.30 x the limit"),  # none beyond the limit is one times the limit
        (0.28, 0.32, format_excess, "1.28 to 1.32 x the limit"),
        (0.79e-3, 0.81e-3, format_seconds, "0.79 to 0.81 ms"),
        (90e-6, 0.2e-3, format_seconds, "90 µs to 0.2 ms"),
        (0.0, 0.00024, format_percent, "0 to 0.024 %"),
        (3.1501e-6, 3.1504e-6, format_seconds, "3.1501 to 3.1504 µs"),
        (0.2201, 0.2203, format_percent, "22.01 to 22.03 %"),
        (1e-3, 1e-3, format_seconds, "1 ms"),
        (1e-3, 1.0000000001e-3, format_seconds, "1 ms"),
        (0.0, 0.0, format_percent, "exactly 0"),
        (0.0, 1e-9, format_percent, "0 to less than 0.001 %"),
    ],
)
def test_an_interval_has_two_ends_that_differ_or_is_one_value(low, high, unit, text):
    assert format_range(low, high, unit) == text


@pytest.mark.parametrize("unit", UNITS)
@given(value=st.floats(1e-7, 1e7), apart=st.floats(1e-4, 2.0))
@settings(max_examples=examples(50))
def test_what_differs_by_a_ten_thousandth_differs_in_print(unit, value, apart):
    first, second = format_apart(value, value * (1.0 + apart), unit)
    assert first != second
    assert "e" not in (first + second).replace("bytes", "").replace("less than", "")


def test_a_mean_reads_as_within_its_interval():
    assert format_within(0.201, 0.2008, 0.2012, format_percent) == "20.1 %"
    assert format_within(1.42e-3, 1.3e-3, 1.5e-3, format_seconds) == "1.42 ms"  # no more digits than the interval takes
    assert Interval(0.201, 0.2008, 0.2012, 3).text(format_percent) == "20.1 % [20.08 to 20.12 %]"


@pytest.mark.parametrize("unit", UNITS)
def test_one_value_reads_the_same_twice(unit):
    assert len(set(format_apart(0.123, 0.123, unit))) == 1
    assert format_apart(0.5, 0.6, unit) == (unit(0.5), unit(0.6))  # no more digits than it takes


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (format_bytes(999.7), "1 kB"),
        (format_bytes(2.5e12), "2,500 GB"),
        (format_seconds(1234.4), "1,234 s"),
        (format_seconds(0.9996), "1 s"),
        (format_percent(12.345), "1234 %"),
        (format_percent(0.0996), "10 %"),
        (format_percent(0.996), "99.6 %"),
        (format_percent(0.9999), "99.99 %"),
        (format_percent(1.0 - 1e-12), "100 %"),
        (format_percent(1.004), "100 %"),
        (format_percent(9e-6), "less than 0.001 %"),
        (format_percent(math.inf), "without bound"),
        (format_amount(0.00001234), "0.0000123"),
        (format_amount(1234.5), "1,234"),
    ],
)
def test_a_number_has_all_digits_before_the_point_and_no_exponent(text, written):
    assert text == written
