"""A key has one row under every partition strategy, whatever many processes do to it at once, and no count is lost."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from every_backend import PARTITIONS
from examples import sample
from partition_script import BOTH, EXACT, KEYS, SHORT, key

from ratesim.servers import Server
from ratesim.storage import PostgresStorage, PostgresStorageConfig, Request
from ratesim.storage.partitions import ByTime, parse_partition
from ratesim.storage.postgres.rotation import Rotation, rotate
from ratesim.storage.postgres.schema import Schema

SCRIPT = Path(__file__).with_name("partition_script.py")


async def turn(storage: PostgresStorage, connection: psycopg.AsyncConnection) -> Rotation:
    """Let a span of time end, and rotate: the next one comes into use, as when the clock had gone on."""
    schema: Schema = storage.driver._schema
    tables = {"table": schema.table, "counters": schema.counters, "periods": schema.periods}
    async with connection.transaction():
        for table in (schema.table, schema.counters):
            await connection.execute(
                f"""DO $$ DECLARE p {schema.periods}%ROWTYPE; BEGIN SELECT * INTO p FROM {schema.periods};
                EXECUTE format('CREATE TABLE "p_{uuid.uuid4().hex}" PARTITION OF {table} FOR VALUES FROM (%L) TO (%L)',
                  p.period + p.span, p.period + 2 * p.span); EXCEPTION WHEN invalid_object_definition THEN NULL;
                END $$""".encode()  # it may be there already
            )
    async with connection.transaction():
        await connection.execute(schema.statement("lock_period").encode())
        await connection.execute("UPDATE {periods} SET period = period + span".format(**tables).encode())
    return await rotate(storage.driver.connector, schema, time.time())


async def strive(server: Server, partition: str, processes: int, tasks: int, rounds: int) -> None:
    """Let many ask for the same keys while spans of time end, and see that what was admitted is exactly the limit."""
    table, strategy = f"t_{uuid.uuid4().hex[:12]}", parse_partition(partition)
    config = PostgresStorageConfig(
        url=server.url, table_name=table, command_timeout=60.0, cleanup_interval=0, partition_strategy=strategy
    )
    turns: Counter[str] = Counter()
    async with (
        PostgresStorage(config) as storage,
        await psycopg.AsyncConnection.connect(server.url, autocommit=True) as connection,
    ):
        over = [key(kind, number) for kind in ("one", "churn") for number in range(KEYS)]
        await storage.acquire_many([Request(name, SHORT, now=time.time() - 500) for name in over])
        running = [
            await asyncio.create_subprocess_exec(
                *(sys.executable, str(SCRIPT), server.url, table, str(tasks), str(seed), str(rounds)),
                stdout=asyncio.subprocess.PIPE,
            )
            for seed in range(processes)
        ]
        ends = [asyncio.create_task(each.communicate()) for each in running]
        while isinstance(strategy, ByTime) and not all(end.done() for end in ends):
            turns.update((await turn(storage, connection))._asdict())
            await asyncio.sleep(0.1)
        outputs = await asyncio.gather(*ends)
        assert [each.returncode for each in running] == [0] * processes
        admitted: Counter[str] = Counter()
        for output, _ in outputs:
            admitted.update(json.loads(output))
        for number in range(KEYS):
            assert admitted[key("one", number)] == EXACT.rate
            assert admitted[key("two", number)] == min(each.rate for each in BOTH)
            assert await storage.increment(key("counted", number), 0, 1e9) == admitted[key("counted", number)]
            assert not (await storage.acquire(key("one", number), EXACT)).allowed
        for rows, columns in ((table, "identifier, name"), (f"{table}_counters", "identifier")):
            twice = f'SELECT {columns} FROM "{rows}" GROUP BY {columns} HAVING count(*) > 1'
            assert await (await connection.execute(twice.encode())).fetchall() == []
        counted = f"SELECT count(*) FROM \"{table}\" WHERE expected IS NOT NULL OR (state = '{{}}' AND name = '')"
        assert await (await connection.execute(counted.encode())).fetchone() == (0,)
    if isinstance(strategy, ByTime):
        assert turns["moved"] > 0
        assert turns["dropped"] > 0


@pytest.mark.parametrize("partition", sample(["none", *PARTITIONS.values()], ("hash:3", "time:1m")))
async def test_many_who_ask_at_once_get_exactly_the_limit(postgres_server: Server, partition: str) -> None:
    await strive(postgres_server, partition, processes=2, tasks=12, rounds=60)


@pytest.mark.nightly
@pytest.mark.parametrize("partition", ["none", *PARTITIONS.values()])
async def test_four_processes_of_32_tasks_get_exactly_the_limit(postgres_server: Server, partition: str) -> None:
    await strive(postgres_server, partition, processes=4, tasks=32, rounds=400)
