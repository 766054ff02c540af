"""What came of requests, by row, while a run goes on."""

from __future__ import annotations

from array import array
from math import inf, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["UNDER_WAY", "Answers", "Outcome", "column"]

UNDER_WAY = -1.0  # the latency of a request that was sent and has no answer yet; nan before


class Outcome(NamedTuple):
    """The columns of `RunResult` that answers make, one row for each request."""

    allowed: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    latency: NDArray[np.float64]
    sequence: NDArray[np.int64]
    view_age: NDArray[np.float32] | None

    def only(self, wanted: NDArray[np.bool_]) -> Outcome:
        """Those rows."""
        age = None if self.view_age is None else self.view_age[wanted]
        return Outcome(self.allowed[wanted], self.failed[wanted], self.latency[wanted], self.sequence[wanted], age)


class Answers(NamedTuple):
    """Columns that grow: 18 bytes for each request, of which Python writes one in a third of the time that numpy takes.

    errors: how many failed, by kind. view_age: see `Decision`, nan where there was none; None where nobody has a view.
    """

    allowed: bytearray
    failed: bytearray
    latency: array[float]
    sequence: array[int]
    errors: dict[str, int]
    view_age: array[float] | None

    @classmethod
    def of(cls, requests: int, views: bool = False) -> Answers:
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

    def last_answer(self, sent: array[float], epoch: float) -> float:
        """Seconds from `epoch` until every request that was `sent` has its answer; inf while one has none."""
        if not self.latency:
            return 0.0
        if not self.latency[-1] >= 0.0:  # most often it is the last: the others need not be looked at
            return inf
        latency = np.frombuffer(self.latency)
        return float((np.frombuffer(sent) - epoch + latency).max()) if (latency >= 0.0).all() else inf

    def arrays(self) -> Outcome:
        """As they are now."""
        return Outcome(
            np.array(self.allowed).astype(np.bool_),
            np.array(self.failed).astype(np.bool_),
            np.array(self.latency, np.float64),
            np.array(self.sequence, np.int64),
            None if self.view_age is None else np.array(self.view_age, np.float32),
        )


def column(values: NDArray[np.float64]) -> array[float]:
    """The same bytes, 8 for each number, of which Python reads one in a third of the time that numpy takes."""
    return array("d", values.tobytes())
