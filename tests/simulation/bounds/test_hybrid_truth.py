"""What each consistency of a hybrid admits beside the truth, on 2 to 64 simulated nodes."""

from __future__ import annotations

import numpy as np
import pytest
from admitted import PERIOD, asked, play, trips

from ratesim import Limit
from ratesim.simulation.scenario.scenario import EPOCH
from ratesim.storage import MemoryStorage

NODES = [2, 8, 64]
LIMIT = Limit(800.0, PERIOD, "fixed_window")


def poisson(rate: float, seconds: float, seed: int = 1) -> np.ndarray:
    """Times of requests, `rate` per second."""
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.exponential(1 / rate, int(rate * seconds * 1.2)))[: int(rate * seconds)]


@pytest.mark.parametrize("nodes", NODES)
def test_strong_admits_exactly_the_limit(nodes: int) -> None:
    result = play(asked(poisson(300, 24)), "hybrid+redis://h?consistency=strong", LIMIT, nodes, routing="random")
    assert result.accuracy.over_admission == 0.0
    assert result.accuracy.false_denial == 0.0


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("load", [1.0, 1.2, 3.0])
def test_leases_never_admit_more_and_falsely_deny_less_than_a_fiftieth_under_even_saturation(
    nodes: int, load: float
) -> None:
    times = poisson(load * LIMIT.rate / PERIOD, 3 * PERIOD)
    result = play(asked(times), "hybrid+redis://h?consistency=lease", LIMIT, nodes, routing="random")
    assert result.accuracy.over_admission == 0.0
    assert result.accuracy.worst_excess <= 1.0 + 1e-9, "a fixed window's own bound across an edge"
    assert result.accuracy.false_denial < 0.02


@pytest.mark.parametrize("algorithm", ["sliding_window", "sliding_log", "token_bucket", "gcra"])
def test_what_leases_admit_an_exact_limiter_would_have_admitted(algorithm: str) -> None:
    limit = Limit(800.0, PERIOD, algorithm)
    result = play(asked(poisson(250, 3 * PERIOD)), "hybrid+redis://h?consistency=lease", limit, 8, routing="random")
    exact, order = MemoryStorage(), np.argsort(result.sequence, kind="stable")
    for i in order[result.allowed[order]]:
        assert exact.acquire_nowait("key-0", limit, 1.0, float(result.trace.time[i])).allowed
    assert result.accuracy.net_over_admission == 0.0
    assert result.accuracy.false_denial < 0.03


def test_a_lease_answers_most_requests_as_fast_as_memory() -> None:
    trace = asked(poisson(95, 3 * PERIOD))
    lease, redis = (
        play(trace, storage, LIMIT, 4, routing="random").row()
        for storage in ("hybrid+redis://h?consistency=lease", "redis://h")
    )
    assert lease["latency_p50"] < 0.2 * redis["latency_p50"]
    assert lease["l2_operations_per_request"] < 0.25 * redis["l2_operations_per_request"]


def test_a_lease_is_never_more_than_the_limit_when_nodes_die_and_l2_is_cut_off() -> None:
    faults = [
        {"kind": "restart", "start": 5, "duration": 1, "nodes": [1]},
        {"kind": "restart", "start": 11, "duration": 1, "nodes": [0]},
        {"kind": "partition", "start": 17, "duration": 2},
    ]
    storage = "hybrid+redis://h?consistency=lease&on_store_failure=fail_closed&max_wait=0.5"
    result = play(asked(poisson(300, 24)), storage, LIMIT, 4, *faults, routing="random")
    assert result.accuracy.over_admission == 0.0
    assert result.allowed.any()


# -- eventual -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nodes", [2, 8, 64])
def test_eventual_in_phase_admits_at_most_what_the_others_admit_in_an_age_and_gets_near_it(nodes: int) -> None:
    """A steady flood, so each node's rate is known: (N - 1) x rate of a node x age of a view."""
    rate, interval = 1024.0, 0.5
    limit, flood = Limit(rate * PERIOD / 2, PERIOD, "fixed_window"), asked(np.arange(0.0, 2 * PERIOD, 1 / rate))
    with trips() as taken:
        result = play(flood, f"hybrid+redis://h?sync_interval={interval}&sync_jitter=0", limit, nodes)
    extra = result.accuracy.over_admission * result.accuracy.exact_total
    windows = len(np.unique(np.floor((result.trace.time - EPOCH) / PERIOD)))
    bound = (nodes - 1) * rate / nodes * (interval + max(taken)) * windows
    assert 0.8 * bound <= extra <= bound * 1.02


# -- sessions -----------------------------------------------------------------------------------------------------------


def hops(storage: str, nodes: int, requests: int = 40) -> float:
    """What sessions admit of their limit, which is 12, at most: each is a key, sequential, at another node every time."""
    limit, sessions = Limit(12.0, 1000 * PERIOD, "fixed_window"), 16
    # Round robin deals a session's requests to all nodes in turn, and they are further apart than any answer takes.
    time = np.arange(requests * sessions) * 0.01
    key = np.arange(requests * sessions) % sessions
    result = play(asked(time, key, session=key), storage, limit, nodes)
    node = result.node[result.trace.key == 0]
    assert len(set(node[:-1] - node[1:])) > 0 if nodes > 1 else True
    return float(result.by_key()["admitted"].max())


@pytest.mark.parametrize("nodes", [3, 7, 63])
def test_a_session_that_returns_its_token_admits_exactly_the_limit_and_more_without(nodes: int) -> None:
    late = "sync_interval=100&sync_jitter=0"
    assert hops(f"hybrid+redis://h?consistency=session&{late}", nodes) == 12
    assert hops(f"hybrid+redis://h?consistency=eventual&{late}", nodes) > 12


def test_sessions_of_many_keys_at_once_keep_a_token_for_each() -> None:
    limit, rng = Limit(10.0, 1000 * PERIOD, "sliding_log"), np.random.default_rng(3)
    time, key = np.arange(900) * 0.02, rng.integers(0, 6, 900)
    trace = asked(time, key, session=key // 3)
    result = play(trace, "hybrid+redis://h?consistency=session&sync_interval=50", limit, 5, routing="random")
    assert result.by_key()["admitted"].max() == 10
    assert result.view_age is not None


# -- states instead of deltas -------------------------------------------------------------------------------------------


def test_state_sync_loses_what_the_model_says() -> None:
    """In phase, N nodes overwrite each other at every tick: L2 keeps one node's part, so all together admit N times the
    limit of that window, as if nothing was shared; deltas lose nothing."""
    limit, nodes = Limit(256.0, 64.0, "fixed_window"), 8
    flood = asked(np.arange(0.0, 60.0, 1 / 64))
    admitted = {}
    for sync in ("deltas", "state"):
        storage = f"hybrid+redis://h?sync={sync}&sync_interval=0.5&sync_jitter=0&l1_ttl=1000"
        admitted[sync] = int(play(flood, storage, limit, nodes).allowed.sum())
    assert admitted["state"] == nodes * limit.rate
    assert admitted["deltas"] <= limit.rate + (nodes - 1) * 64 / nodes * 0.6
