"""A MemoryStorage with `persist_to_disk` goes on where it was, also after its process was killed."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simpy
from every_backend import Clock

from ratesim import Limit
from ratesim.algorithms import names
from ratesim.errors import CapacityError, ConfigurationError, StorageError
from ratesim.limit import InvalidLimitError
from ratesim.runtime import AsyncioRuntime, SimRuntime
from ratesim.storage import Charge, MemoryStorage, MemoryStorageConfig, Request, open_storage
from ratesim.storage.journal import File

NOW = 1_700_000_000.0


def storage(path: Path, clock: Clock, **options: object) -> MemoryStorage:
    config = MemoryStorageConfig(persist_to_disk=str(path), **options)  # type: ignore[arg-type]
    return MemoryStorage(config, AsyncioRuntime(clock))


def sizes(path: Path, pattern: str = "*") -> dict[Path, int]:
    return {file: file.stat().st_size for file in path.glob(pattern)}


def modes(path: Path) -> set[int]:
    return {file.stat().st_mode & 0o777 for file in path.glob("**/*")} if path.is_dir() else set()


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
@pytest.mark.parametrize("algorithm", names())
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


async def test_everything_that_was_done_is_found_again(tmp_path: Path, clock: Clock) -> None:
    limit = Limit(5, 3600.0, "token_bucket")
    async with storage(tmp_path, clock, max_entries=4) as kept:
        for user in ("gone", "reset", "moved", "merged"):
            await kept.acquire(user, limit)
        await kept.reset("reset")
        await kept.increment("counted", 3, 100.0)
        await kept.charge_many([Charge("merged", limit, "node", 7, 0.0, ((clock.now, 2.0, 2),))])
        state = await kept.get_state("merged")
        assert state is not None
        await kept.set_state("copy", state, 50.0)  # evicts `gone`
    async with storage(tmp_path, clock, max_entries=4) as kept:
        assert kept.recovered == "4 entries recovered"
        assert await kept.get_state("merged") == await kept.get_state("copy") == state
        assert state.watermarks["node"].consumed == 2.0
        assert await kept.get_state("gone") is None
        assert await kept.get_state("reset") is None
        clock.now += 60.0
        assert await kept.get_state("copy") is None  # its time to live went on
        assert await kept.increment("counted", 1, 100.0) == 4
        clock.now += 41.0
        assert await kept.increment("counted", 1, 100.0) == 1
        assert await kept.cleanup_expired() == 1
    async with storage(tmp_path, clock) as kept:
        assert "copy" not in kept.entries


async def test_files_are_private_and_a_directory_has_one_owner(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "kept"
    async with storage(path, clock) as kept:
        await kept.acquire("user", Limit(5, 60.0))
        assert modes(tmp_path) == {0o700, 0o600}
        with pytest.raises(ConfigurationError, match="kept"):
            await storage(path, clock).open()
    async with storage(path, clock):
        pass


async def test_damage_is_refused_and_left_in_place(tmp_path: Path, clock: Clock) -> None:
    async with storage(tmp_path, clock) as kept:
        for user in range(50):
            await kept.acquire(str(user), Limit(5, 60.0))
    (log,) = sizes(tmp_path, "log-*")
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 0xFF
    log.write_bytes(data)
    with pytest.raises(StorageError, match=r"log-0"):
        await storage(tmp_path, clock).open()
    assert log.read_bytes() == data


async def test_the_background_sweeps_what_has_expired_and_compacts_the_log(tmp_path: Path, clock: Clock) -> None:
    limit = Limit(1000, 2.0, "fixed_window")
    async with storage(tmp_path, clock, cleanup_interval=0.02, fsync_interval=0.01) as kept:
        for user in range(2500):
            await kept.acquire(str(user), limit)
        for _ in range(9000):
            await kept.acquire("hot", Limit(1e9, 3600.0, "fixed_window"))
        before = sum(sizes(tmp_path).values())
        clock.now += 10.0
        while (
            (await kept.get_stats()).entries > 1
            or not sizes(tmp_path, "snapshot-*")
            or sum(sizes(tmp_path).values()) >= before / 2
        ):
            await asyncio.sleep(0.01)
            clock.now += 0.01
        assert (await kept.get_stats()).expirations == 2500
    async with storage(tmp_path, clock) as kept:
        entry = kept.live_entry("hot")
        assert entry is not None
        assert entry.request_count == 9000


WRITER = """
import asyncio, sys
from ratesim import Limit
from ratesim.storage import open_storage

async def main():
    async with open_storage(sys.argv[1]) as storage:
        limit = Limit(1e9, 1e6, "fixed_window")
        while True:
            decision = await storage.acquire("user", limit)
            print(int(1e9 - decision.remaining), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path, fsync: str) -> None:
    url = f"memory://?persist_to_disk={tmp_path / 'kept'}&fsync={fsync}"
    rng = np.random.default_rng(4)
    answered = 0
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first = int(process.stdout.readline())
        assert first > answered
        for _ in range(int(rng.integers(1, 300))):
            answered = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read().splitlines()  # answered before the kill, not read before it; the last may be cut
        answered = max([answered, *map(int, rest[:-1])])
        process.wait()

    async def reopened() -> float:
        async with open_storage(url) as kept:
            return (await kept.peek("user", Limit(1e9, 1e6, "fixed_window"), 0)).remaining

    assert 1e9 - asyncio.run(reopened()) >= answered


class Watched:
    """A file of a journal that counts its fsyncs, and can be made to fail."""

    def __init__(self, file: File) -> None:
        self._file = file
        self.syncs = 0
        self.full = False

    def write(self, data: bytes) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._file.write(data)

    def sync(self) -> None:
        self.syncs += 1
        self._file.sync()

    def close(self) -> None:
        self._file.close()


def watch(kept: MemoryStorage) -> Watched:
    keeper = kept._entries.change_log
    assert keeper is not None
    assert keeper.journal._log is not None
    watched = keeper.journal._log = Watched(keeper.journal._log)
    return watched


async def test_a_batch_is_synced_once(tmp_path: Path, clock: Clock) -> None:
    async with storage(tmp_path, clock, fsync="always") as kept:
        log = watch(kept)
        requests = [Request(f"user {number % 7}", Limit(5, 60.0)) for number in range(30)]
        assert len(await kept.acquire_many(requests)) == 30
        assert log.syncs == 1
        await kept.acquire("user 0", Limit(50, 60.0))
        assert log.syncs == 2
        with pytest.raises(InvalidLimitError):
            await kept.acquire_many([Request("decided", Limit(5, 60.0)), Request("wrong", Limit(5, 60.0), cost=-1.0)])
    async with storage(tmp_path, clock) as kept:
        assert {f"user {number}" for number in range(7)} | {"decided"} == set(kept.entries)


async def test_a_disk_that_failed_shows_in_the_health_and_nothing_is_answered(tmp_path: Path, clock: Clock) -> None:
    async with storage(tmp_path, clock) as kept:
        assert (await kept.health_check()).healthy
        watch(kept).full = True
        with pytest.raises(CapacityError):
            await kept.acquire("user", Limit(5, 60.0))
        with pytest.raises(StorageError, match="opened again"):
            await kept.acquire("user", Limit(5, 60.0))
        health = await kept.health_check()
        assert not health.healthy
        assert "No space left" in health.detail


async def test_the_sweep_runs_in_simulated_time_too() -> None:
    env = simpy.Environment()
    swept = MemoryStorage(MemoryStorageConfig(cleanup_interval=10.0), SimRuntime(env))

    async def use() -> None:
        await swept.open()
        for user in range(2500):
            await swept.acquire(str(user), Limit(5, 2.0, "token_bucket"))

    swept.runtime.spawn(use())
    env.run(until=9.0)
    assert len(swept.entries) == 2500
    env.run(until=11.0)
    assert len(swept.entries) == 0
    assert (await swept.get_stats()).expirations == 2500


async def test_a_failed_snapshot_is_shown_and_the_upkeep_goes_on(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with storage(tmp_path, clock, fsync_interval=0.01) as kept:
        writer = kept._journal_writer
        assert writer is not None
        with monkeypatch.context() as patch:
            patch.setattr(type(writer.journal), "needs_snapshot", True)
            patch.setattr(writer, "snapshot", refused)
            while (await kept.get_stats()).background_failures < 2:
                await kept.runtime.sleep(0.005)
            health = await kept.health_check()
            assert not health.healthy
            assert "journal snapshot" in health.detail
            assert "No space left" in health.detail
        monkeypatch.setattr(type(writer.journal), "needs_snapshot", True)
        while not (await kept.health_check()).healthy:
            await kept.runtime.sleep(0.005)


async def refused(_: object) -> None:
    raise OSError(28, "No space left on device")
