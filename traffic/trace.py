"""A Trace is a batch of requests as columns of numbers: who asked, when, how much, of what.

Everything that makes requests (a log reader, a workload) ends in a Trace and everything that serves them (a
simulation, a live replay, an oracle) starts from one. Columns instead of request objects keep ten million
requests at 36 bytes each, 38 where a log says what was answered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from traffic.columns import Columns, check_names, codes, indices, integers, reals
from traffic.provenance import Provenance, TraceError
from traffic.resample import concentrate_keys, superpose

if TYPE_CHECKING:
    import pandas as pd

FilePath = str | PathLike[str]


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Trace:
    """Requests in order of time. All columns have length n, are read-only and, where types allow, not copied;
    methods return new traces.

    time      float64, seconds since the Unix epoch (or any other zero), never decreasing
    key       int64, index into `keys`: whom a limit counts; `keys` may name some that never ask
    cost      float64, >= 0: what the request takes from the limit
    session   int64, opaque: requests with equal numbers belong together; by default the key
    endpoint  int32, index into `endpoints`: what was asked for
    status    uint16, what was answered (HTTP), 0 where a request has none; None if no request has one, as in a recipe

    Rows that come out of order are sorted (equal times keep their order) and a note in `origin` says how
    many. Raises TraceError, naming the column, if lengths differ, a number is not finite, a cost is
    negative, an index is out of range or two names are equal. Two traces are equal if their requests are,
    whatever their origin.
    """

    time: NDArray[np.float64]
    key: NDArray[np.int64]
    cost: NDArray[np.float64]
    session: NDArray[np.int64]
    endpoint: NDArray[np.int32]
    status: NDArray[np.uint16] | None
    keys: tuple[str, ...]
    endpoints: tuple[str, ...]
    provenance: Provenance

    def __init__(
        self,
        time: ArrayLike,
        key: ArrayLike,
        keys: Iterable[str],
        *,
        cost: ArrayLike = 1.0,
        session: ArrayLike | None = None,
        endpoint: ArrayLike | None = None,
        endpoints: Iterable[str] = ("-",),
        status: ArrayLike | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        names, places = tuple(keys), tuple(endpoints)
        check_names("keys", names)
        check_names("endpoints", places)
        times = reals("time", time, None)
        n = len(times)
        key_ = indices("key", key, n, len(names))
        columns: dict[str, NDArray[Any]] = {
            "time": times,
            "key": key_,
            "cost": reals("cost", np.full(n, cost) if np.ndim(cost) == 0 else cost, n),
            "session": key_ if session is None else integers("session", session, n),
        }
        endpoint = np.zeros(n, np.int32) if endpoint is None else endpoint
        columns["endpoint"] = indices("endpoint", endpoint, n, len(places)).astype(np.int32)
        if status is not None:
            columns["status"] = codes("status", status, n)
        if n and columns["cost"].min() < 0:
            raise TraceError(f"cost: must be >= 0, got {columns['cost'].min():g}")
        provenance = provenance or Provenance()
        late = int(np.count_nonzero(times < np.maximum.accumulate(times)))
        if late:
            order = np.argsort(times, kind="stable")
            columns = {name: column[order] for name, column in columns.items()}
            provenance = provenance.noted(f"time out of order: {late} rows sorted")
        for name, column in columns.items():
            view = column.view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)
        if status is None:
            object.__setattr__(self, "status", None)
        object.__setattr__(self, "keys", names)
        object.__setattr__(self, "endpoints", places)
        object.__setattr__(self, "provenance", provenance)

    def __len__(self) -> int:
        return len(self.time)

    def __repr__(self) -> str:
        size = f"{len(self)} requests, {len(self.keys)} keys, {self.duration:g} s"
        return f"Trace({size}, from {self.provenance.source})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Trace):
            return NotImplemented
        columns = ("time", "key", "cost", "session", "endpoint", "status")
        return (self.keys, self.endpoints) == (other.keys, other.endpoints) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in columns
        )

    @property
    def duration(self) -> float:
        """Seconds from the first request to the last."""
        return float(self.time[-1] - self.time[0]) if len(self) else 0.0

    @property
    def rate(self) -> float:
        """Mean requests/s: gaps per second, (n - 1) / duration, which does not count the fence post twice."""
        if len(self) < 2:
            return 0.0
        return (len(self) - 1) / self.duration if self.duration else math.inf

    def summary(self) -> dict[str, float]:
        """What a reader asks first. Rates in requests/s, the peak in the busiest 1 s; shares of requests.

        `keys` counts those that ask at least once; `top_percent_share` belongs to the busiest 1 % of them
        (at least one). Where the answers are known, `answered_429` is how many requests were refused.
        """
        counts = np.sort(np.bincount(self.key))[::-1] if len(self) else np.zeros(0, np.int64)
        counts = counts[counts > 0]
        n = max(1, len(self))
        refused = {} if self.status is None else {"answered_429": int(np.count_nonzero(self.status == 429))}
        return {
            "requests": len(self),
            "keys": len(counts),
            "duration": self.duration,
            "mean_rate": self.rate,
            "peak_rate": self._busiest(1.0)[1],
            "top_key_share": float(counts[:1].sum() / n),
            "top_percent_share": float(counts[: math.ceil(len(counts) / 100)].sum() / n),
            **refused,
        }

    def head(self, n: int) -> Trace:
        """The first n requests."""
        if n < 0:
            raise TraceError(f"head: n must be >= 0, got {n}")
        return self._rows(slice(0, n), f"the first {n} requests")

    def window(self, start: float, end: float) -> Trace:
        """The requests with start <= time < end, both in seconds on the trace's own clock."""
        first, last = np.searchsorted(self.time, (start, end))
        return self._rows(slice(int(first), int(last)), f"cut to {start:.17g} <= time < {end:.17g}")

    def busiest(self, seconds: float) -> Trace:
        """The window [t, t + seconds) with the most requests; the earliest of several equal ones."""
        first, size = self._busiest(_positive("busiest: seconds", seconds))
        return self._rows(slice(first, first + size), f"cut to the busiest {seconds:g} s ({size} of {len(self)} requests)")

    def speed(self, factor: float) -> Trace:
        """The same requests `factor` times as fast: every gap is divided by it; the first request stays."""
        _positive("speed: factor", factor)
        first = self.time[:1]
        return self._with(f"speed {factor:g}", time=first + (self.time - first) / factor)

    def spread(self, rng: np.random.Generator) -> Trace:
        """Spread requests that are stamped in whole seconds uniformly over their second, keeping their order.

        Logs have one-second stamps: replayed as they are, a second's requests all arrive at its first
        instant. A trace with any other stamp is returned as it is. Spread before `scale`, whose shifts are
        not whole seconds.
        """
        if not len(self) or np.any(self.time != np.floor(self.time)):
            return self
        # The sum may round up to the next second, which would mix two seconds' requests.
        drawn = np.minimum(self.time + rng.random(len(self)), np.nextafter(self.time + 1.0, -np.inf))
        return self._with("one-second stamps: requests spread within their second", time=np.sort(drawn))

    def scale(self, k: float, rng: np.random.Generator, head: int | None = None) -> Trace:
        """Superpose k copies, so that the load grows k-fold while each client keeps its own rhythm.

        The first copy stays as it is. Every other one is shifted by a uniform random time, wrapped around
        the trace's duration, and asks under keys (and sessions) of its own: "key#2", "key#3" ... Where k is
        not whole, only some keys are in the last copy: in a random order, as many as make about that share
        of the requests; of a k below 1, in the only one.

        head: only the first so many requests; the others are never made, and of a k that is not 1 only keys
        that ask are named, since a thousand copies may have more names than there is room for.
        """
        _positive("scale: k", k)
        if head is not None and head < 0:
            raise TraceError(f"scale: head must be >= 0, got {head}")
        if k == 1 or not len(self):
            same = self._with(f"scale {k:g}")
            return same if head is None else same.head(head)
        scaled = self._with(f"scale {k:.10g}", **superpose(self._columns(), k, rng, head))
        return scaled if head is None else scaled._with(f"the first {head} requests")

    def concentrate(self, share: float, rng: np.random.Generator) -> Trace:
        """The same requests, more of them of one key: others, in a random order, are merged into the busiest one until it
        makes about `share` of all requests. As many come at the same times, of sessions as before. Where it makes more
        already, nothing changes."""
        if not 0 < share <= 1:
            raise TraceError(f"concentrate: share must be above 0 and at most 1, got {share:g}")
        key = concentrate_keys(self._columns(), share, rng) if len(self) else self.key
        return self._with(f"concentrated to a share of {share:g}", key=key)

    def in_sessions(self, k: int, rng: np.random.Generator) -> Trace:
        """The same requests, those of each key dealt out at random to k sessions of its own: a key that is many clients."""
        if k < 1:
            raise TraceError(f"in_sessions: k must be a whole number >= 1, got {k}")
        return self._with(f"{k} sessions for each key", session=self.key * k + rng.integers(0, k, len(self)))

    def to_frame(self) -> pd.DataFrame:
        """A pandas frame, one row per request; key and endpoint are categories that share the names."""
        from traffic import tables

        return tables.frame(self._fields())

    def to_parquet(self, path: FilePath) -> None:
        """Write a parquet file, names spelled out; `from_parquet` gives this trace back exactly."""
        from traffic import tables

        tables.write_parquet(path, self._fields())

    @classmethod
    def from_parquet(cls, path: FilePath) -> Trace:
        """The trace that `to_parquet` wrote. Raises TraceError if the file is missing or something else."""
        from traffic import tables

        return cls(**tables.read_parquet(path))

    def to_csv(self, path: FilePath) -> None:
        """Write a csv file: one comment line with the names and the origin, a header, one row per request."""
        from traffic import tables

        tables.write_csv(path, self._fields())

    @classmethod
    def from_csv(cls, path: FilePath) -> Trace:
        """The trace that `to_csv` wrote. Raises TraceError if the file is missing or something else."""
        from traffic import tables

        return cls(**tables.read_csv(path))

    def _busiest(self, seconds: float) -> tuple[int, int]:
        """First row and size of the fullest window; one such starts at a request, so those are tried."""
        if not len(self):
            return 0, 0
        size = np.searchsorted(self.time, self.time + seconds)
        size -= np.arange(len(self))
        first = int(np.argmax(size))
        return first, int(size[first])

    def _fields(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    def _columns(self) -> Columns:
        return Columns(self.time, self.key, self.cost, self.session, self.endpoint, self.status, self.keys)

    def _with(self, note: str, **changed: Any) -> Trace:
        return Trace(**{**self._fields(), **changed, "provenance": self.provenance.noted(note)})

    def only(self, wanted: NDArray[np.bool_], note: str) -> Trace:
        """The requests that are wanted, shape (len(self),); the note says which those are."""
        if wanted.shape != (len(self),):
            raise TraceError(f"only: wanted needs the shape ({len(self)},), not {wanted.shape}")
        return self._rows(wanted, note)

    def _rows(self, rows: slice | NDArray[np.bool_], note: str) -> Trace:
        status = {} if self.status is None else {"status": self.status[rows]}
        columns = ("time", "key", "cost", "session", "endpoint")
        return self._with(note, **{name: getattr(self, name)[rows] for name in columns}, **status)


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise TraceError(f"{name} must be a positive finite number, got {value:g}")
    return value
