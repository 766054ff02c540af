"""A server opened to be measured: Redis or PostgreSQL, one started for it or the user's own.

Everything that is written lies under a prefix, or in a schema, that is made up for it. It is removed on leaving, also after
an error or Ctrl-C. A Redis keeps the scripts in its cache: that holds no data, and only SCRIPT FLUSH would empty it, for
everybody.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import redis.asyncio

from ratesim import algorithms
from ratesim.errors import StorageConnectionError, StorageError
from ratesim.safe_text import redact
from ratesim.simulation.cost_model.cost_fit import LIMIT, Target, delete_keys, raise_if_canceled
from ratesim.storage import PostgresStorage, RedisStorage, StorageURL
from ratesim.storage.postgres.error_translation import connection_error as postgres_error
from ratesim.storage.redis.error_translation import connection_error as redis_error

__all__ = ["POOL", "SIZED_KEYS", "OpenTarget", "open_target"]

POOL = 10
PATIENCE = 10.0  # seconds for a batch: a slow machine is measured, not given up
SIZED_KEYS = 2000
CONNECTIONS = (1, 2, 4, 8)
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


@asynccontextmanager
async def _redis(config: Any) -> AsyncIterator[OpenTarget]:
    own = msgspec.structs.replace(
        config, pool_size=POOL, command_timeout=PATIENCE, key_prefix=f"ratesim:calibrate:{uuid.uuid4().hex}:"
    )
    storage = RedisStorage(own)
    bare = redis.asyncio.Redis.from_url(own.url, socket_connect_timeout=own.connection_timeout)

    async def size(names: list[str]) -> float:
        keys = [f"{own.key_prefix}{{{name}}}" for name in names[:100]]  # a sample: MEMORY USAGE is asked key by key
        try:
            counted = [int(await bare.memory_usage(key, samples=0) or 0) for key in keys]  # 0: all fields
        except redis.exceptions.ResponseError as error:
            if "unknown command" in str(error):  # fakeredis, which has no memory of its own to speak of
                return 0.0
            raise
        return float(np.mean(counted)) * len(names) if counted else 0.0

    async def account() -> float:
        used: dict[str, float] = await bare.info("cpu")
        main = [used[name] for name in ("used_cpu_user_main_thread", "used_cpu_sys_main_thread") if name in used]
        return sum(main) if main else used["used_cpu_user"] + used["used_cpu_sys"]

    try:
        about = await bare.info("server")
    except (redis.exceptions.RedisError, OSError) as error:
        await storage.close()
        await bare.aclose()
        raise redis_error(error, own.url) from None
    try:
        alone = await _alone(account)
        version = about.get("valkey_version", about.get("redis_version"))
        name = f"{'valkey' if 'valkey_version' in about else 'redis'} {version}"
        yield OpenTarget(Target(storage, bare.ping, account=account if alone else None), size, name)
    finally:
        try:
            await delete_keys(storage, (f"{name}:{i}" for name in algorithms.names() for i in range(SIZED_KEYS)))
        finally:
            await storage.close()
            await bare.aclose()


async def _alone(account: Callable[[], Awaitable[float]]) -> bool:
    """Tell whether the server keeps an account, and nobody else is being served."""
    try:
        before = await account()
    except (redis.exceptions.ResponseError, KeyError):  # a stand-in, such as fakeredis
        return False
    await asyncio.sleep(0.5)
    return await account() - before < 0.5 * IDLE


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

            async def size(_: list[str]) -> float:
                return float((await quick.get_stats()).bytes)

            async with quick:
                await quick.peek("warm-up", LIMIT)
                speedup = await _speedup(own.url, schema)
                # An empty query is a round trip that PostgreSQL answers without parsing or planning anything.
                about = Target(quick, lambda: bare.execute(""), durable, locks=True, speedup=speedup)
                try:
                    version = bare.info.parameter_status("server_version")
                    yield OpenTarget(about, size, f"postgres {version}")
                finally:
                    if durable is not None:
                        await durable.close()
        finally:
            await bare.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


async def _speedup(url: str, schema: str) -> dict[int, float]:
    """Measure decisions per second of some connections over those of one.

    Each connection loops inside the server, on keys of its own and without waiting for the disk. So neither the client nor a
    row's lock is in the way.
    """
    import psycopg
    from psycopg import sql

    bound = algorithms.bind(LIMIT)

    async def loop(connection: psycopg.AsyncConnection[Any], function: str, number: int) -> float:
        call = sql.SQL(
            "DO $$ BEGIN FOR i IN 1..{} LOOP PERFORM {}(ARRAY['loop:{}:' || i % 20], ARRAY[1.0]::float8[],"
            " ARRAY[{}]::float8[], true, ARRAY[''], ARRAY[{}], {}::float8[], ARRAY[{}], ARRAY[{}]::int[],"
            " ARRAY[{}]::float8[], 'off', '10000'); COMMIT;"
            " END LOOP; END $$"
        ).format(
            *(sql.Literal(LOOPS), sql.Identifier(schema, function), sql.Literal(number), sql.Literal(time.time())),
            *(sql.Literal(LIMIT.algorithm), sql.Literal(list(bound.params)), sql.Literal(len(bound.params))),
            *(sql.Literal(bound.size), sql.Literal(LIMIT.period)),
        )
        start = time.perf_counter()
        await connection.execute(call)
        return time.perf_counter() - start

    connections = [await psycopg.AsyncConnection.connect(url, autocommit=True) for _ in range(max(CONNECTIONS))]
    try:
        found = await connections[0].execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = %s::regnamespace AND proname LIKE %s", [schema, "%acquire%"]
        )
        function = (await found.fetchone())[0]  # type: ignore[index]
        for connection in connections:
            await connection.execute("SET synchronous_commit = off")
        rates: dict[int, list[float]] = {count: [] for count in CONNECTIONS}
        for _ in range(4):  # the first, which plans, is not counted
            for count in CONNECTIONS:
                spent = await asyncio.gather(*(loop(each, function, i) for i, each in enumerate(connections[:count])))
                rates[count].append(sum(LOOPS / seconds for seconds in spent))
    finally:
        for connection in connections:
            await connection.close()
    best = {count: max(values[1:]) for count, values in rates.items()}
    return {count: rate / best[1] for count, rate in best.items()}
