"""`acquire_many` of a hybrid: the requests that need L2 wait for it together."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import pytest
from hybrid_world import LIMIT, World

from ratesim import Limit
from ratesim.storage import HybridStorage, Request

POLICIES = [
    {"consistency": consistency, "write": write}
    for consistency, write in product(
        ("eventual", "session"), ("write_back", "write_behind", "write_through", "write_around")
    )
] + [{"consistency": "strong"}, {"consistency": "lease"}]


@pytest.mark.parametrize("options", POLICIES, ids=lambda options: "-".join(options.values()))
def test_a_batch_waits_no_longer_for_a_silent_l2_than_one_request(options: dict[str, Any]) -> None:
    world = World(1, max_wait=0.5, on_store_failure="local", **options)
    (node,) = world.nodes
    world.l2.silent = True

    async def main() -> tuple[float, float, list[bool]]:
        begin = world.env.now
        assert await node.acquire("another", LIMIT)
        one = world.env.now - begin
        decisions = await node.acquire_many([Request(f"user {i % 20}", LIMIT) for i in range(60)])
        taken = world.env.now - begin - one
        world.l2.silent = False
        return one, taken, [bool(each) for each in decisions]

    one, taken, allowed = world.play(main)
    assert taken <= 1.01 * one
    assert allowed == [True] * 60


@pytest.mark.parametrize("options", POLICIES, ids=lambda options: "-".join(options.values()))
def test_a_batch_decides_like_its_requests_in_turn(options: dict[str, Any]) -> None:
    wanted = [Request(f"user {i % 4}", Limit(3, 60.0, "fixed_window")) for i in range(20)]

    async def together(node: HybridStorage) -> list[bool]:
        return [bool(each) for each in await node.acquire_many(wanted)]

    async def in_turn(node: HybridStorage) -> list[bool]:
        return [bool(await node.acquire(each.identifier, each.limit)) for each in wanted]

    for decide in (together, in_turn):
        world = World(1, **options)
        assert world.play(partial(decide, world.nodes[0])) == [True] * 12 + [False] * 8
