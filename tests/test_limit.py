"""Limits as people write them."""

from __future__ import annotations

import pytest

from ratesim import Limit
from ratesim.algorithms import bind
from ratesim.limit import InvalidLimitError, as_limits


@pytest.mark.parametrize(
    ("text", "rate", "period"),
    [
        ("100/minute", 100, 60),
        ("10 per 5 seconds", 10, 5),
        ("2.5/s", 2.5, 1),
        ("1e3/hour", 1000, 3600),
        (" 7 / 2 Days ", 7, 172800),
        ("5/min", 5, 60),
    ],
)
def test_a_limit_is_read_as_people_write_it(text: str, rate: float, period: float) -> None:
    limit = Limit.parse(text)
    assert (limit.rate, limit.period) == (rate, period)
    assert Limit.parse(str(limit)) == limit


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("100/fortnight", "fortnight.*second, minute"),
        ("-1/minute", "rate -1"),
        ("0/minute", "rate 0"),
        ("ten/minute", "RATE/PERIOD"),
        ("100", "RATE/PERIOD"),
        ("1e13/minute", "between"),
        ("5/0 seconds", "period 0"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_with_the_remedy(text: str, says: str) -> None:
    with pytest.raises(InvalidLimitError, match=says):
        Limit.parse(text)


def test_burst_belongs_to_buckets() -> None:
    assert bind(Limit.parse("10/second", "token_bucket", burst=30)).params == (30.0, 10.0)
    with pytest.raises(InvalidLimitError, match="burst"):
        bind(Limit.parse("10/second", "sliding_window", burst=30))


def test_an_option_that_the_algorithm_does_not_take_is_named_with_the_known_ones() -> None:
    assert bind(Limit.parse("10/second", "sliding_window", buckets=5)).params == (10.0, 0.2, 5.0)
    with pytest.raises(InvalidLimitError, match=r"bucket'.*known: buckets"):
        bind(Limit.parse("10/second", "sliding_window", bucket=5))
    with pytest.raises(InvalidLimitError, match="whole number"):
        bind(Limit.parse("10/second", "sliding_window", buckets=1.5))
    with pytest.raises(InvalidLimitError, match="known are adaptive"):
        bind(Limit.parse("10/second", "leaky"))


def test_two_limits_may_not_share_a_name() -> None:
    with pytest.raises(InvalidLimitError, match="share the name"):
        as_limits([Limit(1, 1), Limit(2, 2)])


def test_a_limit_is_a_value() -> None:
    assert Limit(10, 60, options={"buckets": 2}) == Limit.parse("10/minute", buckets=2)
    assert len({Limit(10, 60), Limit(10.0, 60.0)}) == 1
