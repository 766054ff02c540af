"""Bounds of a hybrid whose nodes decide on views that are `a` seconds old at most: docs/bounds.md, 9."""

from __future__ import annotations

import numpy as np
import pytest
from admitted import (
    PERIOD,
    ROUNDING,
    Floats,
    against_its_bound,
    asked,
    by_key,
    comes_near,
    eventual,
    generated,
    heaviest,
    networks,
    own_limits_are_kept,
    play,
    trips,
)
from hypothesis import given
from hypothesis import strategies as st

from ratesim import Limit
from ratesim.simulation.network.load_balancer import route
from ratesim.simulation.results.run_result import RunResult
from ratesim.simulation.scenario.scenario import EPOCH
from ratesim.storage import StorageURL
from traffic import Trace

THREE = ["fixed_window", "sliding_log", "token_bucket"]


def age(result: RunResult, trip: float) -> float:
    """`a`: seconds that it takes at most until what one node admits is known to every decision of the others."""
    hybrid = StorageURL.parse(result.candidate.storage).hybrid
    assert hybrid is not None
    return hybrid.l1_ttl + hybrid.sync_interval + 6 * trip


def of_all_but_the_smallest(time: Floats, cost: Floats, node: np.ndarray, seconds: float) -> float:
    """What the N - 1 largest nodes admitted in so many seconds, each in its fullest."""
    each = sorted(heaviest(time[node == n], cost[node == n], seconds) for n in range(int(node.max()) + 1))
    return sum(each[1:])


@pytest.mark.parametrize("algorithm", THREE)
@generated
@given(data=st.data())
def test_n_nodes_admit_too_much_at_most_what_the_largest_but_one_admit_in_a_seconds(
    algorithm: str, data: st.DataObject
) -> None:
    result, trip = data.draw(eventual(algorithm))
    limit, late, a = result.scenario.limit.limit(), float(result.latency.max()), age(result, trip)
    own_limits_are_kept(result)
    for rows, time, cost in by_key(result):
        extra = of_all_but_the_smallest(time, cost, result.node[rows], a)
        if algorithm != "fixed_window":
            for admitted, bound in against_its_bound(limit, time, cost, late):
                assert admitted <= bound + extra * (1 + ROUNDING)
            continue
        window = np.floor(time / PERIOD)
        ends = (window + 1) * PERIOD
        in_time = time + result.latency[rows] < ends  # the others may have been decided in the next window
        for w in np.unique(window):
            mine = (window == w) & in_time
            extra = of_all_but_the_smallest(time[mine], cost[mine], result.node[rows][mine], a) if mine.any() else 0.0
            assert cost[mine].sum() <= limit.rate + extra


@generated
@given(data=st.data())
def test_every_admission_fits_beside_the_node_s_own_and_what_the_others_admitted_a_seconds_ago(data: st.DataObject) -> None:
    """The law behind it, decision by decision."""
    result, trip = data.draw(eventual("fixed_window"))
    rate, a = result.scenario.limit.limit().rate, age(result, trip)
    for rows, time, _ in by_key(result):
        node, sequence = result.node[rows], result.sequence[rows]
        window, answered = np.floor(time / PERIOD), time + result.latency[rows]
        for i in np.flatnonzero(answered < (window + 1) * PERIOD):
            here = window == window[i]
            own = here & (node == node[i]) & (sequence <= sequence[i])
            known = here & (node != node[i]) & (time < time[i] - a)
            assert own.sum() + known.sum() <= rate


# -- the workloads made for it ----------------------------------------------------------------------------------------


def test_when_all_are_asked_for_what_is_left_within_a_seconds_each_gives_it() -> None:
    """Three quarters of the limit early, so that everybody knows; then the rest of each of 8 nodes at once."""
    limit, nodes, left = Limit(200.0, PERIOD, "fixed_window"), 8, 50
    trace = asked(np.concatenate([np.linspace(0.0, 2.0, 150), 4.0 + np.linspace(0.0, 0.05, nodes * left + 200)]))
    with trips() as taken:
        result = play(trace, "hybrid+redis://h?sync_interval=0.25&l1_ttl=0.25", limit, nodes)
    rows, time, cost = next(by_key(result))
    late = time >= EPOCH + 4.0
    bound = of_all_but_the_smallest(time[late], cost[late], result.node[rows][late], age(result, max(taken)))
    assert bound < (nodes - 1) * limit.rate / 2, "not because each node's own limit ends it"
    comes_near("views a seconds old", result.accuracy.over_admission * result.accuracy.exact_total, bound)


def of_nodes(times: list[tuple[float, int, float]]) -> Trace:
    """Requests at (seconds, node of 2, cost); `sticky` sends a session to a node, so one is chosen for each."""
    known = route(asked(np.zeros(64), session=np.arange(64)), "sticky", 2)
    assert known is not None
    sessions = [int(np.flatnonzero(known == node)[0]) for node in range(2)]
    ordered = sorted(times)
    return asked([at for at, _, _ in ordered], cost=[c for _, _, c in ordered], session=[sessions[n] for _, n, _ in ordered])


def made_to_miss(interval: float, ttl: float) -> tuple[RunResult, float, float]:
    """Node 1 admits right after it has flushed; node 0 looks at L2 right before the next flush is there, and decides when
    that view is about to be too old. Also the longest trip, and the seconds that lie between the two admissions."""
    limit, tick, moment = Limit(100.0, 64.0, "fixed_window"), 10.0, 0.002
    seen = tick + interval - 0.002  # when node 0 asks for L2's state: a request that costs nothing
    last = seen + ttl - 0.001
    once = [(tick + moment + i * 1e-5, 1, 1.0) for i in range(50)]
    all_of_it = [(last + i * 1e-6, 0, 1.0) for i in range(120)]
    storage = f"hybrid+redis://h?sync_interval={interval}&l1_ttl={ttl}&sync_jitter=0"
    with trips() as taken:
        result = play(of_nodes([*once, (seen, 0, 0.0), *all_of_it]), storage, limit, 2, routing="sticky")
    return result, max(taken), last - tick - moment


@pytest.mark.parametrize(("interval", "ttl", "bound"), [(0.25, 0.25, "short"), (0.25, 1.0, "long")])
def test_what_one_node_admits_may_be_unknown_to_another_for_almost_a_seconds(
    interval: float, ttl: float, bound: str
) -> None:
    result, trip, missed = made_to_miss(interval, ttl)
    assert result.accuracy.over_admission * result.accuracy.exact_total == 50.0, "all that node 1 admitted"
    comes_near(f"age of a view, {bound}", missed, age(result, trip))


# -- views that only a node's own flushes refresh ----------------------------------------------------------------------


def overshoots(result: RunResult, a: float) -> list[tuple[float, float]]:
    """Of each window of one key, what was admitted too much, and what the N - 1 largest nodes admitted in a seconds."""
    rows, time, cost = next(by_key(result))
    window, limit = np.floor(time / PERIOD), result.scenario.limit.limit()
    parts = [window == w for w in np.unique(window)]
    return [
        (cost[part].sum() - limit.rate, of_all_but_the_smallest(time[part], cost[part], result.node[rows][part], a))
        for part in parts
    ]


@generated
@given(
    st.integers(2, 6),
    st.sampled_from([0.25, 0.5, 1.0]),
    st.sampled_from([0.0, 0.0, 0.4, 1.0]),
    st.integers(100, 400),
    networks,
    st.integers(0, 99),
)
def test_under_a_flood_a_is_one_interval_in_phase_and_two_with_spread_phases(
    nodes: int, interval: float, jitter: float, rate: int, network: str, seed: int
) -> None:
    storage = f"hybrid+redis://h?sync_interval={interval}&sync_jitter={jitter}"
    with trips() as taken:
        flood, limit = asked(np.arange(0.0, 2 * PERIOD, 1 / 64)), Limit(float(rate), PERIOD, "fixed_window")
        result = play(flood, storage, limit, nodes, network=network, seed=seed)
    trip = max(taken)
    for extra, bound in overshoots(result, interval + trip if jitter == 0 else 2 * interval + 2 * trip):
        assert extra <= bound


def test_a_flood_of_nodes_in_phase_gets_what_all_but_one_admit_in_an_interval() -> None:
    limit, flood = Limit(512.0, PERIOD, "fixed_window"), asked(np.arange(0.0, 3 * PERIOD, 1 / 256))
    with trips() as taken:
        result = play(flood, "hybrid+redis://h?sync_interval=1&sync_jitter=0", limit, 8)
    comes_near("flood in phase", *map(sum, zip(*overshoots(result, 1.0 + max(taken)), strict=True)))


def test_who_flushes_right_before_another_knows_nothing_of_it_for_two_intervals() -> None:
    """Both flush at every tick; what node 0 is told is from before the flush of node 1 that comes an instant later."""
    limit, interval, tick, moment = Limit(100.0, 64.0, "fixed_window"), 0.25, 10.0, 0.001
    last = tick + 2 * interval + 0.0003  # its own flush is on its way
    once = [(tick + moment + i * 1e-5, 1, 1.0) for i in range(50)]
    steady = [(tick + (i + 0.4 + 0.1 * node) * interval, node, 1.0) for i in range(-4, 2) for node in (0, 1)]
    all_of_it = [(last + i * 1e-7, 0, 1.0) for i in range(120)]
    trace = of_nodes([*once, *steady, *all_of_it])
    missed = []
    for seed in range(8):  # which of the two is the first at L2 is up to the network
        with trips() as taken:
            result = play(
                trace, f"hybrid+redis://h?sync_interval={interval}&sync_jitter=0", limit, 2, routing="sticky", seed=seed
            )
        extra = result.accuracy.over_admission * result.accuracy.exact_total
        unknown = result.trace.time[result.allowed & (result.node == 1)][-int(extra) :].min() if extra else np.inf
        missed.append((EPOCH + last - unknown, 2 * interval + max(taken)))
    comes_near("own flushes only", *max(missed))


# -- debts ------------------------------------------------------------------------------------------------------------


def test_a_fixed_window_repeats_what_it_admits_too_much_and_a_bucket_pays_it_back() -> None:
    """A flood of 4 nodes for 8 periods: what is net too much is that of one period, and then no more."""
    net = {}
    for algorithm in ("fixed_window", "token_bucket"):
        limit = Limit(64.0, PERIOD, algorithm)
        flood = asked(np.arange(0.0, 8 * PERIOD, 1 / 64))
        result = play(flood, "hybrid+redis://h?sync_interval=1&l1_ttl=1", limit, 4)
        net[algorithm] = result.accuracy.net_over_admission * result.accuracy.exact_total
        rows, time, cost = next(by_key(result))
        first = time < EPOCH + PERIOD
        extra = of_all_but_the_smallest(time[first], cost[first], result.node[rows][first], 2.1)
        assert (net[algorithm] <= extra) == (algorithm == "token_bucket")
    assert net["fixed_window"] > 5 * net["token_bucket"] > 0


def test_reading_more_often_never_keeps_a_node_from_telling_what_it_admitted() -> None:
    """A view that is read again as soon as it is there: 70 ms there and back, at most 1 ms old."""
    flood, limit = asked(np.arange(0.0, 6.0, 1 / 512)), Limit(1000.0, 64.0, "fixed_window")
    slow, fast = (
        play(flood, f"hybrid+redis://h?sync_interval=0.2&l1_ttl={ttl}", limit, 2, network="cross_region").accuracy
        for ttl in (0.2, 0.001)
    )
    assert fast.over_admission <= slow.over_admission < 0.1
