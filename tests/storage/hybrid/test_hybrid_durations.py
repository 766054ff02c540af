"""Clocks of nodes that are set back or forth: every duration is as long as before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import pytest
import simpy
from hybrid_world import EPOCH, Shared

from ratesim import Limit
from ratesim.errors import StorageConnectionError
from ratesim.runtime import AsyncioRuntime, SimRuntime
from ratesim.storage import HybridStorage, HybridStorageConfig
from ratesim.storage.config import ClientConfig
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.operations import Get, Operation

HOUR = 3600.0
PLENTY = Limit(1e6, 1e6, "token_bucket")
jumps = pytest.mark.parametrize("jump", [-HOUR, -1.0, HOUR])


class SetRuntime(SimRuntime):
    """Simulated time with a wall clock that is set."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Node:
    """A hybrid whose clock is set, before an L2 with a clock that is right."""

    def __init__(self, **options: Any) -> None:
        env = simpy.Environment()
        self.runtime = SetRuntime(env, EPOCH)
        self.l2 = Shared(SimRuntime(env, EPOCH))
        self.l2.runtime = self.runtime  # it sleeps on the node's runtime
        config = HybridStorageConfig(node="n", sync_interval=0.1, sync_jitter=0.0, **options)
        self.storage = HybridStorage(self.l2, config, self.runtime, np.random.default_rng(1))

    def play(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self.runtime.spawn(main())
        self.runtime.env.run()
        assert task.done()


@jumps
async def test_a_breaker_is_open_as_long_as_it_should_be(jump: float) -> None:
    class Dead:
        async def execute(self, batch: Sequence[Operation]) -> list[object]:
            raise StorageConnectionError("away")

        async def close(self) -> None:
            pass

    wall, ticks = [EPOCH], [0.0]
    runtime = AsyncioRuntime(lambda: wall[0], lambda: ticks[0])
    client = Client(Dead(), runtime, ClientConfig(retries=0, breaker_failures=1, breaker_reset=1.0))
    await asyncio.gather(client.submit(Get("a", "", EPOCH)), return_exceptions=True)
    wall[0] += jump
    ticks[0] += 0.9
    assert client.breaker == "open"
    ticks[0] += 0.2
    assert client.breaker == "half-open"


@jumps
def test_a_view_is_as_old_as_it_is(jump: float) -> None:
    node = Node(l1_ttl=5.0)

    async def main() -> None:
        await node.storage.acquire("user", PLENTY)
        node.runtime.ahead = jump
        await node.runtime.sleep(2.0)
        assert (await node.storage.acquire("user", PLENTY)).view_age <= 2.0
        for pause in (1.0, 3.0, 4.9, 5.1, 20.0):
            reads = node.l2.reads
            await node.runtime.sleep(pause)
            assert 0.0 <= (await node.storage.acquire("user", PLENTY)).view_age <= min(pause, 5.0)
            assert node.l2.reads > reads or pause < 5.0

    node.play(main)


@jumps
def test_consumption_is_flushed_at_the_interval(jump: float) -> None:
    node = Node()

    async def main() -> None:
        await node.storage.acquire("user", PLENTY)
        node.runtime.ahead = jump
        await node.runtime.sleep(0.15)
        assert node.l2.flushes == 1
        await node.storage.acquire("user", PLENTY)
        await node.runtime.sleep(0.15)
        assert node.l2.flushes == 2

    node.play(main)


@jumps
@pytest.mark.parametrize("algorithm", ["fixed_window", "token_bucket"])
def test_a_lease_ends_with_its_window_and_is_given_back_in_time(jump: float, algorithm: str) -> None:
    limit = Limit(10_000, 60.0, algorithm)
    node = Node(consistency="lease", lease_ttl=2.0)

    async def main() -> None:
        for _ in range(300):
            await node.storage.acquire("user", limit)
            await node.runtime.sleep(0.01)
        assert node.storage.sync_stats().leased_outstanding > 0
        node.runtime.ahead = jump
        await node.runtime.sleep(2.5)
        assert node.storage.sync_stats().leased_outstanding == 0

    node.play(main)


def test_a_lease_is_not_spent_in_a_later_window_by_a_clock_that_was_set_back() -> None:
    limit = Limit(1000, 10.0, "fixed_window")
    node = Node(consistency="lease", lease_ttl=100.0)  # so that it ends with its window only

    async def main() -> None:
        for _ in range(300):
            await node.storage.acquire("user", limit)
            await node.runtime.sleep(0.01)
        lease = node.storage._leases._leases["user"]
        assert lease.left > 0
        node.runtime.ahead = -HOUR
        until = lease.expires - node.runtime.monotonic()
        assert 0.0 < until <= 10.0
        await node.runtime.sleep(until - 0.01)
        assert lease.can_spend(1.0, node.runtime.time(), node.runtime.monotonic())
        await node.runtime.sleep(0.02)
        assert not lease.can_spend(1.0, node.runtime.time(), node.runtime.monotonic())

    node.play(main)


@jumps
def test_a_denial_holds_as_long_as_l2_said(jump: float) -> None:
    limit = Limit(200, 1000.0, "token_bucket")
    node = Node(consistency="lease", lease_ttl=2.0)

    async def main() -> None:
        node.l2.acquire_nowait("user", limit, 200.0, node.runtime.time())
        assert not await node.storage.acquire("user", limit)
        asked = node.l2.acquired
        assert not await node.storage.acquire("user", limit)
        assert node.l2.acquired == asked
        node.runtime.ahead = jump
        await node.runtime.sleep(1.5)
        assert 0.0 < (await node.storage.acquire("user", limit)).retry_after < 10.0
        assert node.l2.acquired == asked
        await node.runtime.sleep(1.0)
        await node.storage.acquire("user", limit)
        assert node.l2.acquired == asked + 1

    node.play(main)
