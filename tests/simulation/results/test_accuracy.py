from collections import defaultdict
from math import floor, inf

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from ratesim.limit import Limit
from ratesim.simulation.results import accuracy
from ratesim.simulation.results.accuracy import WorstWindow, compare_with_oracle, measure_accuracy
from ratesim.storage.memory.storage import MemoryStorage

ALGORITHMS = ["fixed_window", "sliding_window", "token_bucket"]

Row = tuple[int, float, float, bool, int]  # key, stamp, cost, admitted, sequence number

ROWS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 120).map(lambda quarter: 1000.0 + quarter / 4.0) | st.floats(1000.0, 1030.0),
        st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.5]) | st.floats(0.01, 3.0),
        st.booleans(),
        st.integers(0, 20),
    ),
    max_size=40,
)
LIMITS = st.builds(
    lambda rate, period, algorithm, burst: Limit(rate, period, algorithm, burst if algorithm == "token_bucket" else None),
    st.sampled_from([1.0, 2.5, 4.0]),
    st.sampled_from([0.7, 1.0, 4.0]),
    st.sampled_from(ALGORITHMS),
    st.sampled_from([None, 1.0, 6.0]),
)


def ratio(part: float, whole: float) -> float:
    if part == 0:
        return 0.0
    return part / whole if whole else inf


@settings(max_examples=examples(300))
@given(LIMITS, ROWS)
def test_the_score_is_what_its_definition_says(limit: Limit, rows: list[Row]) -> None:
    storage = MemoryStorage()
    windows: dict[tuple[int, int], float] = defaultdict(float)
    keys: dict[int, float] = defaultdict(float)
    exact_total = 0.0
    for key, stamp, cost, admitted, _ in sorted(rows, key=lambda row: row[4]):
        granted = storage.acquire_nowait(str(key), limit, cost, stamp).allowed
        exact_total += cost * granted
        for sums, where in ((windows, (key, floor(stamp / limit.period))), (keys, key)):
            sums[where] += cost * (admitted - granted)  # type: ignore[index]
    # Every heaviest window can be moved until it begins at a request.
    loads = {
        WorstWindow(key, start, start + limit.period): sum(
            other[2] for other in rows if other[0] == key and other[3] and 0 <= other[1] - start < limit.period
        )
        for key, start, _, admitted, _ in rows
        if admitted
    }
    found = measure_accuracy(limit, *columns(rows), order=[row[4] for row in rows])
    # Sums in another order round differently, so what is left of zero may be some 1e-15 over a tiny total.
    near = {"rel": 1e-9, "abs": 1e-9}
    assert found.exact_total == pytest.approx(exact_total, **near)
    assert found.admitted_total == pytest.approx(sum(row[2] for row in rows if row[3]), **near)
    over = sum(max(0.0, surplus) for surplus in windows.values())
    denied = sum(max(0.0, -surplus) for surplus in windows.values())
    net = sum(max(0.0, surplus) for surplus in keys.values())
    if exact_total > 0 or over == 0:
        assert found.over_admission == pytest.approx(ratio(over, exact_total), **near)
        assert found.net_over_admission == pytest.approx(ratio(net, exact_total), **near)
    assert found.false_denial == pytest.approx(ratio(denied, exact_total), **near)
    heaviest = max(loads.values(), default=0.0)
    assert found.worst_excess == pytest.approx(heaviest / limit.rate - 1.0, **near)
    if found.worst is None:
        assert heaviest == 0
    else:
        assert loads[found.worst] == pytest.approx(heaviest, **near)


def columns(rows: list[Row]) -> tuple[list[int], list[float], list[float], list[bool]]:
    return [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], [r[3] for r in rows]


def traffic(seed: int, n: int = 3000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 7, n), 1.7e9 + np.sort(rng.uniform(0, 20, n)), rng.uniform(0.1, 2.0, n)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_linearizable_store_scores_exactly_zero_in_whatever_order_it_decides(algorithm: str) -> None:
    key, stamp, cost = traffic(1)
    order = np.argsort(stamp + np.random.default_rng(2).exponential(0.05, len(stamp)))  # overtaken in flight
    storage, limit = MemoryStorage(), Limit(20.0, 3.0, algorithm)
    admitted, sequence = np.zeros(len(key), bool), np.zeros(len(key), int)
    for number, row in enumerate(order):
        admitted[row] = storage.acquire_nowait(str(key[row]), limit, float(cost[row]), float(stamp[row])).allowed
        sequence[row] = number
    found = measure_accuracy(limit, key, stamp, cost, admitted, sequence)
    assert (found.over_admission, found.false_denial, found.net_over_admission) == (0.0, 0.0, 0.0)
    assert found.exact_total == pytest.approx(found.admitted_total)
    assert 0 < admitted.sum() < len(key)
    assert measure_accuracy(limit, key, stamp, cost, admitted).over_admission > 0  # the order was no decoration


def test_the_order_breaks_ties_by_row() -> None:
    limit = Limit(1.0, 10.0, "fixed_window")
    found = measure_accuracy(limit, [0, 0], [1, 1], [1, 1], [True, False], order=[5, 5])
    assert (found.over_admission, found.false_denial) == (0.0, 0.0)
    assert measure_accuracy(limit, [0, 0], [1, 1], [1, 1], [True, False], order=[5, 4]).exact_total == 1.0


def test_no_figure_depends_on_how_requests_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of fractions differ in their last bits where requests of one time change places."""
    rng = np.random.default_rng(4)
    limit, key, stamp = Limit(3, 1.0, "sliding_log"), rng.integers(0, 5, 2000), np.sort(rng.integers(0, 60, 2000)) + 0.0
    columns = key, stamp, rng.uniform(0.1, 2.0, 2000), rng.random(2000) < 0.6
    order = rng.permutation(2000)
    found = compare_with_oracle(limit, *columns, order)
    shuffled = rng.permutation(2000)
    again = compare_with_oracle(limit, *(column[shuffled] for column in columns), order[shuffled])
    monkeypatch.setattr(accuracy, "FEW", 0)
    monkeypatch.setattr(accuracy, "SPARSE", 0)
    parts = compare_with_oracle(limit, *columns, order)
    assert found.accuracy == again.accuracy == parts.accuracy
    assert found.excess is not None
    assert again.excess is not None
    assert parts.excess is not None
    assert found.excess[shuffled].tolist() == again.excess.tolist()
    assert found.excess.tolist() == parts.excess.tolist()


def test_eight_memories_that_share_nothing_admit_eight_times_the_limit() -> None:
    # 2 per 10 s, and 40 requests in [100, 104): round robin gives each of 8 memories 5 of them; each admits 2, in
    # the first 16 requests. The oracle admits 2. So 14 too many, and 16 / 2 - 1 = 7 over the permitted.
    limit = Limit(2.0, 10.0, "fixed_window")
    memories = [MemoryStorage() for _ in range(8)]
    stamp = 100.0 + np.arange(40) / 10.0
    admitted = [memories[i % 8].acquire_nowait("a", limit, 1.0, float(stamp[i])).allowed for i in range(40)]
    found = measure_accuracy(limit, np.zeros(40, int), stamp, np.ones(40), admitted)
    assert (found.exact_total, found.admitted_total) == (2.0, 16.0)
    assert (found.over_admission, found.net_over_admission, found.false_denial) == (7.0, 7.0, 0.0)
    assert found.worst_excess == 7.0
    assert found.worst == WorstWindow(0, 100.0, 110.0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_memories_that_share_nothing_over_admit(algorithm: str) -> None:
    key, stamp, cost = traffic(3)
    limit = Limit(10.0, 3.0, algorithm)
    memories = [MemoryStorage() for _ in range(8)]
    admitted = [
        memories[i % 8].acquire_nowait(str(key[i]), limit, float(cost[i]), float(stamp[i])).allowed for i in range(len(key))
    ]
    found = measure_accuracy(limit, key, stamp, cost, admitted)
    assert found.over_admission > 1
    assert found.worst_excess > 1
    assert found.admitted_total <= 8 * len(set(key)) * 10.0 * (20 / 3.0 + 2)  # never beyond 8 times the limit


def test_an_exact_fixed_window_reaches_twice_the_rate_across_an_edge() -> None:
    limit = Limit(3.0, 10.0, "fixed_window")
    stamp = [9.0, 9.25, 9.5, 10.0, 10.5, 18.5]
    found = measure_accuracy(limit, [4] * 6, stamp, [1] * 6, [True, True, True, True, True, True])
    assert found.over_admission == 0
    assert found.worst_excess == 1.0  # six within [9, 19)
    assert found.worst == WorstWindow(4, 9.0, 19.0)


def test_the_worst_window_is_half_open() -> None:
    limit = Limit(1.0, 10.0, "fixed_window")
    assert measure_accuracy(limit, [0, 0], [5.0, 15.0], [1, 1], [True, True]).worst_excess == 0.0
    assert measure_accuracy(limit, [0, 0], [5.0, np.nextafter(15.0, 0)], [1, 1], [True, True]).worst_excess == 1.0


def test_an_exact_bucket_reaches_its_burst_beyond_the_rate() -> None:
    limit = Limit(4.0, 10.0, "token_bucket", burst=6.0)
    found = measure_accuracy(limit, [0, 0], [5.0, 14.9], [6.0, 3.9], [True, True])
    assert found.over_admission == 0
    assert found.worst_excess == pytest.approx(9.9 / 4.0 - 1.0)  # at most burst + rate


def test_a_debt_paid_back_later_is_over_admitted_but_not_net() -> None:
    limit = Limit(1.0, 10.0, "fixed_window")
    found = measure_accuracy(limit, [0, 0, 0], [1.0, 2.0, 11.0], [1, 1, 1], [True, True, False])
    assert (found.over_admission, found.false_denial, found.net_over_admission) == (0.5, 0.5, 0.0)


def test_runs_without_admissions_have_a_score_as_well() -> None:
    limit = Limit(1.0, 10.0, "fixed_window")
    empty = measure_accuracy(limit, [], [], [], [])
    assert (empty.over_admission, empty.false_denial, empty.worst_excess, empty.worst) == (
        0.0,
        0.0,
        -1.0,
        None,
    )
    refused = measure_accuracy(limit, [0], [1.0], [1.0], [False])
    assert (refused.false_denial, refused.worst_excess, refused.worst) == (1.0, -1.0, None)
    impossible = measure_accuracy(limit, [0], [1.0], [5.0], [True])  # the oracle admits nothing: x/0
    assert (impossible.over_admission, impossible.exact_total, impossible.worst_excess) == (inf, 0.0, 4.0)


def test_columns_of_other_lengths_are_refused() -> None:
    limit = Limit(1.0, 10.0, "fixed_window")
    with pytest.raises(ValueError, match="admitted needs the shape"):
        measure_accuracy(limit, [0, 0], [1, 2], [1, 1], [True])
    with pytest.raises(ValueError, match="order needs the shape"):
        measure_accuracy(limit, [0, 0], [1, 2], [1, 1], [True, True], order=[0])


@pytest.mark.parametrize("since", [-inf, 1.7e9 + 7.5])
def test_what_each_request_adds_sums_to_the_over_admission_and_is_of_admissions_that_the_oracle_denied(since: float) -> None:
    key, stamp, cost = traffic(3)
    limit, late = Limit(5.0, 3.0, "fixed_window"), np.random.default_rng(4).exponential(0.05, len(key))
    order = np.argsort(np.argsort(stamp + late))
    admitted = np.random.default_rng(5).random(len(key)) < 0.6
    found = compare_with_oracle(limit, key, stamp, cost, admitted, order, since)
    assert found.excess is not None
    assert found.excess.sum() == pytest.approx(found.accuracy.over_admission * found.accuracy.exact_total)
    beyond = found.excess > 0
    assert beyond.any()
    assert (admitted & ~found.granted & (stamp >= since))[beyond].all()
    assert (found.excess <= cost + 1e-12).all()
    again = compare_with_oracle(limit, key, stamp, cost, found.granted, order, since)
    assert again.excess is None
    assert (again.granted == found.granted).all()  # in the order of the rows, not of the decisions
