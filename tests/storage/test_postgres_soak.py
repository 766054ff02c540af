"""A soak: with cleanup, rotation and autovacuum the size levels off, waits do not drift, and updates stay heap-only.

`RATESIM_SOAK_SECONDS` sets the duration of the long one, 300 by default.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import time
from collections.abc import Iterator

import numpy as np
import pytest

from ratesim.limit import Limit
from ratesim.servers import Server, postgres
from ratesim.storage.config import PostgresStorageConfig
from ratesim.storage.postgres import PostgresStorage

LONG = float(os.environ.get("RATESIM_SOAK_SECONDS", "300"))
SLICES = 30
TASKS, KEYS = 8, 300
LIMIT = Limit(5, 2, "token_bucket")
EPOCH = 4.0  # seconds after which other keys come, as users do; a row is over 3 s after it was last used


@pytest.fixture(scope="module")
def busy_vacuum() -> Iterator[Server]:
    """A server whose autovacuum looks every second, so that a short run sees what a long one does at the default of 60."""
    with postgres(settings={"autovacuum_naptime": "1s"}) as server:
        yield server


@pytest.mark.servers
@pytest.mark.parametrize(
    ("strategy", "seconds"),
    [
        pytest.param(None, 15.0, id="short"),
        pytest.param(None, LONG, id="long", marks=pytest.mark.nightly),
        pytest.param("time:1m", LONG, id="long by time", marks=pytest.mark.nightly),
    ],
)
async def test_size_and_waits_level_off(
    busy_vacuum: Server, strategy: str | None, seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    config = PostgresStorageConfig(
        url=busy_vacuum.url,
        table_name=f"soak_{round(seconds)}_{'time' if strategy else 'whole'}",
        partition_strategy=strategy,  # type: ignore[arg-type]
        synchronous_commit="off",
        command_timeout=30.0,
        cleanup_interval=1.0,
    )
    faulthandler.cancel_dump_traceback_later()  # it is meant to take long
    slices: list[tuple[float, int]] = []  # p99 of the waits, and bytes
    waits: list[float] = []
    begin = time.monotonic()

    async def decide(storage: PostgresStorage, task: int) -> None:
        rng = np.random.default_rng(task)
        while (now := time.monotonic()) < begin + seconds:
            key = f"user {int((now - begin) / EPOCH)} {rng.integers(KEYS)}"
            await storage.acquire(key, LIMIT)
            waits.append(time.monotonic() - now)
            await asyncio.sleep(0.004)

    async with PostgresStorage(config) as storage:
        async with asyncio.TaskGroup() as deciding:
            for task in range(TASKS):
                deciding.create_task(decide(storage, task))
            for number in range(1, SLICES + 1):
                await asyncio.sleep(max(0.0, begin + seconds * number / SLICES - time.monotonic()))
                taken, waits[:] = list(waits), []
                slices.append((float(np.quantile(taken, 0.99)) if taken else 0.0, (await storage.get_stats()).bytes))
        async with asyncio.timeout(60):
            while not (stats := await storage.get_stats()).hot_ratio:  # noqa: ASYNC110 - statistics are a second late
                await asyncio.sleep(0.1)
        health = await storage.health_check()
    third = SLICES // 3
    p99, sizes = (np.array(column) for column in zip(*slices, strict=True))
    drift = np.median(p99[-third:]) / np.median(p99[third:-third])
    growth = sizes[-third:].max() / sizes[third:-third].max()
    assert stats.upkeep is not None
    with capsys.disabled():
        print(
            f"\n{strategy or 'none'}, {seconds:g} s: "
            f"bytes {sizes[third:-third].max()} then {sizes[-third:].max()} ({growth:.2f}), "
            f"p99 {np.median(p99[third:-third]) * 1e3:.1f} ms then {np.median(p99[-third:]) * 1e3:.1f} ({drift:.2f}), "
            f"HOT {stats.hot_ratio:.3f}, {stats.upkeep}, {stats.background_failures} failures"
        )
    assert health.healthy, health.detail
    assert stats.upkeep.rounds > 0
    assert stats.upkeep.removed + stats.upkeep.partitions_dropped > 0
    assert growth < 1.5
    assert stats.hot_ratio > 0.9
    assert drift < 10  # as a rule about 1; a machine that is shared may do anything for a while
