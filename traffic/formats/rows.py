"""Shared by the readers of log formats: the interface of a reader, and the rows that it fills."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from traffic.formats.status import TOO_MANY
from traffic.provenance import Provenance, printable
from traffic.trace import Trace

EXAMPLES = 3
MAX_ENDPOINTS = 256
OTHER = "other"


class FormatMismatchError(ValueError):
    """A log that does not fit the field selection.

    The message names the mismatch and the remedy, without the file's name.
    """


class Reader(Protocol):
    """The reader of one log format.

    A reader is made with a `FieldSelection`. It raises FormatMismatchError if the log cannot satisfy the selection.
    """

    def recognizes(self, line: str) -> bool:
        """Tell whether a line could be of this format.

        It is called before `read`, to choose among formats. Lines come from the first one on, in order. A reader that
        recognizes lines is never used to read them.
        """

    def read(self, lines: list[str], rows: Rows) -> None:
        """Add the lines that parse to `rows`, and report the others to it.

        Parameters
        ----------
        lines : list[str]
            Lines in the file's order, without their line feeds. The first one has the number `rows.line`.
        rows : Rows
            Collects the requests.
        """

    def close(self, rows: Rows) -> None:
        """Add or report the lines that were held back; called once, after the last line."""


class Names(dict[str, int]):
    """Names numbered in order of first appearance.

    `names[name]` is the number of a name, a new number for a new name. After `limit` names, every further name gets the
    number of "other".
    """

    __slots__ = ("limit",)

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit

    def __missing__(self, name: str) -> int:
        if self.limit is not None and len(self) >= self.limit:
            # Not stored under its own name: a log full of distinct paths must not fill memory.
            return self.setdefault(OTHER, len(self))
        number = self[name] = len(self)
        return number

    def numbers(self, names: Iterable[str], n: int) -> NDArray[np.int64]:
        """Give the number of each of the n names."""
        return np.fromiter(map(self.__getitem__, names), np.int64, n)


class Rows:
    """Collects requests and lines that did not parse, block by block, as arrays; ends as a `Trace`."""

    def __init__(self) -> None:
        self.keys = Names()
        self.endpoints = Names(MAX_ENDPOINTS)
        self.line = 1  # number of the first line that is being read
        self.parsed = 0
        self.skipped = 0
        self.examples: list[str] = []
        self.notes: list[str] = []
        self._columns: dict[str, list[NDArray[np.generic]]] = {
            name: [] for name in ("time", "key", "cost", "session", "endpoint", "status")
        }

    def add(
        self,
        time: NDArray[np.float64],
        keys: Iterable[str],
        endpoints: Iterable[str] | None = None,
        session: NDArray[np.int64] | None = None,
        cost: NDArray[np.float64] | None = None,
        status: NDArray[np.uint16] | None = None,
    ) -> None:
        """Add n requests.

        Parameters
        ----------
        time : NDArray[np.float64]
            Seconds since the epoch, shape (n,).
        keys : Iterable[str]
            The n names of keys.
        endpoints : Iterable[str], optional
            The n names of endpoints; all are "-" without them.
        session : NDArray[np.int64], optional
            Shape (n,). Equal numbers mean equal sessions. Without them the keys are the sessions.
        cost : NDArray[np.float64], optional
            Shape (n,); all are 1 without them. The cost of a request answered 429 may be nan, because the log does not
            tell it.
        status : NDArray[np.uint16], optional
            HTTP status codes, shape (n,); 0 is none.
        """
        n = len(time)
        self.parsed += n
        key = self.keys.numbers(keys, n)
        endpoints = repeat("-", n) if endpoints is None else endpoints
        self._columns["time"].append(time)
        self._columns["key"].append(key)
        self._columns["cost"].append(np.ones(n) if cost is None else cost)
        self._columns["session"].append(key if session is None else session)
        self._columns["endpoint"].append(self.endpoints.numbers(endpoints, n).astype(np.int32))
        self._columns["status"].append(np.zeros(n, np.uint16) if status is None else status)

    def skip(self, line: str) -> None:
        """Report a line that did not parse; blank lines are not counted."""
        if line.strip():
            self.skipped += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append(printable(line))

    def trace(self, source: str) -> Trace:
        """Make the trace of all requests, sorted by time.

        Sessions are renumbered densely. A note in the provenance counts the requests that were answered 429.
        """
        columns: dict[str, NDArray[Any]] = {name: np.concatenate(blocks) for name, blocks in self._columns.items()}
        self._columns.clear()
        columns["session"] = np.unique(columns["session"], return_inverse=True)[1]
        refused = columns["status"] == TOO_MANY
        if refused.any():
            many = int(np.count_nonzero(refused))
            part = f"{100 * many / len(refused):.3g} %"
            self.notes.append(f"the service limits: {many} answers 429 ({part}) are replayed as demand")
            columns["cost"] = self._whole(columns["cost"], columns["key"], refused)
        if not columns["status"].any():
            del columns["status"]
        origin = Provenance(
            source=source,
            lines=self.parsed + self.skipped,
            parsed=self.parsed,
            skipped=self.skipped,
            examples=tuple(self.examples),
            notes=tuple(self.notes),
        )
        return Trace(keys=self.keys, endpoints=self.endpoints, provenance=origin, **columns)

    def _whole(self, cost: NDArray[np.float64], key: NDArray[np.int64], refused: NDArray[np.bool_]) -> NDArray[np.float64]:
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


def validate_cost(cost: NDArray[np.float64], line: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the costs if each is finite and not negative.

    Raises FormatMismatchError, naming the line by its number in `line`, otherwise.
    """
    bad = ~(np.isfinite(cost) & (cost >= 0))
    if bad.any():
        first = int(np.argmax(bad))
        raise FormatMismatchError(f"line {line[first]}: its cost is {cost[first]:g}; a cost is a finite number >= 0")
    return cost
