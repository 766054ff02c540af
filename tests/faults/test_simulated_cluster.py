"""A failover and a reshard of a real cluster or Sentinel pair, beside the same traffic and fault simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median

import numpy as np
import pytest
from cluster_world import SLOTS, ClusterWorld
from subjects import with_options

from ratesim import Scenario, run
from ratesim.servers import valkey_cluster, valkey_sentinel
from ratesim.simulation.network.hash_slots import shard_of
from ratesim.simulation.scenario.scenario import Candidate
from ratesim.storage import open_storage
from traffic import Trace, replay

pytestmark = [pytest.mark.servers, pytest.mark.slow]

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

    @property
    def shards(self) -> int:
        return 3 if "cluster" in self.storage else 1

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
        result = run(self.scenario, Candidate(name="simulated", storage=with_options(self.storage, **OPTIONS)), trace=trace)
        assert len(result.trace) == len(trace), "each request is decided, denied or failed once"
        return Effect.of(trace, result.allowed, result.failed, self.shards)

    async def real(self, url: str, begin: float, fault: Callable[[], Awaitable[None]]) -> Effect:
        """Replay the same requests, and begin the fault so many seconds after the first."""
        trace, limit = self.trace(), self.scenario.limit.limit()
        async with AsyncExitStack() as stack:
            storages = [open_storage(with_options(url, **OPTIONS)) for _ in range(2)]
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
