"""The laws of the seven algorithms: what each promises over any sequence of requests.

On dyadic numbers (small multiples of powers of two) every step of a rule is exact, and so are the laws. Elsewhere they hold
but for rounding: an amount is off by at most ROUNDING of what the limit holds, and a window, whose edges are rounded to what
a float can say of the time, is narrower by at most BLUR of these steps (238 ns at 1.7e9 s).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from fractions import Fraction
from operator import attrgetter

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim import Decision, Limit
from ratesim.storage import MemoryStorage

BUCKETS = ("token_bucket", "leaky_bucket", "gcra")
ALGORITHMS = (*BUCKETS, "adaptive", "fixed_window", "sliding_log", "sliding_window")
ROUNDING = 1e-12
BLUR = 4
EPOCH = 1.7e9  # even, so that what is aligned to powers of two up to 2**8 s begins there

laws = settings(max_examples=examples(120))

Numbers = tuple[float, float, float | None]  # rate, period and burst of a bucket
Ask = tuple[float, float]  # seconds since the one before, and a cost
Admitted = list[tuple[Fraction, Fraction]]  # time and cost


def values(decision: Decision) -> tuple[bool, float, float, float]:
    return (decision.allowed, decision.remaining, decision.retry_after, decision.reset_after)


def greedy(limit: Limit, asked: Iterable[Ask], start: float, grid: float | None = None) -> Admitted:
    """What is admitted of requests that each ask for a share of what remains, in multiples of `grid`."""
    storage = MemoryStorage()
    now, admitted = start, []
    for step, share in asked:
        now += step
        cost = storage.peek_nowait("user", limit, 0.0, now).remaining * share
        cost = cost if grid is None else math.floor(cost / grid) * grid
        if cost >= 1e-6 and storage.acquire_nowait("user", limit, cost, now).allowed:
            admitted.append((Fraction(now), Fraction(cost)))
    return admitted


def most_within(seconds: Fraction, admitted: Admitted) -> Fraction:
    """The largest cost admitted in any half-open window; the fullest one begins with a request."""
    windows = (sum(c for t, c in admitted[i:] if t < begin + seconds) for i, (begin, _) in enumerate(admitted))
    return max(windows, default=Fraction())


# -- numbers ----------------------------------------------------------------------------------------------------------

eighths = st.integers(0, 80).map(lambda n: n / 8)
powers = st.integers(-3, 3).map(lambda n: 2.0**n)
shares = st.sampled_from([1.0, 1.0, 0.5, 0.999]) | st.floats(0.001, 1.0)


@st.composite
def dyadic_buckets(draw: st.DrawFn) -> Numbers:
    """rate, period and burst; rate/period is a power of two, so that its inverse is exact as well."""
    odd = draw(st.sampled_from([1.0, 3.0, 5.0]))
    return odd * draw(powers), odd * draw(powers), draw(st.none() | st.integers(1, 200).map(lambda n: n / 8))


@st.composite
def dyadic_asks(draw: st.DrawFn, width: float) -> list[Ask]:
    """Steps of multiples of width/64, often right up to the next edge of a window or just before it, and shares."""
    step = (st.integers(0, 200) | st.sampled_from([0, 0, 1, 63, 64])).map(lambda n: n * width / 64)
    return draw(st.lists(st.tuples(step, shares), max_size=40))


@st.composite
def asks(draw: st.DrawFn, width: float) -> list[Ask]:
    step = st.floats(0.0, 1.5) | st.sampled_from([0.0, 0.0, 0.01, 1.0])
    return [(s * width, share) for s, share in draw(st.lists(st.tuples(step, shares), max_size=40))]


rates = st.sampled_from([0.01, 0.3, 1.0, 7.0, 100.0]) | st.floats(0.01, 1e4)
periods = st.sampled_from([0.1, 1 / 3, 1.0, 7.0, 60.0, 86400.0]) | st.floats(0.1, 86400)
starts = st.sampled_from([0.0, 12.3456, EPOCH, EPOCH + 0.1])
tried = st.sampled_from([0.25, 1 / 3, 1.0]) | st.floats(0.001, 1.1)  # costs, as shares of the burst


@st.composite
def any_buckets(draw: st.DrawFn) -> Numbers:
    rate = draw(rates)
    return rate, draw(periods), draw(st.none() | st.floats(0.1, 100).map(lambda times: times * rate))


exactly = pytest.mark.parametrize("exact", [True, False], ids=["exactly on dyadic numbers", "elsewhere but for rounding"])


# -- the bucket family ------------------------------------------------------------------------------------------------


@laws
@given(
    dyadic_buckets(),
    st.sampled_from([2.0**20, EPOCH]),
    st.lists(st.tuples(st.integers(-16, 80).map(lambda n: n / 16), eighths, st.booleans()), max_size=40),
)
def test_the_buckets_agree_exactly_on_dyadic_numbers(
    numbers: Numbers, now: float, asked: list[tuple[float, float, bool]]
) -> None:
    rate, period, burst = numbers
    storages = [(MemoryStorage(), Limit(rate, period, algorithm, burst)) for algorithm in BUCKETS]
    for step, cost, consume in asked:
        now += step
        token, leaky, gcra = (
            values((storage.acquire_nowait if consume else storage.peek_nowait)("user", limit, cost, now))
            for storage, limit in storages
        )
        assert token == leaky == gcra


@laws
@given(any_buckets(), starts, st.lists(st.tuples(st.floats(0, 1.2), tried), max_size=40))
def test_the_buckets_agree_elsewhere_but_for_rounding_at_the_edge(numbers: Numbers, now: float, asked: list[Ask]) -> None:
    storages = [(MemoryStorage(), Limit(numbers[0], numbers[1], algorithm, numbers[2])) for algorithm in BUCKETS]
    burst = numbers[2] or numbers[0]
    seconds = burst * numbers[1] / numbers[0]  # that an empty bucket takes to fill
    for step, share in asked:
        now += step * seconds
        looked = [storage.peek_nowait("user", limit, share * burst, now) for storage, limit in storages]
        left = [decision.remaining for decision in looked]
        assert max(left) - min(left) <= ROUNDING * burst
        if len({decision.allowed for decision in looked}) == 2:
            assert all(abs(each - share * burst) <= ROUNDING * burst for each in left)
            continue  # nobody is charged, so that the three go on alike
        resets = [decision.reset_after for decision in looked]
        assert max(resets) - min(resets) <= ROUNDING * seconds
        retries = [decision.retry_after for decision in looked]
        assert retries[0] == retries[1] == retries[2] or max(retries) - min(retries) <= ROUNDING * seconds + 2.5e-6
        if looked[0].allowed:
            for storage, limit in storages:
                assert storage.acquire_nowait("user", limit, share * burst, now).allowed


def most_above_refill(limit: Limit, admitted: Admitted) -> Fraction:
    """The largest excess of what is admitted between two requests, both included, over rate * time / period."""
    rate, period = Fraction(limit.rate), Fraction(limit.period)
    worst = running = Fraction()
    before = admitted[0][0] if admitted else Fraction()
    for time, cost in admitted:
        running = max(running - rate * (time - before) / period, Fraction()) + cost
        worst, before = max(worst, running), time
    return worst


@exactly
@pytest.mark.parametrize("algorithm", BUCKETS)
@laws
@given(data=st.data())
def test_a_bucket_admits_at_most_its_burst_and_the_refill_over_any_time(
    algorithm: str, exact: bool, data: st.DataObject
) -> None:
    rate, period, burst = data.draw(dyadic_buckets() if exact else any_buckets())
    limit, most = Limit(rate, period, algorithm, burst), Fraction(burst or rate)
    if exact:
        admitted = greedy(limit, data.draw(dyadic_asks(period)), EPOCH, 1 / 8)
        assert most_above_refill(limit, admitted) <= most
    else:
        admitted = greedy(limit, data.draw(asks(period * float(most) / rate)), data.draw(starts))
        assert most_above_refill(limit, admitted) <= most * Fraction(1 + ROUNDING)


# -- windows and the log ----------------------------------------------------------------------------------------------


@laws
@given(
    st.integers(1, 40).map(lambda n: n / 8),
    powers,
    st.sampled_from([0.0, EPOCH]),
    st.lists(st.tuples(st.integers(-16, 64).map(lambda n: n / 64), eighths.map(lambda cost: cost / 4)), max_size=60),
)
def test_a_sliding_log_is_a_plain_list_of_what_was_admitted(
    rate: float, period: float, now: float, asked: list[Ask]
) -> None:
    limit = Limit(rate, period, "sliding_log")
    storage = MemoryStorage()
    log: Admitted = []
    last = -math.inf
    for step, cost in asked:
        now = max(now + step * period, 0.0)
        at = Fraction(max(now, last))  # time never runs backwards inside a state
        left = Fraction(rate) - sum(c for t, c in log if at < t + Fraction(period))
        decision = storage.acquire_nowait("user", limit, cost, now)
        assert decision.allowed == (cost <= left)
        if decision.allowed:
            log.append((at, Fraction(cost)))
            left -= Fraction(cost)
            last = float(at)
        assert decision.remaining == left


def window_limit(algorithm: str, rate: float, width: float, buckets: int) -> Limit:
    options = {"buckets": buckets} if algorithm == "sliding_window" else {}
    return Limit(rate, width * buckets, algorithm, options=options)


# What is admitted at most in any window of `of(k)` periods, k sub-windows: in multiples of the rate.
BOUNDS: list[tuple[str, Callable[[int], Fraction], int, bool]] = [
    ("sliding_log", lambda k: Fraction(1), 1, False),
    ("fixed_window", lambda k: Fraction(1), 2, False),
    ("sliding_window", lambda k: 1 - Fraction(1, k), 1, False),  # for k > 1
    ("sliding_window", lambda k: Fraction(1), 2, True),
]
names = ["log", "fixed", "sliding, less a sub-window", "sliding"]
bounds = pytest.mark.parametrize(("algorithm", "of", "times", "below"), BOUNDS, ids=names)


@exactly
@bounds
@laws
@given(data=st.data())
def test_a_window_never_admits_more_than_its_bound(
    algorithm: str, of: Callable[[int], Fraction], times: int, below: bool, exact: bool, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1 if below else 2, 10)) if algorithm == "sliding_window" else 1
    rate, width = data.draw(st.tuples(eighths.filter(bool), powers) if exact else st.tuples(rates, periods))
    limit, bound = window_limit(algorithm, rate, width, k), times * Fraction(rate)
    window = of(k) * Fraction(limit.period)
    if exact:
        start = data.draw(st.sampled_from([0.0, EPOCH]))
        most = most_within(window, greedy(limit, data.draw(dyadic_asks(width)), start, 1 / 8))
        assert most < bound if below else most <= bound
    else:
        admitted = greedy(limit, data.draw(asks(width)), data.draw(starts))
        blur = Fraction(BLUR * math.ulp(admitted[-1][0])) if admitted else Fraction()
        assert most_within(window - blur, admitted) <= bound * Fraction(1 + ROUNDING)


@pytest.mark.parametrize(("rate", "period"), [(1.0, 1.0), (100.0, 60.0), (0.3, 0.125), (7.0, 3600.0)])
@pytest.mark.parametrize("edge", [3600.0, 472_222.0 * 3600])
def test_a_fixed_window_reaches_twice_its_rate_across_an_edge(rate: float, period: float, edge: float) -> None:
    limit, storage = Limit(rate, period, "fixed_window"), MemoryStorage()
    before = math.nextafter(edge, 0.0)
    assert storage.acquire_nowait("user", limit, rate, before).allowed
    assert not storage.acquire_nowait("user", limit, 1e-6, before).allowed
    assert storage.acquire_nowait("user", limit, rate, edge).allowed


@pytest.mark.parametrize("k", range(1, 11))
def test_a_sliding_window_comes_as_near_to_twice_its_rate_as_one_likes(k: int) -> None:
    """The rate all at once, late in a sub-window; a period later, less a moment, its share is taken to have faded as if it
    had been spread over the sub-window, so almost as much is admitted again: 1 + how late it was, less the moment.
    """
    rate, width = 2.0**20, 8.0
    limit = window_limit("sliding_window", rate, width, k)
    for bits in range(2, 19):
        late, moment = 1 - 2.0**-bits, 2.0**-20
        first = EPOCH + late * width
        second = first + limit.period - moment * width
        storage = MemoryStorage()
        assert storage.acquire_nowait("user", limit, rate, first).allowed
        again = storage.peek_nowait("user", limit, 1.0, second).remaining
        assert storage.acquire_nowait("user", limit, again, second).allowed
        assert rate + again == rate * (1 + late - moment) < 2 * rate
    assert rate + again > 1.99999 * rate


# -- what changes nothing ---------------------------------------------------------------------------------------------


@st.composite
def any_limit(draw: st.DrawFn, algorithm: str, name: str = "") -> Limit:
    rate = draw(st.sampled_from([0.5, 3.0, 10.0]) | st.floats(0.5, 50))
    options = {"buckets": draw(st.integers(1, 6))} if algorithm == "sliding_window" else {}
    burst = draw(st.none() | st.floats(0.5, 50)) if algorithm in BUCKETS else None
    return Limit(rate, draw(st.sampled_from([0.1, 1.0, 7.0])), algorithm, burst, name, options)


@pytest.mark.parametrize("several", [False, True], ids=["one limit", "several"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@settings(laws, max_examples=examples(60))
@given(data=st.data())
def test_a_denied_request_and_a_peek_change_no_later_decision(algorithm: str, several: bool, data: st.DataObject) -> None:
    limit: Limit | tuple[Limit, ...] = data.draw(any_limit(algorithm))
    if several:
        limit = (limit, data.draw(any_limit(data.draw(st.sampled_from(ALGORITHMS)), "other")))
    learning = tuple(each for each in (limit if isinstance(limit, tuple) else (limit,)) if each.algorithm == "adaptive")
    costs = st.sampled_from([0.0, 0.5, 1.0, 3.0, 1000.0]) | st.floats(0.01, 20)
    step = st.sampled_from([0.0, 0.0, 0.1, 1.0, -0.5]) | st.floats(-1, 4)
    asked = data.draw(st.lists(st.tuples(step, costs, st.sampled_from("aaaps"), st.booleans()), max_size=40))
    with_all, without = MemoryStorage(), MemoryStorage()
    now = EPOCH
    for seconds, cost, kind, left_out in asked:
        now += seconds
        if kind == "s":  # a score, where the limit learns
            for storage in (with_all, without):
                storage.observe_nowait("user", learning, min(cost, 1.0), now)
            continue
        verb = attrgetter("acquire_nowait" if kind == "a" else "peek_nowait")
        rewinds = with_all.get_stats_nowait(walk=False).clock_rewinds
        decision = verb(with_all)("user", limit, cost, now)
        rewound = with_all.get_stats_nowait(walk=False).clock_rewinds > rewinds  # kept also when denied
        if (decision.allowed and kind == "a") or rewound or not left_out:
            assert verb(without)("user", limit, cost, now) == decision
