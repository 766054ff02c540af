"""Storages without `await`, for threads, synchronous frameworks and notebooks.

    from ratesim.storage.sync import open_storage

    with open_storage("redis://localhost") as storage:
        decision = storage.acquire("user:1", limit)

Every verb may be called from any thread, also while an event loop runs in it. The storages of a process share one event
loop, in a thread of its own. The child of a fork starts another one (docs/processes.md).
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, SupportsIndex, TypeVar

from ratesim.errors import StorageError
from ratesim.limit import Decision, Limits
from ratesim.runtime import keep_alive, observe_forks
from ratesim.state import RateLimitState
from ratesim.storage import urls
from ratesim.storage.base import Charge, RateLimitStorage, Request, StorageHealth, StorageStats
from ratesim.storage.memory.storage import MemoryStorage

__all__ = ["SyncStorage", "open_storage"]

T = TypeVar("T")

ENDING = 0.1  # seconds that canceled operations have to end when their loop does


def open_storage(url: str) -> SyncStorage:
    """Make the storage that a URL describes; `with` opens and closes it.

    Raises
    ------
    ConfigurationError
        The URL is wrong, see `ratesim.storage.open_storage`.
    """
    return SyncStorage(urls.open_storage(url))


class SyncStorage:
    """The verbs of a storage without `await`, safe from any thread.

    Arguments, results and errors are those of `RateLimitStorage`. An interrupt (Ctrl-C) cancels the operation that is waited
    for.

    Parameters
    ----------
    storage
        The storage. Nothing else may use it meanwhile, unless it is a thread-safe MemoryStorage.

    Attributes
    ----------
    storage
        As given.
    """

    def __init__(self, storage: RateLimitStorage) -> None:
        self.storage = storage
        safe = isinstance(storage, MemoryStorage) and storage.config.thread_safe
        self._memory = storage if safe and isinstance(storage, MemoryStorage) else None

    def __repr__(self) -> str:
        return f"SyncStorage({self.storage!r})"

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return self.storage.__reduce_ex__(protocol)  # raises

    def open(self) -> Self:
        """Connect, create missing tables, and start background tasks; a second call does nothing more."""
        _thread.run(self.storage.open())
        return self

    def acquire(
        self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None, session: str | None = None
    ) -> Decision:
        """Admit `cost` and charge it, or deny and change nothing; of several limits all admit or none is charged."""
        memory = self._memory
        if memory is not None:
            return memory.acquire_nowait(identifier, limit, cost, memory.runtime.time() if now is None else now)
        return _thread.run(self.storage.acquire(identifier, limit, cost, now, session))

    def acquire_many(self, requests: Sequence[Request]) -> list[Decision]:
        """Decide each request in turn, and return the decisions in the same order."""
        return _thread.run(self.storage.acquire_many(requests))

    def peek(self, identifier: str, limit: Limits, cost: float = 1.0, now: float | None = None) -> Decision:
        """Return the answer that `acquire` would give, and change nothing."""
        return _thread.run(self.storage.peek(identifier, limit, cost, now))

    def reset(self, identifier: str) -> None:
        """Delete every limit and counter of the identifier."""
        _thread.run(self.storage.reset(identifier))

    def get_state(self, identifier: str, name: str = "") -> RateLimitState | None:
        """Return the state of the identifier's limit of that name; None if there is none or it expired."""
        return _thread.run(self.storage.get_state(identifier, name))

    def set_state(self, identifier: str, state: RateLimitState, ttl: float | None = None, name: str = "") -> None:
        """Replace the state, for `ttl` seconds (None: 3600)."""
        _thread.run(self.storage.set_state(identifier, state, ttl, name))

    def batch_get(self, identifiers: Sequence[str]) -> list[tuple[str, RateLimitState | None]]:
        """Return `get_state` of each identifier, in the same order."""
        return _thread.run(self.storage.batch_get(identifiers))

    def batch_set(self, operations: Sequence[tuple[str, RateLimitState, float | None]]) -> None:
        """Apply `set_state` to each (identifier, state, ttl)."""
        _thread.run(self.storage.batch_set(operations))

    def increment(self, identifier: str, amount: int, window: float) -> int:
        """Add to a plain counter that lives `window` seconds from its first hit, and return the count."""
        return _thread.run(self.storage.increment(identifier, amount, window))

    def observe(self, identifier: str, limit: Limits, score: float, now: float | None = None) -> None:
        """Report the health of the service behind the limit, from 0 (failing) to 1 (fine), to its adaptive limits."""
        _thread.run(self.storage.observe(identifier, limit, score, now))

    def charge_many(self, charges: Sequence[Charge]) -> list[RateLimitState]:
        """Apply consumption decided elsewhere, each exactly once however often it is sent, and return the merged states."""
        return _thread.run(self.storage.charge_many(charges))

    def claim(self, name: str, holder: str, ttl: float) -> tuple[str, float]:
        """Claim the name of a node, or extend the holder's own claim; return who holds it, and for how many seconds."""
        return _thread.run(self.storage.claim(name, holder, ttl))

    def health_check(self) -> StorageHealth:
        """Make one round trip; never raises, but describes the failure."""
        return _thread.run(self.storage.health_check())

    def cleanup_expired(self) -> int:
        """Drop expired entries, and return their number."""
        return _thread.run(self.storage.cleanup_expired())

    def get_stats(self) -> StorageStats:
        """Return the statistics of the storage."""
        return _thread.run(self.storage.get_stats())

    def close(self) -> None:
        """Write pending changes, stop, and release everything; a second call does nothing more."""
        _thread.run(self.storage.close())

    def __enter__(self) -> Self:
        try:
            return self.open()
        except BaseException:
            with suppress(StorageError):
                self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _LoopThread:
    """An event loop in a daemon thread, started on first use, in each process anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        observe_forks(self)
        atexit.register(self.stop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, and return its result or raise its error."""
        if self._thread is threading.current_thread():
            work.close()
            raise StorageError(
                "a synchronous storage was called in its own event loop, which would wait for itself: await it"
            )
        with self._lock:
            if self._loop is None:
                if self._thread is not None:  # its loop is about to end
                    self._thread.join(5.0)
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._serve, args=[self._loop], name="ratesim-sync", daemon=True)
                self._thread.start()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)  # under the lock, before the loop ends
        try:
            return future.result()
        except CancelledError:
            raise StorageError("the event loop of ratesim.storage.sync has ended; the next call starts another") from None
        except BaseException:
            future.cancel()  # where this thread was interrupted; otherwise it is done
            raise

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run a loop until it ends, and then end what waits in it, so that no caller waits for ever."""
        try:
            loop.run_forever()
        finally:
            with self._lock:
                if self._loop is loop:
                    self._loop = None
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.call_later(ENDING, loop.stop)
            loop.run_forever()
            loop.close()

    def stop(self) -> None:
        """End the thread when the process does."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(5.0)

    def before_fork(self) -> None:
        """Let no thread be starting the loop."""
        self._lock.acquire()

    def after_fork(self, in_child: bool) -> None:
        """Start another loop in a child when it is needed."""
        if in_child:
            keep_alive((self._loop, self._thread))
            self._loop = self._thread = None
        self._lock.release()


_thread = _LoopThread()
