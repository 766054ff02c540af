"""Asked is the record of requests that were made while something ran, in the order in which they were made."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from traffic.provenance import Provenance
from traffic.trace import Trace

__all__ = ["RequestLog"]


class RequestLog:
    """Requests by row, from 0, in the order in which they were made; grows while clients run. 48 bytes each.

    The columns are copies, of as many rows as there are when they are asked for.
    """

    def __init__(self, keys: Iterable[str], provenance: Provenance | None = None) -> None:
        self.keys = tuple(keys)
        self.provenance = provenance or Provenance()
        self._time, self._cost = array("d"), array("d")
        self._key, self._session, self._attempt, self._request = array("q"), array("q"), array("q"), array("q")

    def add(self, time: float, key: int, cost: float, session: int, attempt: int, request: int) -> None:
        """One request: time in seconds by the runtime's clock; see the columns for the rest."""
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
        """How often what a row wants has been asked for, this time included: 1 is the first attempt."""
        return np.array(self._attempt, np.int64)

    @property
    def request(self) -> NDArray[np.int64]:
        """What a row wants, as a number that all attempts at it share."""
        return np.array(self._request, np.int64)

    def trace(self) -> Trace:
        """All rows, in order, as a Trace: row i of it is row i here. Keys, costs and sessions are what was asked with.

        Times that went back, as the clock of a real machine may, are held at the latest before them.
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
