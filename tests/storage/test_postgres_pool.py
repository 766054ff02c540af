"""The pool of PostgreSQL's connections: whatever its callers do, it stays within its size and the next caller is served."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.pq import TransactionStatus

from ratesim.errors import StorageConnectionError, StorageUnavailableError
from ratesim.storage.postgres import connections
from ratesim.storage.postgres.connections import Connection, ConnectionPool

SIZE = 3


class Line:
    """A connection without a server."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.closed = self.ended = self.cut = False
        self.pgconn = SimpleNamespace(transaction_status=TransactionStatus.IDLE)
        self.opened = self.idle_since = 0.0
        self.lifetime = 1e9
        self.leaving = None
        world.lines.add(self)

    def finish(self) -> None:
        self.closed = True
        self.world.lines.discard(self)

    def has_ended(self) -> bool:
        return self.closed or self.ended

    async def execute(self, _: str) -> None:
        if self.cut:
            await asyncio.Event().wait()
        await asyncio.sleep(0)


class World:
    """The server: it makes connections, slowly, and refuses some."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.lines: set[Line] = set()
        self.fails = 0.2
        self.most = 0

    async def connect(self) -> Connection:
        for _ in range(self.rng.randrange(4)):
            await asyncio.sleep(0)
        if self.rng.random() < self.fails:
            raise StorageConnectionError("refused", sent=False)
        line = Line(self)
        self.most = max(self.most, len(self.lines))
        return cast(Any, line)


async def caller(pool: ConnectionPool, world: World) -> str:
    try:
        line = cast(Any, pool.take_nowait() or await pool.take())
    except StorageConnectionError:
        return "refused"
    assert not line.closed
    assert not line.ended
    try:
        for _ in range(world.rng.randrange(4)):
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        line.finish()  # as Connection.wait does
        raise
    finally:
        fate = world.rng.randrange(6)
        if fate == 0:
            line.finish()
        elif fate == 1:
            line.pgconn.transaction_status = TransactionStatus.INERROR
        elif fate == 2:
            line.lifetime = -1.0
        pool.give_back(line)
        line.ended = fate == 3 and line in pool._idle
    return "served"


@given(
    seed=st.integers(0, 2**32),
    steps=st.lists(st.sampled_from(["call", "call", "call", "cancel", "turn", "cut"]), max_size=60),
)
def test_after_any_history_the_next_caller_is_served(seed: int, steps: list[str]) -> None:
    rng = random.Random(seed)
    world = World(rng)

    async def history() -> None:
        pool = ConnectionPool(world.connect, SIZE, probe_seconds=0.001)
        calls: list[asyncio.Task[str]] = []
        for step in steps:
            if step == "call":
                calls.append(asyncio.create_task(caller(pool, world)))
            elif step == "cancel" and calls:
                rng.choice(calls).cancel()
            elif step == "cut" and world.lines:
                rng.choice(sorted(world.lines, key=id)).cut = True
            else:
                await asyncio.sleep(0)
        world.fails = 0.0
        async with asyncio.timeout(30):
            for answer in await asyncio.gather(*calls, return_exceptions=True):
                assert answer in ("served", "refused") or isinstance(answer, asyncio.CancelledError)
            taken = [await pool.take() for _ in range(SIZE)]  # a place that was lost would never be free again
            for each in taken:
                pool.give_back(each)
        await pool.close()
        assert not world.lines
        with pytest.raises(StorageConnectionError, match="closed"):
            await pool.take()
        assert len(asyncio.all_tasks()) == 1

    before = connections.PROBE_AFTER
    connections.PROBE_AFTER = rng.choice([0.0, before])
    try:
        asyncio.run(history())
    finally:
        connections.PROBE_AFTER = before
    assert world.most <= SIZE


async def test_a_caller_who_gives_up_leaves_the_new_connection_to_the_next() -> None:
    world = World(random.Random(1))
    world.fails = 0.0
    made = asyncio.Event()

    async def connect() -> Connection:
        await made.wait()
        return await world.connect()

    pool = ConnectionPool(connect, 1, 1.0)
    first = asyncio.create_task(pool.take())
    await asyncio.sleep(0)
    first.cancel()
    second = asyncio.create_task(pool.take())
    await asyncio.sleep(0)
    made.set()
    async with asyncio.timeout(30):
        assert not (await second).closed
    assert first.cancelled()
    assert len(world.lines) == 1
    await pool.close()


async def test_callers_share_what_a_full_server_has() -> None:
    world = World(random.Random(1))
    world.fails = 0.0

    async def connect() -> Connection:
        if len(world.lines) >= 2:
            raise StorageUnavailableError("too many connections")
        return await world.connect()

    pool = ConnectionPool(connect, 5, 1.0)

    async def call() -> None:
        connection = await pool.take()
        await asyncio.sleep(0.001)
        pool.give_back(connection)

    async with asyncio.timeout(30):
        await asyncio.gather(*(call() for _ in range(50)))
    await pool.close()


async def test_a_defect_reaches_the_caller() -> None:
    async def connect() -> Connection:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ConnectionPool(connect, 1, 1.0).take()
