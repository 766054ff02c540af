"""The codec table: bytes and microseconds of each codec by the kind and the size of what Redis stores whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np
import redis.asyncio

from ratesim import servers
from ratesim.algorithms import bind
from ratesim.limit import Limit
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage import RedisStorage, RedisStorageConfig
from ratesim.storage.compression import CODECS, Codec, compress, decompress
from ratesim.storage.redis.packed_log import to_differences
from ratesim.storage.redis.state_fields import fields_of

__all__ = ["Cost", "measure", "samples", "section", "whole_logs"]

NOW = 1_700_000_000.0
ENTRIES = (10, 100, 1_000, 10_000)  # of a sliding log
METADATA_BYTES = (100, 1_000, 10_000)
STATES = ("token_bucket", "sliding_window", "adaptive")
STEPS = ("set_state", "get_state", "first acquire", "next acquire")
USER = "user:1"
ROUNDS = 9
CALLS = 20  # of one timing


def section() -> list[str]:
    """Return the lines of the report."""
    codecs = CODECS[1:]
    lines = [
        f"compression, bytes and us to compress + inflate, best of {ROUNDS} rounds in turns; - where it stays raw",
        "  fields: names and values in the hash; data: what the codec gets, of a state the differences of its floats",
        "  " + "  ".join([f"{'':<20}", f"{'fields':>7}", f"{'data':>7}", *(f"{codec:>16}" for codec in codecs)]),
    ]
    for name, size, data in samples():
        best = measure(data)
        cells = [
            f"{size:>7,} {up:>4.0f} + {down:>3.0f}" if size < len(data) else f"{'-':>16}" for size, up, down in best.values()
        ]
        lines.append("  " + "  ".join([f"{name:<20}", f"{size:>7,}", f"{len(data):>7,}", *cells]))
    with servers.valkey() as server:
        return lines + (asyncio.run(_whole_logs(server.url)) if server.kind != "fakeredis" else [])


async def _whole_logs(url: str) -> list[str]:
    lines = [
        "",
        f"sliding logs at an embedded Valkey, best of {ROUNDS} rounds in turns; us of the server, us of the caller, bytes",
        "  each is put and read whole; first: the acquire that meets it then, and next: the one after that",
        "  " + "  ".join([f"{'entries':>7}", f"{'codec':<7}", *(f"{step:>27}" for step in STEPS)]),
    ]
    for (entries, codec), steps in (await whole_logs(url)).items():
        cells = [f"{each.server:>7,.0f} {each.caller:>7,.0f} {each.size:>11,.0f}" for each in steps.values()]
        lines.append("  " + "  ".join([f"{entries:>7,}", f"{codec:<7}", *cells]))
    return lines


class Cost(NamedTuple):
    """Microseconds of the server and of the caller, and bytes on the wire in both directions, of one step."""

    server: float
    caller: float
    size: float


async def whole_logs(
    url: str, entries: Sequence[int] = ENTRIES[1:], codecs: Sequence[Codec] = CODECS, rounds: int = ROUNDS
) -> dict[tuple[int, Codec], dict[str, Cost]]:
    """Measure a log that is put and read whole, as `sync="state"` does, and the acquires that meet it then.

    Returns
    -------
    dict
        By entries and codec the cost of each step, the least of the rounds.
    """
    rng = np.random.default_rng(2)
    least: dict[tuple[int, Codec], dict[str, Cost]] = {}
    async with AsyncExitStack() as stack:
        raw = await stack.enter_async_context(redis.asyncio.Redis.from_url(url))
        storages = {
            codec: await stack.enter_async_context(
                RedisStorage(RedisStorageConfig(url=url, compression=codec, key_prefix=f"codec:{codec}:"))
            )
            for codec in codecs
        }
        for count in entries:
            limit = Limit(2.0 * count, 3600.0, "sliding_log")
            for _ in range(rounds):
                asking = (await _cost(raw, partial(asyncio.sleep, 0.0))).size  # bytes of INFO itself
                log = _log(count, rng, time.time() - 60.0)
                data = AlgorithmData("sliding_log", {"last": log[-2], "used": len(log) / 2.0, "log": log})
                state = RateLimitState(data, log[0], log[-2], count)
                for codec, storage in storages.items():
                    works: tuple[Callable[[], Awaitable[object]], ...] = (
                        partial(storage.set_state, USER, state),
                        partial(storage.get_state, USER),
                        partial(storage.acquire, USER, limit),
                        partial(storage.acquire, USER, limit),
                    )
                    costs = least.setdefault((count, codec), {})
                    for step, work in zip(STEPS, works, strict=True):
                        cost = await _cost(raw, work)
                        cost = cost._replace(size=cost.size - asking)
                        costs[step] = Cost(*map(min, cost, costs.get(step, cost)))
                    await storage.reset(USER)
    return least


async def _cost(raw: redis.asyncio.Redis, work: Callable[[], Awaitable[object]]) -> Cost:
    before = await _spent(raw)
    start = time.perf_counter()
    await work()
    took = (time.perf_counter() - start) * 1e6
    after = await _spent(raw)
    return Cost(after[0] - before[0], took, after[1] - before[1])


async def _spent(raw: redis.asyncio.Redis) -> tuple[float, float]:
    """Return the server's microseconds in commands that a client sent, and bytes in both directions without its own."""
    commands, stats = await raw.info("commandstats"), await raw.info("stats")
    used = sum(commands.get(f"cmdstat_{name}", {"usec": 0})["usec"] for name in ("eval", "evalsha", "hgetall"))
    return used, stats["total_net_input_bytes"] + stats["total_net_output_bytes"]


def samples() -> Iterator[tuple[str, int, bytes]]:
    """Yield what is stored: its name, its bytes as fields of a hash, and the data that a codec gets."""
    rng = np.random.default_rng(1)
    for algorithm in STATES:
        values = _values(algorithm)
        yield algorithm, len(_text(AlgorithmData.of(algorithm, values))), to_differences(values)
    for entries in ENTRIES:
        log = _log(entries, rng)
        state = AlgorithmData("sliding_log", {"last": log[-2], "used": float(entries), "log": log})
        yield f"sliding_log {entries:,}", len(_text(state)), to_differences(log)
    for size in METADATA_BYTES:
        data = _metadata(size, rng)
        yield f"metadata {size:,}", len(data), data


def measure(data: bytes) -> dict[Codec, tuple[int, float, float]]:
    """Return bytes, and microseconds to compress and to inflate, by codec."""
    best: dict[Codec, tuple[int, float, float]] = {}
    for _ in range(ROUNDS):
        for codec in CODECS[1:]:
            blob = compress(data, codec)
            up, down = _microseconds(partial(compress, data, codec)), _microseconds(partial(decompress, blob))
            _, least_up, least_down = best.get(codec, (0, up, down))
            best[codec] = (len(blob), min(up, least_up), min(down, least_down))
    return best


def _microseconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        work()
    return (time.perf_counter() - start) / CALLS * 1e6


def _values(algorithm: str) -> list[float]:
    """Return the state of an identifier that is in use."""
    bound = bind(Limit(100, 60.0, algorithm))
    rule, values = bound.algorithm.rule, [0.0] * bound.algorithm.rule.size(bound.params)
    rule.start(values, bound.params, NOW)
    for step in range(40):
        rule.refresh(values, bound.params, NOW + step * 17.123456)
        rule.charge(values, bound.params, 1.0, NOW + step * 17.123456)
    return values


def _text(data: AlgorithmData) -> bytes:
    fields = fields_of(RateLimitState(data, NOW, NOW + 12.345678, 40), "", NOW + 72.345678, "none")
    return b"".join(value if isinstance(value, bytes) else str(value).encode() for value in fields)


def _log(entries: int, rng: np.random.Generator, start: float = NOW) -> list[float]:
    """Return a log of Poisson requests of cost 1 in a minute, to the microsecond."""
    times = np.unique(np.round(start + np.cumsum(rng.exponential(60.0 / entries, entries)), 6))
    log: list[float] = np.column_stack([times, np.ones(len(times))]).ravel().tolist()
    return log


def _metadata(size: int, rng: np.random.Generator) -> bytes:
    """Return metadata as a service writes it: plans, regions, and identifiers, which no codec shrinks below half."""
    metadata: dict[str, str] = {}
    while len(text := msgspec.json.encode(metadata)) < size:
        number = len(metadata)
        metadata[f"account_{number}"] = rng.bytes(8).hex()
        metadata[f"plan_{number}"] = str(rng.choice(["free", "professional", "enterprise"]))
        metadata[f"region_{number}"] = str(rng.choice(["eu-west-1", "us-east-1", "ap-south-1"]))
    return text
