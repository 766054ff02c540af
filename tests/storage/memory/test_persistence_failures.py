"""A MemoryStorage on a disk that fails: kills, damaged and missing files, no room, errors of the disk."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from every_backend import Clock
from test_persistence import FSYNC, LIMIT, counts, storage

from ratesim.errors import CapacityError, ConfigurationError, SerializationError, StorageError
from ratesim.storage import MemoryStorage, Request, open_storage

FILE = "entries.db"


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def modes(path: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in path.glob("**/*")}


def python(*arguments: str) -> str:
    """What a process of its own says on its standard error."""
    return subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True, check=False).stderr


async def written(path: Path, clock: Clock, users: int = 50, requests: int = 200) -> None:
    async with storage(path, clock, fsync="never") as kept:
        for request in range(requests):
            await kept.acquire(f"user {request * 7 % users}", LIMIT)


async def killed(path: Path, clock: Clock, copy: Path, requests: int = 200) -> None:
    """What a kill would leave after so many requests, in `copy`."""
    async with storage(path, clock, fsync="never") as kept:
        for request in range(requests):
            await kept.acquire(f"user {request * 7 % 50}", LIMIT)
        shutil.copytree(path, copy)


async def refused(path: Path, clock: Clock, error: type[StorageError], message: str) -> None:
    before = contents(path)
    with pytest.raises(error, match=message) as raised:
        await storage(path, clock).open()
    assert str(path) in str(raised.value)
    after = contents(path)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"lock"}


# -- one owner, private files -----------------------------------------------------------------------------------------


async def test_files_are_private_and_a_directory_has_one_owner(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "made" / "kept"
    async with storage(path, clock) as kept:
        await kept.acquire("user", LIMIT)
        assert modes(tmp_path) == {"made": 0o700, "kept": 0o700, FILE: 0o600, f"{FILE}-wal": 0o600, "lock": 0o600}
        with pytest.raises(ConfigurationError, match=f"kept: in use by process {os.getpid()}"):
            await storage(path, clock).open()
        code = "import asyncio, sys; from ratesim.storage import *; asyncio.run(open_storage(sys.argv[1]).open())"
        url = f"memory://?persist_to_disk={path}"
        assert f"ConfigurationError: {path}: in use by process {os.getpid()}" in python(code, url)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            sqlite3.connect(path / FILE, timeout=0).execute("SELECT * FROM entry")
        await kept.acquire("user", LIMIT)
    assert sorted(contents(path)) == [FILE, "lock"]
    async with storage(path, clock) as kept:
        assert counts(kept) == {"user": 2}


async def test_files_of_others_are_left_alone_and_a_former_journal_is_refused(tmp_path: Path, clock: Clock) -> None:
    for name in ("log-1", "notes.txt", "snapshot-old"):
        (tmp_path / name).write_text("mine")
    await written(tmp_path, clock)
    assert (tmp_path / "log-1").read_text() == "mine"
    for name, magic in (("log-0", b"rs-log\0\1"), ("snapshot-2", b"rs-snap\1")):
        (tmp_path / name).write_bytes(magic + bytes(40))
        await refused(tmp_path, clock, ConfigurationError, f"{name}: belongs to the journal of a former version")
        (tmp_path / name).unlink()


async def test_a_directory_that_is_a_file_is_a_storage_error(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        await storage(tmp_path / "file", clock).open()


# -- kills ------------------------------------------------------------------------------------------------------------

WRITER = """
import asyncio, os, sys
from ratesim import Limit
from ratesim.storage import open_storage

async def main():
    storage = await open_storage(sys.argv[1]).open()
    async def ask(user):
        while True:
            decision = await storage.acquire(f"user {user}", Limit(1e6, 1e9, "fixed_window"))
            os.write(1, b"%d %d\\n" % (user, 1e6 - decision.remaining))
            if sys.argv[2] == "ends" and decision.remaining < 1e6 - 9:
                return
            await asyncio.sleep(0)
    await asyncio.gather(*map(ask, range(8)))

asyncio.run(main())
if sys.argv[2] == "ends" and os.fork():
    os.wait()
"""


@pytest.mark.slow
@pytest.mark.parametrize("fsync", FSYNC)
def test_a_kill_loses_nothing_that_was_answered(tmp_path: Path, fsync: str) -> None:
    url = f"memory://?persist_to_disk={tmp_path}&fsync={fsync}"
    rng = np.random.default_rng(4)
    answered = dict.fromkeys(range(8), 0)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, url, "on"], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(int(rng.integers(10, 3000))):
            user, count = map(int, process.stdout.readline().split())
            answered[user] = max(answered[user], count)
        process.kill()
        for line in process.stdout.read().splitlines(keepends=True):  # answered before the kill, not read before it
            if line.endswith(b"\n"):
                user, count = map(int, line.split())
                answered[user] = max(answered[user], count)
        assert process.wait() == -9

    async def reopened() -> MemoryStorage:
        async with open_storage(url) as kept:
            assert isinstance(kept, MemoryStorage)
            return kept

    found = counts(asyncio.run(reopened()))
    for user, count in answered.items():
        assert count <= found[f"user {user}"] <= count + 3, "at most the request on its way at each kill is there beyond"


async def test_a_process_that_ends_without_closing_loses_nothing_nor_does_its_fork(tmp_path: Path, clock: Clock) -> None:
    assert python(WRITER, f"memory://?persist_to_disk={tmp_path}", "ends") == ""
    assert sorted(contents(tmp_path)) == [FILE, "lock"]
    async with storage(tmp_path, clock) as kept:
        assert counts(kept) == {f"user {user}": 10 for user in range(8)}


async def test_a_log_that_is_cut_anywhere_leaves_what_was_before(tmp_path: Path, clock: Clock) -> None:
    await killed(tmp_path / "live", clock, tmp_path / "killed")
    histories = [[0] * 50]
    for request in range(200):
        histories.append([count + (user == request * 7 % 50) for user, count in enumerate(histories[-1])])
    found = []
    size = (tmp_path / "killed" / f"{FILE}-wal").stat().st_size
    for length in (*range(0, size, size // 23), size):
        torn = tmp_path / str(length)
        shutil.copytree(tmp_path / "killed", torn)
        os.truncate(torn / f"{FILE}-wal", length)
        async with storage(torn, clock) as kept:
            recovered = counts(kept)
            found.append(histories.index([recovered.get(f"user {user}", 0) for user in range(50)]))
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, 200)


# -- damage and missing files -----------------------------------------------------------------------------------------


async def test_damage_of_the_database_is_refused_and_left_in_place_or_changes_nothing(tmp_path: Path, clock: Clock) -> None:
    await written(tmp_path, clock)
    whole = (tmp_path / FILE).read_bytes()
    async with storage(tmp_path, clock) as kept:
        expected = {key: entry.export() for key, entry in kept.entries.items()}  # type: ignore[union-attr]
    refusals = 0
    for offset in range(0, len(whole), 61):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << offset % 8
        (tmp_path / FILE).write_bytes(damaged)
        found: dict[object, object] | None = None
        with suppress(StorageError):
            async with storage(tmp_path, clock) as kept:
                found = {key: entry.export() for key, entry in kept.entries.items()}  # type: ignore[union-attr]
        if found is None:
            await refused(tmp_path, clock, StorageError, FILE)
            refusals += 1
        else:
            assert found == expected, offset
    assert refusals > len(whole) // 61 // 3
    for length in range(1, len(whole), 997):
        (tmp_path / FILE).write_bytes(whole[:length])
        await refused(tmp_path, clock, StorageError, FILE)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE entry SET expires_at = expires_at + 1 WHERE identifier = 'user 3'", "row 180 in the order of writes"),
        ("UPDATE entry SET state = substr(state, 2) WHERE identifier = 'user 3'", "row 180 in the order of writes"),
        ("UPDATE entry SET state = NULL WHERE identifier = 'user 3'", "row 180 in the order of writes"),
        ("UPDATE entry SET identifier = 'someone' WHERE identifier = 'user 3'", "row 180 in the order of writes"),
        ("PRAGMA user_version = 9", "is no database of entries in format 1"),
        ("PRAGMA application_id = 9", "is no database of entries in format 1"),
    ],
)
async def test_rows_and_formats_that_are_not_ours_are_refused(
    tmp_path: Path, clock: Clock, damage: str, message: str
) -> None:
    await killed(tmp_path / "live", clock, tmp_path / "killed")
    with sqlite3.connect(tmp_path / "killed" / FILE) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute(damage)
        connection.commit()
        shutil.copytree(tmp_path / "killed", tmp_path / "damaged")
    connection.close()
    await refused(tmp_path / "damaged", clock, SerializationError, message)
    (tmp_path / "damaged" / FILE).write_bytes(b"something else altogether" * 100)
    await refused(tmp_path / "damaged", clock, StorageError, FILE)


async def test_a_file_that_is_missing_is_refused_until_the_loss_is_accepted(tmp_path: Path, clock: Clock) -> None:
    await killed(tmp_path / "live", clock, tmp_path / "killed")
    for names in ([f"{FILE}-wal"], [FILE], [FILE, f"{FILE}-wal"]):
        path = tmp_path / str(names)
        shutil.copytree(tmp_path / "killed", path)
        for name in names:
            (path / name).unlink()
        await refused(path, clock, StorageError, "is missing, and what was written last with it; to go on without, remove")
        (path / "lock").unlink()
        if names == [FILE]:
            await refused(path, clock, StorageError, "is missing")
            (path / f"{FILE}-wal").unlink()
        async with storage(path, clock) as kept:
            assert kept.recovered == "0 entries recovered"


async def test_what_a_broken_off_first_opening_left_is_made_anew(tmp_path: Path, clock: Clock) -> None:
    for name in (f"{FILE}.new", f"{FILE}.new-wal", f"{FILE}.new-journal"):
        (tmp_path / name).write_bytes(b"half")
    await written(tmp_path, clock)
    assert sorted(contents(tmp_path)) == [FILE, "lock"]


# -- errors of the disk -----------------------------------------------------------------------------------------------


async def fails_and_recovers(
    kept: MemoryStorage, error: type[StorageError], message: str, repair: Callable[[], Any]
) -> None:
    """The next request fails with this, everything after it is refused, and after the repair it goes on."""
    before = counts(kept)

    async def fill() -> None:
        for user in range(1000):
            await kept.acquire(f"more {user}", LIMIT)
            before[f"more {user}"] = 1

    with pytest.raises(error, match=f"{FILE}.*{message}"):
        await fill()
    repair()
    for verb in (kept.acquire("user", LIMIT), kept.increment("user", 1, 9.0), kept.reset("more 0")):
        with pytest.raises(StorageError, match=r"has failed .* must be closed and opened again"):
            await verb
    health = await kept.health_check()
    assert not health.healthy
    assert message in health.detail
    await kept.close()
    kept.entries.clear()
    await kept.open()
    while not (await kept.health_check()).healthy:  # a sync that failed shows until one succeeds
        await kept.runtime.sleep(0.005)
    found = counts(kept)
    assert {key: found[key] for key in before} == before
    await kept.acquire("user", LIMIT)
    await kept.close()


class Failing:
    """A connection to SQLite that fails where it is told to."""

    def __init__(self, connection: sqlite3.Connection, statement: str, error: BaseException) -> None:
        self._connection, self._statement, self._error = connection, statement, error

    def execute(self, statement: str, *row: Any) -> Any:
        if statement.startswith(self._statement):
            raise self._error
        return self._connection.execute(statement, *row)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def fail(kept: MemoryStorage, statement: str, error: BaseException) -> None:
    database = kept._database
    assert database is not None
    database._connection = Failing(database._connection, statement, error)  # type: ignore[arg-type, assignment]


@pytest.mark.parametrize("fsync", FSYNC)
async def test_a_full_disk_is_capacity_and_nothing_more_is_taken(tmp_path: Path, clock: Clock, fsync: str) -> None:
    kept = await storage(tmp_path, clock, fsync=fsync).open()
    connection = kept._database._connection  # type: ignore[union-attr]
    assert connection is not None
    await kept.acquire("user", LIMIT)
    connection.execute("PRAGMA max_page_count = 8")
    await fails_and_recovers(kept, CapacityError, "full", lambda: connection.execute("PRAGMA max_page_count = 100000"))


@pytest.mark.parametrize(("statement", "fsync"), [("INSERT", "never"), ("BEGIN", "always"), ("COMMIT", "always")])
async def test_an_error_of_the_disk_is_shown_and_nothing_more_is_taken(
    tmp_path: Path, clock: Clock, statement: str, fsync: str
) -> None:
    kept = await storage(tmp_path, clock, fsync=fsync).open()
    await kept.acquire("user", LIMIT)
    fail(kept, statement, sqlite3.OperationalError("disk I/O error"))
    await fails_and_recovers(kept, StorageError, "disk I/O error", lambda: None)


async def test_every_task_of_a_turn_that_was_not_committed_fails(tmp_path: Path, clock: Clock) -> None:
    async with storage(tmp_path, clock, fsync="always") as kept:
        fail(kept, "COMMIT", sqlite3.OperationalError("disk I/O error"))
        answers = await asyncio.gather(*(kept.acquire(str(n), LIMIT) for n in range(5)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [StorageError] * 5
    async with storage(tmp_path, clock) as kept:
        assert counts(kept) == {}


async def test_a_sync_that_fails_in_the_background_is_shown(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await storage(tmp_path, clock, fsync_interval=0.005, cleanup_interval=0.005).open()

    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        await kept.acquire("user", LIMIT)
        while (await kept.get_stats()).background_failures == 0:
            await kept.runtime.sleep(0.005)
        await fails_and_recovers(kept, StorageError, "Input/output error", patch.undo)


async def test_an_interrupted_commit_is_not_followed_by_another(tmp_path: Path, clock: Clock) -> None:
    async with storage(tmp_path, clock) as kept:
        fail(kept, "COMMIT", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            await kept.acquire_many([Request("user", LIMIT), Request("other", LIMIT)])
        with pytest.raises(StorageError, match="was interrupted"):
            await kept.acquire("user", LIMIT)
    async with storage(tmp_path, clock) as kept:
        assert counts(kept) == {}
