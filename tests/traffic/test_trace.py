import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traffic import Provenance, Trace, TraceError

EPOCH = 1.4e9


@st.composite
def traces(draw: st.DrawFn, min_size: int = 0) -> Trace:
    """Small traces at today's epoch; times are multiples of 1/64 s, so that their differences are exact."""
    n = draw(st.integers(min_size, 40))
    ticks = draw(st.lists(st.integers(0, 64 * 20), min_size=n, max_size=n))
    key = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    cost = draw(st.lists(st.floats(0, 1e6), min_size=n, max_size=n))
    return Trace(EPOCH + np.sort(np.array(ticks)) / 64, np.array(key, int), ["a", "b", "a#2", "d"], cost=np.array(cost))


def rows(trace: Trace) -> Counter[tuple[Any, ...]]:
    names = [trace.keys[k] for k in trace.key]
    return Counter(zip(trace.time.tolist(), names, trace.cost.tolist(), trace.endpoint.tolist(), strict=True))


def circular_gaps(times: np.ndarray, duration: float) -> np.ndarray:
    """Sorted gaps between neighbors on a circle of that circumference."""
    around = np.sort(np.mod(times, duration))
    return np.sort(np.diff(around, append=around[0] + duration))


def test_columns_have_the_stated_types_and_defaults() -> None:
    trace = Trace([1, 2], [1, 0], ["a", "b"])
    types = [getattr(trace, c).dtype for c in ("time", "key", "cost", "session", "endpoint")]
    assert types == [np.float64, np.int64, np.float64, np.int64, np.int32]
    assert trace.session.tolist() == trace.key.tolist()
    assert trace.cost.tolist() == [1.0, 1.0]
    assert [trace.endpoints[e] for e in trace.endpoint] == ["-", "-"]


@pytest.mark.parametrize(
    ("fields", "column"),
    [
        ({"time": [1.0, np.nan]}, "time"),
        ({"time": [1.0, np.inf]}, "time"),
        ({"time": [[1.0, 2.0]]}, "time"),
        ({"time": ["1", "2"]}, "time"),
        ({"key": [0]}, "key"),
        ({"key": [0, 2]}, "key"),
        ({"key": [-1, 0]}, "key"),
        ({"key": [0.0, 1.0]}, "key"),
        ({"keys": ["a", "a"]}, "keys"),
        ({"keys": ["a", None]}, "keys"),
        ({"cost": [1.0, -0.5]}, "cost"),
        ({"cost": [1.0, np.nan]}, "cost"),
        ({"cost": [1.0]}, "cost"),
        ({"cost": -1.0}, "cost"),
        ({"session": [1]}, "session"),
        ({"session": [1.5, 2.0]}, "session"),
        ({"endpoint": [0, 1]}, "endpoint"),
        ({"endpoints": ["x", "x"]}, "endpoints"),
    ],
)
def test_a_column_that_cannot_be_is_an_error_that_names_it(fields: dict[str, Any], column: str) -> None:
    with pytest.raises(TraceError, match=rf"^{column}: ") as caught:
        Trace(**{"time": [1.0, 2.0], "key": [0, 1], "keys": ["a", "b"], **fields})
    assert "\n" not in str(caught.value)


def test_rows_out_of_order_are_stably_sorted_and_counted() -> None:
    trace = Trace([3, 1, 2, 3, 1], [0, 1, 2, 3, 4], "abcde", cost=[0, 1, 2, 3, 4], session=[9, 8, 7, 6, 5])
    assert trace.time.tolist() == [1, 1, 2, 3, 3]
    assert trace.key.tolist() == trace.cost.tolist() == [1, 4, 2, 0, 3]
    assert trace.session.tolist() == [8, 5, 7, 9, 6]
    assert trace.provenance.notes == ("time out of order: 3 rows sorted",)


def test_rows_with_equal_times_keep_their_order_in_a_long_trace_too() -> None:
    n = 5000
    trace = Trace(np.arange(n)[::-1] // 100, np.zeros(n, int), ["a"], session=np.arange(n))
    for second in range(n // 100):
        assert (np.diff(trace.session[trace.time == second]) == 1).all()


def test_a_trace_in_order_gets_no_note() -> None:
    assert Trace([1, 1, 2], [0, 0, 0], ["a"]).provenance.notes == ()


def test_a_trace_cannot_be_changed() -> None:
    trace = Trace([1, 2], [0, 0], ["a"])
    with pytest.raises(ValueError, match="read-only"):
        trace.time[0] = 5.0
    with pytest.raises(AttributeError):
        trace.cost = trace.time  # type: ignore[misc]


def test_making_a_trace_leaves_the_callers_arrays_writable() -> None:
    time = np.array([1.0, 2.0])
    Trace(time, [0, 0], ["a"])
    time[0] = 0.0
    assert time[0] == 0.0


def test_traces_are_equal_if_their_requests_are() -> None:
    made = {"time": [1, 2], "key": [0, 1], "keys": ["a", "b"]}
    assert Trace(**made) == Trace(**made, provenance=Provenance("elsewhere"))
    assert Trace(**made) != Trace(**{**made, "keys": ["a", "c"]})
    assert Trace(**made) != Trace(**made, cost=2.0)
    assert Trace(**made) != "a trace"


def test_a_trace_survives_pickling_to_a_worker() -> None:
    trace = Trace([2, 1], [0, 1], ["a", "b"], cost=[1, 2], session=[7, 8], provenance=Provenance("x", examples=("y",)))
    copy = pickle.loads(pickle.dumps(trace))
    assert copy == trace
    assert copy.provenance == trace.provenance


def test_a_request_takes_36_bytes() -> None:
    n = 1000
    trace = Trace(np.arange(n), np.zeros(n, np.int64), ["a"], session=np.arange(n))
    assert sum(getattr(trace, c).nbytes for c in ("time", "key", "cost", "session", "endpoint")) == 36 * n


def test_an_empty_trace_answers_every_question() -> None:
    empty = Trace([], [], ["a"])
    rng = np.random.default_rng(0)
    assert (len(empty), empty.duration, empty.rate, empty.summary()["requests"]) == (0, 0.0, 0.0, 0)
    for same in (
        empty.window(0, 1),
        empty.busiest(1),
        empty.speed(2),
        empty.scale(3, rng),
        empty.spread(rng),
    ):
        assert same == empty


def test_rate_counts_gaps_and_not_fence_posts() -> None:
    assert Trace(np.arange(11) / 10, np.zeros(11, int), ["a"]).rate == 10.0
    assert Trace([5.0, 5.0], [0, 0], ["a"]).rate == np.inf


def test_the_summary_of_a_small_trace_is_right() -> None:
    trace = Trace([0, 0.5, 0.999, 1.0, 10], [0, 0, 0, 1, 3], ["a", "b", "never", "c"])
    assert trace.summary() == {
        "requests": 5,
        "keys": 3,
        "duration": 10.0,
        "mean_rate": 0.4,
        "peak_rate": 3,
        "top_key_share": 0.6,
        "top_percent_share": 0.6,
    }


def test_head_keeps_the_first_requests() -> None:
    trace = Trace([1, 2, 3], [0, 1, 0], ["a", "b"])
    assert trace.head(2).time.tolist() == [1, 2]
    assert len(trace.head(10)) == 3
    with pytest.raises(TraceError, match="head"):
        trace.head(-1)


@given(traces(), st.integers(-64, 64 * 22), st.integers(0, 64 * 22))
def test_a_window_holds_what_lies_in_it_and_nothing_else(trace: Trace, first: int, ticks: int) -> None:
    start, end = EPOCH + first / 64, EPOCH + (first + ticks) / 64
    expected = [t for t in trace.time.tolist() if start <= t < end]
    assert trace.window(start, end).time.tolist() == expected


@given(traces(min_size=1), st.integers(1, 64 * 22))
def test_no_window_of_that_length_holds_more_than_the_busiest(trace: Trace, ticks: int) -> None:
    seconds = ticks / 64
    times = trace.time.tolist()
    # The number in [t, t + seconds) only grows at a t where a request enters or leaves.
    candidates = times + [t - seconds for t in times] + [t - seconds + 1 / 64 for t in times]
    most = max(sum(c <= t < c + seconds for t in times) for c in candidates)
    busiest = trace.busiest(seconds)
    assert len(busiest) == most
    assert busiest == trace.window(busiest.time[0], busiest.time[0] + seconds)
    assert f"cut to the busiest {seconds:g} s" in busiest.provenance.notes[-1]


def test_the_earliest_of_equally_busy_windows_is_taken() -> None:
    assert Trace([0, 1, 50, 51], [0, 0, 0, 0], ["a"]).busiest(10).time.tolist() == [0, 1]


@given(traces(min_size=1), st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_speed_divides_every_gap(trace: Trace, factor: float) -> None:
    fast = trace.speed(factor)
    assert fast.time[0] == trace.time[0]
    np.testing.assert_allclose(np.diff(fast.time), np.diff(trace.time) / factor, atol=1e-6)
    assert fast.key.tolist() == trace.key.tolist()
    assert fast.provenance.notes == (f"speed {factor:g}",)


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_a_speed_or_a_length_must_be_positive_and_finite(value: float) -> None:
    trace = Trace([1, 2], [0, 0], ["a"])
    with pytest.raises(TraceError, match="speed"):
        trace.speed(value)
    with pytest.raises(TraceError, match="busiest"):
        trace.busiest(value)


@given(traces(min_size=1), st.integers(1, 4), st.integers(0, 2**32))
def test_scaling_multiplies_the_requests_of_each_key_by_k_under_distinct_keys(trace: Trace, k: int, seed: int) -> None:
    scaled = trace.scale(k, np.random.default_rng(seed))
    m = len(trace.keys)
    assert len(scaled) == k * len(trace)
    assert len(set(scaled.keys)) == len(scaled.keys) == k * m
    assert scaled.keys[:m] == trace.keys
    counts = np.bincount(scaled.key, minlength=k * m).reshape(k, m)
    assert (counts == np.bincount(trace.key, minlength=m)).all()
    assert scaled.session.tolist() == scaled.key.tolist()


@given(traces(min_size=1), st.integers(1, 4), st.integers(0, 2**32))
def test_the_requests_of_a_key_may_be_dealt_out_to_sessions_of_its_own(trace: Trace, k: int, seed: int) -> None:
    dealt = trace.in_sessions(k, np.random.default_rng(seed))
    assert (dealt.session // k).tolist() == dealt.key.tolist() == trace.key.tolist()
    assert dealt.time.tolist() == trace.time.tolist()
    with pytest.raises(TraceError, match="in_sessions"):
        trace.in_sessions(0, np.random.default_rng(seed))


@given(traces(min_size=1), st.integers(2, 4), st.integers(0, 2**32))
def test_scaling_keeps_the_first_copy_and_each_clients_rhythm(trace: Trace, k: int, seed: int) -> None:
    scaled = trace.scale(k, np.random.default_rng(seed))
    m, first, duration = len(trace.keys), trace.time[0], trace.duration
    original = Trace(scaled.time[scaled.key < m], scaled.key[scaled.key < m], trace.keys)
    assert original.time.tolist() == trace.time.tolist()
    assert (first <= scaled.time).all()
    assert (scaled.time <= first + duration).all()
    for copied in range(m, k * m):
        mine = scaled.time[scaled.key == copied]
        theirs = trace.time[trace.key == copied % m]
        if len(theirs) and duration:
            gaps, expected = circular_gaps(mine - first, duration), circular_gaps(theirs - first, duration)
            np.testing.assert_allclose(gaps, expected, atol=2e-6)


@given(traces(min_size=1), st.integers(0, 2**32))
def test_scaling_keeps_cost_and_endpoint_with_their_request(trace: Trace, seed: int) -> None:
    scaled = trace.scale(3, np.random.default_rng(seed))
    per_copy = [sorted(scaled.cost[scaled.key // 4 == copy].tolist()) for copy in range(3)]
    assert per_copy == [sorted(trace.cost.tolist())] * 3


def test_copies_are_named_after_their_key() -> None:
    trace = Trace([1, 2, 3], [0, 1, 0], ["a", "b"])
    assert trace.scale(3, np.random.default_rng(0)).keys == ("a", "b", "a#2", "b#2", "a#3", "b#3")


def test_a_scaled_trace_can_be_scaled_again() -> None:
    trace = Trace([1, 2, 3], [0, 1, 0], ["a", "b"]).scale(2, np.random.default_rng(0))
    twice = trace.scale(2, np.random.default_rng(1))
    assert len(set(twice.keys)) == 8
    assert twice.provenance.notes == ("scale 2", "scale 2")


@pytest.mark.parametrize("session", [[-5, 100, 7], [-(2**62), 3 - 2**62, 2**62], [2**63 - 1, 2**63 - 2, 2**63 - 1]])
def test_copies_share_no_session_whatever_the_session_numbers_are(session: list[int]) -> None:
    trace = Trace([1, 2, 3], [0, 1, 0], ["a", "b"], session=session)
    scaled = trace.scale(3, np.random.default_rng(0))
    owners = {(s, k // 2) for s, k in zip(scaled.session.tolist(), scaled.key.tolist(), strict=True)}
    assert len(owners) == len({s for s, _ in owners}) == 3 * len(set(session))


def test_the_same_seed_scales_and_spreads_to_the_same_trace() -> None:
    trace = Trace(np.arange(50) // 5, np.zeros(50, int), ["a"])
    for change in (lambda rng: trace.scale(4, rng), lambda rng: trace.spread(rng)):
        assert change(np.random.default_rng(3)) == change(np.random.default_rng(3))
        assert change(np.random.default_rng(3)) != change(np.random.default_rng(4))


@pytest.mark.parametrize("k", [0, -1.0, np.inf, np.nan])
def test_scaling_by_nothing_is_an_error(k: float) -> None:
    with pytest.raises(TraceError, match="scale"):
        Trace([1], [0], ["a"]).scale(k, np.random.default_rng(0))


def test_whole_copies_are_those_of_before_to_the_bit() -> None:
    trace = Trace([1.0, 2.5, 3.0, 7.25], [0, 1, 0, 1], ["a", "b"])
    scaled = trace.scale(3.0, np.random.default_rng(7))
    shifts = {"#2": 3.9068466662791685, "#3": 5.607586256059847}  # drawn one after the other
    expected = list(zip(trace.time.tolist(), ("a", "b", "a", "b"), strict=True))
    for suffix, shift in shifts.items():
        expected += [(1.0 + (time - 1.0 + shift) % 6.25, name + suffix) for time, name in expected[:4]]
    assert sorted(zip(scaled.time.tolist(), [scaled.keys[key] for key in scaled.key], strict=True)) == sorted(expected)


@given(traces(min_size=1), st.floats(0.05, 5), st.integers(0, 2**32))
def test_a_share_of_a_copy_is_a_share_of_its_keys(trace: Trace, k: float, seed: int) -> None:
    scaled = trace.scale(k, np.random.default_rng(seed))
    whole = int(k)
    counts = np.bincount(trace.key, minlength=4)
    assert abs(len(scaled) - k * len(trace)) <= counts.max()  # to the requests of one key
    per_name = Counter(scaled.keys[key] for key in scaled.key)
    assert len(per_name) == len(scaled.keys) or k == whole
    for name, theirs in zip(trace.keys, counts, strict=True):  # a key is in a copy with all of its requests, or not at all
        mine = [found for key, found in per_name.items() if key == name or key.rpartition("#")[0] == name]
        if "#" not in name and name != "a":  # whose copies are told from "a#2" by nothing but the numbers
            assert set(mine) <= {theirs}
            assert len(mine) in ((whole, whole + 1) if theirs else (0,))


@given(traces(min_size=1), st.floats(0.05, 4), st.floats(0.05, 4), st.integers(0, 2**32))
def test_with_the_same_seed_a_larger_scale_has_no_fewer_requests(trace: Trace, k: float, more: float, seed: int) -> None:
    less, large = (trace.scale(each, np.random.default_rng(seed)) for each in (k, k + more))
    assert len(less) <= len(large)


@given(traces(min_size=1), st.floats(0.05, 40), st.integers(0, 60), st.integers(0, 2**32))
def test_the_head_of_a_scaled_trace_can_be_made_without_the_rest(trace: Trace, k: float, n: int, seed: int) -> None:
    cut = trace.scale(k, np.random.default_rng(seed), n)
    whole = trace.scale(k, np.random.default_rng(seed)).head(n)
    named = [[each.keys[key] for key in each.key] for each in (cut, whole)]
    assert named[0] == named[1]
    for column in ("time", "cost", "session", "endpoint"):
        assert getattr(cut, column).tolist() == getattr(whole, column).tolist()
    assert k == 1 or len(cut.keys) == len(set(named[0]))


def test_ten_thousand_copies_take_no_longer_than_what_is_kept_of_them() -> None:
    rng = np.random.default_rng(0)
    trace = Trace(np.sort(rng.uniform(0, 3600, 50_000)), rng.integers(0, 5000, 50_000), map(str, range(5000)))
    cut = trace.scale(10_000, rng, 1000)  # of half a billion, for which there is no room
    assert len(cut) == 1000
    assert cut.rate == pytest.approx(10_000 * trace.rate, rel=0.2)


@given(traces(min_size=1), st.floats(0.01, 1), st.integers(0, 2**32))
def test_a_trace_may_be_concentrated_on_its_busiest_key(trace: Trace, share: float, seed: int) -> None:
    hot = trace.concentrate(share, np.random.default_rng(seed))
    before, after = np.bincount(trace.key, minlength=4), np.bincount(hot.key, minlength=4)
    top = int(np.argmax(before))
    others = np.delete(before, top)
    assert after[top] >= before[top]
    assert abs(after[top] - max(share * len(trace), before[top])) <= max(others.max(), 0)
    assert all(new in (0, old) for new, old in zip(np.delete(after, top), others, strict=True))
    for column in ("time", "cost", "session", "endpoint"):
        assert getattr(hot, column).tolist() == getattr(trace, column).tolist()
    assert hot.keys == trace.keys


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1, np.nan])
def test_a_trace_is_concentrated_to_a_share(share: float) -> None:
    with pytest.raises(TraceError, match="concentrate"):
        Trace([1], [0], ["a"]).concentrate(share, np.random.default_rng(0))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(0, 2**32))
def test_spreading_moves_a_request_only_within_its_second_and_keeps_the_order(seconds: list[int], seed: int) -> None:
    stamps = EPOCH + np.sort(np.array(seconds, float))
    trace = Trace(stamps, np.arange(len(stamps)), map(str, range(len(stamps))))
    spread = trace.spread(np.random.default_rng(seed))
    assert np.floor(spread.time).tolist() == stamps.tolist()
    assert spread.key.tolist() == trace.key.tolist()


class AlmostOne(np.random.Generator):
    """Draws only the largest float below one, which added to a date rounds up to the next second."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def random(self, size: int) -> np.ndarray:  # type: ignore[override]
        return np.full(size, np.nextafter(1.0, 0.0))


def test_spreading_never_rounds_up_into_the_next_second() -> None:
    spread = Trace([EPOCH, EPOCH + 1], [0, 1], ["a", "b"]).spread(AlmostOne())
    assert np.floor(spread.time).tolist() == [EPOCH, EPOCH + 1]


def test_spreading_is_uniform_over_the_second() -> None:
    n = 20_000
    spread = Trace(np.zeros(n), np.zeros(n, int), ["a"]).spread(np.random.default_rng(5))
    counts = np.histogram(spread.time, bins=20, range=(0, 1))[0]
    assert ((counts - n / 20) ** 2 / (n / 20)).sum() < 43.8  # chi-square, 19 degrees of freedom, 0.1 %


def test_a_trace_with_finer_stamps_is_not_spread() -> None:
    trace = Trace([1.0, 2.0, 2.5], [0, 0, 0], ["a"])
    assert trace.spread(np.random.default_rng(0)) is trace


def test_notes_tell_what_was_done_in_order() -> None:
    rng = np.random.default_rng(0)
    trace = Trace([2, 1, 3], [0, 0, 0], ["a"]).spread(rng).scale(2, rng).speed(4).head(5)
    assert trace.provenance.notes == (
        "time out of order: 1 rows sorted",
        "one-second stamps: requests spread within their second",
        "scale 2",
        "speed 4",
        "the first 5 requests",
    )
