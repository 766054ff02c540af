"""Decisions as a client reads them in response headers."""

from __future__ import annotations

import math
import string
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratesim.headers import rate_limit_headers
from ratesim.limit import Decision, InvalidLimitError, Limit
from ratesim.storage import MemoryStorage

BUCKETS = ("token_bucket", "leaky_bucket", "gcra")
ALGORITHMS = (*BUCKETS, "fixed_window", "sliding_window", "sliding_log", "adaptive")
EPOCH = 1_700_000_000.0  # a second, and no multiple of a minute

Item = tuple[str, dict[str, int]]


def parsed(field: str) -> list[Item]:
    """A List of Strings with Integer parameters, by the parsing rules of RFC 9651, section 4.2; ValueError for all else.

    Stricter than the RFC in one thing: what is accepted has to be written the one way in which section 4.1 serialises it.
    """
    items, rest = [], field
    while True:
        name, rest = quoted(rest)
        parameters: dict[str, int] = {}
        while rest.startswith(";"):
            key, _, rest = rest[1:].partition("=")
            if not key or key[0] not in string.ascii_lowercase + "*":
                raise ValueError(f"key {key!r} in {field!r}")
            if set(key) - set(string.ascii_lowercase + string.digits + "_-.*") or key in parameters:
                raise ValueError(f"key {key!r} in {field!r}")
            digits = rest[: len(rest) - len(rest.lstrip(string.digits))]
            if not 1 <= len(digits) <= 15 or digits != str(int(digits)):
                raise ValueError(f"integer {digits!r} in {field!r}")
            parameters[key], rest = int(digits), rest[len(digits) :]
        items.append((name, parameters))
        if not rest:
            return items
        if not rest.startswith(", "):
            raise ValueError(f"{rest!r} after an item in {field!r}")
        rest = rest[2:]


def quoted(text: str) -> tuple[str, str]:
    """The String at the start of the text, and what follows it."""
    name, end, rest = text[1:].partition('"')
    if text[:1] != '"' or not end or not all(" " <= char <= "~" and char != "\\" for char in name):
        raise ValueError(f"no plain string at the start of {text!r}")
    return name, rest


@pytest.mark.parametrize(
    "field",
    [
        *("", "default;r=1", '"a', '"a;r=1', '"é";r=1', '"a";r=1,', '"a";r=1 , "b"', '"a", ', '"a"; r=1'),
        *('"a";R=1', '"a";=1', '"a";r', '"a";r=', '"a";r=1;r=2'),
        *('"a";r=1.5', '"a";r=-1', '"a";r=01', '"a";r=1e3', '"a";r=inf', '"a";r=1000000000000000'),
    ],
)
def test_the_check_of_the_syntax_refuses_what_is_malformed(field: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parsed(field)


def allowed(limit: Limit, remaining: float, reset_after: float) -> Decision:
    return Decision(True, remaining, 0.0, reset_after, limit)


def denied(limit: Limit, remaining: float, retry_after: float, reset_after: float) -> Decision:
    return Decision(False, remaining, retry_after, reset_after, limit)


def test_an_admitted_request_is_told_what_is_left_for_how_long() -> None:
    assert rate_limit_headers(allowed(Limit(100, 60, "fixed_window"), 99, 50)) == {
        "RateLimit-Policy": '"default";q=100;w=60',
        "RateLimit": '"default";r=99;t=50',
    }


def test_a_denied_request_is_told_when_to_come_back() -> None:
    assert rate_limit_headers(denied(Limit(10, 60, "sliding_log", name="api"), 0.0, 4.000001, 59.5)) == {
        "RateLimit-Policy": '"api";q=10;w=60',
        "RateLimit": '"api";r=0;t=5',
        "Retry-After": "5",
    }


def test_with_the_time_there_is_the_older_trio_with_reset_as_an_epoch() -> None:
    headers = rate_limit_headers(denied(Limit(100, 60), 0.25, 30.25, 60), now=EPOCH + 0.5)
    assert headers["X-RateLimit-Limit"] == "100"
    assert headers["X-RateLimit-Remaining"] == "0"
    assert headers["X-RateLimit-Reset"] == str(int(EPOCH) + 31)


def test_a_reset_that_a_float_would_round_off_is_still_not_too_early() -> None:
    """At 2^40 s a microsecond is far below the spacing of floats."""
    headers = rate_limit_headers(denied(Limit(1, 1), 0, 1e-6, 1), now=2.0**53)
    assert "X-RateLimit-Reset" not in headers  # 16 digits
    headers = rate_limit_headers(denied(Limit(1, 1), 0, 1e-6, 1), now=2.0**40)
    assert headers["X-RateLimit-Reset"] == str(2**40 + 1)


def test_of_several_limits_all_are_policies_and_the_one_that_decided_is_the_service_limit() -> None:
    second, day = Limit(10, 1, name="burst"), Limit(1000, 86400, name="daily")
    headers = rate_limit_headers(allowed(day, 3, 3600), [day, second])
    assert headers["RateLimit-Policy"] == '"burst";q=10;w=1, "daily";q=1000;w=86400'
    assert headers["RateLimit"] == '"daily";r=3;t=3600'
    swapped = rate_limit_headers(allowed(second, 3, 0.5), [second, day])
    assert swapped["RateLimit-Policy"] == headers["RateLimit-Policy"]


def test_the_limit_that_decided_has_to_be_among_the_limits() -> None:
    with pytest.raises(InvalidLimitError, match="'b', is not among"):
        rate_limit_headers(allowed(Limit(1, 1, name="b"), 1, 0), [Limit(1, 1, name="a")])


def test_a_nameless_limit_and_one_named_default_cannot_be_told_apart() -> None:
    nameless, default = Limit(10, 1), Limit(1000, 86400, name="default")
    with pytest.raises(InvalidLimitError, match="default"):
        rate_limit_headers(allowed(nameless, 1, 0), [nameless, default])
    assert rate_limit_headers(allowed(default, 1, 0), default)["RateLimit"] == '"default";r=1'


@pytest.mark.parametrize("now", [math.nan, math.inf, -1.0])
def test_a_time_that_is_none_is_refused(now: float) -> None:
    with pytest.raises(ValueError, match="now"):
        rate_limit_headers(allowed(Limit(1, 1), 1, 0), now=now)


def test_a_cost_that_can_never_pass_is_given_no_time_to_retry() -> None:
    headers = rate_limit_headers(denied(Limit(10, 60), 7, math.inf, 12), now=EPOCH)
    assert "Retry-After" not in headers
    assert headers["RateLimit"] == '"default";r=7;t=12'
    assert headers["X-RateLimit-Reset"] == str(int(EPOCH) + 12)


def test_quota_is_rounded_down_and_never_promises_what_is_not_there() -> None:
    headers = rate_limit_headers(allowed(Limit(2.5, 1), 1.999999, 1))
    assert headers["RateLimit-Policy"] == '"default";q=2;w=1'
    assert headers["RateLimit"] == '"default";r=1;t=1'


def test_times_are_rounded_up_to_whole_seconds() -> None:
    headers = rate_limit_headers(denied(Limit(10, 1.5), 0, 0.000001, 1.2))
    assert headers == {"RateLimit-Policy": '"default";q=10;w=2', "RateLimit": '"default";r=0;t=1', "Retry-After": "1"}


def test_a_denied_heavy_request_is_told_what_lighter_ones_may_still_use() -> None:
    assert rate_limit_headers(denied(Limit(10, 60), 3.5, 2, 60))["RateLimit"] == '"default";r=3;t=2'


def test_an_untouched_limit_has_nothing_to_wait_for() -> None:
    headers = rate_limit_headers(allowed(Limit(10, 60), 10, 0), now=EPOCH)
    assert headers["RateLimit"] == '"default";r=10'
    assert headers["X-RateLimit-Reset"] == str(int(EPOCH))


@pytest.mark.parametrize(
    ("rate", "period", "burst", "policy"),
    [
        (100, 60, None, "q=100;w=60"),
        (100, 60, 200, "q=200;w=120"),
        (100, 60, 10, "q=10;w=6"),
        (0.5, 1, 1, "q=1;w=2"),
        (0.5, 1, None, "q=0;w=1"),
        (0.1, 3, 0.1, "q=0;w=3"),  # 0.1 * 3 / 0.1 is above 3 in floats
        (1000, 1, 10, "q=10;w=1"),
    ],
)
def test_the_quota_of_a_bucket_is_its_burst_in_the_time_of_a_refill(
    rate: float, period: float, burst: float | None, policy: str
) -> None:
    limit = Limit(rate, period, "token_bucket", burst)
    assert rate_limit_headers(allowed(limit, 0, 1))["RateLimit-Policy"] == f'"default";{policy}'


def test_a_limit_that_adaptive_has_raised_shows_in_what_remains_and_not_in_the_policy() -> None:
    headers = rate_limit_headers(allowed(Limit(100, 60, "adaptive"), 150.0, 900.0))
    assert headers["RateLimit-Policy"] == '"default";q=100;w=60'
    assert headers["RateLimit"] == '"default";r=150;t=60'  # not the 15 minutes after which it forgets


def test_what_has_more_than_15_digits_is_left_out_or_cut_down() -> None:
    slow = Limit(1e-6, 1e12, "token_bucket", burst=1e12)
    headers = rate_limit_headers(denied(slow, 1e16, 1e15, 1e30), now=EPOCH)
    assert headers["RateLimit-Policy"] == '"default";q=1000000000000'
    assert headers["RateLimit"] == '"default";r=999999999999999'
    assert "Retry-After" not in headers
    assert "X-RateLimit-Reset" not in headers
    largest = rate_limit_headers(denied(slow, 0, 1e15 - 1, 1e30))
    assert (largest["RateLimit"], largest["Retry-After"]) == ('"default";r=0;t=999999999999999', "999999999999999")


numbers = st.floats(1e-6, 1e12)
everyday = st.sampled_from([0.5, 1.0, 2.5, 10.0, 60.0, 100.0, 3600.0])
seconds = st.one_of(everyday, st.floats(1e-6, 1e31), st.integers(1, 10**17).map(float))


@st.composite
def limits_(draw: st.DrawFn, name: str) -> Limit:
    rate, period = draw(everyday | numbers), draw(everyday | numbers)
    algorithm = draw(st.sampled_from(ALGORITHMS))
    burst = draw(st.none() | everyday | numbers) if algorithm in BUCKETS else None
    return Limit(rate, period, algorithm, burst, name)


@st.composite
def decisions(draw: st.DrawFn) -> tuple[Decision, list[Limit]]:
    names = draw(st.lists(st.from_regex(r"[A-Za-z0-9_-]{0,64}", fullmatch=True), min_size=1, max_size=4, unique=True))
    several = [draw(limits_(name)) for name in names if name != "default"] or [draw(limits_(""))]
    limit = draw(st.sampled_from(several))
    remaining, reset_after = draw(st.floats(0, 1e17)), draw(st.just(0.0) | seconds)
    if draw(st.booleans()):
        return allowed(limit, remaining, reset_after), several
    return denied(limit, remaining, draw(seconds | st.just(math.inf)), reset_after), several


@given(decisions(), st.none() | st.floats(0, 1e10))
def test_of_any_decision_the_headers_are_well_formed_and_promise_nothing_that_is_not_there(
    case: tuple[Decision, list[Limit]], now: float | None
) -> None:
    decision, several = case
    headers = rate_limit_headers(decision, several, now)
    assert all(value.isascii() for value in headers.values())

    policies = parsed(headers["RateLimit-Policy"])
    assert [name for name, _ in policies] == sorted((limit.name or "default" for limit in several), key=unnamed_first)
    by_name = {limit.name or "default": limit for limit in several}
    for name, policy in policies:
        limit = by_name[name]
        assert list(policy) in (["q", "w"], ["q"])
        assert policy["q"] <= (limit.rate if limit.burst is None else limit.burst)
        if "w" in policy:
            assert policy["w"] >= 1
            # Never above the sustained rate, but for the rounding of a float in w.
            assert policy["q"] * Fraction(limit.period) <= policy["w"] * Fraction(limit.rate) * (1 + Fraction(1, 2**50))

    [(name, service)] = parsed(headers["RateLimit"])
    assert name == (decision.limit.name or "default")
    assert list(service) in (["r", "t"], ["r"])
    assert service["r"] <= decision.remaining
    assert service["r"] in (math.floor(decision.remaining), 999_999_999_999_999)
    assert service.get("t") != 0

    comes_back = not decision.allowed and decision.retry_after < 1e15
    assert ("Retry-After" in headers) == (comes_back and math.ceil(decision.retry_after) <= 999_999_999_999_999)
    if "Retry-After" in headers:
        assert headers["Retry-After"].isdecimal()
        assert decision.retry_after <= int(headers["Retry-After"]) < decision.retry_after + 1
        assert service["t"] == int(headers["Retry-After"])

    trio = {name: value for name, value in headers.items() if name.startswith("X-")}
    assert bool(trio) == (now is not None)
    if now is not None:
        assert trio.pop("X-RateLimit-Limit") == str(dict(policies)[name]["q"])
        assert trio.pop("X-RateLimit-Remaining") == str(service["r"])
        for reset in map(int, trio.values()):
            assert reset >= Fraction(now)
            assert not comes_back or reset >= Fraction(now) + Fraction(decision.retry_after)
            assert reset <= now + service.get("t", 0) + 1


def unnamed_first(name: str) -> str:
    return "" if name == "default" else name


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_what_the_headers_promise_is_kept(algorithm: str) -> None:
    """r more requests pass at once, the next does not, and passes after Retry-After."""
    limit = Limit(7.5, 10, algorithm)
    storage, now = MemoryStorage(), EPOCH
    for _ in range(3):
        decision = await storage.acquire("client", limit, 1, now)
        [(_, service)] = parsed(rate_limit_headers(decision)["RateLimit"])
        for _ in range(service["r"]):
            assert await storage.acquire("client", limit, 1, now)
        last = await storage.acquire("client", limit, 1, now)
        assert not last
        headers = rate_limit_headers(last, now=now)
        assert headers["X-RateLimit-Remaining"] == "0"
        now += int(headers["Retry-After"])
        assert await storage.peek("client", limit, 1, now)
        assert await storage.peek("client", limit, 1, float(headers["X-RateLimit-Reset"]))


@pytest.mark.parametrize("algorithm", BUCKETS)
@pytest.mark.parametrize("burst", [3.5, 10.0, 64.0])
async def test_a_client_that_keeps_to_the_policy_of_a_bucket_is_never_denied(algorithm: str, burst: float) -> None:
    limit, storage = Limit(10, 32, algorithm, burst), MemoryStorage()
    [(_, policy)] = parsed(rate_limit_headers(await storage.peek("client", limit, 0, EPOCH))["RateLimit-Policy"])
    starts = [EPOCH + turn * policy["w"] for turn in range(5)]
    for start, end in pairwise(starts):
        for spent in range(policy["q"]):
            decision = await storage.acquire("client", limit, 1, start)
            assert decision, (start, end, spent)
