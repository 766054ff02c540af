"""A server opened to be measured: Redis or PostgreSQL, one started for it or the user's own.

Everything that is written lies under a prefix, or in a schema, that is made up for it. It is removed on leaving, also after
an error or Ctrl-C. A Redis keeps the scripts in its cache: that holds no data, and only SCRIPT FLUSH would empty it, for
everybody.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import redis.asyncio
from redis.crc import key_slot

from ratesim import algorithms
from ratesim.errors import StorageConnectionError, StorageError
from ratesim.safe_text import redact
from ratesim.server_url import redis_hosts, redis_node_urls, redis_topology, split_url
from ratesim.simulation.cost_model.profile import PRIMARIES
from ratesim.simulation.cost_model.survey import LIMIT, Target, delete_keys, raise_if_canceled
from ratesim.simulation.network.hash_slots import SLOTS
from ratesim.storage import PostgresStorage, RedisStorage, StorageURL
from ratesim.storage.postgres.error_translation import connection_error as postgres_error
from ratesim.storage.redis.connections import connect
from ratesim.storage.redis.error_translation import connection_error as redis_error
from ratesim.storage.redis.keys import key_of
from ratesim.storage.redis.state_fields import to_str
from ratesim.storage.remote.operations import Acquire

__all__ = ["PATIENCE", "POOL", "SIZED_KEYS", "OpenTarget", "open_target"]

POOL = 10
PATIENCE = 10.0  # seconds for a batch: a slow machine is measured, not given up
SIZED_KEYS = 2000
CONNECTIONS = (1, 2, 4, 8)
SPEEDUPS = 7  # measurements of the speedup
LOOPS = 100  # decisions that one connection takes inside the server
IDLE = 0.02  # processor seconds by second that a server without others may spend


@dataclass
class OpenTarget:
    """A server ready to be measured.

    Attributes
    ----------
    target : Target
        The server.
    size : Callable[[list[str]], Awaitable[float]]
        Returns the bytes that it keeps under these names.
    server : str
        Its kind and version.
    """

    target: Target
    size: Callable[[list[str]], Awaitable[float]]
    server: str


@asynccontextmanager
async def open_target(url: str) -> AsyncIterator[OpenTarget]:
    """Open a Redis or PostgreSQL to be measured; on leaving, everything that was written is gone.

    Raises
    ------
    StorageError
        The server is not reached, or fails.
    """
    import psycopg

    parsed = StorageURL.parse(url)
    try:
        async with _redis(parsed.config) if parsed.backend == "redis" else _postgres(parsed.config) as opened:
            yield opened
            raise_if_canceled()
    except (redis.exceptions.RedisError, psycopg.Error) as error:
        reason = redact(" ".join(str(error).split()), url)
        raise StorageConnectionError(f"the {parsed.backend} that is measured failed ({reason}); look at its log") from None


@dataclass
class _Primary:
    """A server with keys: one that is alone, or a primary of a cluster with its ranges of slots."""

    client: redis.asyncio.Redis
    ranges: list[tuple[int, int]]

    def has(self, key: bytes) -> bool:
        """Tell whether a key is here."""
        slot = key_slot(key)
        return any(first <= slot <= last for first, last in self.ranges)

    async def processor_seconds(self) -> float:
        """Return what its main thread has spent, where it says so, or all of it."""
        used: dict[str, float] = await self.client.info("cpu")
        main = [used[name] for name in ("used_cpu_user_main_thread", "used_cpu_sys_main_thread") if name in used]
        return sum(main) if main else used["used_cpu_user"] + used["used_cpu_sys"]


@asynccontextmanager
async def _redis(config: Any) -> AsyncIterator[OpenTarget]:
    own = msgspec.structs.replace(
        config, pool_size=POOL, command_timeout=PATIENCE, key_prefix=f"ratesim:calibrate:{uuid.uuid4().hex}:"
    )
    storage = RedisStorage(own)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(storage.close)
        try:
            primaries = await _primaries(own, stack)
            about = await primaries[0].client.info("server")
        except (redis.exceptions.RedisError, OSError) as error:
            raise redis_error(error, own.url) from None

        async def size(names: list[str]) -> float:
            counted = []
            for key in (key_of(own.key_prefix, name) for name in names[:100]):  # a sample: it is asked key by key
                owner = next(each for each in primaries if each.has(key))
                try:
                    counted.append(int(await owner.client.memory_usage(key) or 0))
                except redis.exceptions.ResponseError as error:
                    if "unknown command" in str(error):  # fakeredis, which has no memory of its own to speak of
                        return 0.0
                    raise
            return float(np.mean(counted)) * len(names) if counted else 0.0

        async def account() -> float:
            return sum([await primary.processor_seconds() for primary in primaries])

        tags = ("",) if len(primaries) == 1 else tuple(_tag(each, own.key_prefix) for each in primaries)
        alone = await _alone(account, len(primaries))
        version = about.get("valkey_version", about.get("redis_version"))
        name = f"{'valkey' if 'valkey_version' in about else 'redis'} {version}"
        if len(primaries) > 1:
            name += f", {len(primaries)}{PRIMARIES}"
        sized = (f"{algorithm}:{i}" for algorithm in algorithms.names() for i in range(SIZED_KEYS))
        stack.push_async_callback(delete_keys, storage, sized, tags)
        target = Target(storage, primaries[0].client.ping, account=account if alone else None, tags=tags)
        yield OpenTarget(target, size, name)


async def _primaries(config: Any, stack: AsyncExitStack) -> list[_Primary]:
    """Connect to the server that is alone, to the one that Sentinel names, or to all primaries of a cluster."""
    if redis_topology(config.url) != "cluster":
        client = connect(config)
        stack.push_async_callback(client.aclose)
        return [_Primary(client, [(0, SLOTS - 1)])]
    ranges: dict[str, list[tuple[int, int]]] = {}
    failure: Exception | None = None
    for (host, _), url in zip(redis_hosts(config.url), redis_node_urls(config.url), strict=True):
        try:
            async with redis.asyncio.Redis.from_url(url, socket_connect_timeout=config.connection_timeout) as node:
                slots = await node.execute_command("CLUSTER SLOTS", NEVER_DECODE=True)  # type: ignore[no-untyped-call]
                for first, last, (address, port, *_), *_ in slots:
                    at = to_str(address) or host
                    ranges.setdefault(f"[{at}]:{port}" if ":" in at else f"{at}:{port}", []).append((first, last))
            break
        except (redis.exceptions.RedisError, OSError) as error:
            failure = error
    if not ranges:
        raise failure or redis.exceptions.ConnectionError("the cluster has no primary with slots")
    parts = split_url(config.url)
    urls = redis_node_urls(parts._replace(host=",".join(ranges)).text(parts.scheme, parts.options))
    found = [_Primary(redis.asyncio.Redis.from_url(url), each) for url, each in zip(urls, ranges.values(), strict=True)]
    for primary in found:
        stack.push_async_callback(primary.client.aclose)
    return sorted(found, key=lambda each: each.ranges[0])


def _tag(primary: _Primary, prefix: str) -> str:
    """Return what identifiers begin with whose keys all lie in one slot of a primary: a hash tag ends at the first brace."""
    return next(tag for number in range(10**6) if primary.has(key_of(prefix, tag := f"{number}}}")))


async def _alone(account: Callable[[], Awaitable[float]], servers: int) -> bool:
    """Tell whether the servers keep an account, and nobody else is being served."""
    try:
        before = await account()
    except (redis.exceptions.ResponseError, KeyError):  # a stand-in, such as fakeredis
        return False
    await asyncio.sleep(0.5)
    return await account() - before < 0.5 * IDLE * servers


@asynccontextmanager
async def _postgres(config: Any) -> AsyncIterator[OpenTarget]:
    import psycopg
    from psycopg import sql

    # A schema of its own holds all that a storage creates, the functions that nodes share included.
    schema = f"ratesim_calibrate_{uuid.uuid4().hex[:12]}"
    own = msgspec.structs.replace(config, schema=schema, pool_size=POOL, command_timeout=PATIENCE, cleanup_interval=0.0)
    waiting = own.synchronous_commit != "off" and not own.unlogged
    try:
        bare = await psycopg.AsyncConnection.connect(own.url, autocommit=True)
    except psycopg.Error as error:
        where = PostgresStorage(config).driver.connector.where
        raise postgres_error(where, redact(" ".join(str(error).split()), config.url)) from None
    async with bare:
        try:
            await bare.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
        except psycopg.Error as error:
            raise StorageError(f"calibration needs a schema of its own in the database: {error}") from None
        try:
            quick = PostgresStorage(msgspec.structs.replace(own, synchronous_commit="off"))
            durable = PostgresStorage(own) if waiting else None
            beside = None
            if not own.unlogged:  # in tables of its own beside those of the others
                bare_table = msgspec.structs.replace(own, synchronous_commit="off", unlogged=True, table_name="unlogged")
                beside = PostgresStorage(bare_table)

            async def size(_: list[str]) -> float:
                return float((await quick.get_stats()).bytes)

            async with quick:
                await quick.peek("warm-up", LIMIT)
                speedup = await _speedup(own.url, quick)
                # An empty query is a round trip that PostgreSQL answers without parsing or planning anything.
                about = Target(quick, lambda: bare.execute(""), durable, beside, locks=True, speedup=speedup)
                try:
                    version = bare.info.parameter_status("server_version")
                    yield OpenTarget(about, size, f"postgres {version}")
                finally:
                    for storage in (durable, beside):
                        if storage is not None:
                            await storage.close()
        finally:
            await bare.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


async def _speedup(url: str, storage: PostgresStorage) -> dict[int, float]:
    """Measure decisions per second of some connections over those of one.

    Each connection loops inside the server, on keys of its own and without waiting for the disk. So neither the client nor a
    row's lock is in the way. The ratio is that of neighboring measurements, because a machine changes its pace; its median
    counts.
    """
    import psycopg
    from psycopg import sql

    # The statement as the storage sends it; within the server its parameters are constants, but for the first, the key.
    ((call, parameters),) = storage.driver.statements([Acquire("", (LIMIT,), 1.0, time.time(), True)])
    function = sql.SQL(re.sub(r"\$(\d+)(::\S+?)(?=[,)])", r"{p\1}\2", call.decode().replace("SELECT", "PERFORM", 1)))

    async def loop(connection: psycopg.AsyncConnection[Any], number: int) -> float:
        values: dict[str, sql.Composable] = {f"p{n}": sql.Literal(value) for n, value in enumerate(parameters, 1)}
        values["p1"] = sql.SQL("({} || i % 20)").format(sql.Literal(f"loop:{number}:"))
        body = sql.SQL("DO $$ BEGIN FOR i IN 1..{} LOOP {}; COMMIT; END LOOP; END $$")
        statement = body.format(sql.Literal(LOOPS), function.format(**values))
        start = time.perf_counter()
        await connection.execute(statement)
        return time.perf_counter() - start

    connections = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(max(CONNECTIONS))]
    try:
        for connection in connections:
            await connection.execute("SET synchronous_commit = off")
        here = [_spread_over_cores(connection.info.backend_pid) for connection in connections]
        most = float(os.cpu_count() or 1) if all(here) else inf  # more is a change of pace
        rates: dict[int, list[float]] = {count: [] for count in CONNECTIONS}
        for _ in range(1 + SPEEDUPS):  # the first, which plans, is not counted
            for count in CONNECTIONS:
                spent = await asyncio.gather(*(loop(each, i) for i, each in enumerate(connections[:count])))
                rates[count].append(sum(LOOPS / seconds for seconds in spent))
    finally:
        for connection in connections:
            await connection.close()
    alone = np.array(rates[1][1:])
    return {count: min(float(np.median(np.array(values[1:]) / alone)), most) for count, values in rates.items()}


def _spread_over_cores(pid: int) -> bool:
    """Let a process of a server on this machine use all cores. Returns whether it is one, and may."""
    name = Path(f"/proc/{pid}/comm")
    try:
        if not name.exists() or not name.read_text().startswith("postgres"):
            return False
        os.sched_setaffinity(pid, range(os.cpu_count() or 1))
    except OSError:  # it is of another user, or has ended
        return False
    return True
