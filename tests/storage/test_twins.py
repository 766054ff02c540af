"""Every twin of an algorithm decides as the Python rule does, to the bit: numba, Lua on fakeredis, Lua on a real Valkey, SQL
on a real PostgreSQL.

`make test` compares more than 10 thousand operations on each backend; `make nightly` (or `--hypothesis-profile=nightly`)
more than a million, which takes an hour.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator

import fakeredis
import numpy as np
import pytest
from every_backend import PARTITIONS, POSTGRES_SERVERS, SERVERS
from examples import examples, sample
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratesim import Limit, algorithms
from ratesim.runtime import AsyncioRuntime
from ratesim.simulation.results.oracle import exact
from ratesim.storage import (
    Charge,
    MemoryStorage,
    PostgresStorage,
    PostgresStorageConfig,
    RateLimitStorage,
    RedisStorage,
    RedisStorageConfig,
    Request,
)
from ratesim.storage.config import MAX_CLOCK_SKEW
from ratesim.storage.partitions import parse_partition

EXAMPLES = examples(100, nightly=8000)
USUAL = ["fakeredis", "redis", "cluster", "sentinel", "postgres"]
ALGORITHMS = ("adaptive", "fixed_window", "gcra", "leaky_bucket", "sliding_log", "sliding_window", "token_bucket")
NOW = 1_700_000_000.0

rates = st.one_of(st.integers(1, 20).map(float), st.floats(0.01, 1000))
periods = st.sampled_from([0.1, 1.0 / 3.0, 1.0, 7.0, 60.0, 3600.0])
shares = st.one_of(st.sampled_from([0.0, 0.1, 0.25, 1.0 / 3.0, 0.5, 1.0, 1.5]), st.floats(0.001, 2.5))
costs = st.one_of(st.sampled_from([1.0, 1.0, 2.0]), shares)  # above 0.0: as a share of the rate, where `asked` says so
# Steps in periods; "edge" goes to the next multiple of the period, one float before or behind it; "bound" goes back by as
# much as a state may be ahead, or one float more.
steps = st.one_of(
    st.floats(0.0, 0.3),
    st.sampled_from([0.0, 0.0, 0.25, 1.0, 1.5, 20.0, -0.01, -0.5, -3.0, "edge", "before the edge", "behind the edge"]),
    st.sampled_from([1000.0, -1000.0, -25.0, -0.25, -0.25, "bound", "bound", "beyond the bound"]),
)
moves = st.lists(st.tuples(steps, costs, st.booleans()), min_size=1, max_size=30)
flushes = st.lists(
    st.tuples(
        st.integers(1, 2),
        st.floats(0, 20),
        st.lists(st.tuples(st.floats(-1.5, 2.0), shares.filter(lambda share: share > 0)), min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=8,
)


@st.composite
def limits(draw: st.DrawFn, name: str = "", among: tuple[str, ...] = ALGORITHMS) -> Limit:
    algorithm = draw(st.sampled_from(among))
    rate = draw(rates)
    options: dict[str, float] = {}
    if algorithm == "sliding_window":
        options = {"buckets": draw(st.integers(1, 6))}
    elif algorithm == "adaptive" and draw(st.booleans()):
        share = st.just(0.0) | st.floats(1e-6, 1)
        options = {"min_rate": rate / 3, "weight": draw(share), "increase": draw(share)}
    burst = draw(st.none() | st.floats(0.5, 50)) if algorithms.get(algorithm).rule.BURST else None
    return Limit(rate, draw(periods), algorithm, burst, name, options)


def asked(limit: Limit, moving: list[tuple[float | str, float, bool]], times: int) -> list[tuple[float, float]]:
    """The moves as (now, cost), gone through so many times."""
    now = NOW
    requests = []
    for step, cost, of_rate in moving * times:
        if isinstance(step, float):
            now += step * limit.period
        elif step.endswith("bound"):
            now -= min(MAX_CLOCK_SKEW, limit.period)
            now = math.nextafter(now, -math.inf) if step == "beyond the bound" else now
        else:
            now = (math.floor(now / limit.period) + 1.0) * limit.period
            if step != "edge":
                now = math.nextafter(now, -math.inf if step == "before the edge" else math.inf)
        cost = cost * limit.rate if of_rate else cost
        requests.append((now, max(cost, 1e-6) if cost else 0.0))
    return requests


Run = Callable[[Callable[[RateLimitStorage], Awaitable[None]]], None]
compared: dict[str, int] = {}


@pytest.fixture(scope="module", params=sample([*USUAL, *PARTITIONS, "postgres-16"], USUAL))
def against(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a test body with a storage that stays open from example to example, on a loop of its own."""
    loop = asyncio.new_event_loop()

    async def opened() -> RateLimitStorage:
        storage: RateLimitStorage
        runtime = AsyncioRuntime(lambda: NOW - 1e6)  # so that every state can be read back, whenever it expires
        if request.param.startswith("postgres"):
            url = request.getfixturevalue(POSTGRES_SERVERS.get(request.param, "postgres_server")).url
            table, cut = request.param.replace("-", "_"), parse_partition(PARTITIONS.get(request.param, "none"))
            config = PostgresStorageConfig(url=url, table_name=table, command_timeout=60.0, partition_strategy=cut)
            storage = PostgresStorage(config, runtime)
        elif request.param in SERVERS:
            url = request.getfixturevalue(SERVERS[request.param]).url
            storage = RedisStorage(
                RedisStorageConfig(url=url, key_prefix="twins:", min_ttl=60, command_timeout=60.0), runtime
            )
        else:
            fake = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
            storage = RedisStorage(RedisStorageConfig(min_ttl=60, command_timeout=60.0), runtime, fake)
        return await storage.open()

    storage = loop.run_until_complete(opened())
    compared.clear()
    yield lambda body: loop.run_until_complete(body(storage))
    loop.run_until_complete(storage.close())
    loop.close()
    print(f"{request.param}: {sum(compared.values())} operations compared")
    if EXAMPLES >= 100:
        assert sum(compared.values()) >= 10_000 * EXAMPLES / 100


def count(what: str, operations: int) -> None:
    compared[what] = compared.get(what, 0) + operations


def rewinds(storage: RateLimitStorage) -> int:
    """Count the states that were brought back, without asking the server for its sizes."""
    if isinstance(storage, MemoryStorage):
        return storage.get_stats_nowait(walk=False).clock_rewinds
    assert isinstance(storage, RedisStorage | PostgresStorage)
    return storage.driver.clock_rewinds


alike = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@alike
@given(data=st.data(), moving=moves, times=st.integers(1, 4))
def test_a_twin_decides_as_the_python_rule(
    against: Run, algorithm: str, data: st.DataObject, moving: list[tuple[float | str, float, bool]], times: int
) -> None:
    limit = data.draw(limits(among=(algorithm,)))
    requests = asked(limit, moving, times)
    now, cost = (np.array(column) for column in zip(*requests, strict=True))
    allowed, remaining = exact(limit, np.zeros(len(now), np.int64), now, cost, 1, remaining=True)

    async def body(storage: RateLimitStorage) -> None:
        memory = MemoryStorage(runtime=storage.runtime)
        await storage.reset("user")
        batch = [Request("user", limit, cost, now) for now, cost in requests]
        before = rewinds(storage)
        expected = await memory.acquire_many(batch)
        assert await storage.acquire_many(batch) == expected
        assert allowed.tolist() == [decision.allowed for decision in expected]
        assert remaining.tolist() == [decision.remaining for decision in expected]
        assert rewinds(storage) - before == rewinds(memory)
        count("decisions", len(batch))
        state, kept = await storage.get_state("user"), memory.live_entry("user")
        assert (state is None) == (kept is None)
        if state is not None and kept is not None:
            assert state.algorithm_data == kept.export().algorithm_data

    against(body)


@alike
@given(limit=st.tuples(limits("a"), limits("b")), moving=moves, watched=st.lists(st.sampled_from("appo"), min_size=30))
def test_a_twin_decides_several_limits_looks_and_learns_as_the_python_rule(
    against: Run, limit: tuple[Limit, ...], moving: list[tuple[float | str, float, bool]], watched: list[str]
) -> None:
    learning = tuple(each for each in limit if each.algorithm == "adaptive")

    async def body(storage: RateLimitStorage) -> None:
        memory = MemoryStorage(runtime=storage.runtime)
        await storage.reset("user")
        for (now, cost), action in zip(asked(limit[0], moving, 1), watched, strict=False):
            if action == "o" and learning:
                for each in (storage, memory):
                    await each.observe("user", limit, cost / (1.0 + cost), now)
            elif action == "p":
                assert await storage.peek("user", limit, cost, now) == await memory.peek("user", limit, cost, now)
            else:
                assert await storage.acquire("user", limit, cost, now) == await memory.acquire("user", limit, cost, now)
            count("several", 1)

    against(body)


@alike
@given(limit=limits(among=("adaptive",)), moving=moves, scores=st.lists(st.floats(0, 1), min_size=30, max_size=30))
def test_a_twin_learns_as_the_python_rule(
    against: Run, limit: Limit, moving: list[tuple[float | str, float, bool]], scores: list[float]
) -> None:
    async def body(storage: RateLimitStorage) -> None:
        memory = MemoryStorage(runtime=storage.runtime)
        await storage.reset("user")
        for (now, cost), score in zip(asked(limit, moving, 1), scores, strict=False):
            assert await storage.acquire("user", limit, cost, now) == await memory.acquire("user", limit, cost, now)
            for each in (storage, memory):
                await each.observe("user", limit, 1.0 if score > 0.5 else score, now)
            count("scores", 2)

    against(body)


@alike
@given(limit=limits(), flushed=flushes)
def test_a_twin_merges_charges_as_the_python_rule(
    against: Run, limit: Limit, flushed: list[tuple[int, float, list[tuple[float, float]]]]
) -> None:
    async def body(storage: RateLimitStorage) -> None:
        memory = MemoryStorage(runtime=storage.runtime)
        await storage.reset("user")
        now = NOW
        for epoch, before, entries in flushed:
            stamped = []
            for step, share in entries:
                now += step * limit.period
                stamped.append((now, share * limit.rate, 1))
            sent = None if before < 10 else now  # makes a difference only by the server's clock
            charge = Charge("user", limit, "node", epoch, before, tuple(stamped), sent)
            (merged,), (expected,) = await storage.charge_many([charge]), await memory.charge_many([charge])
            assert merged.algorithm_data == expected.algorithm_data
            assert merged.watermarks == expected.watermarks
            assert merged.request_count == expected.request_count
            # PostgreSQL rounds times of day to the microsecond in its own way.
            assert merged.created_at == pytest.approx(expected.created_at, abs=1.5e-6)
            assert merged.last_accessed == pytest.approx(expected.last_accessed, abs=1.5e-6)
            count("charges", len(entries))

    against(body)
