"""`RequestLog`: the requests that were made while something ran, in the order in which they were made."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from traffic.provenance import Provenance
from traffic.trace import Trace

__all__ = ["RequestLog"]


class RequestLog:
    """Requests by row, from 0, in the order in which they were made; 48 bytes each.

    The log grows while clients run. Its columns are copies of the rows at the moment of access.
    """

    def __init__(self, keys: Iterable[str], provenance: Provenance | None = None) -> None:
        self.keys = tuple(keys)
        self.provenance = provenance or Provenance()
        self._time, self._cost = array("d"), array("d")
        self._key, self._session, self._attempt, self._request = array("q"), array("q"), array("q"), array("q")

    def add(self, time: float, key: int, cost: float, session: int, attempt: int, request: int) -> None:
        """Add one request.

        Parameters
        ----------
        time : float
            Seconds by the runtime's clock.
        key : int
            Index into the keys.
        cost : float
            Cost of the request.
        session : int
            Session of the request.
        attempt : int
            Number of the attempt, from 1.
        request : int
            Number that all attempts at one request share.
        """
        self._time.append(time)
        self._key.append(key)
        self._cost.append(cost)
        self._session.append(session)
        self._attempt.append(attempt)
        self._request.append(request)

    def __len__(self) -> int:
        return len(self._time)

    @property
    def attempt(self) -> NDArray[np.int64]:
        """Number of the attempt in each row; 1 is the first."""
        return np.array(self._attempt, np.int64)

    @property
    def request(self) -> NDArray[np.int64]:
        """Number that all attempts at one request share."""
        return np.array(self._request, np.int64)

    def trace(self) -> Trace:
        """Make a trace of all rows, in order: row i of the trace is row i of the log.

        Times that went back, as the clock of a real machine may, are held at the latest time before them.
        """
        time = np.array(self._time, np.float64)
        return Trace(
            np.maximum.accumulate(time) if len(time) else time,
            np.array(self._key, np.int64),
            self.keys,
            cost=np.array(self._cost, np.float64),
            session=np.array(self._session, np.int64),
            provenance=self.provenance,
        )
