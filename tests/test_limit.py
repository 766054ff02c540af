"""Limits as people write them."""

from __future__ import annotations

import contextlib
import itertools
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratesim import Limit, parse_limits
from ratesim.algorithms import bind
from ratesim.limit import LARGEST, SMALLEST, InvalidLimitError, as_limits, check_cost


@pytest.mark.parametrize(
    ("text", "rate", "period"),
    [
        ("100/minute", 100, 60),
        ("10 per 5 seconds", 10, 5),
        ("2.5/s", 2.5, 1),
        ("1e3/hour", 1000, 3600),
        (" 7 / 2 Days ", 7, 172800),
        ("5/min", 5, 60),
        ("10/mins", 10, 60),
        ("10/secs", 10, 1),
        ("10/2 hrs", 10, 7200),
        ("1000/month", 1000, 2592000),
        ("1/year", 1, 31536000),
        ("500/7days", 500, 604800),
        ("10 requests per minute", 10, 60),
        ("10r/s", 10, 1),
        ("30r/m", 30, 60),
        ("1 per 1h 30m", 1, 5400),
        ("4 every 250ms", 4, 0.25),
        (".5 / Second", 0.5, 1),
        ("100per1.5hours", 100, 5400),
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
        ("5/60", "RATE/PERIOD"),
        ("１０/minute", "RATE/PERIOD"),
        ("1_000/minute", "RATE/PERIOD"),
        ("1,000/minute", "RATE/PERIOD"),
        ("10/minute/user", "RATE/PERIOD"),
        ("1e400/minute", "between"),
        ("1/1e400 s", "between"),
        ("100/hour;10/minute", "parse_limits"),
        ("1" * 100_000, "RATE/PERIOD"),
        ("", "RATE/PERIOD"),
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


@given(st.floats(SMALLEST, LARGEST), st.floats(SMALLEST, LARGEST))
def test_a_limit_is_written_as_it_is_read(rate: float, period: float) -> None:
    limit = Limit(rate, period)
    assert Limit.parse(str(limit)) == limit
    assert parse_limits(str(limit)) == (limit,)


UNITS = {
    1e-3: "ms msec millisecond milliseconds",
    1.0: "s sec secs second seconds",
    60.0: "m min mins minute minutes",
    3600.0: "h hr hrs hour hours",
    86400.0: "d day days",
    604800.0: "w wk wks week weeks",
    2592000.0: "mo month months",
    31536000.0: "y yr yrs year years",
}


@given(
    st.sampled_from([(seconds, name) for seconds, names in UNITS.items() for name in names.split()]),
    st.sampled_from(["/", " / ", " per ", "per", " every ", " PER "]),
    st.sampled_from(["", " ", "  "]),
    st.integers(1, 500),
    st.sampled_from([None, 1, 5, 0.5]),
    st.sampled_from([str.lower, str.upper, str.title]),
)
def test_every_way_to_write_a_limit_is_the_same_limit(
    unit: tuple[float, str], per: str, blank: str, rate: int, count: float | None, case: Any
) -> None:
    seconds, name = unit
    text = f"{blank}{rate}{per}{'' if count is None else count}{blank}{case(name)}{blank}"
    assert Limit.parse(text) == Limit(rate, (count or 1) * seconds)


@pytest.mark.parametrize("separator", [";", "; ", ",", ", ", "|", " | "])
def test_several_limits_are_read_and_named_by_their_periods(separator: str) -> None:
    found = parse_limits(separator.join(["100/hour", "10 per minute", "3/5s", "1/0.5s"]), "fixed_window")
    assert {limit.name: (limit.rate, limit.period) for limit in found} == {
        "hour": (100, 3600), "minute": (10, 60), "5-second": (3, 5), "0_5-second": (1, 0.5),
    }  # fmt: skip
    assert {limit.algorithm for limit in found} == {"fixed_window"}
    assert as_limits(found) == found


@pytest.mark.parametrize(
    "text", ["", ";", "10/minute;", "10/minute;5/minute", ";".join(["1/s"] * 100), "10/minute;x", 5, None]
)
def test_several_limits_that_make_no_sense_are_refused(text: Any) -> None:
    with pytest.raises(InvalidLimitError):
        parse_limits(text)


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __iter__(self) -> Any:
        raise RuntimeError("no iterator")


ODD: list[Any] = [
    None, True, False, "", "x", "10", b"10", 10**400, -(10**400), 10**9999, 0, -1, 0.0, math.nan, math.inf, -math.inf, 1j,
    Decimal("NaN"), Decimal("sNaN"), Decimal(1), Fraction(1, 3), [], [1], {}, {"buckets": "x"}, {"buckets": math.nan},
    {"buckets": 10**400}, {"buckets": True}, {5: 1}, [("buckets", 2)], [("buckets", 2), ("buckets", 3)], [(1, 2, 3)],
    (("x", None),), {1, 2}, object(), Hostile(), int, len, itertools.count(), itertools.repeat(("a", 1)), np.array([1, 2]),
    np.float32(1), np.int64(3), np.nan, range(10**9), "\ud800", "x" * 100_000, "a b", Limit(1, 1),
]  # fmt: skip
FIELDS = ("rate", "period", "algorithm", "burst", "name", "options")
anything = st.one_of(
    st.sampled_from(range(len(ODD))).map(lambda place: ODD[place]),
    st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers(),
    st.recursive(st.none() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), anything, min_size=1))
def test_any_object_in_any_field_gives_a_limit_or_an_invalid_limit_error(fields: dict[str, Any]) -> None:
    message, limit = "", None
    try:
        limit = Limit(**{"rate": 10, "period": 60, **fields})
        bind(limit)
    except InvalidLimitError as error:
        message = str(error)
    assert len(message) < 700
    assert message.isprintable()
    if limit is not None:
        assert SMALLEST <= limit.rate <= LARGEST
        assert isinstance(hash(limit), int)


@pytest.mark.parametrize("field", FIELDS)
def test_no_odd_object_raises_anything_else(field: str) -> None:
    for value in ODD:
        try:
            bind(Limit(**{"rate": 10, "period": 60, field: value}))
        except InvalidLimitError:
            continue


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 10**400}, {"period": 10**400}, {"burst": 10**400}, {"name": 5}, {"algorithm": 5}, {"period": True},
        {"rate": "10"}, {"options": {"buckets": "x"}}, {"options": {"buckets": 10**400}}, {"options": 5},
        {"options": itertools.repeat(("a", 1))}, {"rate": math.nan}, {"period": math.inf}, {"burst": -1},
    ],
)  # fmt: skip
def test_a_field_of_the_wrong_kind_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidLimitError, match=next(iter(wrong)).removesuffix("s")):
        Limit(**{"rate": 10, "period": 60, **wrong})


@given(anything)
def test_any_object_is_a_cost_or_an_invalid_limit_error(value: Any) -> None:
    try:
        cost = check_cost(value)
    except InvalidLimitError:
        return
    assert cost == 0 or SMALLEST <= cost <= LARGEST
    assert type(cost) is float


@given(anything)
def test_any_object_is_limits_or_an_invalid_limit_error(value: Any) -> None:
    with contextlib.suppress(InvalidLimitError):
        assert as_limits(value) == (value,)
