"""Views for operators, statistics, denials and upkeep of PostgreSQL, under every strategy of partitions."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from psycopg.rows import dict_row

from ratesim.errors import StorageError
from ratesim.limit import Limit
from ratesim.runtime import AsyncioRuntime
from ratesim.servers import Server
from ratesim.storage import HybridStorage, HybridStorageConfig
from ratesim.storage.base import Request
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.postgres import PostgresStorage, upkeep
from ratesim.storage.postgres.denials import DenialCounts
from ratesim.storage.postgres.upkeep import MOST_DENIALS
from ratesim.storage.prometheus import InstrumentedStorage

STRATEGIES = ["none", "hash:4", "time:1h", "identifier:tenant-*,free-*"]
LIMIT = Limit(3, 1000, "fixed_window")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs/postgres.md"
serial = iter(range(10**6))


def storage_at(
    server: Server, strategy: str = "none", runtime: AsyncioRuntime | None = None, **options: Any
) -> PostgresStorage:
    table = options.pop("table_name", f"watched_{next(serial)}")
    defaults: dict[str, Any] = {"synchronous_commit": "off", "command_timeout": 20.0, "cleanup_interval": 0.0}
    partition = None if strategy == "none" else strategy
    config = PostgresStorageConfig(
        url=server.url,
        table_name=table,
        partition_strategy=partition,
        **{**defaults, **options},  # type: ignore[arg-type]
    )
    return PostgresStorage(config, runtime)


def view(storage: PostgresStorage, name: str) -> list[dict[str, Any]]:
    with psycopg.connect(storage.config.url, row_factory=dict_row) as connection:
        return connection.execute(f"SELECT * FROM {storage.config.table_name}_{name}".encode()).fetchall()


def analyze(storage: PostgresStorage) -> None:
    with psycopg.connect(storage.config.url, autocommit=True) as connection:
        connection.execute(f"VACUUM ANALYZE {storage.config.table_name}, {storage.config.table_name}_counters".encode())


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_views_tell_keys_partitions_and_sizes(postgres_server: Server, strategy: str) -> None:
    async with storage_at(postgres_server, strategy) as storage:
        names = ["tenant-a", "free-b", "other"]
        for count, name in enumerate(names, 1):
            for _ in range(count):
                await storage.acquire(name, LIMIT)
        await storage.increment("hits", 1, 60.0)
        analyze(storage)
        top = view(storage, "top_keys")
        assert [(row["identifier"], row["name"], row["request_count"], row["algorithm"]) for row in top] == [
            (name, "", count, "fixed_window") for count, name in sorted(enumerate(names, 1), reverse=True)
        ]
        assert all(row["last_accessed"] for row in top)
        partitions = [row for row in view(storage, "partitions") if row["content"] == "states"]
        assert sum(row["rows_estimate"] or 0 for row in partitions) == 3
        assert all((row["bounds"] is None) == (strategy == "none") for row in partitions)
        sizes = {row["content"]: row for row in view(storage, "sizes")}
        assert set(sizes) == {"states", "counters", "denied"}
        assert sizes["states"]["partitions"] == len(partitions)
        assert sizes["counters"]["rows_estimate"] == 1
        for row in sizes.values():
            assert row["table_bytes"] >= 0
            assert row["index_bytes"] > 0
        stats = await storage.get_stats()
        assert (stats.entries, stats.exact, stats.partitions) == (4, True, len(partitions))
        assert stats.bytes >= sum(row["table_bytes"] + row["index_bytes"] for name, row in sizes.items() if name != "denied")
        assert stats.dead_rows is not None


async def test_updates_are_heap_only_and_the_ratio_is_told(postgres_server: Server) -> None:
    async with storage_at(postgres_server) as storage:
        limit = Limit(1e9, 60, "token_bucket")
        for _ in range(40):
            await storage.acquire_many([Request(f"k{i}", limit) for i in range(50)])
        async with asyncio.timeout(60):
            while not (await storage.get_stats()).hot_ratio:  # noqa: ASYNC110 - the server collects them when it likes
                await asyncio.sleep(0.05)
        async with asyncio.timeout(60):
            while sum(row["updates"] for row in view(storage, "sizes") if row["content"] == "states") < 1900:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        ratio = (await storage.get_stats()).hot_ratio
        assert ratio is not None
        assert ratio > 0.9


async def test_a_large_table_is_estimated_and_says_so(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async with storage_at(postgres_server) as storage:
        await storage.acquire_many([Request(f"k{i}", LIMIT) for i in range(500)])
        analyze(storage)
        monkeypatch.setattr(upkeep, "COUNTED_BYTES", 0)
        stats = await storage.get_stats()
        assert not stats.exact
        assert stats.entries == pytest.approx(500, abs=50)


async def test_a_role_that_may_not_read_the_views_has_statistics(postgres_server: Server) -> None:
    async with storage_at(postgres_server) as owner:
        await owner.acquire("x", LIMIT)
        table = owner.config.table_name
        with psycopg.connect(postgres_server.url, autocommit=True) as admin:
            admin.execute(f"CREATE ROLE blind LOGIN; GRANT SELECT ON {table}, {table}_counters TO blind".encode())
            try:
                url = postgres_server.url.replace("//postgres@", "//blind@")
                blind = PostgresStorage(PostgresStorageConfig(url=url, table_name=table, cleanup_interval=0.0))
                stats = await blind.get_stats()
                await blind.close()
            finally:
                admin.execute("DROP OWNED BY blind; DROP ROLE blind")
        assert (stats.entries, stats.exact, stats.dead_rows, stats.hot_ratio, stats.partitions) == (
            1,
            True,
            None,
            None,
            None,
        )
        assert stats.bytes > 0


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_role_reads_a_view_with_rights_on_the_view_alone(postgres_server: Server, strategy: str) -> None:
    async with storage_at(postgres_server, strategy) as storage:
        await storage.acquire("x", LIMIT)
        with psycopg.connect(postgres_server.url, autocommit=True) as admin:
            admin.execute(b"CREATE ROLE watcher LOGIN")
            try:
                url = postgres_server.url.replace("//postgres@", "//watcher@")
                for name in ("top_keys", "denials", "partitions", "sizes"):
                    table = f"{storage.config.table_name}_{name}"
                    admin.execute(f"GRANT SELECT ON {table} TO watcher".encode())
                    with psycopg.connect(url) as connection:
                        rows = connection.execute(f"SELECT * FROM {table}".encode()).fetchall()
                    assert bool(rows) == (name != "denials")
            finally:
                admin.execute("DROP OWNED BY watcher; DROP ROLE watcher")


# -- denials ----------------------------------------------------------------------------------------------------------


async def test_denials_are_counted_by_every_node_and_written_by_upkeep_alone(postgres_server: Server) -> None:
    name = f"denying_{next(serial)}"
    nodes = [storage_at(postgres_server, table_name=name) for _ in range(3)]
    small = Limit(1, 1000, "fixed_window", name="small")
    for node in nodes:
        await node.open()
        for _ in range(4):
            await node.acquire("greedy", LIMIT)
        await node.acquire_many([Request("modest", small), Request("modest", small), Request("greedy", LIMIT)])
        assert not await node.peek("greedy", LIMIT)  # is no denied request
    assert view(nodes[0], "denials") == []
    await asyncio.gather(*(node._hand_denials_on() for node in nodes))
    await nodes[0]._hand_denials_on()
    found = [(row["identifier"], row["name"], row["denials"]) for row in view(nodes[0], "denials")]
    assert found == [("greedy", "", 3 * 5 - 3), ("modest", "small", 3 * 2 - 1)]
    for node in nodes:
        await node.close()


async def test_denials_are_handed_on_at_close_and_kept_where_the_server_refuses(postgres_server: Server) -> None:
    storage = storage_at(postgres_server, cleanup_interval=3600.0)
    await storage.open()
    for _ in range(5):
        await storage.acquire("x", LIMIT)
    table = storage.config.table_name
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute(f"ALTER TABLE {table}_denied RENAME COLUMN denials TO other".encode())
        with pytest.raises(StorageError):
            await storage._hand_denials_on()
        admin.execute(f"ALTER TABLE {table}_denied RENAME COLUMN other TO denials".encode())
    await storage.close()
    assert [row["denials"] for row in view(storage, "denials")] == [2]


async def test_old_denials_and_the_smallest_of_too_many_go(postgres_server: Server) -> None:
    async with storage_at(postgres_server) as storage:
        table = storage.config.table_name
        with psycopg.connect(postgres_server.url, autocommit=True) as admin:
            admin.execute(
                f"INSERT INTO {table}_denied SELECT 'k' || i, '', i, now() - interval '9 d', "
                f"now() - CASE WHEN i = 12000 THEN interval '25 h' ELSE interval '1 h' END "
                f"FROM generate_series(1, 12000) AS i".encode()
            )
        turn = await storage.driver.take_turn(60.0)
        assert turn is not None
        await storage.driver.end_turn(7)
        counts = [row["denials"] for row in view(storage, "denials")]
        assert 11999 in counts
        assert 12000 not in counts
        assert len(counts) <= MOST_DENIALS
        assert min(counts) >= 2000


@given(st.lists(st.integers(0, 60), max_size=400), st.integers(1, 8))
def test_heavy_keys_are_kept_and_no_count_is_too_high(keys: list[int], kept: int) -> None:
    counts = DenialCounts(kept)
    for key in keys:
        counts.add(f"k{key}", "")
        assert len(counts) <= 2 * kept
    true = Counter(keys)
    taken = counts.take()
    assert len(taken) <= kept
    assert all(count <= true[int(identifier[1:])] for (identifier, _), count in taken.items())
    assert len(counts) == 0
    # A key that has more than 1/kept of all denials since it was last light is never in the lighter half.
    if len(true) <= 2 * kept:
        assert sorted(taken.values(), reverse=True) == sorted(true.values(), reverse=True)[:kept]


# -- upkeep -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_expired_rows_go_and_live_ones_stay(postgres_server: Server, strategy: str) -> None:
    clock = [1_700_000_000.0]
    runtime = AsyncioRuntime(lambda: clock[0])
    async with storage_at(postgres_server, strategy, runtime, cleanup_batch_size=7) as storage:
        short, long = Limit(2, 5, "token_bucket"), Limit(2, 5000, "token_bucket")
        prefixes = ["tenant-", "free-", ""]
        await storage.acquire_many([Request(f"{prefixes[i % 3]}{i}", short) for i in range(300)])
        await storage.acquire_many([Request(f"{prefixes[i % 3]}long {i}", long) for i in range(30)])
        for i in range(20):
            await storage.increment(f"{prefixes[i % 3]}{i}", 1, 3.0)
        clock[0] += 100
        assert await storage.cleanup_expired() == 320
        assert await storage.cleanup_expired() == 0
        stats = await storage.get_stats()
        assert stats.entries == 30
        assert stats.upkeep is not None
        assert (stats.upkeep.removed, stats.upkeep.rounds) == (320, 0)


async def test_a_round_that_is_out_of_time_goes_on_where_it_ended(postgres_server: Server) -> None:
    clock = [1_700_000_000.0]
    async with storage_at(postgres_server, "none", AsyncioRuntime(lambda: clock[0]), cleanup_batch_size=50) as storage:
        short = Limit(2, 5, "token_bucket")
        for part in range(4):
            await storage.acquire_many([Request(f"{part} {i}", short) for i in range(3000)])
        clock[0] += 100
        removed, position, parts = 0, 0, 0
        while removed < 12_000:
            more, position = await storage.driver.cleanup(clock[0], position, 1e-9 if parts else 1e-3)
            more_again, position = await storage.driver.cleanup(clock[0], position, 1.0)
            removed, parts = removed + more + more_again, parts + 1
        assert (await storage.get_stats()).entries == 0
        assert await storage.driver.cleanup(clock[0], position + 10**6) == (0, pytest.approx(position, abs=10**6))


async def test_rows_that_a_decision_has_locked_are_skipped_and_block_nothing(postgres_server: Server) -> None:
    clock = [1_700_000_000.0]
    async with storage_at(postgres_server, "none", AsyncioRuntime(lambda: clock[0])) as storage:
        short = Limit(2, 5, "token_bucket")
        await storage.acquire_many([Request(f"{i}", short) for i in range(30)])
        clock[0] += 100
        async with await psycopg.AsyncConnection.connect(postgres_server.url) as other:
            table = storage.config.table_name
            await other.execute(f"SELECT FROM {table} WHERE identifier = '7' FOR UPDATE".encode())
            async with asyncio.timeout(30):
                assert await storage.cleanup_expired() == 29
        assert await storage.cleanup_expired() == 1


@pytest.mark.parametrize("hybrid", [False, True])
async def test_metrics_and_statistics_tell_the_rounds(postgres_server: Server, hybrid: bool) -> None:
    registry = CollectorRegistry()
    clock = [1_700_000_000.0]
    runtime = AsyncioRuntime(lambda: clock[0])
    table = storage_at(postgres_server, "none", runtime, cleanup_interval=0.05)
    through = HybridStorageConfig(consistency="strong", write="write_through")
    storage = HybridStorage(table, through, runtime, np.random.default_rng(1)) if hybrid else table
    kind = "hybrid" if hybrid else "postgres"
    name = "rate_limit_storage_removed_rows_total"
    async with table, InstrumentedStorage(storage, registry) as instrumented:
        await instrumented.acquire("x", Limit(2, 5, "token_bucket"))
        clock[0] += 100
        async with asyncio.timeout(60):
            while registry.get_sample_value(name, {"storage_type": kind}) != 1.0:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        rounds = registry.get_sample_value("rate_limit_storage_upkeep_rounds_total", {"storage_type": kind})
        stats = await instrumented.get_stats()
    assert rounds is not None
    assert stats.upkeep is not None
    assert stats.upkeep.rounds >= rounds >= 1
    assert stats.upkeep.removed == 1


@pytest.mark.parametrize("name", ["top_keys", "denials", "partitions", "sizes"])
async def test_the_document_names_the_columns_of_each_view(postgres_server: Server, name: str) -> None:
    async with storage_at(postgres_server) as storage:
        with psycopg.connect(postgres_server.url) as connection:
            found = connection.execute(f"SELECT * FROM {storage.config.table_name}_{name}".encode()).description
    assert found is not None
    section = DOCUMENT.read_text(encoding="utf-8").split("## Views for operators\n")[1]
    row = next(line for line in section.splitlines() if line.startswith(f"| `{{table}}_{name}`"))
    assert re.findall(r"`(\w+)`", row.split("|")[2]) == [column.name for column in found]


async def test_a_role_that_may_not_rotate_deletes_instead_and_says_so(postgres_server: Server) -> None:
    clock = [1_700_000_000.0]
    runtime = AsyncioRuntime(lambda: clock[0])
    table = f"watched_{next(serial)}"
    async with storage_at(postgres_server, "time:1m", runtime, table_name=table) as owner:
        with psycopg.connect(postgres_server.url, autocommit=True) as admin:
            admin.execute(b"CREATE ROLE plain LOGIN")
            try:
                admin.execute(owner.driver.schema(role="plain").encode())
                url = postgres_server.url.replace("//postgres@", "//plain@")
                # It is not opened, so that it does nothing in the background.
                poor = PostgresStorage(PostgresStorageConfig(url=url, table_name=table), runtime)
                await poor.acquire_many([Request(f"k{i}", Limit(2, 5, "token_bucket")) for i in range(40)])
                clock[0] += 100
                await poor._maintain()
                problems, stats = poor.supervisor.problems, await poor.get_stats()
                await poor.close()
            finally:
                admin.execute("DROP OWNED BY plain; DROP ROLE plain")
    assert "rotation failed" in problems
    assert "may not rotate" in problems
    assert stats.upkeep is not None
    assert (stats.entries, stats.upkeep.rounds, stats.upkeep.removed) == (0, 1, 40)
    assert stats.background_failures == 1


async def test_a_round_makes_and_drops_partitions_of_time(postgres_server: Server) -> None:
    async with storage_at(postgres_server, "time:1m") as storage:
        await storage.acquire("x", LIMIT)
        table = storage.config.table_name
        with psycopg.connect(postgres_server.url, autocommit=True) as admin:
            # Partitions that ended two and three minutes ago, with nothing in them.
            for ago in (2, 3):
                start = f"date_bin('1 min', now(), 'epoch') - interval '{ago} min'"
                for rows in (table, f"{table}_counters"):
                    admin.execute(
                        f"DO $$ BEGIN EXECUTE format('CREATE TABLE {rows}_past{ago} PARTITION OF {rows} "
                        f"FOR VALUES FROM (%L) TO (%L)', {start}, {start} + interval '1 min'); END $$".encode()
                    )
        await storage._maintain()
        stats = await storage.get_stats()
    assert stats.upkeep is not None
    assert stats.upkeep.partitions_dropped == 4
    assert stats.entries == 1
    assert stats.background_failures == 0
