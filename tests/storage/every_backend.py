"""Every backend, made by its name, on a clock that the test moves."""

from __future__ import annotations

import uuid

import fakeredis
import numpy as np
import pytest
from examples import sample
from pgbouncer import PROGRAM
from prometheus_client import CollectorRegistry

from ratesim.runtime import AsyncioRuntime
from ratesim.storage import (
    HybridStorage,
    HybridStorageConfig,
    MemoryStorage,
    PostgresStorage,
    PostgresStorageConfig,
    RateLimitStorage,
    RedisStorage,
    RedisStorageConfig,
)
from ratesim.storage.compression import Codec
from ratesim.storage.partitions import parse_partition
from ratesim.storage.prometheus import InstrumentedStorage

HYBRIDS = {
    "hybrid-strong": HybridStorageConfig(consistency="strong", write="write_through"),
    "hybrid-eventual": HybridStorageConfig(consistency="eventual", write="write_through"),
    "hybrid-around": HybridStorageConfig(consistency="eventual", write="write_around"),
    "hybrid-through": HybridStorageConfig(consistency="eventual", write="write_through", read="read_through"),
}
SERVERS = {"redis": "valkey_server", "cluster": "valkey_cluster_server", "sentinel": "valkey_sentinel_server"}
CODECS: dict[str, Codec] = {"redis": "zstd", "cluster": "gzip", "sentinel": "snappy", "hybrid-strong": "lz4"}
PARTITIONS = {"postgres-hash": "hash:3", "postgres-time": "time:1m", "postgres-identifier": "identifier:a*,u*"}
POSTGRES_SERVERS = {"postgres-16": "postgres_16_server", "postgres-pooled": "pgbouncer_server"}
POSTGRES = ["postgres", *PARTITIONS, "hybrid-postgres", *POSTGRES_SERVERS]
USUAL = ["memory", "metered", "fakeredis", "redis", "cluster", "sentinel", *HYBRIDS]
USUAL += ["postgres", *PARTITIONS, "hybrid-postgres"]
# By night a PostgreSQL of the oldest version too, and one behind a pgbouncer where that is installed. A few tests of each
# run always: test_postgres_versions.py and test_postgres_sessions.py.
BACKENDS = sample([*USUAL, "postgres-16", *(["postgres-pooled"] if PROGRAM else [])], USUAL)


PATIENCE = 10.0  # seconds for a command: a machine that is busy is waited for


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def make(name: str, clock: Clock, request: pytest.FixtureRequest) -> RateLimitStorage:
    runtime = AsyncioRuntime(clock, clock)
    tag = uuid.uuid4().hex[:12]
    if name == "memory":
        return MemoryStorage(runtime=runtime)
    if name == "metered":
        return InstrumentedStorage(MemoryStorage(runtime=runtime), CollectorRegistry())
    if name in POSTGRES:
        url = request.getfixturevalue(POSTGRES_SERVERS.get(name, "postgres_server")).url
        cut = parse_partition(PARTITIONS.get(name, "none"))
        config = PostgresStorageConfig(
            url=url, table_name=f"t_{tag}", pool_size=4, command_timeout=PATIENCE, partition_strategy=cut
        )
        postgres = PostgresStorage(config, runtime)
        if name != "hybrid-postgres":
            return postgres
        through = HybridStorageConfig(consistency="eventual", write="write_through")
        return HybridStorage(postgres, through, runtime, np.random.default_rng(1))
    if name == "fakeredis":
        connection = fakeredis.FakeAsyncRedis(server_type="valkey", protocol=2)
        return RedisStorage(
            RedisStorageConfig(key_prefix=f"{tag}:", min_ttl=60.0, command_timeout=PATIENCE), runtime, connection
        )
    redis = RedisStorage(
        RedisStorageConfig(
            url=request.getfixturevalue(SERVERS.get(name, "valkey_server")).url,
            key_prefix=f"{tag}:",
            min_ttl=60.0,
            pool_size=4,
            command_timeout=PATIENCE,
            compression=CODECS.get(name, "none"),
        ),
        runtime,
    )
    if name in SERVERS:
        return redis
    return HybridStorage(redis, HYBRIDS[name], runtime, np.random.default_rng(1))
