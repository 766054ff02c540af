"""The background tasks of a hybrid go on after a failure, and show it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
import simpy

from ratesim import Limit
from ratesim.errors import StorageConnectionError
from ratesim.runtime import AsyncioRuntime, Runtime, SimRuntime
from ratesim.state import RateLimitState
from ratesim.storage import Charge, HybridStorage, HybridStorageConfig, MemoryStorage

EPOCH = 1_700_000_000.0
WINDOW = Limit(1000, 60.0, "fixed_window")
BUCKET = Limit(10_000, 60.0, "token_bucket")

Main = Callable[[HybridStorage, "Failing"], Coroutine[Any, Any, Any]]


class Failing(MemoryStorage):
    """An L2 whose calls of some kinds raise an error. `calls` counts those."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime=runtime)
        self.errors: dict[str, Exception] = {}
        self.calls = 0

    async def _answer(self, kind: str) -> None:
        await self.runtime.sleep(0.001)
        if kind in self.errors:
            self.calls += 1
            raise self.errors[kind]

    async def acquire(self, *arguments: Any, **options: Any) -> Any:
        await self._answer("acquire")
        return await super().acquire(*arguments, **options)

    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        await self._answer("get_state")
        return await super().get_state(identifier, name)

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        await self._answer("charge_many")
        return await super().charge_many(charges)


def hybrid(runtime: Runtime, **options: Any) -> tuple[HybridStorage, Failing]:
    l2 = Failing(runtime)
    config = HybridStorageConfig(**{"sync_interval": 0.02, "sync_jitter": 0.0, **options})
    return HybridStorage(l2, config, runtime), l2


def on_asyncio(main: Main, **options: Any) -> None:
    async def wrapped() -> None:
        await main(*hybrid(AsyncioRuntime(), **options))

    asyncio.run(wrapped())


def on_simpy(main: Main, **options: Any) -> None:
    env = simpy.Environment()
    runtime = SimRuntime(env, EPOCH)
    runtime.spawn(main(*hybrid(runtime, **options)))
    env.run()


@pytest.fixture(params=[on_asyncio, on_simpy])
def drive(request: pytest.FixtureRequest) -> Callable[..., None]:
    return request.param


async def until(runtime: Runtime, holds: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if holds():
            return
        await runtime.sleep(0.001)
    raise AssertionError("it did not come to hold in 10 s")


AWAY = StorageConnectionError("away")
DEFECT = KeyError("a defect")


@pytest.mark.parametrize("write", ["write_back", "write_behind"])
@pytest.mark.parametrize(("drive", "error"), [(on_asyncio, AWAY), (on_simpy, AWAY), (on_asyncio, DEFECT)])
def test_a_flush_that_failed_is_shown_and_sent_again(drive: Callable[..., None], error: Exception, write: str) -> None:
    async def main(node: HybridStorage, l2: Failing) -> None:
        l2.errors["charge_many"] = error
        await node.acquire("user", WINDOW, 3.0)
        await until(node.runtime, lambda: l2.calls == 3)
        await until(node.runtime, lambda: node.sync_stats().background_failures == 3)
        health = await node.health_check()
        assert not health.healthy
        assert "flush failed 3 times in a row" in health.detail
        assert type(error).__name__ in health.detail
        assert (await node.get_stats()).background_failures == 3
        l2.errors.clear()
        await until(node.runtime, lambda: l2.peek_nowait("user", WINDOW, 0.0, node.runtime.time()).remaining == 997.0)
        await until(node.runtime, lambda: not node.supervisor.problems)
        assert (await node.health_check()).healthy
        assert node.sync_stats().background_failures == 3
        await node.acquire("user", WINDOW, 2.0)
        await node.close()
        assert l2.peek_nowait("user", WINDOW, 0.0, node.runtime.time()).remaining == 995.0

    drive(main, write=write)


def test_a_failed_flush_of_what_was_reset_since_is_shown_no_longer(drive: Callable[..., None]) -> None:
    async def main(node: HybridStorage, l2: Failing) -> None:
        l2.errors["charge_many"] = AWAY
        await node.acquire("user", WINDOW, 3.0)
        await until(node.runtime, lambda: node.sync_stats().background_failures == 1)
        await node.reset("user")
        await until(node.runtime, lambda: not node.supervisor.problems)
        await node.close()

    drive(main)


@pytest.mark.parametrize(("drive", "error"), [(on_asyncio, AWAY), (on_simpy, AWAY), (on_asyncio, DEFECT)])
def test_a_refresh_that_failed_is_shown_and_the_next_is_made(drive: Callable[..., None], error: Exception) -> None:
    async def main(node: HybridStorage, l2: Failing) -> None:
        await node.acquire("user", WINDOW)
        await node.runtime.sleep(0.02)
        l2.errors["get_state"] = error
        await node.acquire("user", WINDOW)  # goes on with the view that there is
        await until(node.runtime, lambda: node.sync_stats().background_failures == 1)
        assert "refresh failed" in (await node.health_check()).detail
        l2.errors.clear()
        await node.runtime.sleep(0.06)
        await node.acquire("user", WINDOW)
        await until(node.runtime, lambda: not node.supervisor.problems)
        assert (await node.health_check()).healthy
        await node.close()

    drive(main, read="refresh_ahead", refresh_after=0.01, l1_ttl=1000.0, max_wait=0.05, sync_interval=5.0)


@pytest.mark.parametrize(("drive", "error"), [(on_asyncio, AWAY), (on_simpy, AWAY), (on_asyncio, DEFECT)])
def test_a_return_of_leases_that_failed_is_forfeited_and_the_next_is_made(
    drive: Callable[..., None], error: Exception
) -> None:
    async def main(node: HybridStorage, l2: Failing) -> None:
        async def spend() -> None:
            await until(node.runtime, lambda: node.sync_stats().leased_outstanding == 0.0)
            while node.sync_stats().leased_outstanding == 0.0:
                await node.acquire("user", BUCKET)
                await node.runtime.sleep(0.002)

        l2.errors["charge_many"] = error
        await spend()
        await until(node.runtime, lambda: node.sync_stats().background_failures > 0)
        stats = node.sync_stats()
        assert stats.forfeited > 0.0
        assert stats.returned == 0.0
        assert "lease return failed" in (await node.health_check()).detail
        l2.errors.clear()
        await spend()
        await until(node.runtime, lambda: node.sync_stats().returned > 0.0)
        assert (await node.health_check()).healthy
        await node.close()

    drive(main, consistency="lease", lease_ttl=0.1)


@pytest.mark.parametrize("kind", ["charge_many", "get_state"])
def test_a_defect_in_the_background_ends_a_simulation(kind: str) -> None:
    async def main(node: HybridStorage, l2: Failing) -> None:
        await node.acquire("user", WINDOW)
        await node.runtime.sleep(0.015)
        l2.errors[kind] = DEFECT
        await node.acquire("user", WINDOW)
        await node.runtime.sleep(1.0)

    with pytest.raises(KeyError, match="a defect"):
        on_simpy(main, read="refresh_ahead", refresh_after=0.01, l1_ttl=1000.0, sync_interval=0.5)
