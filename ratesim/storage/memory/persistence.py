"""The entries of a MemoryStorage on disk: written to a journal as they change, and read back when it is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ratesim.errors import SerializationError
from ratesim.runtime import Runtime
from ratesim.state import encode
from ratesim.storage.config import MemoryStorageConfig
from ratesim.storage.journal import Count, Drop, Journal, Put, Record
from ratesim.storage.memory.entry import Counter, Entry
from ratesim.storage.memory.entry_table import EntryTable

__all__ = ["COUNTER", "JournalWriter", "run_blocking", "slices"]

COUNTER = ":counter"  # the name under which an identifier's counter lies; no limit can have it
SLICE = 1000  # entries looked at, or written, at once: about a millisecond


class JournalWriter:
    """Writes what happens to entries to a journal."""

    def __init__(self, config: MemoryStorageConfig, entries: EntryTable, lock: AbstractContextManager[object]) -> None:
        assert config.persist_to_disk is not None
        self.journal = Journal(Path(config.persist_to_disk), config.fsync)
        self._entries = entries
        self._lock = lock
        self._batch: list[Record] | None = None

    def wrote(self, key: Hashable) -> None:
        """An entry was written."""
        self._append(_record(key, self._entries.by_key[key]))

    def dropped(self, key: Hashable) -> None:
        """An entry is gone."""
        identifier, name = _split(key)
        self._append(Drop(identifier, None if name == COUNTER else name))

    def _append(self, record: Record) -> None:
        if self._batch is None:
            self.journal.append([record])
        else:
            self._batch.append(record)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """What happens meanwhile is appended at the end, with one fsync for all of it. The caller holds the lock."""
        self._batch = []
        try:
            yield
        finally:
            records, self._batch = self._batch, None
            if records:
                self.journal.append(records)

    async def snapshot(self, runtime: Runtime) -> None:
        """Write a new generation, in slices."""
        with self.journal.begin_snapshot() as writer:
            with self._lock:
                keys = list(self._entries.by_key)
            for some in slices(keys):
                with self._lock:
                    found = [(key, self._entries.by_key.get(key)) for key in some]
                    records = [_record(key, entry) for key, entry in found if entry is not None]
                writer.write(records)
                await runtime.sleep(0)
            await run_blocking(runtime, writer.commit)


def _split(key: Hashable) -> tuple[str, str]:
    return key if isinstance(key, tuple) else (str(key), "")


def _record(key: Hashable, entry: Entry | Counter) -> Put | Count:
    identifier, name = _split(key)
    if isinstance(entry, Counter):
        return Count(identifier, entry.count, entry.expires_at)
    try:
        return Put(identifier, name, encode(entry.export()), entry.expires_at)
    except UnicodeEncodeError as error:
        raise SerializationError(f"{identifier[:80]!r}: half of a surrogate pair cannot be kept on disk") from error


def slices(keys: list[Hashable]) -> Iterator[list[Hashable]]:
    for start in range(0, len(keys), SLICE):
        yield keys[start : start + SLICE]


def run_blocking(runtime: Runtime, work: Callable[[], None]) -> Awaitable[None]:
    """Run what waits for the disk on a thread, where the clock is the world's."""

    async def at_once() -> None:
        work()

    return asyncio.to_thread(work) if runtime.realtime else at_once()
