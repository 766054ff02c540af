"""Faults of a real cluster or a Sentinel pair under load, and the same faults simulated."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import numpy as np
import redis

from ratesim import Scenario, run
from ratesim.servers import Member, Server
from ratesim.simulation.network.hash_slots import shard_of
from ratesim.simulation.scenario.scenario import Candidate
from ratesim.storage import open_storage
from traffic import Trace, replay

START = 1_699_999_980.0  # a multiple of 60 s: all requests of a run are in one window


@dataclass(frozen=True)
class Figures:
    """What a fault did.

    Attributes
    ----------
    undecided
        Requests without a decision.
    seconds
        From the beginning of the fault until a key that it concerns was decided again; 0 if that never stopped.
    over_admitted
        Cost beyond the limit.
    elsewhere
        Requests without a decision of keys that lie elsewhere.
    """

    undecided: int
    seconds: float
    over_admitted: float
    elsewhere: int


def scenario(fault: dict[str, object], rate: float, duration: float, **deployment: object) -> Scenario:
    """A key is asked for 5 times a second, and its limit is reached after 5 s."""
    return Scenario.of(
        {
            "workload": {"requests_per_second": rate, "keys": int(rate / 5), "popularity": "uniform", "duration": duration},
            "limit": {"rate": "25 per 60 seconds", "algorithm": "fixed_window"},
            "deployment": {"type": "high_availability", "nodes": 2, "rtt": "500us", **deployment},
            "faults": [fault],
        }
    )


def trace_of(asked: Scenario) -> Trace:
    """The requests, in one window of the limit."""
    trace = asked.trace()
    return Trace(trace.time - trace.time[0] + START, trace.key, trace.keys, cost=trace.cost)


def figures(trace: Trace, limit: float, allowed: np.ndarray, failed: np.ndarray, finished: np.ndarray, shards: int) -> Figures:
    """Make the figures. finished: seconds after the first request, of every answer."""
    struck = np.array([shard_of(key, shards) == 0 for key in trace.keys])[trace.key]
    admitted = np.bincount(trace.key, np.where(allowed, trace.cost, 0.0), len(trace.keys))
    seconds = 0.0
    if failed[struck].any():
        begin = (trace.time - START)[struck & failed].min()
        decided = finished[struck & ~failed & (trace.time - START > begin)]
        seconds = float(decided[decided > (trace.time - START)[struck & failed].max() - 0.5].min() - begin)
    return Figures(
        int((failed & struck).sum()), seconds, float(np.maximum(admitted - limit, 0.0).sum()), int((failed & ~struck).sum())
    )


def simulated(asked: Scenario, storage: str, primaries: int | None) -> Figures:
    """The figures of the simulated fault."""
    trace = trace_of(asked)
    result = run(asked, Candidate(name="simulated", storage=storage, primaries=primaries), trace=trace)
    finished = result.trace.time - START + result.latency
    return figures(trace, asked.limit.limit().rate, result.allowed, result.failed, finished, primaries or 1)


async def live(
    asked: Scenario, server: Server, options: str, primaries: int, fault: Callable[[], Awaitable[None]], start: float
) -> Figures:
    """The figures of a real fault that is awaited `start` seconds after the first request."""
    trace, limit = trace_of(asked), asked.limit.limit()
    sign = "&" if "?" in server.url else "?"
    prefix = "ratesim:"
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(open_storage(f"{server.url}{sign}{options}"))
            for _ in range(asked.deployment.nodes)
        ]
        for node in nodes:
            for key in trace.keys:
                await node.peek(key, limit, now=START)
        names, stamps = [trace.keys[key] for key in trace.key.tolist()], trace.time.tolist()

        async def send(i: int) -> bool:
            return bool(await nodes[i % len(nodes)].acquire(names[i], limit, 1.0, stamps[i]))

        async def strike() -> None:
            await asyncio.sleep(start)
            await fault()

        striking = asyncio.create_task(strike())
        result = await replay(trace, send)
        await striking
    allowed = np.array([answer is True for answer in result.results])
    return figures(trace, limit.rate, allowed, result.failed, result.finished, primaries)


async def kill_behind(server: Server, lag: float) -> None:
    """Kill the primary of shard 0, whose replica has received nothing for the last `lag` seconds."""
    primary = next(each for each in server.members if each.role == "primary" and not each.shard)
    replica = next(each for each in server.members if each.role == "replica" and not each.shard)
    await asyncio.to_thread(_cut_off, replica)
    await asyncio.sleep(lag)
    os.kill(primary.pid, signal.SIGKILL)


def _cut_off(replica: Member) -> None:
    """Break the link to the primary, and forget the password for it."""
    with redis.Redis.from_url(replica.url) as client:
        client.config_set("masterauth", uuid.uuid4().hex)
        client.execute_command("CLIENT KILL TYPE master")


async def move_slots(server: Server, slots: int) -> float:
    """Move the first slots of shard 0 to shard 1; returns the seconds that it took."""
    return await asyncio.to_thread(_move_slots, server, slots)


def _move_slots(server: Server, slots: int) -> float:
    primaries = [each for each in server.members if each.role == "primary"]
    clients = [redis.Redis.from_url(each.url) for each in primaries]
    password = redis.connection.parse_url(primaries[0].url)["password"]
    begin = time.monotonic()
    try:
        origin, goal = clients[:2]
        here, there = (str(client.execute_command("CLUSTER MYID"), "ascii") for client in (origin, goal))
        for slot in range(slots):
            goal.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", here)
            origin.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", there)
            while keys := origin.execute_command("CLUSTER GETKEYSINSLOT", slot, 10):
                about = ("127.0.0.1", primaries[1].port, "", 0, 5000, "AUTH", password, "KEYS")
                origin.execute_command("MIGRATE", *about, *keys)
            for client in (goal, origin, *clients[2:]):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", there)
        return time.monotonic() - begin
    finally:
        for client in clients:
            client.close()
