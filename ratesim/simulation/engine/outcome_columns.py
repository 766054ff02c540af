"""What came of requests, by row, while a run goes on."""

from __future__ import annotations

from array import array
from math import inf, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["OutcomeBuffer", "OutcomeColumns", "column"]


class OutcomeColumns(NamedTuple):
    """The columns of `RunResult` that answers make, one row for each request."""

    allowed: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    latency: NDArray[np.float64]
    sequence: NDArray[np.int64]
    view_age: NDArray[np.float32] | None

    def only(self, wanted: NDArray[np.bool_]) -> OutcomeColumns:
        """Those rows."""
        age = None if self.view_age is None else self.view_age[wanted]
        return OutcomeColumns(self.allowed[wanted], self.failed[wanted], self.latency[wanted], self.sequence[wanted], age)


class OutcomeBuffer(NamedTuple):
    """Columns that grow: 18 bytes for each request, of which Python writes one in a third of the time that numpy takes.

    latency: nan without an answer. errors: how many failed, by kind. view_age: see `Decision`, nan where there was none;
    None where nobody has a view.
    """

    allowed: bytearray
    failed: bytearray
    latency: array[float]
    sequence: array[int]
    errors: dict[str, int]
    view_age: array[float] | None

    @classmethod
    def of(cls, requests: int, views: bool = False) -> OutcomeBuffer:
        """None of them answered yet."""
        flags = bytearray(requests), bytearray(requests)
        view_age = array("f", [nan]) * requests if views else None
        return cls(*flags, array("d", [nan]) * requests, array("q", [0]) * requests, {}, view_age)

    def add(self) -> int:
        """One more request; its row."""
        self.allowed.append(False)
        self.failed.append(False)
        self.latency.append(nan)
        self.sequence.append(0)
        if self.view_age is not None:
            self.view_age.append(nan)
        return len(self.latency) - 1

    def last(self, begun: array[float]) -> float:
        """When the last of the requests that were begun then was answered; inf while one was not."""
        if not self.latency:
            return 0.0
        if not self.latency[-1] >= 0.0:  # most often it is the last: the others need not be looked at
            return inf
        latency = np.frombuffer(self.latency)
        return float((np.frombuffer(begun) + latency).max()) if (latency >= 0.0).all() else inf

    def arrays(self) -> OutcomeColumns:
        """The same memory as arrays; nothing can be added from then on."""
        return OutcomeColumns(
            np.frombuffer(self.allowed, np.bool_),
            np.frombuffer(self.failed, np.bool_),
            np.frombuffer(self.latency, np.float64),
            np.frombuffer(self.sequence, np.int64),
            None if self.view_age is None else np.frombuffer(self.view_age, np.float32),
        )


def column(values: NDArray[np.float64]) -> array[float]:
    """The same bytes, 8 for each number, of which Python reads one in a third of the time that numpy takes."""
    return array("d", values.tobytes())
