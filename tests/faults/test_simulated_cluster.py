"""A failover and a reshard of a real cluster or Sentinel pair, beside the same traffic and fault simulated."""

from __future__ import annotations

import asyncio
from statistics import median

import pytest
from cluster_world import SLOTS, ClusterWorld
from trial import AT, LAG, TOLERANCE, Effect, Trial

from ratesim.servers import valkey_cluster, valkey_sentinel

pytestmark = [pytest.mark.servers, pytest.mark.slow]


def failover_of(topology: str, timeout: float, keys: int) -> Trial:
    storage = {"cluster": "redis+cluster://localhost", "sentinel": "redis+sentinel://localhost/ratesim"}[topology]
    waits = {"node_timeout": timeout} if topology == "cluster" else {"election": timeout}
    return Trial(storage, {"kind": "crash"}, waits, keys, AT + timeout + 6.0)


async def dies_behind(world: ClusterWorld) -> None:
    await asyncio.to_thread(world.part, 0)
    await asyncio.sleep(LAG)
    world.kill(0)


SMALL = ("cluster", 1.0, 15, 1)
FULL = [("cluster", 2.0, 45, 5), ("sentinel", 2.0, 30, 5)]


@pytest.mark.parametrize(
    ("topology", "timeout", "keys", "rounds"), [SMALL, *(pytest.param(*each, marks=pytest.mark.nightly) for each in FULL)]
)
def test_a_simulated_failover_is_as_bad_as_the_real_one(topology: str, timeout: float, keys: int, rounds: int) -> None:
    trial, found = failover_of(topology, timeout, keys), []
    for _ in range(rounds):
        start = valkey_cluster(3, 1, node_timeout=timeout) if topology == "cluster" else valkey_sentinel(down_after=timeout)
        with start as server:
            world = ClusterWorld(server)
            found.append(asyncio.run(trial.real(server.url, AT - LAG, lambda world=world: dies_behind(world))))
    model = trial.simulated()
    print(f"{topology}, timeout {timeout:g} s: simulated {model}, real {found}")
    for real in found:
        assert real.elsewhere == model.elsewhere == 0, "the other slots go on"
        assert real.undecided
        assert real.over
    # The real election takes a random time, so one round may be far from the middle; how much it lost is not random.
    assert model.over == pytest.approx(median(each.over for each in found), rel=TOLERANCE)
    if rounds > 1:
        assert model.undecided == pytest.approx(median(each.undecided for each in found), rel=TOLERANCE)
        assert model.seconds == pytest.approx(median(each.seconds for each in found), rel=TOLERANCE)


@pytest.mark.parametrize("slots", [50, pytest.param(1000, marks=pytest.mark.nightly)])
def test_a_simulated_reshard_loses_as_little_as_the_real_one(slots: int) -> None:
    trial = Trial("redis+cluster://localhost", {"kind": "reshard", "slots": slots, "duration": 2.0}, {}, 30, AT + 4.0)
    with valkey_cluster(3, 1) as server:
        world = ClusterWorld(server)
        real = asyncio.run(trial.real(server.url, AT, lambda: world.reshard(0, 1, range(min(slots, SLOTS // 3)))))
    assert real == trial.simulated() == Effect(0, 0.0, 0.0, 0)
