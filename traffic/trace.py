"""`Trace`: requests as columns; cut, sped up, scaled, and stamps of whole seconds spread within their second.

The columns are time, key, cost, session, endpoint and status.

Everything that makes requests (a log reader, a workload) ends in a Trace. Everything that serves them (a simulation, a live
replay, an oracle) starts from one. Columns instead of request objects keep ten million requests at 36 bytes each, or 38
where a log has status codes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from traffic.columns import Columns, check_names, codes, default_grain, indices, integers, lengths, reals
from traffic.provenance import Provenance, TraceError, printable
from traffic.resample import concentrate_keys, superpose

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BINS = 100  # of a plot
GRAINS = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}
COARSE = 0.01  # seconds: a grain from which on requests are spread

FilePath = str | PathLike[str]


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False, weakref_slot=True)
class Trace:
    """Requests in order of time, as read-only columns of length n.

    Columns are not copied where types allow. Methods return new traces. Rows out of order are sorted, equal times keep their
    order, and a note in the provenance counts them. Two traces are equal if their requests are, whatever their provenance.

    Attributes
    ----------
    time : NDArray[np.float64]
        Seconds since the Unix epoch (or any other zero), never decreasing.
    key : NDArray[np.int64]
        Index into `keys`: the client that a limit counts. `keys` may have names that no row uses.
    cost : NDArray[np.float64]
        Cost of the request, >= 0.
    session : NDArray[np.int64]
        Requests with equal numbers belong to one session; by default the key.
    endpoint : NDArray[np.int32]
        Index into `endpoints`.
    status : NDArray[np.uint16] or None
        HTTP status code of the answer, 0 where a request has none; None if no request has one, as in a recipe.
    grain : NDArray[np.float32]
        Seconds from its time on within which the request came: 1 for a stamp of whole seconds, 60 for one of minutes, 0 if
        exact. Unless given it is 1 where all times are whole seconds, else 0.
    keys, endpoints : tuple[str, ...]
        The names.
    provenance : Provenance
        The source and the operations since.

    Raises
    ------
    TraceError
        Names the column if lengths differ, a number is not finite, a cost is negative, an index is out of range or two names
        are equal.
    """

    time: NDArray[np.float64]
    key: NDArray[np.int64]
    cost: NDArray[np.float64]
    session: NDArray[np.int64]
    endpoint: NDArray[np.int32]
    status: NDArray[np.uint16] | None
    grain: NDArray[np.float32]
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
        grain: ArrayLike | None = None,
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
        columns["grain"] = lengths("grain", default_grain(times) if grain is None else grain, n)
        if n and columns["cost"].min() < 0:
            raise TraceError(f"cost: must be >= 0, got {columns['cost'].min():g}")
        provenance = provenance or Provenance()
        late = int(np.count_nonzero(times < np.maximum.accumulate(times)))
        if late:
            order = np.argsort(times, kind="stable")
            columns = {name: column[order] if any(column.strides) else column for name, column in columns.items()}
            provenance = provenance.with_note(f"time out of order: {late} rows sorted")
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
        columns = ("time", "key", "cost", "session", "endpoint", "status", "grain")
        return (self.keys, self.endpoints) == (other.keys, other.endpoints) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in columns
        )

    @property
    def duration(self) -> float:
        """Seconds from the first request to the last."""
        return float(self.time[-1] - self.time[0]) if len(self) else 0.0

    @property
    def rate(self) -> float:
        """Mean rate in requests/s: (n - 1) / duration, because n requests have n - 1 gaps."""
        if len(self) < 2:
            return 0.0
        return (len(self) - 1) / self.duration if self.duration else math.inf

    def summary(self) -> dict[str, float]:
        """Give the figures that describe a trace.

        Returns
        -------
        dict[str, float]
            `requests`; `keys`, those with at least one request; `duration` in seconds; `mean_rate` and `peak_rate` in
            requests/s, the peak in the busiest 1 s; `top_key_share` and `top_percent_share`, shares of requests of the
            busiest key and of the busiest 1 % of keys (at least one). Where status codes are known, `answered_429` counts
            the refused requests.
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

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the requests per second over time, in `BINS` bins, on these axes or on those of a new figure."""
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.subplots(figsize=(7.2, 3.0), layout="constrained")[1]
        width = max(self.duration, 1e-9) / BINS
        place = np.minimum((self.time - self.time[:1]) / width, BINS - 1).astype(np.int64)
        ax.step(np.arange(BINS) * width, np.bincount(place, minlength=BINS) / width, where="post", color="#0072B2")
        ax.set(xlabel="seconds since the first request", ylabel="requests per second")
        ax.set_ylim(bottom=0)
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def _repr_html_(self) -> str:
        figures = self.summary()
        rows = [
            ("requests", f"{figures['requests']:,.0f}"),
            ("keys", f"{figures['keys']:,.0f}"),
            ("duration", f"{figures['duration']:,.3g} s"),
            ("mean rate", f"{figures['mean_rate']:,.3g} requests/s"),
            ("busiest second", f"{figures['peak_rate']:,.0f} requests"),
            ("busiest key", f"{figures['top_key_share']:.2%} of the requests"),
        ]
        body = "".join(
            f'<tr><th scope="row" style="text-align: left">{name}</th><td>{text}</td></tr>' for name, text in rows
        )
        source = escape(printable(Path(self.provenance.source).name), quote=True)  # the folder of a log is private
        return f'<div class="ratesim"><strong>Trace of {source}</strong><table><tbody>{body}</tbody></table></div>'

    def head(self, n: int) -> Trace:
        """Return the first n requests."""
        if n < 0:
            raise TraceError(f"head: n must be >= 0, got {n}")
        return self._rows(slice(0, n), f"the first {n} requests")

    def window(self, start: float, end: float) -> Trace:
        """Return the requests with start <= time < end, both in seconds on the trace's own clock."""
        first, last = np.searchsorted(self.time, (start, end))
        return self._rows(slice(int(first), int(last)), f"cut to {start:.17g} <= time < {end:.17g}")

    def busiest(self, seconds: float) -> Trace:
        """Return the window [t, t + seconds) with the most requests; the earliest of several equal ones."""
        first, size = self._busiest(_positive("busiest: seconds", seconds))
        return self._rows(slice(first, first + size), f"cut to the busiest {seconds:g} s ({size} of {len(self)} requests)")

    def speed(self, factor: float) -> Trace:
        """Divide every gap by `factor`; the first request keeps its time."""
        _positive("speed: factor", factor)
        first = self.time[:1]
        return self._with(f"speed {factor:g}", time=first + (self.time - first) / factor, grain=self.grain / factor)

    def spread(self, rng: np.random.Generator) -> Trace:
        """Spread requests uniformly over the grain of their stamps, where that is `COARSE` seconds or more.

        Logs have stamps of whole seconds or minutes. Replayed as they are, all requests of a second arrive at its first
        instant. Requests of one stamp keep their order. `scale` shifts times, so call `spread` before it.
        """
        coarse = self.grain >= COARSE
        if not coarse.any():
            return self
        name = _grain_name(self.grain[coarse])
        note = f"{'one-' if name in GRAINS.values() else ''}{name} stamps: requests spread within their {name}"
        note += "" if coarse.all() else f" ({100 * np.count_nonzero(coarse) / len(self):.3g} % of them)"
        width = np.where(coarse, self.grain, 0.0).astype(np.float64)
        # The sum may round up to the next stamp, which would mix the requests of two.
        drawn = np.minimum(self.time + rng.random(len(self)) * width, np.nextafter(self.time + width, -np.inf))
        drawn = np.where(coarse, drawn, self.time)
        gaps = np.diff(self.time)
        if not np.any((gaps > 0) & (gaps < width[:-1])):  # no stamp lies within the grain of the one before
            return self._with(note, time=np.sort(drawn), grain=0.0)
        # The draws of one stamp go to its requests in their order.
        drawn = drawn[np.lexsort((drawn, self.grain, self.time))]
        row = np.lexsort((self.grain, self.time))[np.argsort(drawn, kind="stable")]
        columns = {name: getattr(self, name)[row] for name in ("key", "cost", "session", "endpoint")}
        status = {} if self.status is None else {"status": self.status[row]}
        return self._with(note, time=np.sort(drawn), grain=0.0, **columns, **status)

    def scale(self, k: float, rng: np.random.Generator, head: int | None = None) -> Trace:
        """Superpose k copies, so that the load grows k-fold while each client keeps its own rhythm.

        The first copy stays as it is. Every other copy is shifted by a uniform random time, wrapped around the trace's
        duration, and has keys (and sessions) of its own: "key#2", "key#3" and so on. For a k that is not whole, the last
        copy has only some keys: in a random order, as many as make about that share of the requests. For a k below 1 that
        copy is the only one.

        Parameters
        ----------
        k : float
            Factor of the load, > 0.
        rng : numpy.random.Generator
            Draws the shifts and the order of keys.
        head : int, optional
            Only the first `head` requests. Later requests are not generated. For k != 1 only keys that occur are named,
            which bounds memory for large k.

        Returns
        -------
        Trace
            The scaled trace.

        Raises
        ------
        TraceError
            If k is not positive or `head` is negative.
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
        """Merge keys into the busiest one until it makes about `share` of all requests.

        The merged keys are taken in a random order. Times and sessions stay. A trace whose busiest key makes more already
        does not change.
        """
        if not 0 < share <= 1:
            raise TraceError(f"concentrate: share must be above 0 and at most 1, got {share:g}")
        key = concentrate_keys(self._columns(), share, rng) if len(self) else self.key
        return self._with(f"concentrated to a share of {share:g}", key=key)

    def in_sessions(self, k: int, rng: np.random.Generator) -> Trace:
        """Deal the requests of each key out at random to k sessions of its own: a key that is many clients."""
        if k < 1:
            raise TraceError(f"in_sessions: k must be a whole number >= 1, got {k}")
        return self._with(f"{k} sessions for each key", session=self.key * k + rng.integers(0, k, len(self)))

    def to_frame(self) -> pd.DataFrame:
        """Make a pandas frame of one row per request; key and endpoint are categories that share the names.

        Returns
        -------
        pandas.DataFrame
            time (seconds since the epoch, for `pandas.to_datetime(frame["time"], unit="s")`), key, cost, session, endpoint,
            status.
        """
        from traffic import tables

        return tables.frame(self._fields())

    def to_parquet(self, path: FilePath) -> None:
        """Write a parquet file with names spelled out; `from_parquet` restores this trace exactly."""
        from traffic import tables

        tables.write_parquet(path, self._fields())

    @classmethod
    def from_parquet(cls, path: FilePath) -> Trace:
        """Read the trace that `to_parquet` wrote.

        Raises TraceError if the file is missing or something else.
        """
        from traffic import tables

        return cls(**tables.read_parquet(path))

    def to_csv(self, path: FilePath) -> None:
        """Write a csv file: a comment line with the names and the provenance, a header, and one row per request."""
        from traffic import tables

        tables.write_csv(path, self._fields())

    @classmethod
    def from_csv(cls, path: FilePath) -> Trace:
        """Read the trace that `to_csv` wrote.

        Raises TraceError if the file is missing or something else.
        """
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
        return {name: getattr(self, name) for name in self.__slots__ if name != "__weakref__"}

    def _columns(self) -> Columns:
        return Columns(self.time, self.key, self.cost, self.session, self.endpoint, self.status, self.grain, self.keys)

    def _with(self, note: str, **changed: Any) -> Trace:
        return Trace(**{**self._fields(), **changed, "provenance": self.provenance.with_note(note)})

    def select(self, wanted: NDArray[np.bool_], note: str) -> Trace:
        """Return the requests selected by a mask of shape (len(self),).

        Parameters
        ----------
        wanted : NDArray[np.bool_]
            The mask.
        note : str
            Describes the selection in the provenance.
        """
        if wanted.shape != (len(self),):
            raise TraceError(f"only: wanted needs the shape ({len(self)},), not {wanted.shape}")
        return self._rows(wanted, note)

    def _rows(self, rows: slice | NDArray[np.bool_], note: str) -> Trace:
        status = {} if self.status is None else {"status": self.status[rows]}
        columns = ("time", "key", "cost", "session", "endpoint", "grain")
        return self._with(note, **{name: getattr(self, name)[rows] for name in columns}, **status)


def _grain_name(grain: NDArray[np.float32]) -> str:
    """Name the lengths of the stamps: "second", "minute", "0.1 s or second"."""
    found = [float(f"{each:.6g}") for each in np.unique(grain).tolist()]
    return " or ".join(GRAINS.get(each, f"{each:g} s") for each in found[-3:])


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise TraceError(f"{name} must be a positive finite number, got {value:g}")
    return value
