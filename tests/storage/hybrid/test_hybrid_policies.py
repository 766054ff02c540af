"""What each write and read policy of a hybrid does, and that its flushes count once, on SimPy."""

from __future__ import annotations

import math

import pytest
from hybrid_world import EPOCH, LIMIT, World
from hypothesis import given
from hypothesis import strategies as st

from ratesim import Limit
from ratesim.simulation.kernel.write_behind import flush_until_tick
from ratesim.storage import MemoryStorage
from ratesim.storage.hybrid.write_behind import until_tick

PLENTY = Limit(1e6, 3600.0, "fixed_window")


# -- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("write", "known"), [("write_through", 6), ("write_around", 6), ("write_back", 10)])
def test_when_a_request_is_answered_l2_knows_of_it_where_the_policy_awaits_it(write: str, known: float) -> None:
    world = World(nodes=1, write=write)

    async def main() -> float:
        await world.nodes[0].acquire("user", LIMIT, 4)
        return world.l2.left()

    assert world.play(main) == known


def test_write_around_leaves_no_view_so_the_next_decision_reads_l2() -> None:
    world = World(write="write_around")
    a, b = world.nodes

    async def main() -> list[float]:
        await a.acquire("user", LIMIT, 4)
        await b.acquire("user", LIMIT, 4)
        return [(await node.peek("user", LIMIT)).remaining for node in world.nodes]

    assert world.play(main) == [2, 2]
    assert world.l2.reads == 4


def test_write_behind_sends_in_batches_of_keys() -> None:
    world = World(nodes=1, write="write_behind", flush_batch=4, linger=0.01)

    async def main() -> None:
        for k in range(10):
            await world.nodes[0].acquire(f"user {k}", LIMIT)

    world.play(main)
    assert (world.l2.charged, world.l2.flushes) == (10, 3)
    assert world.nodes[0].sync_stats().largest_flush == 4


def test_write_behind_is_sooner_than_the_ticks_of_write_back() -> None:
    left = {}
    for write in ("write_behind", "write_back"):
        world = World(nodes=1, write=write, linger=0.01, sync_interval=10.0)

        async def main(world: World = world) -> float:
            await world.nodes[0].acquire("user", LIMIT, 4)
            await world.runtime.sleep(0.05)
            return world.l2.left()

        left[write] = world.play(main)
    assert left == {"write_behind": 6, "write_back": 10}


def test_a_full_queue_makes_requests_wait_for_room() -> None:
    world = World(nodes=1, write="write_behind", queue_size=3, linger=0.5)

    async def main() -> list[float]:
        node, waited = world.nodes[0], []
        await node.peek("user", PLENTY)
        for _ in range(5):
            start = world.runtime.time()
            assert (await node.acquire("user", PLENTY)).allowed
            waited.append(world.runtime.time() - start)
            assert node.sync_stats().unflushed_requests <= 3
        return waited

    waited = world.play(main)
    assert waited[:3] == [0.0] * 3
    assert waited[3] == pytest.approx(0.501, abs=1e-3)
    assert world.l2.left(limit=PLENTY) == PLENTY.rate - 5
    assert world.nodes[0].sync_stats().dropped_cost == 0


def test_a_full_queue_that_drops_says_what_was_lost() -> None:
    world = World(nodes=1, write="write_behind", queue_size=3, queue_full="drop")

    async def main() -> None:
        node = world.nodes[0]
        await node.peek("user", PLENTY)
        for _ in range(5):
            assert (await node.acquire("user", PLENTY, 2)).allowed

    world.play(main)
    stats = world.nodes[0].sync_stats()
    assert (stats.dropped_cost, stats.dropped_requests) == (4, 2)
    assert world.l2.left(limit=PLENTY) == PLENTY.rate - 6


def test_what_waits_for_room_longer_than_max_wait_is_dropped_and_counted() -> None:
    world = World(nodes=1, write="write_behind", queue_size=1, max_wait=0.2)

    async def main() -> float:
        node = world.nodes[0]
        await node.peek("user", PLENTY)
        world.l2.away = True
        await node.acquire("user", PLENTY)
        start = world.runtime.time()
        await node.acquire("user", PLENTY)
        waited = world.runtime.time() - start
        world.l2.away = False
        return waited

    assert world.play(main) == pytest.approx(0.2)
    assert world.nodes[0].sync_stats().dropped_cost == 1


def test_a_write_that_l2_does_not_answer_is_given_up_after_max_wait_and_arrives_later() -> None:
    world = World(nodes=1, write="write_through", max_wait=0.3)

    async def main() -> float:
        node = world.nodes[0]
        await node.peek("user", LIMIT)
        world.l2.silent = True
        start = world.runtime.time()
        assert (await node.acquire("user", LIMIT, 4)).allowed
        waited = world.runtime.time() - start
        world.l2.silent = False
        return waited

    assert world.play(main) == pytest.approx(0.3)
    assert world.l2.left() == 6


def test_what_was_dirty_while_l2_was_away_comes_back_a_batch_at_a_time() -> None:
    world = World(nodes=1, flush_batch=5)
    largest = []

    async def main() -> None:
        node = world.nodes[0]
        for k in range(20):
            await node.peek(f"user {k}", LIMIT)
        world.l2.away = True
        for k in range(20):
            await node.acquire(f"user {k}", LIMIT)
        await world.runtime.sleep(1.05)
        largest.append(world.l2.flushes)
        world.l2.away = False

    world.play(main)
    stats = world.nodes[0].sync_stats()
    assert largest == [0]
    assert (stats.failed_flushes, stats.flushes, stats.largest_flush) == (10, 4, 5), "one try at each tick, then all of it"


# -- reading ----------------------------------------------------------------------------------------------------------


def test_read_through_asks_l2_for_every_decision() -> None:
    world = World(read="read_through")
    a, b = world.nodes

    async def main() -> float:
        await a.acquire("user", LIMIT, 3)
        await world.runtime.sleep(0.15)
        await b.acquire("user", LIMIT, 2)
        await world.runtime.sleep(0.15)
        return (await a.peek("user", LIMIT)).remaining

    assert world.play(main) == 5
    assert world.l2.reads == 3


def test_refresh_ahead_reads_a_view_again_before_it_is_too_old_and_nobody_waits() -> None:
    world = World(nodes=2, read="refresh_ahead", refresh_after=60.0, l1_ttl=300.0)
    a, b = world.nodes

    async def main() -> list[float]:
        await a.peek("user", PLENTY)
        await world.runtime.sleep(30.0)
        await b.acquire("user", PLENTY, 7)
        await world.runtime.sleep(30.5)
        start, reads = world.runtime.time(), world.l2.reads
        first = [(await a.peek("user", PLENTY)).remaining for _ in range(5)]
        assert world.runtime.time() == start
        await world.runtime.sleep(0.1)
        assert world.l2.reads == reads + 1, "one refresh in flight for a key"
        return [*first[-1:], (await a.peek("user", PLENTY)).remaining]

    assert world.play(main) == [PLENTY.rate, PLENTY.rate - 7]
    assert a.sync_stats().refreshes == 1


def test_a_refresh_that_fails_is_tried_again_and_the_view_goes_on_until_it_is_too_old() -> None:
    world = World(
        nodes=1, read="refresh_ahead", refresh_after=1.0, l1_ttl=10.0, max_wait=0.5, on_store_failure="fail_closed"
    )

    async def main() -> list[bool]:
        node = world.nodes[0]
        await node.peek("user", PLENTY)
        world.l2.away = True
        found = []
        for _ in range(12):
            await world.runtime.sleep(1.0)
            found.append((await node.peek("user", PLENTY)).allowed)
        world.l2.away = False
        return found

    assert world.play(main) == [True] * 9 + [False] * 3
    assert world.nodes[0].sync_stats().refreshes >= 5


def test_a_view_that_l2_has_forgotten_is_forgotten() -> None:
    world = World(l1_ttl=1.0)
    a, b = world.nodes

    async def main() -> float:
        await a.acquire("user", LIMIT, 9)
        await world.runtime.sleep(0.5)
        await b.reset("user")
        await world.runtime.sleep(1.5)
        return (await a.peek("user", LIMIT)).remaining

    assert world.play(main) == 10


def test_a_key_that_l1_evicts_is_read_again_and_forgets_nothing() -> None:
    world = World(nodes=1, max_entries=2)

    async def main() -> float:
        node = world.nodes[0]
        for k in range(5):
            await node.acquire(f"user {k}", LIMIT, 4)
        await world.runtime.sleep(0.5)
        return (await node.peek("user 0", LIMIT)).remaining

    assert world.play(main) == 6


def test_dirty_keys_beyond_what_l1_holds_are_lost_only_while_l2_is_away_and_counted() -> None:
    world = World(nodes=1, max_entries=2, l1_ttl=1e6)

    async def main() -> None:
        world.l2.away = True
        for k in range(7):
            await world.nodes[0].acquire(f"user {k}", LIMIT, 2)
        world.l2.away = False

    world.play(main)
    lost = world.nodes[0].sync_stats().dropped_cost
    assert lost > 0
    assert sum(10 - world.l2.left(f"user {k}") for k in range(7)) == 7 * 2 - lost


# -- once, and none lost ------------------------------------------------------------------------------------------------


def test_a_node_that_dies_loses_at_most_what_it_had_not_flushed_and_says_how_much() -> None:
    world = World(nodes=1)

    async def main() -> float:
        await world.nodes[0].acquire("user", LIMIT, 3)
        await world.runtime.sleep(0.2)
        await world.nodes[0].acquire("user", LIMIT, 2)
        old = world.restart(0)
        assert (old.sync_stats().dropped_cost, old.sync_stats().dropped_requests) == (2, 1)
        await world.nodes[0].acquire("user", LIMIT, 1)
        await world.runtime.sleep(0.2)
        return (await world.nodes[0].peek("user", LIMIT)).remaining

    assert world.play(main) == 6
    assert world.l2.left() == 6


def test_a_flush_of_an_earlier_life_that_arrives_late_counts_for_nothing() -> None:
    world = World(nodes=1)

    async def main() -> None:
        await world.nodes[0].acquire("user", LIMIT, 3)
        world.l2.delay = 5.0
        await world.runtime.sleep(0.2)  # the flush is on its way
        world.restart(0)
        world.l2.delay = 0.001
        await world.nodes[0].acquire("user", LIMIT, 1)
        await world.runtime.sleep(10.0)

    world.play(main)
    assert world.l2.left() == 9, "lost with the node: its new life had begun to count when it came"


def test_what_l2_lost_in_a_failover_comes_back_with_the_next_flush() -> None:
    world = World(nodes=1)

    async def main() -> None:
        node = world.nodes[0]
        await node.acquire("user", LIMIT, 1)
        await world.runtime.sleep(0.2)
        older = await MemoryStorage.get_state(world.l2, "user")
        assert older is not None
        await node.acquire("user", LIMIT, 4)
        await world.runtime.sleep(0.2)
        world.l2.set_state_nowait("user", older, EPOCH + 3600)
        await node.acquire("user", LIMIT, 1)
        await world.runtime.sleep(0.2)

    world.play(main)
    assert world.l2.left() == 4


def test_state_sync_loses_what_the_others_wrote() -> None:
    """All nodes admit m and overwrite each other: L2 keeps one node's m of N."""
    for nodes, m in ((2, 3), (8, 5)):
        left = {}
        for sync in ("deltas", "state"):
            world = World(nodes=nodes, sync=sync)

            async def main(world: World = world, m: int = m) -> None:
                for node in world.nodes:
                    await node.peek("user", PLENTY)
                for node in world.nodes:
                    for _ in range(m):
                        await node.acquire("user", PLENTY)

            world.play(main)
            left[sync] = PLENTY.rate - world.l2.left(limit=PLENTY)
        assert left == {"deltas": nodes * m, "state": m}


@pytest.mark.parametrize("tasks", [2, 8, 40])
def test_requests_that_overlap_admit_the_limit_when_they_write_around(tasks: int) -> None:
    world = World(nodes=1, write="write_around")
    limit, allowed = Limit(100, 3600.0, "fixed_window"), []

    async def client() -> None:
        for _ in range(400 // tasks):
            allowed.append((await world.nodes[0].acquire("user", limit)).allowed)

    async def main() -> None:
        for each in [world.runtime.spawn(client()) for _ in range(tasks)]:
            await each

    world.play(main)
    assert sum(allowed) == 100


def test_two_limits_are_decided_by_an_l1_with_room_for_one() -> None:
    world = World(nodes=1, max_entries=1)
    limits = (Limit(100, 3600.0, "fixed_window"), Limit(3, 60.0, "fixed_window", name="short"))

    async def main() -> list[bool]:
        return [(await world.nodes[0].acquire("user", limits)).allowed for _ in range(4)]

    assert world.play(main) == [True, True, True, False]


@given(
    phase=st.floats(0.0, 1.0),
    interval=st.sampled_from([0.01, 0.05, 0.1, 1.0, 10.0]) | st.floats(0.001, 60.0),
    begin=st.floats(0.0, 1e7),
    engine=st.sampled_from([until_tick, flush_until_tick]),
)
def test_each_tick_comes_after_the_one_before_however_it_is_rounded(phase, interval, begin, engine) -> None:
    """Where the next tick was that of now, a record that was being read kept a simulated clock from going on."""
    now = begin
    for _ in range(50):
        wait = engine(now, interval, phase * interval)
        assert 0.0 < wait <= 1.001 * interval + 1e-6
        assert now + wait > now
        now += wait


def test_a_tick_that_is_rounded_down_to_now_is_the_one_after_it() -> None:
    phase, before = 0.07030407620656315, 0.6744858305023272
    now = before + until_tick(before, 0.1, phase)
    assert math.floor((now - phase) / 0.1 + 1.0) * 0.1 + phase == now
    assert until_tick(now, 0.1, phase) == pytest.approx(0.1)
