"""Several nodes of a hybrid before one shared store, on SimPy; used by the tests of the hybrid."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
import simpy

from ratesim import Limit
from ratesim.errors import StorageConnectionError, StorageTimeoutError
from ratesim.runtime import SimRuntime
from ratesim.state import RateLimitState
from ratesim.storage import Charge, HybridStorage, HybridStorageConfig, MemoryStorage

EPOCH = 1_700_000_000.0
LIMIT = Limit(10, 60.0, "fixed_window")


class Shared(MemoryStorage):
    """An L2 that is `delay` seconds away, counts its calls, and is away, or silent, or loses an answer, when told."""

    def __init__(self, runtime: SimRuntime, delay: float = 0.001) -> None:
        super().__init__(runtime=runtime)
        self.delay, self.away, self.silent, self.lose_answer, self.sent = delay, False, False, False, True
        self.reads = self.charged = self.flushes = self.acquired = self.put_states = 0

    @property
    def calls(self) -> int:
        return self.reads + self.flushes + self.acquired + self.put_states

    async def _travel(self) -> None:
        await self.runtime.sleep(1e6 if self.silent else self.delay)
        if self.away:
            raise StorageConnectionError("away", sent=self.sent)

    async def acquire(self, *arguments: Any, **options: Any) -> Any:
        await self._travel()
        self.acquired += 1
        return await super().acquire(*arguments, **options)

    async def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        await self._travel()
        self.reads += 1
        state = await super().get_state(identifier, name)
        await self.runtime.sleep(self.delay)
        return state

    async def set_state(self, *arguments: Any, **options: Any) -> None:
        await self._travel()
        self.put_states += 1
        await super().set_state(*arguments, **options)

    async def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        await self._travel()
        self.charged += len(charges)
        self.flushes += 1
        states = await super().charge_many(charges)
        if self.lose_answer:
            raise StorageTimeoutError("the answer was lost")
        return states

    def left(self, identifier: str = "user", limit: Limit = LIMIT, now: float = EPOCH) -> float:
        """Cost that is left there, asked on the spot."""
        return self.peek_nowait(identifier, limit, 0, now).remaining


class World:
    """nodes: before one `l2`; what is given overrides a sync of 100 ms in phase."""

    def __init__(self, nodes: int = 2, **options: Any) -> None:
        self.env = simpy.Environment()
        self.runtime = SimRuntime(self.env, EPOCH)
        self.l2 = Shared(self.runtime)
        self.options = {"sync_interval": 0.1, "sync_jitter": 0.0, "nodes": nodes} | options
        self.nodes = [self.node(k) for k in range(nodes)]

    def node(self, k: int) -> HybridStorage:
        config = HybridStorageConfig(node=f"n{k}", **self.options)
        return HybridStorage(self.l2, config, self.runtime, np.random.default_rng(k))

    def restart(self, k: int) -> HybridStorage:
        """The process of a node ends at once, and another begins; the old one."""
        old = self.nodes[k]
        old.kill()
        self.nodes[k] = self.node(k)
        return old

    def play(self, main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        results: list[Any] = []

        async def wrapped() -> None:
            results.append(await main())

        self.runtime.spawn(wrapped())
        self.env.run()
        return results[0]
