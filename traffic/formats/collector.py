"""`Collector`: the requests of all blocks of all sources, which end as one `Trace`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from traffic.addresses import NOBODY
from traffic.formats.base import FormatMismatchError
from traffic.formats.requests import OTHER, TOO_MANY, Names, Requests
from traffic.provenance import Provenance, printable
from traffic.times.timestamps import TimeReader, coarsen, strays
from traffic.trace import Trace

EXAMPLES = 3
MAX_ENDPOINTS = 256
# A short group alone does not tell whether its stamps are coarser than their text: it is judged with as many rows before it.
JUDGED = 1000
ROWS_OF_A_GROUP = 1 << 20
OTHER_SESSIONS = 1 << 32
NO_STAMPS: tuple[NDArray[np.float64], NDArray[np.float32]] = (np.zeros(0), np.zeros(0, np.float32))


class RowColumns(NamedTuple):
    """Requests as the columns of a `Trace`, whose keys and endpoints are numbers."""

    time: NDArray[np.float64]
    key: NDArray[np.int32]
    cost: NDArray[np.float64]
    session: NDArray[np.int64]
    endpoint: NDArray[np.int32]
    status: NDArray[np.uint16]
    grain: NDArray[np.float32]

    def where(self, wanted: NDArray[np.bool_]) -> RowColumns:
        """Return the requests that a mask selects."""
        return self._replace(**{name: column[wanted] for name, column in self._asdict().items()})


class Numbers(dict[str, int]):
    """Names numbered in order of first appearance.

    After `limit` names, every further name gets the number of "other": a log full of distinct paths must not fill memory.
    """

    __slots__ = ("limit",)

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit

    def __missing__(self, name: str) -> int:
        if self.limit is not None and len(self) >= self.limit:
            return self.setdefault(OTHER, len(self))
        number = self[name] = len(self)
        return number

    def of(self, names: Iterable[str]) -> NDArray[np.int32]:
        """Give the number of each name."""
        return np.array([self[name] for name in names], np.int32)


class Collector:
    """Collects requests, and counts the lines that are none.

    Sessions are numbered in order of first appearance; where the first source has no parts of a session they are the keys.
    Those of sources of the other kind are numbered from `OTHER_SESSIONS` on.
    """

    def __init__(self) -> None:
        self.parsed = 0
        self.skipped = 0
        self.ignored = 0
        self.refused = 0  # answered 429
        self.nameless = 0  # have nothing in the fields of the key
        self.costless = 0  # skipped, since a field of the cost has no number
        self.examples: list[str] = []
        self.notes: list[str] = []
        self.keys = Numbers()
        self.endpoints = Numbers(MAX_ENDPOINTS)
        self._parts: list[Numbers] = []
        self._sessions: dict[int, int] = {}
        self._begins_with_parts: bool | None = None
        self._held: list[Requests] = []
        self._rows = 0  # of those
        self._before = NO_STAMPS  # times of the source that are numbered already, and the grains of their texts
        self._columns: list[RowColumns] = []

    @property
    def added(self) -> int:
        """How many requests were added, whether they are counted yet or not."""
        return self.parsed + self._rows

    def add(self, requests: Requests, times: TimeReader) -> None:
        """Add the requests of the next block of a source, whose stamps `times` has read."""
        self._held.append(requests)
        self.costless += requests.costless
        self._rows += len(requests)
        if self._rows >= ROWS_OF_A_GROUP:
            self.flush(times)

    def end_source(self, times: TimeReader) -> None:
        """Say that the next block is of another source."""
        self.flush(times)
        self._before = NO_STAMPS

    def flush(self, times: TimeReader) -> None:
        """Look at the times of what was added since the last time, as a whole, and give numbers to the names in it.

        A name is looked up once per group of a million rows, not once per block.
        """
        blocks, self._held, self._rows = self._held, [], 0
        if not blocks:
            return
        columns = self._numbered(blocks)
        seconds = times.settle(columns.time)
        columns = columns._replace(time=seconds, grain=_narrow(self._grain(seconds, columns.grain)))
        far = strays(seconds)
        if far.any():
            moments = [datetime.fromtimestamp(each, UTC).isoformat() for each in seconds[far][:EXAMPLES].tolist()]
            self.skip(int(np.count_nonzero(far)), [f"a stamp more than a year from all others: {each}" for each in moments])
            columns = columns.where(~far)
        self.parsed += len(columns.time)
        self.refused += int(np.count_nonzero(columns.status == TOO_MANY))
        if NOBODY in self.keys:
            self.nameless += int(np.count_nonzero(columns.key == self.keys[NOBODY]))
        self.take(columns)

    def _grain(self, seconds: NDArray[np.float64], grain: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the grain of each stamp, given what its text tells; a short group is judged with the rows before it."""
        times, grains = self._before
        first = len(times) - min(max(JUDGED - len(seconds), 0), len(times))
        earlier = len(times) - first
        time, text = np.concatenate([times[first:], seconds]), np.concatenate([grains[first:], grain])
        self._before = time[-JUDGED:], text[-JUDGED:]
        return coarsen(time, text)[earlier:]

    def take(self, columns: RowColumns) -> None:
        """Keep a group of requests."""
        self._columns.append(columns)

    def _numbered(self, blocks: Sequence[Requests]) -> RowColumns:
        key = _codes([block.key for block in blocks], self.keys)
        ones = np.broadcast_to(1.0, len(key))
        costs = [ones[: len(block)] if block.cost is None else block.cost for block in blocks]
        return RowColumns(
            time=np.concatenate([block.time for block in blocks]),
            key=key,
            cost=np.concatenate(costs) if any(block.cost is not None for block in blocks) else ones,
            session=self._session([block.session for block in blocks], key),
            endpoint=_codes([block.endpoint for block in blocks], self.endpoints),
            status=np.concatenate([block.status for block in blocks]),
            grain=np.concatenate([block.grain for block in blocks]),
        )

    def skip(self, count: int, lines: Sequence[str]) -> None:
        """Count lines that did not parse, and keep the first ones."""
        self.skipped += count
        self.examples += [printable(line) for line in lines[: EXAMPLES - len(self.examples)]]

    def provenance(self, source: str, assumed: Iterable[str] = (), format: str = "") -> Provenance:
        """Return what there is to say of all that was added."""
        return Provenance(
            source=source,
            lines=self.parsed + self.skipped + self.ignored,
            parsed=self.parsed,
            skipped=self.skipped,
            ignored=self.ignored,
            examples=tuple(self.examples),
            notes=tuple(self.notes),
            assumed=tuple(dict.fromkeys(assumed)),
            format=format,
        )

    def note_counts(self) -> None:
        """Note how many requests were answered 429, and how many have no key or no cost, once all are there."""
        if self.refused:
            self.notes.append(f"the service limits: {self._part(self.refused, 'answers 429')} are replayed as demand")
        if self.nameless:
            part = self._part(self.nameless, "requests")
            self.notes.append(f"the key: {part} have nothing in its field, and share one limit, as the key {NOBODY!r}")
        if self.costless:
            self.notes.append(f"the cost: no number in a field of it in {self.costless} of the lost lines")

    def _part(self, count: int, of: str) -> str:
        return f"{count} {of} ({100 * count / self.parsed:.3g} %)"

    def trace(self, source: str, assumed: Iterable[str] = (), format: str = "") -> Trace:
        """Make the trace of all requests, sorted by time. It empties the collector.

        Notes in the provenance count the requests that were answered 429, and those that have no key or no cost.
        """
        blocks, self._columns = self._columns, []
        columns: dict[str, Any] = {
            name: np.concatenate(parts) for name, parts in zip(RowColumns._fields, zip(*blocks, strict=True), strict=True)
        }
        self.note_counts()
        refused = columns["status"] == TOO_MANY
        if refused.any():
            columns["cost"] = self._whole(columns["cost"], columns["key"], refused)
        if not columns["status"].any():
            del columns["status"]
        origin = self.provenance(source, assumed, format)
        return Trace(keys=self.keys, endpoints=self.endpoints, provenance=origin, **columns)

    def _session(self, blocks: Sequence[tuple[Names, ...]], key: NDArray[np.int32]) -> NDArray[np.int64]:
        """Give numbers to the sessions of blocks that all have equally many parts."""
        parts = len(blocks[0])
        if self._begins_with_parts is None:
            self._begins_with_parts = parts > 0
        base = 0 if (parts > 0) == self._begins_with_parts else OTHER_SESSIONS
        if not parts:
            return key.astype(np.int64) + base
        while len(self._parts) < parts:
            self._parts.append(Numbers())
        code = np.zeros(len(key), np.int64)
        for place in range(parts):  # two at most, of fewer than 2**31 names
            code = code << 31 | _codes([block[place] for block in blocks], self._parts[place])
        distinct, first, row = np.unique(code, return_index=True, return_inverse=True)
        sessions, number = self._sessions, np.zeros(len(distinct), np.int64)
        order = np.argsort(first)
        number[order] = [sessions.setdefault(each, len(sessions)) for each in distinct[order].tolist()]
        return number[row] + base

    def _whole(self, cost: NDArray[np.float64], key: NDArray[np.int32], refused: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Replace missing costs by the mean of the key's requests that were not refused, or else of all of those."""
        missing = np.isnan(cost)
        if not missing.any():
            return cost
        served = ~refused
        if not served.any():
            raise FormatMismatchError("answers 429 in every line, and has no cost in some; leave the cost out")
        keys = len(self.keys)
        requests = np.bincount(key[served], minlength=keys)
        total = np.bincount(key[served], cost[served], minlength=keys)
        mean = np.where(requests > 0, total / np.maximum(requests, 1), total.sum() / requests.sum())
        self.notes.append(f"{int(np.count_nonzero(missing))} of them have no cost: taken to be their key's mean")
        return np.where(missing, mean[key], cost)


def _codes(blocks: Sequence[Names], known: Numbers) -> NDArray[np.int32]:
    """Give numbers to the names of several blocks."""
    chunks = [pa.DictionaryArray.from_arrays(pa.array(block.code), block.names) for block in blocks]
    together = pa.chunked_array(chunks).unify_dictionaries()
    code = np.concatenate([chunk.indices.to_numpy() for chunk in together.chunks])
    return known.of(together.chunk(0).dictionary.to_pylist())[code] if len(code) else np.zeros(0, np.int32)


def _narrow(grain: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hold one value where all are alike."""
    return np.broadcast_to(grain[0], len(grain)) if len(grain) and grain.min() == grain.max() else grain
