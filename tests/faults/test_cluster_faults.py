"""A Redis cluster, and a primary with sentinels: a primary that dies and slots that move under load, on real servers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from cluster_world import TASKS, ClusterWorld, MemberStore, failover, reshard
from guarantees import hold_against_the_table
from stores import PATIENCE
from subjects import SLACK

from ratesim.servers import valkey_cluster, valkey_sentinel

NODE_TIMEOUT = 1.0  # seconds, once a primary is dead
RATE = 500.0
pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture
def world() -> Iterator[ClusterWorld]:
    """A cluster in which no replica takes over because the machine was slow."""
    with valkey_cluster(3, 1, node_timeout=PATIENCE) as server:
        yield ClusterWorld(server)


@pytest.mark.parametrize("slots", [100, pytest.param(1000, marks=pytest.mark.nightly)])
async def test_slots_move_and_primaries_die_under_load(world: ClusterWorld, slots: int) -> None:
    moved = await reshard(world, 2, 1, slots, uuid.uuid4().hex, RATE)
    assert not moved.errors
    assert moved.over == 0
    dead = await failover(world, 0, uuid.uuid4().hex, RATE, node_timeout=NODE_TIMEOUT)
    assert dead.without_decision, "the primary was asked while it was dead"
    assert dead.elsewhere >= dead.without_decision, "the other slots go on"
    # A client with more patience and a replica with less data.
    patient = {"command_timeout": 20, "retries": 1000, "retry_base": 0.05, "retry_cap": 0.1}
    world.set_node_timeout(PATIENCE)
    lagging = await failover(world, 1, uuid.uuid4().hex, RATE, lag=0.3, node_timeout=NODE_TIMEOUT, **patient)
    assert lagging.lost, "a replica that hears nothing loses something"
    assert lagging.without_decision <= TASKS, "what had not been sent waits for the replica"
    for found in (dead, lagging):
        assert found.errors.keys() <= {"StorageConnectionError", "StorageTimeoutError", "StorageUnavailableError"}
        assert found.over <= found.lost
        assert found.seconds < SLACK * (NODE_TIMEOUT + 2) + found.lag, found


@pytest.mark.parametrize("faults", [("reshard", "failover"), pytest.param(("freeze",), marks=pytest.mark.nightly)])
async def test_a_cluster_keeps_to_the_table(world: ClusterWorld, faults: tuple[str, ...]) -> None:
    for shard, fault in enumerate(faults):
        if fault != "reshard":
            world.set_node_timeout(NODE_TIMEOUT)
        store = MemberStore("cluster", world, shard)
        try:
            await hold_against_the_table(store, fault, store.tag)
        finally:
            if store.fault:
                store.mend()


async def test_a_primary_with_sentinels_keeps_to_the_table() -> None:
    with valkey_sentinel(down_after=NODE_TIMEOUT) as server:
        store = MemberStore("sentinel", ClusterWorld(server), 0)
        await hold_against_the_table(store, "failover", store.tag)
