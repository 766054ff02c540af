"""The oldest PostgreSQL that is supported decides as the newest does; by night every test of a backend runs on it."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from test_postgres_sessions import NOW, STRATEGIES, all_verbs, storage_at

from ratesim import Limit, algorithms
from ratesim.runtime import AsyncioRuntime
from ratesim.servers import Server
from ratesim.storage.memory.storage import MemoryStorage
from ratesim.storage.partitions import parse_partition


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_every_verb_and_algorithm_on_version_16(postgres_16_server: Server, strategy: str) -> None:
    memory = MemoryStorage(runtime=AsyncioRuntime(lambda: NOW))
    limits = [Limit(7.3, 60, algorithm) for algorithm in algorithms.names()]
    expected = [await all_verbs(memory, limit, limit.algorithm) for limit in limits]
    options = {"table_name": f"t_{uuid.uuid4().hex[:12]}", "partition_strategy": parse_partition(strategy)}
    async with storage_at(postgres_16_server.url, **options) as storage:
        assert await asyncio.gather(*(all_verbs(storage, limit, limit.algorithm) for limit in limits)) == expected
        assert await storage.cleanup_expired() == 0
        assert (await storage.get_stats()).entries > len(limits)
        assert not storage.client.errors
