"""What a MemoryStorage does beside deciding: it writes its entries to a journal, reads them back, and clears expired ones.

All of it happens in one background task of the runtime, in slices, so that no decision waits for more than one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ratesim.errors import Serialization
from ratesim.runtime import Runtime
from ratesim.state import decode, encode
from ratesim.storage.config import MemoryStorageConfig
from ratesim.storage.journal import Count, Drop, Journal, Put, Record
from ratesim.storage.memory.entry import Counter, Entry

if TYPE_CHECKING:
    from ratesim.storage.memory.entry_table import Entries
    from ratesim.storage.memory.storage import MemoryStorage

__all__ = ["COUNTER", "Keeper", "upkeep"]

COUNTER = ":counter"  # the name under which an identifier's counter lies; no limit can have it
SLICE = 1000  # entries looked at, or written, at once: about a millisecond


class Keeper:
    """Writes what happens to entries to a journal."""

    def __init__(self, config: MemoryStorageConfig, entries: Entries, lock: AbstractContextManager[object]) -> None:
        assert config.persist_to_disk is not None
        self.journal = Journal(Path(config.persist_to_disk), config.fsync)
        self._entries = entries
        self._lock = lock
        self._together: list[Record] | None = None

    def recover(self, storage: MemoryStorage) -> str:
        """Open the journal and put back what was there; says what was found. Times to live go on where they were."""
        found = self.journal.open()
        for record in found.records:
            if isinstance(record, Put):
                storage.put(record.identifier, decode(record.state), record.expires_at, record.name)
            else:
                storage.put_count(record.identifier, record.count, record.expires_at)
        told = f"{found.entries} entries recovered"
        if found.cut_bytes:
            told += f"; a torn end of {found.cut_bytes} bytes was cut off"
        return told

    def wrote(self, key: Hashable) -> None:
        """An entry was written."""
        self._append(_record(key, self._entries.by_key[key]))

    def dropped(self, key: Hashable) -> None:
        """An entry is gone."""
        identifier, name = _split(key)
        self._append(Drop(identifier, None if name == COUNTER else name))

    def _append(self, record: Record) -> None:
        if self._together is None:
            self.journal.append([record])
        else:
            self._together.append(record)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What happens meanwhile is appended at the end, with one fsync for all of it. The caller holds the lock."""
        self._together = []
        try:
            yield
        finally:
            records, self._together = self._together, None
            if records:
                self.journal.append(records)

    async def snapshot(self, runtime: Runtime) -> None:
        """Write a new generation, in slices."""
        with self.journal.begin_snapshot() as writer:
            with self._lock:
                keys = list(self._entries.by_key)
            for some in _slices(keys):
                with self._lock:
                    found = [(key, self._entries.by_key.get(key)) for key in some]
                    records = [_record(key, entry) for key, entry in found if entry is not None]
                writer.write(records)
                await runtime.sleep(0)
            await _beside(runtime, partial(writer.commit))


def _split(key: Hashable) -> tuple[str, str]:
    return key if isinstance(key, tuple) else (str(key), "")


def _record(key: Hashable, entry: Entry | Counter) -> Put | Count:
    identifier, name = _split(key)
    if isinstance(entry, Counter):
        return Count(identifier, entry.count, entry.expires_at)
    try:
        return Put(identifier, name, encode(entry.export()), entry.expires_at)
    except UnicodeEncodeError as error:
        raise Serialization(f"{identifier[:80]!r}: half of a surrogate pair cannot be kept on disk") from error


def _slices(keys: list[Hashable]) -> Iterator[list[Hashable]]:
    for start in range(0, len(keys), SLICE):
        yield keys[start : start + SLICE]


def _beside(runtime: Runtime, work: partial[None]) -> Awaitable[None]:
    """Run what waits for the disk on a thread, where the clock is the world's."""

    async def at_once() -> None:
        work()

    return asyncio.to_thread(work) if runtime.realtime else at_once()


async def upkeep(storage: MemoryStorage, keeper: Keeper | None) -> None:
    """Sync and compact the journal, and drop what has expired, each in its interval; for ever."""
    config, runtime = storage.config, storage.runtime
    sync_at = runtime.time() + config.fsync_interval
    clean_at = runtime.time() + config.cleanup_interval
    while True:
        due = min(sync_at if keeper else clean_at, clean_at)
        await runtime.sleep(due - runtime.time())
        now = runtime.time()
        if keeper is not None and now >= sync_at:
            await _beside(runtime, partial(keeper.journal.sync))
            if keeper.journal.needs_snapshot:
                await keeper.snapshot(runtime)
            sync_at = runtime.time() + config.fsync_interval
        if now >= clean_at:
            for keys in _slices(storage.keys()):  # copied, 8 bytes each: entries come and go meanwhile
                storage.drop_expired(keys, now)
                await runtime.sleep(0)
            storage.keep_to_limit()
            clean_at = runtime.time() + config.cleanup_interval
