"""Hybrid: several nodes before one shared store, on SimPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hybrid_world import EPOCH, LIMIT, World

from ratesim import Limit
from ratesim.errors import StorageError
from ratesim.storage import MemoryStorage


def test_eventual_nodes_learn_of_each_other_at_the_sync() -> None:
    world = World()
    a, b = world.nodes

    async def main() -> list[float]:
        seen = []
        for node in (a, b):
            await node.acquire("user", LIMIT, 4)
        seen.append((await b.peek("user", LIMIT)).remaining)
        await world.runtime.sleep(0.25)
        await b.acquire("user", LIMIT, 1)
        await world.runtime.sleep(0.25)
        seen.append((await b.peek("user", LIMIT)).remaining)
        return seen

    before, after = world.play(main)
    assert before == 6  # b knows only its own
    assert after == 1


def test_nodes_that_flushed_everything_end_in_the_state_of_one_that_saw_all() -> None:
    for algorithm in ("fixed_window", "sliding_window"):
        limit = Limit(1000, 7.0, algorithm)
        world = World(nodes=3)
        one = MemoryStorage(runtime=world.runtime)
        rng = np.random.default_rng(3)

        async def main(world: World = world, one: MemoryStorage = one, limit: Limit = limit, rng: Any = rng) -> None:
            for _ in range(200):
                await world.runtime.sleep(float(rng.exponential(0.05)))
                now = world.runtime.time()
                cost = float(rng.integers(1, 4))
                one.acquire_nowait("user", limit, cost, now)
                assert (await world.nodes[int(rng.integers(3))].acquire("user", limit, cost, now)).allowed

        world.play(main)
        now = world.runtime.time()
        merged, alone = (
            world.l2.peek_nowait("user", limit, 0, now),
            one.peek_nowait("user", limit, 0, now),
        )
        assert merged.remaining == pytest.approx(alone.remaining, abs=1e-9)


def test_a_flush_whose_answer_was_lost_counts_once() -> None:
    world = World(nodes=1)
    (node,) = world.nodes

    async def main() -> None:
        await node.acquire("user", LIMIT, 3)
        world.l2.lose_answer = True
        await world.runtime.sleep(0.35)
        await node.acquire("user", LIMIT, 2)
        await world.runtime.sleep(0.25)
        world.l2.lose_answer = False

    world.play(main)
    assert world.l2.peek_nowait("user", LIMIT, 0, EPOCH).remaining == 5
    assert node.sync_stats().failed_flushes > 1
    assert node.l1.peek_nowait("user", LIMIT, 0, EPOCH).remaining == 5


def test_what_could_not_be_flushed_is_flushed_when_l2_is_back() -> None:
    world = World()

    async def main() -> float:
        for node in world.nodes:
            await node.acquire("user", LIMIT, 1)
        await world.runtime.sleep(0.2)
        world.l2.away = True
        for node in world.nodes:
            assert (await node.acquire("user", LIMIT, 3)).allowed
        await world.runtime.sleep(1.0)
        world.l2.away = False
        await world.runtime.sleep(0.5)
        return world.l2.peek_nowait("user", LIMIT, 0, EPOCH).remaining

    assert world.play(main) == 2


def test_write_through_waits_until_l2_knows() -> None:
    world = World(write="write_through")
    a, _ = world.nodes

    async def main() -> float:
        await a.acquire("user", LIMIT, 4)
        return world.l2.peek_nowait("user", LIMIT, 0, EPOCH).remaining

    assert world.play(main) == 6


def test_strong_nodes_admit_exactly_the_limit() -> None:
    world = World(nodes=4, consistency="strong")

    async def main() -> int:
        decisions = [await world.nodes[k % 4].acquire("user", LIMIT) for k in range(40)]
        return sum(decision.allowed for decision in decisions)

    assert world.play(main) == 10


@pytest.mark.parametrize(("on_store_failure", "allowed"), [("fail_open", True), ("fail_closed", False)])
@pytest.mark.parametrize("consistency", ["strong", "eventual"])
def test_without_l2_the_policy_answers(on_store_failure: str, allowed: bool, consistency: str) -> None:
    world = World(nodes=1, on_store_failure=on_store_failure, consistency=consistency)
    world.l2.away = True

    async def main() -> bool:
        decision = await world.nodes[0].acquire("user", LIMIT)
        world.l2.away = False
        return decision.allowed

    assert world.play(main) is allowed


def test_one_read_answers_all_who_miss_at_once() -> None:
    world = World(nodes=1)

    async def main() -> None:
        tasks = [world.runtime.spawn(world.nodes[0].acquire("user", LIMIT)) for _ in range(5)]
        for task in tasks:
            await task

    world.play(main)
    assert world.l2.reads == 1


def test_a_view_that_is_too_old_is_read_again() -> None:
    world = World(l1_ttl=5.0)
    a, b = world.nodes

    async def main() -> float:
        await a.acquire("user", LIMIT, 1)
        await b.acquire("user", LIMIT, 6)
        await world.runtime.sleep(6.0)
        return (await a.peek("user", LIMIT)).remaining

    assert world.play(main) == 3


def test_many_requests_of_a_window_travel_as_one_entry() -> None:
    world = World(nodes=1)

    async def main() -> None:
        for _ in range(9):
            await world.nodes[0].acquire("user", LIMIT)

    world.play(main)
    assert world.l2.charged == 1
    entry = world.l2.live_entry("user")
    assert entry is not None
    assert entry.request_count == 9


def test_closing_flushes_and_says_what_it_could_not() -> None:
    world = World(nodes=2)

    async def main() -> str:
        for node in world.nodes:
            await node.acquire("user", LIMIT, 2)
        await world.nodes[0].close()
        world.l2.away = True
        try:
            await world.nodes[1].close()
        except StorageError as error:
            return str(error)
        return "nothing"

    assert "2 of consumption was not flushed" in world.play(main)
    assert world.l2.peek_nowait("user", LIMIT, 0, EPOCH).remaining == 8
