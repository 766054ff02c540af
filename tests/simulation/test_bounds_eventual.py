"""Bounds of a hybrid whose nodes decide on views that are `a` seconds old at most: docs/bounds.md, 9 to 11."""

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
    generated,
    heaviest,
    limits,
    networks,
    play,
    routings,
    traffic,
    trips,
)
from hypothesis import given
from hypothesis import strategies as st

from ratesim import Limit
from ratesim.simulation.result import RunResult
from ratesim.simulation.routing import route
from ratesim.simulation.scenario import EPOCH
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


@st.composite
def eventual(draw: st.DrawFn, algorithm: str, *faults: dict[str, object], **options: str) -> tuple[RunResult, float]:
    """A run of a hybrid, and the longest trip to its L2 and back."""
    interval = draw(st.sampled_from([0.05, 0.25, 1.0]))
    given = {
        "sync_interval": interval,
        "l1_ttl": interval * draw(st.sampled_from([0.02, 0.5, 1.0, 1.0, 1.5, 4.0])),
        "sync_jitter": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "write": draw(st.sampled_from(["write_back", "write_back", "write_through"])),
        **options,
    }
    storage = "hybrid+redis://h?" + "&".join(f"{name}={value}" for name, value in given.items())
    how = {"routing": draw(routings), "network": draw(networks), "seed": draw(st.integers(0, 99))}
    nodes, limit = draw(st.integers(1, 6)), draw(limits(algorithm))
    with trips() as taken:
        result = play(draw(traffic()), storage, limit, nodes, *faults, **how)
    return result, max(taken, default=0.0)


def own_limits_are_kept(result: RunResult) -> None:
    """Every node keeps the limit on what itself admits, so that N of them never admit more than N times the limit."""
    limit, late = result.scenario.limit.limit(), float(result.latency.max())
    for rows, time, cost in by_key(result):
        for node in np.unique(result.node[rows]):
            mine = result.node[rows] == node
            for admitted, bound in against_its_bound(limit, time[mine], cost[mine], late):
                assert admitted <= bound * (1 + ROUNDING)


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
    comes_near("views a seconds old", result.score.over_admission * result.score.exact_total, bound)


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
    seen = tick + interval - 0.0005  # when node 0 asks for L2's state: a request that costs nothing
    last = seen + ttl - 0.001
    once = [(tick + moment + i * 1e-5, 1, 1.0) for i in range(50)]
    all_of_it = [(last + i * 1e-6, 0, 1.0) for i in range(120)]
    trace = of_nodes([*once, (seen, 0, 0.0), *all_of_it])
    storage = f"hybrid+redis://h?sync_interval={interval}&l1_ttl={ttl}&sync_jitter=0"
    with trips() as taken:
        result = play(trace, storage, limit, 2, routing="sticky", network="same_zone")
    return result, max(taken), last - tick - moment


@pytest.mark.parametrize(("interval", "ttl"), [(0.25, 0.25), (0.25, 1.0)])
def test_what_one_node_admits_may_be_unknown_to_another_for_almost_a_seconds(interval: float, ttl: float) -> None:
    result, trip, missed = made_to_miss(interval, ttl)
    assert result.score.over_admission * result.score.exact_total == 50.0, "all that node 1 admitted"
    comes_near("age of a view", missed, age(result, trip))


def test_a_fixed_window_repeats_what_it_admits_too_much_and_a_bucket_pays_it_back() -> None:
    """A flood of 4 nodes for 8 periods: what is net too much is that of one period, and then no more."""
    net = {}
    for algorithm in ("fixed_window", "token_bucket"):
        limit = Limit(64.0, PERIOD, algorithm)
        flood = asked(np.arange(0.0, 8 * PERIOD, 1 / 64))
        result = play(flood, "hybrid+redis://h?sync_interval=1&l1_ttl=1", limit, 4)
        net[algorithm] = result.score.net_over_admission * result.score.exact_total
        rows, time, cost = next(by_key(result))
        first = time < EPOCH + PERIOD
        extra = of_all_but_the_smallest(time[first], cost[first], result.node[rows][first], 2.1)
        assert (net[algorithm] <= extra) == (algorithm == "token_bucket")
    assert net["fixed_window"] > 5 * net["token_bucket"] > 0


def test_reading_more_often_never_keeps_a_node_from_telling_what_it_admitted() -> None:
    """A view that is read again as soon as it is there: 70 ms there and back, at most 1 ms old."""
    flood, limit = asked(np.arange(0.0, 6.0, 1 / 512)), Limit(1000.0, 64.0, "fixed_window")
    over = [
        play(
            flood, f"hybrid+redis://h?sync_interval=0.2&l1_ttl={ttl}", limit, 2, network="cross_region"
        ).score.over_admission  # fmt: skip
        for ttl in (0.2, 0.001)
    ]
    assert over[1] <= over[0] < 0.1


# -- without L2 -------------------------------------------------------------------------------------------------------

CUT = {"kind": "partition", "start": 1.0, "duration": 12.0}


@pytest.mark.parametrize("algorithm", THREE)
@generated
@given(data=st.data())
def test_nodes_that_are_cut_off_and_fail_open_still_admit_at_most_n_times_the_limit(
    algorithm: str, data: st.DataObject
) -> None:
    direction = data.draw(st.sampled_from(["both", "to_server", "from_server"]))
    result, _ = data.draw(eventual(algorithm, {**CUT, "direction": direction}))
    own_limits_are_kept(result)


def test_nodes_that_are_cut_off_and_fail_open_each_give_the_whole_limit() -> None:
    limit = Limit(20.0, PERIOD, "fixed_window")
    result = play(asked(np.arange(0.0, 2 * PERIOD, 1 / 256)), "hybrid+redis://h?sync_interval=0.5&l1_ttl=0.5", limit, 8,
                  {**CUT, "start": 0.0, "duration": 60.0})  # fmt: skip
    comes_near("cut off, fail_open", result.score.over_admission, 7)


@generated
@given(data=st.data())
def test_nodes_that_are_cut_off_and_fail_closed_admit_nothing_once_their_views_are_too_old(data: st.DataObject) -> None:
    result, trip = data.draw(eventual("fixed_window", CUT, when_away="fail_closed", command_timeout="0.5"))
    hybrid = StorageURL.parse(result.candidate.storage).hybrid
    assert hybrid is not None
    since = result.trace.time - result.trace.time[0]
    last_view = CUT["start"] + min(trip, 0.5)
    away = (since > last_view + hybrid.l1_ttl) & (since + result.latency < CUT["start"] + CUT["duration"])
    assert not result.allowed[away].any()


@pytest.mark.parametrize("algorithm", THREE)
@generated
@given(data=st.data())
def test_strong_nodes_that_fail_open_admit_too_much_at_most_what_they_admitted_without_asking(
    algorithm: str, data: st.DataObject
) -> None:
    nodes, limit = data.draw(st.integers(1, 4)), data.draw(limits(algorithm))
    cut = {**CUT, "direction": "to_server", "nodes": data.draw(st.lists(st.integers(0, nodes - 1), min_size=1))}
    result = play(data.draw(traffic()), "hybrid+redis://h?consistency=strong", limit, nodes, cut)
    blind = result.allowed & (result.sequence == 0)
    extra = float(result.trace.cost[blind].sum())
    assert result.score.net_over_admission * result.score.exact_total <= extra * (1 + ROUNDING)


def test_strong_nodes_that_fail_open_admit_all_that_is_asked_while_they_are_cut_off() -> None:
    limit = Limit(20.0, PERIOD, "fixed_window")
    flood = asked(np.concatenate([np.linspace(0.0, 0.5, 30), np.linspace(1.5, 7.0, 1000)]))
    result = play(flood, "hybrid+redis://h?consistency=strong", limit, 4, CUT)
    blind = result.allowed & (result.sequence == 0)
    comes_near("strong, fail_open", result.score.over_admission * result.score.exact_total, float(blind.sum()))
