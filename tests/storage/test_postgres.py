"""PostgresStorage against a real server: it decides as MemoryStorage does, to the bit, and keeps its promises to others."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratesim.errors import ConfigurationError, KeyRefusedError, StorageConnectionError, StorageError, StorageTimeoutError
from ratesim.limit import Decision, Limit
from ratesim.runtime import AsyncioRuntime
from ratesim.servers import Server, postgres
from ratesim.state import RateLimitState
from ratesim.storage.base import Charge, Request
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.postgres import PostgresStorage
from ratesim.storage.remote.operations import Acquire, Apply, Get, Increment

NOW = 1_700_000_000.0
LIMITS = (
    Limit(5, 60, "token_bucket"),
    Limit(7.3, 0.9, "token_bucket", burst=3.1),
    Limit(4, 10, "fixed_window"),
    Limit(3.7, 0.7, "fixed_window"),
    Limit(5, 60, "sliding_window"),
    Limit(6.1, 7.7, "sliding_window", options=(("buckets", 5.0),)),
    Limit(1e12, 1e12, "token_bucket"),
    Limit(1e-6, 1e12, "token_bucket", burst=1e12),  # takes 1e30 s to fill: beyond every timestamp
    (Limit(2, 1, "token_bucket", name="s"), Limit(5, 60, "sliding_window", name="m"), Limit(20, 3600, "fixed_window")),
    (Limit(3, 1, "token_bucket", name="a"), Limit(4.5, 2.5, "token_bucket", name="b")),
)
STEPS = (0.0, 0.0, 1e-6, 0.1, 1 / 3, 0.5, 1.0, 7.0, 10.0, 60.0, 61.000001, 4000.0, -0.25, -3.0, -70.0)
COSTS = (1.0, 1.0, 1.0, 0.0, 0.1, 1 / 3, 2.5, 4.0, 1e-6, 100.0)
serial = itertools.count()
many = settings(max_examples=examples(60), suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as server:
        yield server


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


def storage_of(server: Server, **options: Any) -> PostgresStorage:
    defaults: dict[str, Any] = {"synchronous_commit": "off", "command_timeout": 20.0, "connection_timeout": 10.0}
    return PostgresStorage(PostgresStorageConfig(url=server.url, **{**defaults, **options}))


@pytest.fixture(scope="module")
def run(server: Server) -> Iterator[tuple[asyncio.Runner, PostgresStorage, Clock]]:
    """A storage with a clock that stands, for the tests that hypothesis drives."""
    clock = Clock()
    config = PostgresStorageConfig(url=server.url, table_name="laws", synchronous_commit="off", command_timeout=20.0)
    with asyncio.Runner() as runner:
        storage = runner.run(PostgresStorage(config, AsyncioRuntime(clock)).open())
        yield runner, storage, clock
        runner.run(storage.close())


def values(decision: Decision) -> tuple[Any, ...]:
    return (
        decision.allowed,
        decision.remaining,
        decision.retry_after,
        decision.reset_after,
        decision.limit,
    )


# -- the same decisions -----------------------------------------------------------------------------------------------


@many
@given(
    limits=st.lists(st.sampled_from(LIMITS), min_size=1, max_size=2),
    steps=st.lists(
        st.tuples(st.sampled_from(COSTS), st.sampled_from(STEPS), st.integers(0, 1), st.integers(0, 5)),
        min_size=1,
        max_size=30,
    ),
    start=st.floats(0.0, 100.0),
    together=st.booleans(),
)
def test_it_decides_as_memory_does_to_the_bit(run: Any, limits: Any, steps: Any, start: float, together: bool) -> None:
    runner, storage, _ = run
    memory = MemoryStorage()
    identifier = f"key {next(serial)}"
    now = NOW + start
    requests = []
    for cost, step, which, peek in steps:
        now += step
        requests.append((limits[which % len(limits)], cost, now, peek == 0 and not together))

    async def both() -> None:
        if together:
            batch = [Request(identifier, limit, cost, at) for limit, cost, at, _ in requests]
            mine, theirs = await storage.acquire_many(batch), await memory.acquire_many(batch)
            assert [values(d) for d in mine] == [values(d) for d in theirs]
        for limit, cost, at, peek in [] if together else requests:
            verb = "peek" if peek else "acquire"
            left = await getattr(storage, verb)(identifier, limit, cost, at)
            right = await getattr(memory, verb)(identifier, limit, cost, at)
            assert values(left) == values(right)

    runner.run(both())


@many
@given(
    limit=st.sampled_from([limit for limit in LIMITS if isinstance(limit, Limit)]),
    flushes=st.lists(
        st.tuples(
            st.sampled_from(["n1", 'n"2', "ñ"]),
            st.integers(1, 3),
            st.sampled_from([0.0, 0.1, 1.0, 2.5]),
            st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(COSTS), st.integers(0, 3)), min_size=1, max_size=4),
            st.booleans(),
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_charges_repeated_overtaken_late_or_of_a_new_epoch_merge_as_in_memory(run: Any, limit: Limit, flushes: Any) -> None:
    runner, storage, clock = run
    clock.now = NOW
    memory = MemoryStorage(runtime=AsyncioRuntime(lambda: NOW))
    identifier = f"key {next(serial)}"
    charges = []
    for node, epoch, before, entries, twice in flushes:
        placed = tuple((NOW + step, cost, requests) for step, cost, requests in entries)
        charges += [Charge(identifier, limit, node, epoch, before, placed)] * (1 + twice)

    async def both() -> None:
        half = len(charges) // 2
        for part in (charges[:half], charges[half:]):
            assert await storage.charge_many(part) == await memory.charge_many(part)
            mine = await storage.acquire(identifier, limit, 0.5, NOW + 1)
            assert values(mine) == values(await memory.acquire(identifier, limit, 0.5, NOW + 1))
        assert await storage.get_state(identifier, limit.name) == await memory.get_state(identifier, limit.name)

    runner.run(both())


@pytest.mark.parametrize("limit", LIMITS[:6])
def test_a_state_moves_to_memory_and_back_and_decides_alike(run: Any, limit: Limit) -> None:
    runner, storage, clock = run
    clock.now = NOW
    memory = MemoryStorage(runtime=AsyncioRuntime(clock))

    async def move() -> None:
        there, back = f"there {next(serial)}", f"back {next(serial)}"
        await storage.acquire(there, limit, 1.5, NOW - 1 / 3)
        await storage.charge_many([Charge(there, limit, "n", 7, 0.0, ((NOW - 0.1, 0.2, 1),))])
        state = await storage.get_state(there)
        assert state is not None
        assert state.request_count == 2
        await memory.set_state(there, state)
        exported = await memory.get_state(there)
        assert exported == state
        await storage.batch_set([(back, state, 100.0), (f"{back} 2", state, None)])
        assert await storage.batch_get([back, "nobody", f"{back} 2"]) == [
            (back, state),
            ("nobody", None),
            (f"{back} 2", state),
        ]
        answers = [
            values(await each.acquire(key, limit, 1.0, NOW + 0.2))
            for each, key in ((storage, there), (memory, there), (storage, back))
        ]
        assert answers[0] == answers[1] == answers[2]

    runner.run(move())


async def test_metadata_is_kept_until_the_state_starts_afresh(server: Server) -> None:
    async with storage_of(server) as storage:
        bucket, window = Limit(5, 1000, "token_bucket"), Limit(5, 1000, "fixed_window")
        await storage.acquire("meta", bucket)
        state = await storage.get_state("meta")
        assert state is not None
        noted = type(state)(state.algorithm_data, state.created_at, state.last_accessed, 9, {"wer": "Jürgen 'x' %s"})
        await storage.set_state("meta", noted)
        await storage.acquire("meta", bucket)
        kept = await storage.get_state("meta")
        assert kept is not None
        assert (kept.metadata, kept.request_count, kept.created_at) == (noted.metadata, 10, noted.created_at)
        await storage.acquire("meta", window)
        fresh = await storage.get_state("meta")
        assert fresh is not None
        assert (fresh.metadata, fresh.request_count) == ({}, 1)


# -- several at once --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["token_bucket", "fixed_window", "sliding_window"])
async def test_200_requests_from_4_storages_admit_exactly_the_limit(server: Server, algorithm: str) -> None:
    storages = [await storage_of(server, pool_size=5).open() for _ in range(4)]
    limit = Limit(37, 1000, algorithm)
    decisions = await asyncio.gather(*(storages[i % 4].acquire(f"crowd {algorithm}", limit, now=NOW) for i in range(200)))
    assert sum(map(bool, decisions)) == 37
    for storage in storages:
        await storage.close()


async def test_batches_of_the_same_identifiers_in_other_orders_do_not_deadlock(server: Server) -> None:
    storages = [await storage_of(server, pool_size=2).open() for _ in range(4)]
    pair = (Limit(50, 1000, "token_bucket", name="b"), Limit(1000, 1000, "fixed_window", name="a"))
    one = Limit(40, 1000, "sliding_window")
    names = [f"row {i}" for i in range(30)]

    async def node(number: int) -> list[Decision]:
        decisions = []
        for turn in range(4):
            shift = 7 * number + turn
            order = names[shift:] + names[:shift] if number % 2 else list(reversed(names))
            decisions += await storages[number].acquire_many([Request(n, one if turn % 2 else pair, 5, NOW) for n in order])
            await storages[number].charge_many([Charge(n, pair[0], f"n{number}", 1, turn, ((NOW, 1.0, 1),)) for n in order])
        return decisions

    every = [decision for part in await asyncio.gather(*map(node, range(4))) for decision in part]
    assert len(every) == 4 * 4 * 30
    for storage in storages:
        assert not storage.client.errors
    # 40 / 5 = 8 requests of 5 for each identifier, all of which were admitted by `one` alone.
    assert sum(d.allowed for d in every if d.limit == one) == 30 * 8
    for storage in storages:
        await storage.close()


async def test_eight_nodes_that_start_at_once_find_one_schema(server: Server) -> None:
    storages = [storage_of(server, table_name="together", pool_size=1) for _ in range(8)]
    await asyncio.gather(*(storage.open() for storage in storages))
    limit = Limit(3, 1000, "fixed_window")
    decisions = await asyncio.gather(*(storage.acquire("x", limit, now=NOW) for storage in storages))
    assert sum(map(bool, decisions)) == 3
    for storage in storages:
        await storage.close()


async def test_a_batch_keeps_the_order_of_each_identifier(server: Server) -> None:
    async with storage_of(server) as storage:
        memory = MemoryStorage()
        small, large = Limit(2, 1000, "token_bucket"), Limit(9, 1000, "token_bucket")
        batch = [Request(f"ord {i % 3}", (small, large)[i * 5 // 7 % 2], 1.0, NOW + i) for i in range(40)]
        mine, theirs = await storage.acquire_many(batch), await memory.acquire_many(batch)
        assert list(map(values, mine)) == list(map(values, theirs))


async def test_a_batch_of_one_limit_is_one_statement(server: Server) -> None:
    async with storage_of(server, table_name="once") as storage:
        limit = Limit(2, 1000, "token_bucket")
        await storage.acquire_many([Request(f"{i:03}", limit, 1.0, NOW) for i in range(100)])
        with psycopg.connect(server.url) as connection:
            rows = connection.execute("SELECT count(*), count(DISTINCT xmin::text) FROM once").fetchone()
        assert rows == (100, 1)  # one transaction wrote them all


# -- the rest of the interface ----------------------------------------------------------------------------------------


async def test_a_denied_request_and_a_peek_write_nothing(server: Server) -> None:
    async with storage_of(server, table_name="untouched") as storage:
        limit = Limit(2, 1000, "token_bucket")
        assert not await storage.acquire("new", limit, 3.0, NOW)
        assert await storage.peek("new", limit, 1.0, NOW)
        pair = (limit, Limit(1, 1000, "fixed_window", name="w"))
        assert not await storage.acquire("new", pair, 1.5, NOW)
        assert await storage.acquire("old", limit, 2.0, NOW)
        with psycopg.connect(server.url, autocommit=True) as connection:
            before = connection.execute("SELECT xmin::text, xmax::text, ctid::text, * FROM untouched").fetchall()
            assert not await storage.acquire("old", limit, 1.0, NOW + 1)
            assert connection.execute("SELECT xmin::text, xmax::text, ctid::text, * FROM untouched").fetchall() == before
        assert len(before) == 1


async def test_cleanup_deletes_what_expired_in_batches_and_nothing_else(server: Server) -> None:
    clock = Clock()
    config = PostgresStorageConfig(url=server.url, table_name="old", cleanup_batch_size=7, unlogged=True)
    async with PostgresStorage(config, AsyncioRuntime(clock)) as storage:
        short, long = Limit(2, 5, "token_bucket"), Limit(2, 5000, "token_bucket")
        await storage.acquire_many([Request(f"s{i:02}", short) for i in range(50)])
        await storage.acquire_many([Request(f"l{i:02}", long) for i in range(9)])
        assert await storage.increment("c", 2, 3.0) == 2
        assert await storage.cleanup_expired() == 0
        clock.now += 20
        assert await storage.cleanup_expired() == 51
        assert await storage.cleanup_expired() == 0
        stats = await storage.get_stats()
        assert stats.entries == 9
        assert stats.bytes > 0
        assert stats.operations == 60
        with psycopg.connect(server.url) as connection:
            kind = connection.execute("SELECT relpersistence FROM pg_class WHERE relname = 'old'").fetchone()
        assert kind in {("u",), (b"u",)}


async def test_a_counter_lives_its_window_from_the_first_hit_and_reset_forgets_it(server: Server) -> None:
    clock = Clock()
    config = PostgresStorageConfig(url=server.url, command_timeout=20.0)
    async with PostgresStorage(config, AsyncioRuntime(clock)) as storage:
        assert [await storage.increment("hits", 2, 10.0) for _ in range(3)] == [2, 4, 6]
        clock.now += 9.5
        assert await storage.increment("hits", 0, 10.0) == 6
        clock.now += 0.5
        assert await storage.increment("hits", 1, 10.0) == 1
        increments = [Increment(f"hits {i % 2}", 1, 10.0, clock.now) for i in range(6)]
        assert await storage.driver.execute(increments) == [1, 1, 2, 2, 3, 3]
        limits = (Limit(1, 1000, "token_bucket", name="a"), Limit(1, 1000, "fixed_window"))
        assert await storage.acquire("hits", limits)
        await storage.reset("hits")
        assert await storage.get_state("hits", "a") is None
        assert await storage.acquire("hits", limits)
        assert await storage.increment("hits", 1, 10.0) == 1


async def test_a_state_expires_with_its_ttl(server: Server) -> None:
    clock = Clock()
    async with PostgresStorage(PostgresStorageConfig(url=server.url), AsyncioRuntime(clock)) as storage:
        await storage.acquire("brief", Limit(5, 1000, "token_bucket"))
        state = await storage.get_state("brief")
        assert state is not None
        await storage.set_state("brief", state, 5.0)
        clock.now += 4.5
        assert await storage.get_state("brief") == state
        clock.now += 0.5
        assert await storage.get_state("brief") is None
        await storage.set_state("brief", state, math.inf)
        clock.now += 1e9
        assert await storage.get_state("brief") == state


@pytest.mark.parametrize(
    "identifier", ["", "x" * 1000, "'; DROP TABLE ratesim_state; --", 'a"b', "100%s %(now)s", "Σ 漢字 🙂", "a\\b{},"]
)
async def test_any_text_identifies(server: Server, identifier: str) -> None:
    async with storage_of(server) as storage:
        limit = Limit(1, 1000, "token_bucket")
        assert await storage.acquire(identifier, limit, now=NOW)
        assert not await storage.acquire(identifier, limit, now=NOW)
        assert await storage.increment(identifier, 3, 1000.0) == 3
        assert [name for name, state in await storage.batch_get([identifier])] == [identifier]


async def test_what_postgresql_cannot_hold_fails_alone_and_says_why(server: Server) -> None:
    async with storage_of(server) as storage:
        limit = Limit(5, 1000, "token_bucket")
        names = ["a\0b", "fine", "\ud800", "y" * 2501]
        answers = await storage.driver.execute([Acquire(n, (limit,), 1.0, NOW, True) for n in names])
        assert [type(answer) for answer in answers] == [KeyRefusedError, Decision, KeyRefusedError, KeyRefusedError]
        assert "NUL" in str(answers[0])
        assert "surrogate" in str(answers[2])
        assert "2500 bytes" in str(answers[3])
        with pytest.raises(StorageError, match="NUL"):
            await storage.acquire("a\0b", limit)
        for holder, why in (("a\0b", "NUL"), ("\ud800", "surrogate")):
            with pytest.raises(KeyRefusedError, match=why):
                await storage.claim("node", holder, 5.0)


DAMAGE = {
    "watermarks": "'[1]'",
    "metadata": "'7'",
    "state": "array_fill(NULL::float8, ARRAY[2])",
    "state ": "array_fill('NaN'::float8, ARRAY[2])",
    "algorithm": "'of the future'",
    "request_count": "9223372036854775807",
}


async def test_a_row_that_is_damaged_or_overflows_fails_alone_and_the_others_once(server: Server) -> None:
    """One statement carries all of them, and is rolled back as a whole; the sound rows are then written by another."""
    limit = Limit(100, 1000, "token_bucket")
    names = [f"sound {i}" for i in range(29)]
    for place, key in enumerate(DAMAGE):
        names.insert(5 * place, f"bad {key}")
    async with storage_of(server) as storage, await psycopg.AsyncConnection.connect(server.url, autocommit=True) as admin:
        await storage.acquire_many([Request(name, limit, 1.0, NOW) for name in names])
        for column, value in DAMAGE.items():
            table, bad = storage.config.table_name, f"bad {column}"
            await admin.execute(f'UPDATE "{table}" SET {column} = {value} WHERE identifier = %s', [bad])
        charges = [Charge(name, limit, "n", 1, 0.0, ((NOW, 1.0, 1),)) for name in names]
        for operations in (
            [Acquire(name, (limit,), 1.0, NOW, True) for name in names],
            [Apply(charge) for charge in charges],
            [Get(name, "", NOW) for name in names],
        ):
            for name, answer in zip(names, await storage.driver.execute(operations), strict=True):
                if name.startswith("sound"):
                    assert not isinstance(answer, Exception), name
                else:
                    assert isinstance(answer, KeyRefusedError | Decision | RateLimitState | None), (name, answer)
        for name in names:
            if name.startswith("sound"):
                assert (await storage.peek(name, limit, now=NOW)).remaining == 97.0


async def test_a_row_that_another_transaction_locks_delays_its_batch_and_fails_alone(server: Server) -> None:
    limit = Limit(100, 1000, "token_bucket")
    names = [f"key {i}" for i in range(20)]
    async with (
        storage_of(server, command_timeout=4.0) as storage,
        await psycopg.AsyncConnection.connect(server.url) as other,
    ):
        await storage.acquire_many([Request(name, limit, 1.0, NOW) for name in names])
        await storage.acquire_many([Request("key 7", Limit(5, 60, name="b"), 1.0, NOW)])
        await asyncio.gather(*(storage.increment(name, 1, 60.0) for name in names))
        tables = storage.driver.tables
        for table in tables:
            await other.execute(f"SELECT FROM {table} WHERE identifier = 'key 7' FOR UPDATE".encode())
        charges = [Charge(name, limit, "n", 1, 0.0, ((NOW, 1.0, 1),)) for name in names]
        for operations in (
            [Acquire(name, (limit,), 1.0, NOW, True) for name in names],
            [Apply(charge) for charge in charges],
            [Increment(name, 1, 60.0, NOW) for name in names],
        ):
            answers = await storage.driver.execute(operations)
            assert isinstance(answers[7], StorageTimeoutError)
            assert not any(isinstance(answer, Exception) for answer in answers[:7] + answers[8:])
        await other.rollback()
        for name in names:
            assert (await storage.peek(name, limit, now=NOW)).remaining == (99.0 if name == "key 7" else 97.0)


# -- when things go wrong ---------------------------------------------------------------------------------------------


async def test_an_unreachable_server_is_one_line_that_names_it_without_its_password() -> None:
    url = "postgresql://me:hush@127.0.0.1:9/db?password=hush"
    storage = PostgresStorage(PostgresStorageConfig(url=url, connection_timeout=2.0, retries=0))
    with pytest.raises(StorageConnectionError, match=r"127\.0\.0\.1:9.*start it") as caught:
        await storage.open()
    with pytest.raises(StorageConnectionError) as again:
        await storage.acquire("x", Limit(1, 1))
    assert not caught.value.sent
    assert not again.value.sent
    assert "\n" not in str(caught.value)
    for text in (str(caught.value), str(again.value), repr(storage), repr(storage.driver)):
        assert "hush" not in text
    assert not (await storage.health_check()).healthy
    await storage.close()


async def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
    mute = await asyncio.start_server(lambda reader, writer: asyncio.Event().wait(), "127.0.0.1", 0)
    port = mute.sockets[0].getsockname()[1]
    storage = PostgresStorage(PostgresStorageConfig(url=f"postgresql://127.0.0.1:{port}/x", connection_timeout=0.3))
    with pytest.raises(StorageConnectionError, match=f"127.0.0.1:{port}"):
        await storage.open()
    await storage.close()
    mute.close()


def test_a_url_that_is_none_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigurationError) as caught:
        PostgresStorage(PostgresStorageConfig(url="postgres//me:hush@host"))
    assert "hush" not in str(caught.value)


async def test_a_statement_that_waits_too_long_is_a_timeout(server: Server) -> None:
    limit = Limit(5, 1000, "token_bucket")
    async with storage_of(server) as patient, storage_of(server, command_timeout=0.3, retries=0) as storage:
        await patient.acquire("held", limit, now=NOW)
        async with await psycopg.AsyncConnection.connect(server.url) as holder:
            await holder.execute("SELECT 1 FROM ratesim_state WHERE identifier = 'held' FOR UPDATE")
            with pytest.raises(StorageTimeoutError):
                await storage.acquire("held", limit, now=NOW)
        assert await patient.acquire("held", limit, now=NOW)


async def test_connections_that_ended_while_idle_cost_no_failed_request(server: Server) -> None:
    async with storage_of(server, table_name="broken", retries=0, pool_size=5) as storage:
        limit = Limit(1000, 1000, "token_bucket")
        await asyncio.gather(*(storage.acquire(f"x{i}", limit, now=NOW) for i in range(50)))
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE application_name = 'ratesim' AND pid <> pg_backend_pid()"
            )
        for _ in range(10):
            assert await storage.acquire("x", limit, now=NOW)
        assert not storage.client.errors


async def test_a_closed_storage_says_so_and_closing_twice_is_nothing_more(server: Server) -> None:
    storage = await storage_of(server).open()
    await storage.close()
    await storage.close()
    with pytest.raises(StorageConnectionError, match="closed"):
        await storage.acquire("x", Limit(1, 1))
