"""Which node a request goes to."""

from __future__ import annotations

import numpy as np
import pytest

from ratesim.simulation.cost_model.profile import Profile
from ratesim.simulation.network.load_balancer import LeastOutstanding, Router, consistent_hash, route
from ratesim.simulation.runner import run
from ratesim.simulation.scenario.scenario import Candidate, Scenario
from traffic import Trace

KEYS = [f"user:{i}" for i in range(20_000)]


def trace(requests: int = 4000, keys: int = 300) -> Trace:
    rng = np.random.default_rng(1)
    return Trace(1.7e9 + np.arange(requests) * 0.01, rng.integers(0, keys, requests), KEYS[:keys])


@pytest.mark.parametrize("routing", ["round_robin", "random", "sticky", "key_hash"])
def test_every_node_gets_its_share(routing: str) -> None:
    places = route(trace(), routing, 8, seed=3)  # type: ignore[arg-type]
    assert places is not None
    counts = np.bincount(places, minlength=8)
    assert counts.sum() == 4000
    assert counts.min() > 250
    assert counts.max() < 850


def test_random_is_another_for_another_seed_and_the_same_for_the_same() -> None:
    first, again, other = (route(trace(), "random", 8, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)  # type: ignore[arg-type]
    assert not np.array_equal(first, other)  # type: ignore[arg-type]


def test_a_key_stays_where_it_is_and_a_session_too() -> None:
    requests = trace()
    for routing, group in (("key_hash", requests.key), ("sticky", requests.session)):
        places = route(requests, routing, 8)  # type: ignore[arg-type]
        assert places is not None
        assert len(np.unique(np.stack([group, places]), axis=1)[0]) == len(np.unique(group))


def test_a_node_that_goes_takes_only_its_own_keys_with_it() -> None:
    before, after = consistent_hash(KEYS, range(10)), consistent_hash(KEYS, [node for node in range(10) if node != 4])
    moved = before != after
    assert np.array_equal(moved, before == 4)
    heirs = np.bincount(after[moved], minlength=10)
    assert (np.delete(heirs, 4) > 0).all(), "they go to all of the others"


def test_a_node_that_comes_takes_of_each_its_share() -> None:
    before, after = consistent_hash(KEYS, range(9)), consistent_hash(KEYS, range(10))
    moved = before != after
    assert (after[moved] == 9).all()
    assert 0.05 < moved.mean() < 0.15


def test_the_ring_is_even_to_what_its_points_allow() -> None:
    counts = np.bincount(consistent_hash(KEYS, range(20)), minlength=20)
    assert counts.min() > 0.7 * 1000
    assert counts.max() < 1.35 * 1000


def test_the_node_with_the_fewest_outstanding_is_next_and_equal_ones_take_turns() -> None:
    nodes = LeastOutstanding(3)
    assert [nodes.send() for _ in range(4)] == [0, 1, 2, 0]
    nodes.record_answer(2)
    assert nodes.send() == 2
    nodes.record_answer(0)
    nodes.record_answer(0)
    assert [nodes.send() for _ in range(2)] == [0, 1]


def test_least_outstanding_is_known_only_once_it_is_sent() -> None:
    router = Router(trace(), "least_outstanding", 2)
    assert not router.known
    assert list(router.node[:3]) == [-1, -1, -1]
    assert [router.send(0), router.send(1)] == [0, 1]
    router.record_answer(1)
    assert router.send(2) == 1


def test_memory_behind_a_key_hash_is_exact_and_behind_a_round_robin_it_is_not() -> None:
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": 200.0, "keys": 50, "duration": 20.0},
            "limit": {"rate": "20/minute"},
            "deployment": {"nodes": 4},
        }
    )
    over = {
        routing: run(scenario, Candidate(name=routing, storage="memory://", routing=routing)).accuracy.over_admission  # type: ignore[arg-type]
        for routing in ("key_hash", "round_robin", "random", "least_outstanding")
    }
    assert over["key_hash"] == 0.0
    assert min(over["round_robin"], over["random"], over["least_outstanding"]) > 0.1


def test_least_outstanding_spares_a_node_that_is_slow_to_answer() -> None:
    scenario = Scenario.of(
        {
            "workload": {"requests_per_second": 3000.0, "keys": 50, "duration": 2.0},
            "limit": {"rate": "20/minute"},
            "deployment": {"nodes": 4, "network": "mobile_edge", "loss": 0.0},
        }
    )
    profile = Profile.load()
    counts = {}
    for routing in ("random", "least_outstanding"):
        result = run(scenario, Candidate(name="r", storage="redis://h", routing=routing), profile=profile)  # type: ignore[arg-type]
        counts[routing] = result.by_node()["requests"]
    assert counts["least_outstanding"].std() < counts["random"].std()
