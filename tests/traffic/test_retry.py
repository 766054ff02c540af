import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traffic import ExponentialBackoff, ImmediateRetry, RespectRetryAfter
from traffic.retry import Retry

POLICIES: list[type[ImmediateRetry] | type[ExponentialBackoff] | type[RespectRetryAfter]] = [
    ImmediateRetry,
    ExponentialBackoff,
    RespectRetryAfter,
]
UNIFORM = st.floats(0, 1, exclude_min=True, exclude_max=True)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_client_gives_up_after_its_last_attempt(policy: type[ImmediateRetry]) -> None:
    retry: Retry = policy(max_attempts=3)
    assert [retry.wait(attempt, 1.0, 0.5) is None for attempt in (1, 2, 3, 4)] == [False, False, True, True]


@pytest.mark.parametrize("policy", POLICIES)
@given(attempt=st.integers(1, 10_000), retry_after=st.floats(0, 1e9) | st.just(math.inf), uniform=UNIFORM)
def test_waits_are_finite_and_never_negative(
    policy: type[ImmediateRetry], attempt: int, retry_after: float, uniform: float
) -> None:
    wait = policy(max_attempts=20_000).wait(attempt, retry_after, uniform)
    assert wait is None or 0 <= wait < math.inf


@pytest.mark.parametrize("policy", POLICIES)
def test_there_is_at_least_one_attempt(policy: type[ImmediateRetry]) -> None:
    assert policy(max_attempts=1).wait(1, 1.0, 0.5) is None
    with pytest.raises(ValueError, match=rf"{policy.__name__}: max_attempts .* got 0"):
        policy(max_attempts=0)


def test_at_once_is_at_once_even_if_never_is_said() -> None:
    assert ImmediateRetry().wait(1, math.inf, 0.5) == 0.0


def test_backoff_doubles_its_range_up_to_the_cap_and_waits_anywhere_in_it() -> None:
    retry = ExponentialBackoff(base=0.5, cap=3.0, max_attempts=9)
    for uniform in (0.25, 0.5, 0.75):
        assert [retry.wait(attempt, 100.0, uniform) for attempt in range(1, 6)] == [
            uniform * longest for longest in (0.5, 1.0, 2.0, 3.0, 3.0)
        ]


def test_retry_after_is_honored_and_a_spread_comes_on_top() -> None:
    assert RespectRetryAfter().wait(1, 7.5, 0.5) == 7.5
    assert RespectRetryAfter(spread=4.0).wait(1, 7.5, 0.25) == 8.5


def test_a_client_who_honors_retry_after_gives_up_where_it_says_never() -> None:
    assert RespectRetryAfter().wait(1, math.inf, 0.5) is None


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_ranges_of_a_backoff_are_positive_and_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="Backoff: base"):
        ExponentialBackoff(base=bad)
    with pytest.raises(ValueError, match="Backoff: cap"):
        ExponentialBackoff(cap=bad)


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_a_spread_is_finite_and_not_negative(bad: float) -> None:
    with pytest.raises(ValueError, match="RespectRetryAfter: spread"):
        RespectRetryAfter(spread=bad)
