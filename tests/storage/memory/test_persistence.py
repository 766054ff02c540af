"""A MemoryStorage with `persist_to_disk` goes on where it was: what is recorded, and when it counts as recorded."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import simpy
from every_backend import Clock

from ratesim import Limit
from ratesim.algorithms import names
from ratesim.errors import BatchError, KeyRefusedError, StorageError
from ratesim.limit import InvalidLimitError
from ratesim.runtime import AsyncioRuntime, SimRuntime
from ratesim.storage import Charge, MemoryStorage, MemoryStorageConfig, Request
from ratesim.storage.memory.persistence import CHECKPOINT

LIMIT = Limit(1e6, 1e9, "fixed_window")  # admits every request of these tests
FSYNC = ["always", "interval", "never"]


def storage(path: Path, clock: Clock, **options: object) -> MemoryStorage:
    config = MemoryStorageConfig(persist_to_disk=str(path), **options)  # type: ignore[arg-type]
    return MemoryStorage(config, AsyncioRuntime(clock))


def counts(kept: MemoryStorage) -> dict[object, int]:
    return {key: entry.request_count for key, entry in kept.entries.items()}  # type: ignore[union-attr]


@contextmanager
def statements(kept: MemoryStorage) -> Iterator[list[str]]:
    """The SQL that is carried out meanwhile, by its first word."""
    connection = kept._database._connection  # type: ignore[union-attr]
    seen: list[str] = []
    connection.set_trace_callback(lambda text: seen.append(text.split()[0]))  # type: ignore[union-attr]
    yield seen
    connection.set_trace_callback(None)  # type: ignore[union-attr]


# -- what is found again ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "fsync"), [*((name, "never") for name in names()), *(("gcra", f) for f in FSYNC[:2])])
async def test_decisions_go_on_after_every_restart(tmp_path: Path, clock: Clock, algorithm: str, fsync: str) -> None:
    limit = Limit(7, 9.0, algorithm, name="named")
    stayed = MemoryStorage()
    rng = np.random.default_rng(3)
    for _ in range(6):
        async with storage(tmp_path / "kept", clock, fsync=fsync) as kept:
            for _ in range(15):
                clock.now += float(rng.exponential(0.5))
                cost = float(rng.choice([0.5, 1.0, 1.7]))
                both = (limit, Limit(9, 20.0, "gcra", name="other")) if rng.random() < 0.3 else limit
                expected = stayed.acquire_nowait("user", both, cost, clock.now)
                assert await kept.acquire("user", both, cost) == expected
                if algorithm == "adaptive":
                    await kept.observe("user", limit, 0.7)
                    await stayed.observe("user", limit, 0.7, clock.now)
        left, right = kept.live_entry("user", "named"), stayed.entries.get(("user", "named"))
        if left is not None:
            assert left.export() == right.export()  # type: ignore[union-attr]


@pytest.mark.parametrize("fsync", FSYNC)
async def test_everything_that_was_done_is_found_again(tmp_path: Path, clock: Clock, fsync: str) -> None:
    limit = Limit(5, 3600.0, "token_bucket")
    async with storage(tmp_path, clock, max_entries=4, fsync=fsync) as kept:
        for user in ("gone", "reset", "moved", "merged"):
            await kept.acquire(user, limit)
        await kept.reset("reset")
        await kept.increment("counted", 3, 100.0)
        await kept.charge_many([Charge("merged", limit, "node", 7, 0.0, ((clock.now, 2.0, 2),))])
        state = await kept.get_state("merged")
        assert state is not None
        await kept.set_state("copy", state, 50.0)  # evicts `gone`
    async with storage(tmp_path, clock, max_entries=4, fsync=fsync) as kept:
        assert kept.recovered == "4 entries recovered"
        assert await kept.get_state("merged") == await kept.get_state("copy") == state
        assert state.watermarks["node"].consumed == 2.0
        assert await kept.get_state("gone") is None
        assert await kept.get_state("reset") is None
        clock.now += 60.0
        assert await kept.get_state("copy") is None  # its time to live went on
        assert await kept.increment("counted", 2**70, 100.0) == 4 + 2**70 - 1
        clock.now += 41.0
        assert await kept.increment("counted", 1, 100.0) == 1
        assert await kept.cleanup_expired() == 1
    async with storage(tmp_path, clock, fsync=fsync) as kept:
        assert "copy" not in kept.entries


async def test_what_was_written_last_stays_where_there_is_less_room(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "?mode=memory#%41 ü"
    async with storage(path, clock) as kept:
        for user in "edcbae":
            await kept.acquire(user, LIMIT)
    async with storage(path, clock, max_entries=3) as kept:
        assert list(kept.entries) == ["b", "a", "e"]
        assert kept.recovered == "5 entries recovered"
    async with storage(path, clock) as kept:
        assert kept.recovered == "3 entries recovered"


async def test_any_identifier_works_but_half_of_a_surrogate_pair(tmp_path: Path, clock: Clock) -> None:
    users = ["", "\0", "a\0b", "a", "'; DROP TABLE entry; --", "ü€𝄞", "x" * 5000, ":counter"]
    named = Limit(1e6, 1e9, "fixed_window", name="n")
    async with storage(tmp_path, clock, max_entries=30) as kept:
        for user in users:
            await kept.acquire(user, (LIMIT, named))
            await kept.increment(user, 1, 1e6)
        for limit in (LIMIT, named):
            with pytest.raises(KeyRefusedError, match="surrogate"):
                await kept.acquire("\ud800", limit)
        with pytest.raises(BatchError, match="1 of 3 failed"):
            await kept.acquire_many([Request("before", LIMIT), Request("\udfff", LIMIT), Request("after", LIMIT)])
        expected = set(kept.entries)
    async with storage(tmp_path, clock) as kept:
        assert set(kept.entries) == expected
        assert len(expected) == 3 * len(users) + 2


async def test_the_background_sweeps_what_has_expired_and_the_log_stays_small(tmp_path: Path, clock: Clock) -> None:
    async with storage(tmp_path, clock, cleanup_interval=0.02, fsync_interval=0.01) as kept:
        for user in range(2500):
            await kept.acquire(str(user), Limit(1000, 2.0, "fixed_window"))
        for _ in range(2 * CHECKPOINT):
            await kept.acquire("hot", LIMIT)
        assert (tmp_path / "entries.db-wal").stat().st_size < 2 * CHECKPOINT * 1024
        clock.now += 10.0
        while (await kept.get_stats()).entries > 1:
            await asyncio.sleep(0.01)
            clock.now += 0.01
        assert (await kept.get_stats()).expirations == 2500
    async with storage(tmp_path, clock) as kept:
        assert counts(kept) == {"hot": 2 * CHECKPOINT}


async def test_the_sweep_and_the_sync_run_in_simulated_time_without_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = simpy.Environment()
    config = MemoryStorageConfig(cleanup_interval=10.0, persist_to_disk=str(tmp_path), fsync_interval=3.0)
    swept = MemoryStorage(config, SimRuntime(env))
    synced: list[int] = []

    async def use() -> None:
        await swept.open()
        monkeypatch.setattr(os, "fsync", lambda _: synced.append(threading.get_ident()))
        for user in range(2500):
            await swept.acquire(str(user), Limit(5, 2.0, "token_bucket"))

    swept.runtime.spawn(use())
    env.run(until=9.5)
    assert len(swept.entries) == 2500
    assert synced == [threading.get_ident()], "nothing was written after the first sync"
    env.run(until=11.0)
    assert len(swept.entries) == 0
    assert (await swept.get_stats()).expirations == 2500
    monkeypatch.undo()
    swept._database.close()  # type: ignore[union-attr]


# -- when it counts as recorded ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fsync", FSYNC)
async def test_a_batch_is_committed_once(tmp_path: Path, clock: Clock, fsync: str) -> None:
    named = Limit(50, 60.0, name="named")
    async with storage(tmp_path, clock, fsync=fsync, max_entries=10) as kept:
        with statements(kept) as seen:
            assert len(await kept.acquire_many([Request(f"user {n % 7}", Limit(5, 60.0)) for n in range(30)])) == 30
            assert (seen.count("COMMIT"), seen.count("INSERT")) == (1, 7)
            await kept.charge_many([Charge("c", LIMIT, "node", 1, float(n), ((clock.now, 1.0, 1),)) for n in range(3)])
            await kept.acquire("user 0", (named, Limit(50, 60.0, name="second")))
            assert seen.count("COMMIT") == 3
            await kept.reset("user 0")
            assert (seen.count("COMMIT"), seen.count("DELETE")) == (4, 3)
            clock.now += 1e5
            assert await kept.cleanup_expired() == 6
            assert (seen.count("COMMIT"), seen.count("DELETE")) == (5, 9)
            with pytest.raises(InvalidLimitError):
                await kept.acquire_many([Request("decided", LIMIT), Request("wrong", LIMIT, cost=-1.0)])
    async with storage(tmp_path, clock) as kept:
        assert set(kept.entries) == {"c"}


async def test_with_always_the_tasks_of_a_turn_share_a_commit_and_are_answered_after_it(
    tmp_path: Path, clock: Clock
) -> None:
    async with storage(tmp_path, clock, fsync="always") as kept:
        with statements(kept) as seen:

            async def ask(user: int) -> None:
                for _ in range(3):
                    await kept.acquire(f"user {user}", LIMIT)
                    seen.append("answered")

            await asyncio.gather(*map(ask, range(20)))
        turn = ["BEGIN", *["INSERT"] * 20, "COMMIT", *["answered"] * 20]
        assert seen == turn * 3
        assert kept._database._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # type: ignore[union-attr]


async def test_the_immediate_verbs_have_committed_when_they_return_also_what_others_left(
    tmp_path: Path, clock: Clock
) -> None:
    async with storage(tmp_path, clock, fsync="always") as kept:
        with statements(kept) as seen:
            task = asyncio.ensure_future(kept.acquire("both", LIMIT))
            await asyncio.sleep(0)
            assert seen == []
            kept.acquire_nowait("both", LIMIT, 1.0, clock.now)
            assert seen == ["BEGIN", "INSERT", "COMMIT"]
            await task
            kept.increment_nowait("counted", 1, 60.0)
            assert seen[3:] == ["INSERT"], "one statement is a transaction of its own"
    async with storage(tmp_path, clock) as kept:
        assert kept.entries["both"].request_count == 2  # type: ignore[union-attr]


async def test_a_canceled_request_leaves_nothing_half_done(tmp_path: Path, clock: Clock) -> None:
    async with storage(tmp_path, clock, fsync="always") as kept:
        task = asyncio.ensure_future(kept.acquire("canceled", LIMIT))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with storage(tmp_path, clock) as kept:
        assert counts(kept) == counts(kept) | {"canceled": 1}


@pytest.mark.parametrize("fsync", ["always", "never"])
async def test_threads_with_loops_of_their_own_share_a_database(tmp_path: Path, clock: Clock, fsync: str) -> None:
    async def ask(kept: MemoryStorage, user: int) -> None:
        for step in range(25):
            await kept.acquire(f"user {(user + step) % 5}", LIMIT)

    async def many(kept: MemoryStorage) -> None:
        await asyncio.gather(*(ask(kept, user) for user in range(10)))

    async with storage(tmp_path, clock, fsync=fsync) as kept:
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, many(kept)) for _ in range(3)))
    async with storage(tmp_path, clock) as kept:
        assert counts(kept) == {f"user {user}": 150 for user in range(5)}


async def test_the_interval_syncs_what_is_new_and_never_syncs_nothing(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    for fsync, expected in (("interval", 1), ("never", 0)):
        async with storage(tmp_path / fsync, clock, fsync=fsync, fsync_interval=1e6) as kept:
            database = kept._database
            assert database is not None
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", synced.append)
                await kept.acquire("user", LIMIT)
                database.sync()
                database.sync()
                assert synced == [database._wal] * expected
            synced.clear()


async def test_a_change_that_a_sync_was_too_early_for_is_synced_by_the_next(tmp_path: Path, clock: Clock) -> None:
    async with storage(tmp_path / "kept", clock, fsync="interval") as kept:
        database = kept._database
        assert database is not None
        with database.batch():
            kept.acquire_nowait("user", LIMIT, 1.0, clock.now)
            database.sync()  # in another thread: before the commit
        assert database._synced < database._committed
        database.sync()
        assert database._synced == database._committed


async def test_memory_and_disk_agree_once_it_is_opened_again(tmp_path: Path, clock: Clock) -> None:
    kept = storage(tmp_path / "kept", clock)
    kept.acquire_nowait("before", LIMIT, 1.0, clock.now)
    async with kept:
        await kept.acquire("meanwhile", LIMIT)
    kept.acquire_nowait("between", LIMIT, 1.0, clock.now)
    async with kept:
        expected = counts(kept)
    assert expected.keys() == {"before", "meanwhile", "between"}
    async with storage(tmp_path / "kept", clock) as found:
        assert counts(found) == expected


async def test_a_storage_that_is_closed_decides_on_in_memory(tmp_path: Path, clock: Clock) -> None:
    async with storage(tmp_path, clock) as kept:
        await kept.acquire("user", LIMIT)
    assert (await kept.acquire("user", LIMIT)).allowed
    database = kept._database
    assert database is None
    async with kept:
        assert kept.recovered == "1 entries recovered"
        assert counts(kept) == {"user": 1}
        with pytest.raises(StorageError, match="in use by process"):
            await storage(tmp_path, clock).open()


# -- the sync in the background ---------------------------------------------------------------------------------------


async def test_a_sync_that_failed_is_shown_and_the_next_is_made(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with storage(tmp_path, clock, fsync_interval=0.01) as kept:
        with monkeypatch.context() as patch:
            patch.setattr(kept._database, "sync", refuse)
            while (await kept.get_stats()).background_failures < 2:
                await kept.runtime.sleep(0.005)
            health = await kept.health_check()
            assert not health.healthy
            assert "sync failed" in health.detail
            assert "No space left" in health.detail
        while not (await kept.health_check()).healthy:
            await kept.runtime.sleep(0.005)


async def test_a_disk_that_failed_a_sync_stays_shown_until_the_storage_is_opened_again(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with storage(tmp_path, clock, fsync_interval=0.01) as kept:
        await kept.acquire("user", LIMIT)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            while (await kept.get_stats()).background_failures < 1:
                await kept.runtime.sleep(0.005)
        while (await kept.get_stats()).background_failures < 4:
            await kept.runtime.sleep(0.005)
        health = await kept.health_check()
        assert not health.healthy
        assert "opened again" in health.detail
        assert len(caplog.records) <= 2, "one a minute for each class of error"
    async with kept:
        await kept.acquire("user", LIMIT)
        assert not (await kept.health_check()).detail.startswith("the database")


def refuse(*_: object) -> None:
    raise OSError(28, "No space left on device")


async def test_the_change_of_a_caller_that_is_canceled_is_on_the_disk(tmp_path: Path) -> None:
    config = MemoryStorageConfig(persist_to_disk=str(tmp_path), fsync="always")
    storage = await MemoryStorage(config).open()
    caller = asyncio.create_task(storage.acquire("user", LIMIT))
    await asyncio.sleep(0)  # its change is in memory, and waits for those of this turn
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert storage._database is not None
    assert not storage._database._pending
    await storage.close()


async def test_a_caller_that_is_canceled_in_close_is_canceled_and_the_disk_is_let_go(tmp_path: Path) -> None:
    config = MemoryStorageConfig(persist_to_disk=str(tmp_path))
    storage = await MemoryStorage(config).open()
    closing = asyncio.create_task(storage.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await (await MemoryStorage(config).open()).close()
