"""Tables that are cut into partitions: their names and bounds, and how they are recognized."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratesim.errors import BatchError, ConfigurationError, KeyRefusedError, RatesimError
from ratesim.limit import Decision, Limit
from ratesim.servers import Server
from ratesim.storage import PostgresStorage, PostgresStorageConfig
from ratesim.storage.base import Request
from ratesim.storage.partitions import ByHash, ByIdentifier, ByTime, PartitionStrategy
from ratesim.storage.postgres.partitioning import NAME_BYTES, SUFFIX_BYTES, partitions, stem
from ratesim.storage.postgres.schema import Schema
from ratesim.storage.postgres.script import script

STRATEGIES: list[PartitionStrategy | None] = [
    None,
    ByHash(1),
    ByHash(5),
    ByTime(60),
    ByTime(86400),
    ByTime(100_000),
    ByIdentifier(("tenant-", "free'$$", "a\ud7ff", "\U0010ffff", "x{{y}}%s")),
]
names = st.from_regex(r"[a-z_][a-z0-9_]{0,39}", fullmatch=True)
prefixes = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="*?,\\"), min_size=1, max_size=8)


def config_of(server: Server, **options: Any) -> PostgresStorageConfig:
    defaults = {"url": server.url, "table_name": f"t_{uuid.uuid4().hex[:12]}", "command_timeout": 20.0}
    return PostgresStorageConfig(**(defaults | options))


@given(table=names, strategy=st.sampled_from(STRATEGIES[1:]))
def test_names_of_partitions_fit_and_differ(table: str, strategy: PartitionStrategy) -> None:
    found = [name for each in (table, f"{table}_counters") for name, _ in partitions(strategy, each)]
    assert len(set(found)) == len(found)
    assert all(len(name) <= NAME_BYTES for name in found)
    assert len(stem(f"{table}_counters")) + SUFFIX_BYTES <= NAME_BYTES


@given(names, names)
def test_names_of_partitions_of_two_tables_differ(table: str, other: str) -> None:
    found = {stem(each) for name in {table, other} for each in (name, f"{name}_counters")}
    assert len(found) == 2 * len({table, other}) or f"{table}_counters" == other or f"{other}_counters" == table


@given(st.lists(prefixes, min_size=1, max_size=5), st.text(st.characters(exclude_categories=("Cs",)), max_size=9))
def test_a_prefix_bounds_what_begins_with_it(starts: list[str], rest: str) -> None:
    try:
        strategy = ByIdentifier(tuple(starts))
    except ConfigurationError:
        return  # one is the beginning of another
    bounds = [text for _, text in partitions(strategy, "t")]
    assert bounds.pop() == "DEFAULT"
    for prefix, bound in zip(strategy.prefixes, bounds, strict=True):
        lower, upper = (part.strip("()").removeprefix("'").removesuffix("'").replace("''", "'")
                        for part in bound.removeprefix("FOR VALUES FROM ").split(") TO ("))  # fmt: skip
        for identifier in (prefix, prefix + rest, rest):
            inside = lower.encode() <= identifier.encode() and (upper == "MAXVALUE" or identifier.encode() < upper.encode())
            assert inside == identifier.startswith(prefix)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
@pytest.mark.parametrize("style", ["ISO, MDY", "SQL, DMY", "German"])
async def test_a_table_is_recognized_as_it_was_cut(
    postgres_server: Server, strategy: PartitionStrategy | None, style: str
) -> None:
    url = f"{postgres_server.url}{'&' if '?' in postgres_server.url else '?'}options=-cdatestyle=" + style.replace(" ", "")
    config = config_of(postgres_server, url=url, partition_strategy=strategy, unlogged=True, fillfactor=65)
    limit = Limit(1, 3600)
    async with PostgresStorage(config) as storage:
        assert (await storage.acquire("tenant-7", limit)).allowed
    as_it_is = PostgresStorageConfig(url=url, table_name=config.table_name, command_timeout=20.0)
    async with PostgresStorage(as_it_is) as storage:
        assert not (await storage.acquire("tenant-7", limit)).allowed
        assert storage.driver._schema.strategy == strategy
    for other in STRATEGIES:
        if other not in (strategy, None):
            with pytest.raises(ConfigurationError, match=r"ratesim repartition URL"):
                await PostgresStorage(
                    config_of(postgres_server, table_name=config.table_name, partition_strategy=other)
                ).open()
    with psycopg.connect(postgres_server.url) as connection:
        found = connection.execute(
            "SELECT relpersistence, reloptions FROM pg_class WHERE relkind = 'r' AND (relispartition OR %s) "
            "AND relname ~ ('^' || %s || '(_counters)?(_h|_i|_t[0-9]|_default|$)')",
            [strategy is None, config.table_name],
        ).fetchall()
    least = 2 if strategy is None else 2 * len(list(partitions(strategy, "t")))
    assert len(found) >= least
    assert all(persistence == "u" and "fillfactor=65" in settings for persistence, settings in found)
    assert len(set(map(str, found))) == 1


BY_HAND = {
    "list": ["CREATE TABLE {t} (LIKE {m}) PARTITION BY LIST (algorithm)", "CREATE TABLE {t}_x PARTITION OF {t} DEFAULT"],
    "too_few": [
        "CREATE TABLE {t} (LIKE {m}) PARTITION BY HASH (identifier)",
        "CREATE TABLE {t}_h0 PARTITION OF {t} FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    ],
    "empty": ["CREATE TABLE {t} (LIKE {m}) PARTITION BY HASH (identifier)"],
    "two_columns": ["CREATE TABLE {t} (LIKE {m}) PARTITION BY HASH (identifier, name)"],
    "expression": ["CREATE TABLE {t} (LIKE {m}) PARTITION BY RANGE (lower(identifier))"],
    "no_prefix": [
        "CREATE TABLE {t} (LIKE {m}) PARTITION BY RANGE (identifier)",
        "CREATE TABLE {t}_i0 PARTITION OF {t} FOR VALUES FROM ('a') TO ('m')",
        "CREATE TABLE {t}_default PARTITION OF {t} DEFAULT",
    ],
    "cut_twice": [
        "CREATE TABLE {t} (LIKE {m}) PARTITION BY RANGE (identifier)",
        "CREATE TABLE {t}_default PARTITION OF {t} DEFAULT PARTITION BY HASH (identifier)",
    ],
    "a_partition": [
        "CREATE TABLE {t}_parent (LIKE {m}) PARTITION BY HASH (identifier)",
        "CREATE TABLE {t} PARTITION OF {t}_parent FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
    ],
}


@pytest.mark.parametrize("by_hand", BY_HAND)
@pytest.mark.parametrize("strategy", [None, ByHash(2)], ids=str)
async def test_a_table_cut_by_hand_in_another_way_is_an_error_that_says_so(
    postgres_server: Server, by_hand: str, strategy: PartitionStrategy | None
) -> None:
    model, config = config_of(postgres_server), config_of(postgres_server, partition_strategy=strategy)
    with psycopg.connect(postgres_server.url) as connection:
        connection.execute(Schema(model, "public", None).tables[0].ddl.encode())
        for statement in BY_HAND[by_hand]:
            connection.execute(statement.format(t=config.table_name, m=model.table_name).encode())
    with pytest.raises(RatesimError, match=r"cut into partitions by hand|is a partition of another") as caught:
        await PostgresStorage(config).open()
    assert "choose another table_name" in str(caught.value)


async def test_tables_that_are_cut_differently_are_an_error(postgres_server: Server) -> None:
    config = config_of(postgres_server)
    with psycopg.connect(postgres_server.url) as connection:
        connection.execute(Schema(config, "public", ByHash(2)).tables[0].ddl.encode())
        connection.execute(Schema(config, "public", None).tables[1].ddl.encode())
    with pytest.raises(ConfigurationError, match=r"cut by hash:2, .*_counters\" by none"):
        await PostgresStorage(config).open()


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_the_script_may_be_run_again(postgres_server: Server, strategy: PartitionStrategy | None) -> None:
    config = config_of(postgres_server, table_name=f"t_{uuid.uuid4().hex[:8]}".ljust(40, "x"))
    text = script(Schema(config, "public", strategy), ("token_bucket",), "postgres").encode()
    with psycopg.connect(postgres_server.url, autocommit=True) as connection:
        for _ in range(2):
            connection.execute(text)


@pytest.mark.parametrize("loss", ["TRUNCATE", "DROP TABLE"])
async def test_the_span_in_use_is_found_again_after_it_was_lost(postgres_server: Server, loss: str) -> None:
    """Who empties a database between tests truncates all of its tables."""
    config = config_of(postgres_server, partition_strategy=ByTime(3600))
    as_it_is = config_of(postgres_server, table_name=config.table_name)
    limit, other = Limit(1, 3600, "gcra"), Limit(1, 3600, "fixed_window", name="b")
    async with PostgresStorage(config) as storage:
        for place, opened in enumerate((storage, storage, PostgresStorage(as_it_is))):
            with psycopg.connect(postgres_server.url) as connection:
                connection.execute(f"{loss} {config.table_name}_periods".encode())
            async with opened if opened is not storage else contextlib.nullcontext(storage):
                assert (await opened.acquire(f"new {place}", limit if place != 1 else (limit, other))).allowed
                assert await opened.increment(f"new {place}", 2, 60.0) == 2
                assert not (await opened.acquire(f"new {place}", limit)).allowed
                assert not (await opened.acquire("new 0", limit)).allowed
                await opened._maintain()
                assert opened.driver._schema.strategy == ByTime(3600)


async def test_a_lost_partition_costs_only_the_keys_in_it(postgres_server: Server) -> None:
    config = config_of(postgres_server, partition_strategy=ByIdentifier(("a", "b")))
    limit = Limit(5, 3600)
    async with PostgresStorage(config) as storage:
        for keys in (["a0"], ["a1", "b1", "c0"]):
            await storage.acquire_many([Request(key, limit) for key in keys])
        with psycopg.connect(postgres_server.url) as connection:
            connection.execute(f"DROP TABLE {config.table_name}_default".encode())
        for _ in range(2):
            with pytest.raises(BatchError) as caught:
                await storage.acquire_many([Request(key, limit) for key in ("a1", "c1", "b1")])
            assert [type(each) for each in caught.value.results] == [Decision, KeyRefusedError, Decision]
            with pytest.raises(KeyRefusedError, match="partition is missing; make it as `ratesim schema URL` prints it"):
                await storage.acquire("c1", limit)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
async def test_tables_that_were_dropped_are_made_again_as_they_were(
    postgres_server: Server, strategy: PartitionStrategy | None
) -> None:
    config = config_of(postgres_server, partition_strategy=strategy)
    limit = Limit(1, 3600)
    async with PostgresStorage(config) as storage:
        assert (await storage.acquire("tenant-7", limit)).allowed
        with psycopg.connect(postgres_server.url) as connection:
            connection.execute(f"DROP TABLE {config.table_name}, {config.table_name}_counters".encode())
        assert (await storage.acquire("tenant-7", limit)).allowed
        assert not (await storage.acquire("tenant-7", limit)).allowed
        assert storage.driver._schema.strategy == strategy
        with psycopg.connect(postgres_server.url) as connection:
            top = connection.execute(f"SELECT identifier FROM {config.table_name}_top_keys".encode()).fetchall()
        assert top == [("tenant-7",)]
