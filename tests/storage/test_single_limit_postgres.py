"""One limit at PostgreSQL: its own functions decide and leave what the general function does, also beside others."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import pytest
from examples import examples, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from test_twins import ALGORITHMS, NOW, asked, limits, moves

from ratesim import Limit
from ratesim.errors import BatchError, SerializationError, StorageError
from ratesim.runtime import AsyncioRuntime
from ratesim.servers import Server
from ratesim.storage import MemoryStorage, PostgresStorage, PostgresStorageConfig, RateLimitStorage, Request
from ratesim.storage.config import MAX_CLOCK_SKEW
from ratesim.storage.partitions import parse_partition
from ratesim.storage.postgres import schema
from ratesim.storage.postgres.single_limit import SingleLimit

FIXED = tuple(algorithm for algorithm in ALGORITHMS if algorithm != "sliding_log")
KEYS = ["a", "b", "c", "d"]
COLUMNS = (
    "identifier, name, algorithm, state::text, watermarks, metadata, request_count, "
    "extract(epoch FROM created_at), extract(epoch FROM last_accessed), expires_at::text, expected"
)

# A step: how it is asked, and the keys, of which one may be there twice.
WAYS = ["one", "peek", "many", "many", "other", "reset"]
hows = st.tuples(st.sampled_from(WAYS), st.lists(st.sampled_from(KEYS), min_size=1))


def opened(url: str, table: str, **options: Any) -> PostgresStorage:
    config = PostgresStorageConfig(url=url, table_name=table, command_timeout=60.0, cleanup_interval=0, **options)
    return PostgresStorage(config, AsyncioRuntime(lambda: NOW))


def rows(connection: psycopg.Connection, table: str) -> list[tuple[Any, ...]]:
    return connection.execute(f"SELECT {COLUMNS} FROM {table} ORDER BY 1, 2".encode()).fetchall()


async def step(storage: RateLimitStorage, how: str, keys: list[str], limit: Limit, cost: float, now: float) -> object:
    """Ask as the step says."""
    if how == "peek":
        return await storage.peek(keys[0], limit, cost, now)
    if how == "reset":
        return await storage.reset(keys[0])
    if how == "many":
        return await storage.acquire_many([Request(key, limit, cost / (1 + k), now + k / 64) for k, key in enumerate(keys)])
    if how == "other":
        return await storage.acquire(keys[0], Limit(3, 60.0, "token_bucket", name=limit.name), 1.0, now)
    return await storage.acquire(keys[0], limit, cost, now)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop for all examples."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def trio(
    loop: asyncio.AbstractEventLoop, postgres_server: Server
) -> Iterator[tuple[PostgresStorage, PostgresStorage, psycopg.Connection]]:
    """A storage, one whose limits are left to the general function, and a connection that looks at their rows."""
    own, general = opened(postgres_server.url, "single_own"), opened(postgres_server.url, "single_general")
    general.driver._statements._prepare = lambda limits: (None, limits)
    loop.run_until_complete(own.open())
    loop.run_until_complete(general.open())
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        yield own, general, connection
    loop.run_until_complete(own.close())
    loop.run_until_complete(general.close())


@settings(max_examples=examples(40, nightly=4000))
@given(
    limit=limits(among=FIXED) | limits("named", among=FIXED), moving=moves, steps=st.lists(hows, min_size=30, max_size=30)
)
def test_its_own_functions_leave_what_the_general_function_leaves(
    loop: asyncio.AbstractEventLoop,
    trio: tuple[PostgresStorage, PostgresStorage, psycopg.Connection],
    limit: Limit,
    moving: list[tuple[float | str, float, bool]],
    steps: list[tuple[str, list[str]]],
) -> None:
    own, general, connection = trio
    connection.execute("TRUNCATE single_own, single_general")
    before = [storage.driver.clock_rewinds for storage in (own, general)]

    async def body() -> None:
        async with MemoryStorage(runtime=AsyncioRuntime(lambda: NOW)) as memory:
            for (now, cost), (how, keys) in zip(asked(limit, moving, 1), steps, strict=False):
                answers = [await step(storage, how, keys, limit, cost, now) for storage in (own, general, memory)]
                assert answers[0] == answers[1] == answers[2]
                assert rows(connection, "single_own") == rows(connection, "single_general")
            rewinds = [storage.driver.clock_rewinds - b for storage, b in zip((own, general), before, strict=True)]
            assert rewinds == [memory.get_stats_nowait(walk=False).clock_rewinds] * 2

    loop.run_until_complete(body())


@pytest.mark.parametrize("algorithm", FIXED)
async def test_a_state_that_cannot_be_read_is_said_for_its_key_alone(postgres_server: Server, algorithm: str) -> None:
    limit, table = Limit(5, 60.0, algorithm), f"damaged_{algorithm}"
    async with opened(postgres_server.url, table) as storage:
        await storage.acquire("b", limit, now=NOW)
        with psycopg.connect(postgres_server.url, autocommit=True) as connection:
            (state,) = connection.execute(f"SELECT state FROM {table}".encode()).fetchone() or ()
            for place in range(len(state)):
                for damage in (None, math.nan, math.inf, -math.inf):
                    damaged = [*state[:place], damage, *state[place + 1 :]]
                    connection.execute(f"UPDATE {table} SET state = %b WHERE identifier = 'b'".encode(), [damaged])
                    found = rows(connection, table)
                    for ask in (storage.acquire, storage.peek):
                        with pytest.raises(SerializationError, match="a state that cannot be read"):
                            await ask("b", limit, 1.0, NOW)
                    for keys in (["a", "b", "c"], ["a", "b", "b", "c"]):
                        with pytest.raises(BatchError) as raised:
                            await storage.acquire_many([Request(key, limit, 0.0, NOW) for key in keys])
                        failed = [isinstance(each, SerializationError) for each in raised.value.results]
                        assert failed == [key == "b" for key in keys]
                    assert [row for row in rows(connection, table) if row[0] == "b"] == found[-1:]
                    connection.execute(f"DELETE FROM {table} WHERE identifier <> 'b'".encode())


# -- beside other transactions ---------------------------------------------------------------------------------------------

WAITING = "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE NOT l.granted AND a.query LIKE %s"
CHANGES = {
    "charged": "UPDATE {table} SET state[2] = state[2] - 3 WHERE identifier = 'b'",
    "used up": "UPDATE {table} SET state[2] = 0 WHERE identifier = 'b'",
    "deleted": "DELETE FROM {table} WHERE identifier = 'b'",
    "over": "UPDATE {table} SET expires_at = to_timestamp(0) WHERE identifier = 'b'",
    "of another algorithm": "UPDATE {table} SET algorithm = 'gcra' WHERE identifier = 'b'",
    "ahead": "UPDATE {table} SET state[1] = state[1] + 1000 WHERE identifier = 'b'",
}
BUCKET = Limit(5, 3600.0, "token_bucket")
ASKED: dict[str, list[str]] = {"one": ["b"], "distinct": ["a", "b", "c", "d", "x"], "each": ["a", "b", "b", "c"]}


async def decide(storage: RateLimitStorage, keys: list[str]) -> list[Any]:
    """Ask, of one key alone or of several together."""
    if len(keys) == 1:
        return [await storage.acquire(keys[0], BUCKET, 2.0, NOW + 1.0)]
    return await storage.acquire_many([Request(key, BUCKET, 2.0, NOW + 1.0) for key in keys])


async def meet(url: str, table: str, keys: list[str], change: str, meets: bool = True, **options: Any) -> list[Any]:
    """Answer what requests decide and leave: while a transaction that changes the row of b goes on, or behind it."""
    async with (
        opened(url, table, **options) as storage,
        await psycopg.AsyncConnection.connect(url) as other,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as watch,
    ):
        for key in [*KEYS, "e", "f", "x"]:
            await storage.reset(key)
        for key, cost in {**dict.fromkeys(KEYS, 1.0), "d": 4.5, "x": 5.0}.items():
            await storage.acquire(key, BUCKET, cost, NOW)
        await other.execute(change.format(table=table).encode())
        if not meets:
            await other.commit()
        asking = asyncio.create_task(decide(storage, keys))
        waits = meets
        while waits:  # until it waits for the row
            await asyncio.wait([asking], timeout=0.002)
            assert not asking.done()
            waits = (await (await watch.execute(WAITING, [f"%{table}\\_%"])).fetchone()) == (0,)
        await other.commit()
        decisions = await asking
        cursor = await watch.execute(f"SELECT {COLUMNS} FROM {table} ORDER BY 1, 2".encode())
        return [decisions, await cursor.fetchall()]


@pytest.mark.parametrize("strategy", ["none", "hash:3", "time:1d", "identifier:a*,b*"])
@pytest.mark.parametrize("how", ASKED)
async def test_a_row_that_changes_meanwhile_is_decided_on_as_it_is_then(
    postgres_server: Server, how: str, strategy: str
) -> None:
    options = {"partition_strategy": parse_partition(strategy)}
    url, table = postgres_server.url, f"meanwhile_{how}_{strategy.partition(':')[0]}"
    for change in CHANGES.values():
        met, behind = [await meet(url, table, ASKED[how], change, meets, **options) for meets in (True, False)]
        assert met == behind, change
        assert [row[0] for row in met[1]] == [*KEYS, "x"]


@pytest.mark.parametrize("how", ASKED)
async def test_a_key_that_another_transaction_inserts_is_decided_on_behind_it(postgres_server: Server, how: str) -> None:
    change = (
        "DELETE FROM {table} WHERE identifier = 'b'; "
        "INSERT INTO {table} (identifier, algorithm, state, request_count, created_at, last_accessed, expires_at) "
        f"VALUES ('b', 'token_bucket', ARRAY[{NOW!r}, 1.5], 7, 'epoch', 'epoch', to_timestamp({NOW} + 9999))"
    )
    url, table = postgres_server.url, f"inserted_{how}"
    met, behind = [await meet(url, table, ASKED[how], change, meets) for meets in (True, False)]
    assert met == behind
    assert not met[0][ASKED[how].index("b")].allowed


# -- mutants ---------------------------------------------------------------------------------------------------------------

# (template, what stands there, what a mutant has instead)
MUTANTS = [
    ("decide", "{{time}} - now > skew", "{{time}} - now >= skew"),
    ("decide", "IF {{time}} > at", "IF {{time}} < at"),
    ("decide", "room >= cost", "room > cost"),
    ("decide", "fresh + (at - now)", "fresh"),
    ("decide", "  IF NOT room > 0 THEN\n", "  IF room > 1 THEN\n"),
    ("decide", "({{readable}}) IS NOT TRUE", "({{readable}}) IS NULL"),
    ("decide_row", "EXIT WHEN NOT consume OR", "EXIT WHEN"),
    ("decide_row", "(verdict = 0 AND NOT back)", "verdict = 0"),
    ("decide_row", "{{margin}}), 1);", "{{margin}}), 0);"),
    ("decide_row", "request_count = t.request_count + 1", "request_count = t.request_count"),
    ("decide_row", "watermarks = '{}', metadata = '{}'", "watermarks = t.watermarks, metadata = t.metadata"),
    ("decide_row", "created_at = to_timestamp(now)", "created_at = t.created_at"),
    ("decide_row", "        AND t.state = stored", "        AND t.state = t.state"),
    ("decide_row", "AND t.algorithm = '{{algorithm}}' AND", "AND"),
    ("decide_row", "AND t.expires_at > to_timestamp(now);", "AND true;"),
    ("decide_proposal", "IF back AND consume", "IF false"),
    ("acquire_one", "IF back AND consume", "IF false"),
    ("acquire_each", "IF back AND consume", "IF false"),
    ("acquire_each", "denied := denied || stored;", "denied := stored;"),
    ("acquire_distinct", "THEN t.watermarks ELSE", "THEN '{}' ELSE"),
    ("acquire_distinct", "THEN t.request_count ELSE", "THEN 0 ELSE"),
    ("acquire_distinct", "THEN t.created_at ELSE", "THEN now() ELSE"),
    ("acquire_distinct", "WHERE t.state = excluded.expected", "WHERE true"),
    ("acquire_distinct", "AND (t.algorithm = excluded.algorithm AND t.expires_at > excluded.created_at) =", "AND true OR"),
    ("acquire_distinct", " WHERE w.expected IS NULL", ""),
    ("acquire_distinct", "AND t.expected IS NOT NULL", "AND false"),
    ("acquire_distinct", "place := place + {{size}}", "place := place"),
]


async def walk(url: str, table: str) -> list[Any]:
    """Every way of a request through the functions, and what it leaves."""
    found: list[Any] = []
    moves: list[tuple[str, list[str], float, float]] = [
        ("many", ["a", "b"], 2.0, 0.0),
        ("many", ["a", "b", "c"], 4.0, 0.5),
        ("many", ["a", "b", "b", "c", "d"], 3.0, 0.6),
        ("peek", ["a"], 1.0, 1.0),
        ("peek", ["x"], 1.0, 1.0),
        ("one", ["a"], 0.25, 1.0),
        ("one", ["a"], 9.0, 1.0),
        ("one", ["a"], 1.0, -20.0),
        ("one", ["b"], 9.0, -40.0),
        ("peek", ["c"], 1.0, -80.0),
        ("many", ["a", "b", "c", "d", "e"], 1.0, -100.0),
        ("many", ["a", "a", "b"], 9.0, -200.0),
        ("one", ["e"], 5.0, -130.0),
        ("one", ["e"], 1.0, -100.0),
        ("other", ["d"], 1.0, 2.0),
        ("one", ["d"], 1.0, 3.0),
        ("other", ["c"], 1.0, 3.0),
        ("many", ["b", "c", "d"], 5.0, 4.0),
        ("many", ["a", "b", "c", "d"], 1.0, 9999.0),
        ("one", ["a"], 1.0, 99999.0),
        ("one", ["f"], 1.0, 500.0),
        ("one", ["f"], 1.0, 500.0 - MAX_CLOCK_SKEW),
        ("many", ["f", "f"], 0.5, 300.0),
    ]
    async with opened(url, table) as storage, await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for key in [*KEYS, "e", "f", "x"]:
            await storage.reset(key)
        limit = Limit(5, 60.0, "gcra")
        for how, keys, cost, seconds in moves:
            found.append(await step(storage, how, keys, limit, cost, NOW + seconds))
            query = f"SELECT {COLUMNS} FROM {table} ORDER BY 1, 2".encode()
            found.append(await (await connection.execute(query)).fetchall())
            marked = f"""UPDATE {table} SET watermarks = '{{"n": [1, 2.0]}}', metadata = '{{"k": "v"}}'"""
            await connection.execute(marked.encode())
        found.append(storage.driver.clock_rewinds)
        damage = f"UPDATE {table} SET state = '{{NaN,0,60}}', expires_at = 'infinity' WHERE identifier = 'b'"
        await connection.execute(damage.encode())
        try:
            found.append(await step(storage, "one", ["b"], limit, 0.0, NOW))
        except SerializationError:
            found.append("damaged")
    return found


async def sights(url: str, table: str) -> AsyncIterator[Any]:
    """What can be seen of the functions, the cheapest first."""
    yield await walk(url, table)
    for change in CHANGES.values():
        for keys in ASKED.values():
            yield await meet(url, table, keys, change)


@pytest.fixture(scope="module")
def honest(loop: asyncio.AbstractEventLoop, postgres_server: Server) -> list[Any]:
    """What is seen of the functions as they are."""

    async def seen() -> list[Any]:
        return [sight async for sight in sights(postgres_server.url, "honest")]

    return loop.run_until_complete(seen())


async def test_a_walk_leaves_what_the_general_function_leaves(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch, honest: list[Any]
) -> None:
    monkeypatch.setattr(SingleLimit, "suits", staticmethod(lambda limits: False))
    # It takes a damaged time for one that is too far ahead.
    assert (await walk(postgres_server.url, "general"))[:-1] == honest[0][:-1]


@pytest.mark.parametrize(("template", "old", "new"), sample(MUTANTS, MUTANTS[::4]))
async def test_a_function_that_is_changed_decides_otherwise(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch, honest: list[Any], template: str, old: str, new: str
) -> None:
    read: Callable[[str], str] = schema._template
    assert old in read(template)
    monkeypatch.setattr(schema, "_template", lambda name: read(name).replace(old, new) if name == template else read(name))
    expected = iter(honest)
    try:
        async for sight in sights(postgres_server.url, "mutants"):
            if sight != next(expected):
                return
    except (StorageError, BatchError):
        return
    pytest.fail("no difference is seen")
