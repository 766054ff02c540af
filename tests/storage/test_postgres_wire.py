"""Statements over libpq: the binary format is psycopg's, and no loss, cancellation or size confuses a connection."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import conninfo
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import Format
from psycopg.types.numeric import Int4, Int8

from ratesim.errors import StorageConnectionError
from ratesim.limit import Limit
from ratesim.servers import Server
from ratesim.storage.base import Request
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.postgres import PostgresStorage
from ratesim.storage.postgres.binary_format import DECODERS, ENCODERS, Call
from ratesim.storage.postgres.connections import Connection
from ratesim.storage.postgres.connector import Connector

HANG = 30.0  # seconds after which a test fails that a fault would keep waiting
LIMIT = Limit(1000, 3600, "token_bucket")

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
INT4 = st.integers(-(2**31), 2**31 - 1)
INT8 = st.integers(-(2**63), 2**63 - 1)
VALUES: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], Any]]] = {  # and how psycopg is told the type
    "text": (TEXTS, str),
    "boolean": (st.booleans(), bool),
    "int": (INT4, Int4),
    "bigint": (INT8, Int8),
    "float8": (st.floats(), float),
}
SIZES = st.sampled_from([0, 1, 2, 3, 255, 256, 257, 600])  # about the number of elements that are written at a time


def same(mine: Any, other: Any) -> bool:
    return repr(mine) == repr(other)  # NaN is one, and -0.0 is not 0.0


@st.composite
def arrays(draw: st.DrawFn, kind: str) -> list[Any]:
    few = draw(st.lists(VALUES[kind][0], min_size=1, max_size=5))
    count = draw(SIZES)
    return (few * count)[:count]


# -- the binary format ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
def test_a_value_is_written_and_read_as_psycopg_does(kind: str, data: st.DataObject) -> None:
    values, typed = VALUES[kind]
    value = data.draw(values)
    (mine,) = Call(b"", [kind]).encode([value], "utf-8")
    theirs = Transformer().get_dumper(typed(value), PyFormat.BINARY)
    assert mine == theirs.dump(typed(value))
    oid = ENCODERS[kind][0]
    assert oid == theirs.oid
    assert same(DECODERS[oid](mine, "utf-8"), value)
    assert same(Transformer().get_loader(oid, Format.BINARY).load(mine), value)


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
def test_an_array_is_written_and_read_as_psycopg_does(kind: str, data: st.DataObject) -> None:
    values, oid = data.draw(arrays(kind)), ENCODERS[f"{kind}[]"][0]
    (mine,) = Call(b"", [f"{kind}[]"]).encode([values], "utf-8")
    assert same(Transformer().get_loader(oid, Format.BINARY).load(mine), values)
    if kind != "text":
        assert same(DECODERS[oid](mine, "utf-8"), values)
    if values:
        typed = [VALUES[kind][1](value) for value in values]
        dumper = Transformer().get_dumper(typed, PyFormat.BINARY)
        assert mine == dumper.dump(typed)
        assert dumper.oid == oid


@given(st.lists(st.none() | st.floats(allow_nan=False), min_size=1, max_size=300))
@example([None])
@example([1.5, None])
def test_an_array_with_nulls_is_read(values: list[float | None]) -> None:
    written = Transformer().get_dumper([1.0], PyFormat.BINARY).dump(values)
    assert same(DECODERS[1022](bytes(written), "utf-8"), values)


@given(
    st.recursive(
        st.none() | st.booleans() | INT8 | TEXTS, lambda each: st.lists(each) | st.dictionaries(TEXTS, each), max_leaves=6
    )
)
def test_jsonb_is_read(value: object) -> None:
    written = Transformer().get_dumper(psycopg.types.json.Jsonb(value), PyFormat.BINARY)
    assert DECODERS[3802](bytes(written.dump(psycopg.types.json.Jsonb(value)) or b""), "utf-8") == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [("int", 2**31), ("bigint[]", [2**63]), ("float8", "x"), ("text", 5), ("text[]", [b"x"]), ("float8[]", [None])],
)
def test_a_value_of_another_type_is_an_error_of_psycopg(kind: str, value: object) -> None:
    with pytest.raises(psycopg.DataError):
        Call(b"", [kind]).encode([value], "utf-8")


def test_texts_are_written_in_the_encoding_of_the_session() -> None:
    assert Call(b"", ["text"]).encode(["é"], "latin-1") == [b"\xe9"]
    assert Call(b"", ["text[]", "int"]).encode([["é"], 1], "latin-1")[0].endswith(b"\x01\xe9")
    with pytest.raises(UnicodeEncodeError):
        Call(b"", ["text[]"]).encode([["ключ"]], "latin-1")


# -- a connection -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Connection]:
    connection = await Connector(PostgresStorageConfig(url=url, **options)).connect()
    try:
        yield connection
    finally:
        connection.finish()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(HANG):
        while not await condition():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)


async def test_every_type_makes_the_way_to_the_server_and_back(postgres_server: Server) -> None:
    types = ["text", "boolean", "int", "bigint", "float8", "float8[]", "bigint[]"]
    values = ["ключ", True, -7, 2**40, math.inf, [0.1, -0.0, 5e-324], []]
    columns = ", ".join(f"${place}::{each}" for place, each in enumerate(types, 1))
    call = Call(f"SELECT {columns}, '{{\"a\": [1, 2.5]}}'::jsonb, NULL::text, ARRAY[1.5, NULL]::float8[]".encode(), types)
    async with connected(postgres_server.url) as connection:
        (row,) = await connection.fetch(call, values)
        assert same(list(row), [*values, {"a": [1, 2.5]}, None, [1.5, None]])
        with pytest.raises(psycopg.NotSupportedError, match="OID 1114"):
            await connection.fetch(Call(b"SELECT now()::timestamp", []), [])
        assert await connection.fetch(Call(b"SELECT 1 WHERE false", []), []) == []


@pytest.mark.parametrize("prepared", [False, True])
async def test_an_error_of_the_server_leaves_the_connection_usable(postgres_server: Server, prepared: bool) -> None:
    async with connected(postgres_server.url, prepared_statements=prepared) as connection:
        divide = Call(b"SELECT 1 / $1::int", ["int"])
        for _ in range(3):
            with pytest.raises(psycopg.errors.DivisionByZero):
                await connection.fetch(divide, [0])
            assert await connection.fetch(divide, [1]) == [(1,)]
            with pytest.raises(psycopg.errors.UndefinedTable):
                await connection.fetch(Call(b"SELECT * FROM no_such_table", []), [])
            # psycopg itself, in between.
            assert await (await connection.execute("SELECT 2")).fetchall() == [(2,)]
        assert not connection.closed


async def test_a_statement_is_prepared_once_in_a_session(postgres_server: Server) -> None:
    async with connected(postgres_server.url, prepared_statements=True) as connection:
        for number in range(5):
            assert await connection.fetch(Call(b"SELECT $1::int", ["int"]), [number]) == [(number,)]
        count = await connection.execute("SELECT count(*) FROM pg_prepared_statements")
        assert await count.fetchone() == (1,)


async def test_statements_before_and_after_belong_to_one_transaction(postgres_server: Server) -> None:
    call = Call(b"SELECT current_setting('lock_timeout'), 1 / $1::int", ["int"])
    settings = [b"SELECT pg_catalog.set_config('lock_timeout', '77ms', true)"]
    begin = [b"BEGIN ISOLATION LEVEL READ COMMITTED", *settings]
    async with connected(postgres_server.url) as connection:
        assert await connection.fetch(call, [1], settings) == [("77ms", 1)]
        assert await connection.fetch(call, [1], begin, [b"COMMIT"]) == [("77ms", 1)]
        with pytest.raises(psycopg.errors.DivisionByZero):
            await connection.fetch(call, [0], settings)
        assert await connection.fetch(call, [1]) == [("0", 1)]


async def test_what_does_not_fit_into_the_socket_is_written_when_it_is_ready(postgres_server: Server) -> None:
    text = "x" * 20_000_000
    async with connected(postgres_server.url) as connection, asyncio.timeout(HANG):
        assert await connection.fetch(Call(b"SELECT $1::text", ["text"]), [text]) == [(text,)]
        assert await connection.fetch(Call(b"SELECT 1", []), []) == [(1,)]


async def test_a_canceled_statement_ends_at_the_server_and_its_connection_is_not_used_again(postgres_server: Server) -> None:
    loop = asyncio.get_running_loop()
    async with connected(postgres_server.url) as connection:
        process = connection.pgconn.backend_pid
        sleeping = asyncio.create_task(connection.fetch(Call(b"SELECT pg_sleep(600)", []), []))
        async with await psycopg.AsyncConnection.connect(postgres_server.url, autocommit=True) as admin:

            async def sleeps() -> bool:
                seen = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
                return bool(await (await admin.execute(seen, [process])).fetchone())

            async def is_gone() -> bool:
                return not await (await admin.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [process])).fetchone()

            await until(sleeps)
            sleeping.cancel()
            begun = loop.time()
            with pytest.raises(asyncio.CancelledError):
                await sleeping
            assert loop.time() - begun < HANG
            await until(is_gone)
        if connection.leaving is not None:
            await connection.leaving
        assert connection.closed
        with pytest.raises(psycopg.OperationalError):
            await connection.fetch(Call(b"SELECT 1", []), [])


async def test_an_idle_connection_that_the_server_ends_is_closed_at_once(postgres_server: Server) -> None:
    async with connected(postgres_server.url) as connection:
        await connection.fetch(Call(b"SELECT 1", []), [])
        async with await psycopg.AsyncConnection.connect(postgres_server.url, autocommit=True) as admin:
            await admin.execute("SELECT pg_terminate_backend(%s)", [connection.pgconn.backend_pid])

        async def is_closed() -> bool:
            return connection.closed

        await until(is_closed)
        # Its descriptor may be another connection's by now.
        async with connected(postgres_server.url) as other:
            assert await other.fetch(Call(b"SELECT 1", []), []) == [(1,)]
            connection.finish()
            assert await other.fetch(Call(b"SELECT 2", []), []) == [(2,)]


async def test_the_last_words_of_the_server_are_the_error(postgres_server: Server) -> None:
    async with connected(postgres_server.url) as connection:
        sleeping = asyncio.create_task(connection.fetch(Call(b"SELECT pg_sleep(600)", []), []))
        async with await psycopg.AsyncConnection.connect(postgres_server.url, autocommit=True) as admin:
            while not (  # noqa: ASYNC110 - of another process
                await (
                    await admin.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'",
                        [connection.pgconn.backend_pid],
                    )
                ).fetchone()
            ):
                await asyncio.sleep(0.01)
        async with asyncio.timeout(HANG):
            with pytest.raises(psycopg.errors.AdminShutdown):
                await sleeping
        assert connection.closed


# -- a connection that is lost in the middle of an answer -------------------------------------------------------------


class Cutter:
    """Carries bytes between clients and the server; an answer is cut off after so many bytes, when it is told to."""

    def __init__(self, server: Server) -> None:
        address = conninfo.conninfo_to_dict(server.url)
        self._path = f"{address['host']}/.s.PGSQL.{address.get('port', 5432)}"
        self.left: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def started(self) -> AsyncIterator[str]:
        listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable&gssencmode=disable"
        finally:
            listening.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_unix_connection(self._path)
        self._tasks |= {
            asyncio.create_task(self._carry(reader, out, asks=True)),
            asyncio.create_task(self._carry(there, writer, asks=False)),
        }

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, asks: bool) -> None:
        try:
            with suppress(ConnectionError):
                while data := await source.read(65536):
                    if not asks and self.left is not None:
                        data, self.left = data[: self.left], self.left - len(data)
                    sink.write(data)
                    if not asks and self.left is not None and self.left <= 0:
                        self.left = None
                        await sink.drain()
                        return
        finally:
            sink.close()


async def rows_of(url: str, query: str) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await (await connection.execute(query.encode())).fetchall()


CUTS = (1, 4, 5, 6, 13, 30, 47, 60, 80, 100, 120)


@pytest.mark.parametrize("prepared", [False, True])
async def test_an_answer_that_is_cut_off_anywhere_is_an_error_and_the_next_one_is_whole(
    postgres_server: Server, prepared: bool
) -> None:
    cutter, table = Cutter(postgres_server), f"t_{uuid.uuid4().hex[:12]}"
    async with cutter.started() as url:
        storage = PostgresStorage(
            PostgresStorageConfig(
                url=url,
                table_name=table,
                pool_size=1,
                retries=0,
                breaker_failures=10_000,
                synchronous_commit="off",
                command_timeout=20.0,
                connection_timeout=20.0,
                cleanup_interval=0,
                prepared_statements=prepared,
            )
        )
        async with storage, asyncio.timeout(2 * HANG):
            assert await storage.acquire("x", LIMIT)
            assert await storage.acquire_many([Request(f"y{i}", LIMIT) for i in range(5)])
            for cut in CUTS:
                cutter.left = cut
                with suppress(StorageConnectionError):
                    await storage.acquire("x", LIMIT)
                cutter.left = None
                assert await storage.acquire(f"z{cut}", LIMIT)
                assert all(await storage.acquire_many([Request(f"y{i}", LIMIT) for i in range(5)]))
            assert storage.client.errors["StorageConnectionError"] > 5
            counted = await rows_of(postgres_server.url, f"SELECT request_count FROM {table} WHERE identifier = 'y0'")
            assert counted == [(1 + len(CUTS),)]
