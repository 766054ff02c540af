"""A fault of a real store beside the same traffic and fault simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import numpy as np
from subjects import with_options

from ratesim import Scenario, run
from ratesim.simulation.network.hash_slots import shard_of
from ratesim.simulation.scenario.scenario import Candidate
from ratesim.storage import open_storage
from traffic import Trace, replay

START = 1_699_999_980.0  # a multiple of a minute, so that all requests of a run are in one window
LAG = 1.0  # seconds in which the replica hears nothing before its primary dies
AT = 4.0  # seconds after the first request, of the fault
EACH = 5.0  # requests per second of a key, whose limit is reached after 5 s
RATE = 25.0
TOLERANCE = 0.25
# A breaker that opens for long looks seldom, and when it looks is chance.
OPTIONS = {"command_timeout": 1.0, "breaker_reset": 0.1}


@dataclass(frozen=True)
class Effect:
    """What a fault of shard 0 did.

    Attributes
    ----------
    undecided
        Requests without a decision.
    seconds
        Between the first and the last of them.
    over
        Cost that was admitted beyond the limits.
    elsewhere
        Requests without a decision on other shards.
    """

    undecided: int
    seconds: float
    over: float
    elsewhere: int

    @classmethod
    def of(cls, trace: Trace, allowed: np.ndarray, failed: np.ndarray, shards: int) -> Effect:
        struck = np.array([shard_of(key, shards) == 0 for key in trace.keys])[trace.key]
        due = trace.time[failed & struck]
        admitted = np.bincount(trace.key[allowed], minlength=len(trace.keys))
        over = float(np.maximum(admitted - RATE, 0.0).sum())
        return cls(len(due), float(np.ptp(due)) if len(due) else 0.0, over, int((failed & ~struck).sum()))


@dataclass(frozen=True)
class Trial:
    """A fault, and the load under which it happens."""

    storage: str
    fault: dict[str, object]
    deployment: dict[str, object]
    keys: int
    duration: float
    replicas: int | None = None
    options: dict[str, object] = field(default_factory=lambda: OPTIONS)

    @property
    def shards(self) -> int:
        return 3 if "cluster" in self.storage else 1

    @property
    def candidate(self) -> Candidate:
        storage = with_options(self.storage, **self.options)
        return Candidate(name="simulated", storage=storage, replicas=self.replicas)

    @property
    def scenario(self) -> Scenario:
        rate = EACH * self.keys
        return Scenario.of(
            {
                "workload": {
                    "requests_per_second": rate, "keys": self.keys, "popularity": "uniform", "duration": self.duration
                },
                "limit": {"rate": f"{RATE:g} per 60 seconds", "algorithm": "fixed_window"},
                "deployment": {"type": "high_availability", "nodes": 2, "replica_lag": LAG, **self.deployment},
                "faults": [{"start": AT, "duration": 3600.0, "shard": 0, **self.fault}],
            }
        )  # fmt: skip

    def trace(self) -> Trace:
        made = self.scenario.trace()
        return Trace(made.time - made.time[0] + START, made.key, made.keys)

    def simulated(self) -> Effect:
        trace = self.trace()
        result = run(self.scenario, self.candidate, trace=trace)
        assert len(result.trace) == len(trace), "each request is decided, denied or failed once"
        return Effect.of(trace, result.allowed, result.failed, self.shards)

    async def real(self, url: str, begin: float, fault: Callable[[], Awaitable[None]]) -> Effect:
        """Replay the same requests, and begin the fault so many seconds after the first."""
        trace, limit = self.trace(), self.scenario.limit.limit()
        async with AsyncExitStack() as stack:
            storages = [open_storage(with_options(url, **self.options)) for _ in range(2)]
            for storage in storages:
                await stack.enter_async_context(storage)
                for key in trace.keys:
                    await storage.peek(key, limit, now=START)
            names, times = [trace.keys[key] for key in trace.key.tolist()], trace.time.tolist()

            async def send(i: int) -> bool:
                return (await storages[i % 2].acquire(names[i], limit, now=times[i])).allowed

            async def strike() -> None:
                await asyncio.sleep(begin)
                await fault()

            striking = asyncio.create_task(strike())
            result = await replay(trace, send)
            await striking
        struck = np.array([shard_of(key, self.shards) == 0 for key in trace.keys])[trace.key]
        others = [repr(result.results[i]) for i in np.flatnonzero(result.failed & ~struck)]
        assert not others, f"the other slots go on, and not {others[:3]}"
        return Effect.of(trace, np.array([each is True for each in result.results]), result.failed, self.shards)
