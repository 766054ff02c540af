"""A hybrid whose L2 is away: what it answers, for how long callers wait, and what L2 hears of it afterwards."""

from __future__ import annotations

import math

import pytest
from hybrid_world import EPOCH, LIMIT, World

from ratesim import Limit

PLENTY = Limit(1e6, 3600.0, "fixed_window")


def admitted(world: World, limit: Limit, seconds: float, gap: float = 0.5) -> list[int]:
    """By node, how many of steady requests are admitted while L2 is away from the start."""
    world.l2.away = True
    counts = [0] * len(world.nodes)

    async def main() -> None:
        for _ in range(round(seconds / gap)):
            for k, node in enumerate(world.nodes):
                counts[k] += (await node.acquire("user", limit)).allowed
            await world.runtime.sleep(gap)
        world.l2.away = False

    world.play(main)
    return counts


@pytest.mark.parametrize("consistency", ["strong", "eventual", "session", "lease"])
@pytest.mark.parametrize(("on_store_failure", "all_of_them"), [("fail_open", True), ("fail_closed", False)])
def test_it_fails_open_or_closed(consistency: str, on_store_failure: str, all_of_them: bool) -> None:
    world = World(nodes=1, consistency=consistency, on_store_failure=on_store_failure)
    assert admitted(world, PLENTY, 10.0) == [20 if all_of_them else 0]


@pytest.mark.parametrize("consistency", ["strong", "eventual", "session", "lease"])
@pytest.mark.parametrize("algorithm", ["fixed_window", "token_bucket"])
def test_local_keeps_each_node_to_its_share(consistency: str, algorithm: str) -> None:
    """4 nodes, 40 per minute: 10 at once and 10 a minute each."""
    world = World(nodes=4, consistency=consistency, on_store_failure="local")
    counts = admitted(world, Limit(40, 60.0, algorithm), 300.0)
    assert all(10 <= count <= 10 + 10 * 5 for count in counts)
    assert sum(counts) >= 0.8 * 40 * 5


def test_a_share_that_is_less_than_a_request_still_admits_now_and_then() -> None:
    """8 nodes, 2 per minute: a request every four minutes each."""
    world = World(nodes=8, consistency="strong", on_store_failure="local")
    counts = admitted(world, Limit(2, 60.0, "fixed_window"), 3600.0, gap=1.0)
    assert all(14 <= count <= 15 for count in counts)


def test_a_cost_above_the_whole_limit_is_not_saved_up_for() -> None:
    world = World(nodes=2, consistency="strong", on_store_failure="local")
    world.l2.away = True

    async def main() -> bool:
        await world.nodes[0].acquire("user", LIMIT)
        await world.runtime.sleep(1e6)
        allowed = (await world.nodes[0].acquire("user", LIMIT, 11)).allowed
        world.l2.away = False
        return allowed

    assert not world.play(main)


@pytest.mark.parametrize("consistency", ["strong", "eventual", "session", "lease"])
def test_nobody_waits_for_l2_longer_than_max_wait(consistency: str) -> None:
    world = World(nodes=1, consistency=consistency, max_wait=0.25, write="write_through")
    world.l2.silent = True

    async def main() -> list[float]:
        waited = []
        for _ in range(3):
            start = world.runtime.time()
            await world.nodes[0].acquire("user", LIMIT)
            waited.append(world.runtime.time() - start)
        world.l2.silent = False
        return waited

    most = 0.25 if consistency in ("strong", "lease") else 0.5  # a read and a write
    assert max(world.play(main)) <= most + 1e-6


@pytest.mark.parametrize(("sent", "left"), [(False, 7), (True, 10)])
def test_what_a_strong_node_admits_alone_reaches_l2_later_unless_it_may_have_already(sent: bool, left: float) -> None:
    world = World(nodes=1, consistency="strong")
    world.l2.away, world.l2.sent = True, sent

    async def main() -> None:
        for _ in range(3):
            assert (await world.nodes[0].acquire("user", LIMIT)).allowed
        world.l2.away = False

    world.play(main)
    assert world.l2.left() == left


def test_a_node_that_fails_closed_goes_on_while_its_view_is_young() -> None:
    world = World(nodes=1, on_store_failure="fail_closed", l1_ttl=5.0)

    async def main() -> list[bool]:
        node = world.nodes[0]
        await node.peek("user", PLENTY)
        world.l2.away = True
        found = []
        for _ in range(8):
            await world.runtime.sleep(1.0)
            found.append((await node.acquire("user", PLENTY)).allowed)
        world.l2.away = False
        return found

    assert world.play(main) == [True] * 4 + [False] * 4


def test_denied_for_want_of_l2_says_when_to_try_again() -> None:
    world = World(nodes=1, consistency="strong", on_store_failure="fail_closed")
    world.l2.away = True

    async def main() -> float:
        return (await world.nodes[0].acquire("user", LIMIT)).retry_after

    assert 0 < world.play(main) < math.inf
    assert world.runtime.time() > EPOCH
