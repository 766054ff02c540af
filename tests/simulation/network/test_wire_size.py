"""Bytes on the wire, held against what real servers were sent and answered."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace
from psycopg.conninfo import conninfo_to_dict

from ratesim.algorithms import bind
from ratesim.limit import Limit
from ratesim.servers import Server
from ratesim.simulation.network.wire_sample import wire_is_sampled
from ratesim.simulation.network.wire_size import MeteredBackend, Wire, WireKind, wire_protocol
from ratesim.state import AlgorithmData, RateLimitState
from ratesim.storage import StorageURL
from ratesim.storage.base import Charge
from ratesim.storage.postgres import PostgresDriver
from ratesim.storage.redis import RedisDriver
from ratesim.storage.remote.operations import Acquire, Apply, Driver, Get, Operation, Put, Reset

TABLE = f"wire_{uuid.uuid4().hex[:8]}"
NOW = 1_700_000_000.123456


class Meter:
    """Bytes that went through to a server, and back."""

    sent = answered = 0


@asynccontextmanager
async def metered(server: Server) -> AsyncIterator[tuple[str, Meter]]:
    """A URL that leads to a server, and what went through."""
    meter, under_way = Meter(), set[asyncio.Task[object]]()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, field: str) -> None:
        while data := await reader.read(65536):
            setattr(meter, field, getattr(meter, field) + len(data))
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        there, to = await connected(server)
        await asyncio.gather(pump(reader, to, "sent"), pump(there, writer, "answered"))

    between = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = between.sockets[0].getsockname()[1]
    if server.kind == "postgres":
        database = conninfo_to_dict(server.url)
        url = f"postgresql://{database['user']}@127.0.0.1:{port}/{database['dbname']}?sslmode=disable&table_name={TABLE}"
    else:
        url = f"redis://:{urlsplit(server.url).password or ''}@127.0.0.1:{port}?key_prefix={TABLE}:"
    try:
        yield url, meter
    finally:
        between.close()
        await asyncio.gather(*under_way)


async def connected(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if server.kind == "postgres":
        at = conninfo_to_dict(server.url)
        host, port = str(at["host"]), int(at.get("port", 5432) or 5432)
        return await (
            asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
            if host.startswith("/")
            else asyncio.open_connection(host, port)
        )
    url = urlsplit(server.url)
    return await asyncio.open_connection(url.hostname, url.port)


async def quiet(meter: Meter) -> None:
    """Return when nothing has passed between two looks."""
    before = None
    while before != (before := (meter.sent, meter.answered)):  # noqa: ASYNC110 - bytes of a socket set no event
        await asyncio.sleep(0.02)


async def compared(driver: Driver, meter: Meter, wire: Wire, batch: Sequence[Operation]) -> tuple[int, int, int, int]:
    """Sent and answered, as measured and as counted, of a batch that the server has seen before."""
    await driver.execute(batch)
    await quiet(meter)
    sent, answered = meter.sent, meter.answered
    answers = await driver.execute(batch)
    await quiet(meter)
    return meter.sent - sent, meter.answered - answered, wire.sent(batch), wire.answered(batch, answers)


def batches(algorithm: str) -> list[list[Operation]]:
    limit = Limit(100, 60.0, algorithm)
    keys = [f"user:{i}" for i in range(12)]

    def charge(key: str) -> Apply:
        return Apply(Charge(key, limit, "node-1", 1_700_000_000_000_001, 0.0, ((NOW, 3.0, 2), (NOW + 1, 0.1, 1))))

    return [
        [Acquire(keys[0], (limit,), 1.0, NOW, True)],
        [Acquire(key, (limit,), 1.0, NOW, True) for key in keys],
        [Acquire(key, (limit,), 1.0, NOW, False) for key in keys],
        [Get("nobody", "", NOW)],
        [charge(keys[0])],
        [charge(key) for key in keys],
        [Get(key, "", NOW) for key in keys],
    ]


@pytest.mark.servers
@pytest.mark.parametrize("algorithm", ["token_bucket", "sliding_window", "sliding_log"])
@pytest.mark.parametrize("backend", ["redis", "redis, compressed", "postgres", "postgres, pooled"])
async def test_bytes_are_those_that_real_servers_send_and_receive(
    backend: str, algorithm: str, request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue("postgres_server" if "postgres" in backend else "valkey_server")
    async with metered(server) as (through, meter):
        options = {"redis, compressed": "&compression=lz4", "postgres, pooled": "&prepared_statements=false"}
        url = StorageURL.parse(through + options.get(backend, ""))
        config = replace(url.config, pool_size=1)  # another connection would be opened while a batch is measured
        driver = PostgresDriver(config) if "postgres" in backend else RedisDriver(config)
        wire = wire_protocol(url)
        try:
            # PostgreSQL's answer to a Put is not counted by itself.
            for batch in [*batches(algorithm), *(stored(algorithm) if "postgres" not in backend else [])]:
                sent, answered, counted_sent, counted_answered = await compared(driver, meter, wire, batch)
                assert counted_sent == sent > 0, batch[0]
                assert counted_answered == pytest.approx(answered, rel=0.03), batch[0]
            await driver.execute([Reset(f"user:{i}") for i in range(12)])
        finally:
            await driver.close()


def stored(algorithm: str) -> list[list[Operation]]:
    """Return batches that write states with metadata, and read them."""
    bound = bind(Limit(100, 60.0, algorithm))
    values = [0.0] * bound.algorithm.rule.size(bound.params)
    bound.algorithm.rule.start(values, bound.params, NOW)
    if algorithm == "sliding_log":
        values = [NOW, 300.0, *(part for place in range(300) for part in (NOW - 30.0 + place * 0.090909, 1.0))]
    data = AlgorithmData.of(algorithm, values)
    noted = RateLimitState(data, NOW, NOW, 7, {f"account_{place}": f"team-payments-{place}" for place in range(60)})
    keys = [f"user:{i}" for i in range(12)]
    return [[Put(key, "", noted, NOW, 60.0) for key in keys], [Get(key, "", NOW) for key in keys]]


class Letters:
    """Says that an operation is as long as its identifier, and its answer one byte."""

    def sent(self, batch: Sequence[Operation]) -> int:
        return sum(len(operation.identifier) for operation in batch if isinstance(operation, Get))

    def answered(self, batch: Sequence[Operation], answers: Sequence[object]) -> int:
        return len(answers)


class Mute:
    def execute(self, batch: Sequence[Operation]) -> list[object]:
        return [None] * len(batch)


def test_what_is_not_measured_is_as_long_as_what_is_whoever_has_executed_it() -> None:
    meter, elsewhere = MeteredBackend(Mute(), Letters()), MeteredBackend(Mute(), Letters())
    counts, samples = WireKind(), []
    for i in range(300_000):
        batch: list[Operation] = [Get("a" * (5 + i % 3), "", NOW)] * (1 + i % 2)
        answers = meter.execute(batch)
        if wire_is_sampled(counts, len(batch)):
            samples.append((batch, answers))
    assert meter.bytes_from_store == 450_000
    assert meter.bytes_to_store == pytest.approx(450_000 * 6, rel=0.01)
    early, middle, late = 43, (512 - 64) / 1.5, (300_000 - 251 * 299) / 4099
    assert len(samples) == pytest.approx(early + middle + late, rel=0.02)
    elsewhere.enter({Get: (counts.batches, counts.operations, 0)}, samples)
    assert (elsewhere.bytes_to_store, elsewhere.bytes_from_store) == (meter.bytes_to_store, meter.bytes_from_store)


def test_a_memory_has_no_wire() -> None:
    with pytest.raises(TypeError, match="memory"):
        wire_protocol(StorageURL.parse("memory://"))
