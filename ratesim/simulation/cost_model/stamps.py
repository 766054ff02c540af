"""Stamps: when each batch of a storage was written to its server, and when its answer arrived.

They divide a latency into the client's time before the question, the way and the server's time, and the client's time after
the answer. The methods of a connection that write and receive are wrapped while a context is open. A storage that is not
stamped pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ratesim.storage import HybridStorage, PostgresStorage, RateLimitStorage, RedisStorage
from ratesim.storage.postgres.wire import Wire
from ratesim.storage.redis.direct import Link

__all__ = ["Stamps", "stamped"]


class Stamps:
    """Times of batches, in the order in which they were written.

    Batches of upkeep are among them. A batch that was not written, since its connection was closed, is none.
    """

    def __init__(self) -> None:
        self._batches: list[list[float]] = []

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def begun(self) -> NDArray[np.float64]:
        """When a connection was asked to write the batch, by perf_counter."""
        return self._column(0)

    @property
    def written(self) -> NDArray[np.float64]:
        """When the write of the batch had returned, by perf_counter."""
        return self._column(1)

    @property
    def read(self) -> NDArray[np.float64]:
        """When the loop began to receive the last part of the answer, by perf_counter; nan where none has come."""
        return self._column(2)

    def clear(self) -> None:
        """Forget the batches so far."""
        self._batches.clear()

    def add(self, begun: float, written: float) -> list[float]:
        """Note a batch; the last of its three times is set when the answer arrives."""
        batch = [begun, written, np.nan]
        self._batches.append(batch)
        return batch

    def _column(self, place: int) -> NDArray[np.float64]:
        return np.array([batch[place] for batch in self._batches], np.float64)


class _Kind(NamedTuple):
    """A class of connections: the methods that write and receive, and one that makes the loop look up the latter again."""

    owner: type
    write: str
    receive: str
    rebind: Callable[[Any], None]


def _rebind_link(link: Link) -> None:
    if not link._transport.is_closing():
        link._transport.set_protocol(link)


def _rebind_wire(wire: Wire) -> None:
    if wire._descriptor >= 0 and wire._loop is not None and not wire._loop.is_closed():
        wire._loop.add_reader(wire._descriptor, wire._on_readable)


REDIS = _Kind(Link, "exchange", "buffer_updated", _rebind_link)
POSTGRES = _Kind(Wire, "send", "_on_readable", _rebind_wire)


@contextmanager
def stamped(storage: RateLimitStorage) -> Iterator[Stamps]:
    """Stamp the batches of a storage, and of all others of its kind in this process, while the context is open.

    Parameters
    ----------
    storage : RateLimitStorage
        One on Redis or PostgreSQL, or a hybrid over one. It may be open already.

    Raises
    ------
    TypeError
        If the storage asks no server.
    """
    store = storage.l2 if isinstance(storage, HybridStorage) else storage
    if isinstance(store, RedisStorage):
        kind = REDIS
    elif isinstance(store, PostgresStorage):
        kind = POSTGRES
    else:
        raise TypeError(f"{type(store).__name__} writes no batches to a server; stamp one on Redis or PostgreSQL")
    stamps = Stamps()
    write, receive = getattr(kind.owner, kind.write), getattr(kind.owner, kind.receive)
    seen: set[Any] = set()
    under_way: dict[Any, tuple[list[float], Any]] = {}

    @wraps(write)
    def stamp_write(self: Any, *arguments: Any, **options: Any) -> Any:
        if self not in seen:
            seen.add(self)
            kind.rebind(self)
        begun = perf_counter()
        future = write(self, *arguments, **options)
        written = perf_counter()
        if not future.done():
            under_way[self] = stamps.add(begun, written), future
        return future

    @wraps(receive)
    def stamp_receive(self: Any, *arguments: Any) -> None:
        read = perf_counter()
        entry = under_way.get(self)
        if entry is None or entry[1].done():  # it was not awaited any more
            receive(self, *arguments)
            return
        receive(self, *arguments)
        batch, future = entry
        if future.done():
            batch[2] = read

    setattr(kind.owner, kind.write, stamp_write)
    setattr(kind.owner, kind.receive, stamp_receive)
    try:
        yield stamps
    finally:
        setattr(kind.owner, kind.write, write)
        setattr(kind.owner, kind.receive, receive)
        for connection in seen:
            kind.rebind(connection)
