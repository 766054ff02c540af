"""Statistics of a station: how many customers are inside and served, over time, and the proof that it is a queue.

The station reports its customers: arrival, service time and departure. These are compared with the number inside, N(t),
which is counted from comings and goings alone. A queue with c servers in which nobody waits while a server is free serves
min(N(t), c) at any time. So two areas are known in two ways each:

- under N(t): the sum of the stays, waiting and service. That is Little's law, L = lambda W, with the partial stays of those
  who are still inside when the observation ends (J. D. C. Little, A proof for the queuing formula L = lambda W, 1961). It
  holds for any stays. So it proves that the books are right, and that the mean number and the mean stay belong together;
- under min(N(t), c): the seconds of service that customers asked for. It fails for a station that serves more than c at
  once, or lets somebody wait beside a free server, or keeps a customer longer or less than needed.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["BINS", "Bins", "SharedStationStats", "StationStats", "Totals"]

BINS = 512  # at most; when time goes beyond, neighbors become one
NARROWEST = 2.0**-10  # seconds: widths are powers of two, so that the bins of two stations fit into one another
CLOSE = 1e-9  # relative, and in seconds: numbers that are this close are the same

Times = NDArray[np.float64]

NOBODY: Times = np.empty(0)


class Bins(NamedTuple):
    """The number inside over time; bin i is [i * width, (i + 1) * width) seconds of simulated time.

    Attributes
    ----------
    width : float
        Seconds.
    inside, served : NDArray[np.float64]
        Seconds that customers spent inside, waiting or served, and served alone, by bin.
    peak : NDArray[np.int64]
        The most customers inside at once, by bin.
    """

    width: float
    inside: Times
    served: Times
    peak: NDArray[np.int64]


class Totals(NamedTuple):
    """The totals of an observation, or of its part after a warm-up.

    Attributes
    ----------
    seconds : float
        Length of the observation.
    customers, lost : int
        Customers that came, and those that a crash sent away.
    inside, served : float
        Areas, as in `StationStats`.
    peak : int
        The most customers inside at once.
    """

    seconds: float
    customers: int
    lost: int
    inside: float
    served: float
    peak: int


class StationStats:
    """Statistics of a station as it goes on, in memory that does not grow.

    Attributes
    ----------
    arrivals, lost : int
        Customers, and those that a crash sent away.
    stays, services : float
        Seconds inside, and of service, as the station reports them.
    until : float
        The time up to which the number inside is counted.
    """

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.arrivals = self.lost = 0
        self.services = self.stays = self.until = 0.0
        self._width = NARROWEST
        self._inside, self._served = np.zeros(BINS), np.zeros(BINS)
        self._peak = np.zeros(BINS, np.int64)
        self._most = 0  # inside at once, since figures count
        self._before = Totals(0.0, 0, 0, 0.0, 0.0, 0)
        self._opened = 0.0  # nobody is served before
        self._last_begin = -inf
        self._begins = self._ends = NOBODY  # of the customers inside at `until`

    @property
    def bins(self) -> Bins:
        """The number inside over time, up to `until`; the last bin may not be over."""
        n = min(int(self.until / self._width) + 1, BINS)
        return Bins(self._width, self._inside[:n], self._served[:n], self._peak[:n])

    @property
    def inside(self) -> float:
        """Area under the number inside, counted from comings and goings: customer-seconds until `until`."""
        return float(self._inside.sum())

    @property
    def served(self) -> float:
        """Area under the number that a queue serves with so many inside: server-seconds until `until`."""
        return float(self._served.sum())

    @property
    def peak(self) -> int:
        """The most customers that were inside at once."""
        return int(self._peak.max())

    @property
    def totals(self) -> Totals:
        """Return the totals that figures are made of, until `until`."""
        seconds, customers, lost, inside, served, _ = self._before
        return Totals(
            self.until - seconds,
            self.arrivals - customers,
            self.lost - lost,
            self.inside - inside,
            self.served - served,
            self._most,
        )

    def end_warmup(self, at: float) -> None:
        """Leave everything until `at` out of all figures, but not out of the proof.

        No customer that came later may have been added yet.
        """
        self._advance(max(at, self.until))
        self._begin_figures(len(self._ends))

    def _begin_figures(self, number: int) -> None:
        self._before = Totals(self.until, self.arrivals, self.lost, self.inside, self.served, 0)
        self._most = number

    def add(self, arrival: Times, service: Times, end: Times) -> None:
        """Add customers in the order in which they came, none before those of earlier calls.

        Raises AssertionError as `close` does.
        """
        begin = end - service
        close = _close(end)
        if arrival[0] < self.until or (arrival[1:] < arrival[:-1]).any():
            raise AssertionError("customers must come to a station in order of time")
        if not (service >= 0.0).all() or (begin < arrival - close).any():
            raise AssertionError("a customer was served before he came")
        if arrival[0] < self._opened:
            raise AssertionError(f"a customer came to a station that is down until {self._opened} s")
        if begin[0] < self._last_begin - close or (begin[1:] < begin[:-1] - close).any():
            raise AssertionError("a customer was served before one who came earlier")
        self.arrivals += len(arrival)
        self.services += float(service.sum())
        self.stays += float((end - arrival).sum())
        self._last_begin = float(begin[-1])
        self._advance(float(arrival[-1]), arrival, begin, end)
        self._check()

    def restart(self, down: float, at: float) -> None:
        """Let everybody inside leave at `down`, and serve nobody before `at`."""
        self._advance(max(down, self.until))
        self.lost += len(self._ends)
        self._leave()
        self._opened, self._last_begin = at, -inf

    def close(self, at: float) -> None:
        """End the observation at `at`, or for inf when the last customer leaves.

        Raises AssertionError if Little's law does not hold, or the station was no queue.
        """
        self._advance(max(at, self.until) if at < inf else max(float(self._ends.max(initial=0.0)), self.until))
        self._leave()
        self._check()

    def summary(self) -> dict[str, float]:
        """Summarize the observation without the warm-up.

        Returns
        -------
        dict[str, float]
            `seconds` of observation; servers; customers; lost (by crashes); utilization of all servers; inside and waiting,
            mean numbers; inside_max; rate, customers per second; stay and wait, mean seconds of a customer. inside = rate *
            stay, and waiting = rate * wait.
        """
        counted, before = self.totals, self._before
        seconds, customers = max(counted.seconds, NARROWEST), max(counted.customers, 1)
        # By the laws that were proven, the areas until then are the stays and the services until then.
        stays, services = self.stays - before.inside, self.services - before.served
        return {
            "servers": self.concurrency,
            "customers": counted.customers,
            "lost": counted.lost,
            "seconds": counted.seconds,
            "utilization": counted.served / self.concurrency / seconds,
            "inside": counted.inside / seconds,
            "waiting": (counted.inside - counted.served) / seconds,
            "inside_max": counted.peak,
            "rate": counted.customers / seconds,
            "stay": stays / customers,
            "wait": (stays - services) / customers,
        }

    def series(self) -> pd.DataFrame:
        """Return the same in bins, a warm-up included.

        Returns
        -------
        pandas.DataFrame
            begin and end in seconds of simulated time, utilization, inside, waiting, inside_max.
        """
        width, inside, served, peak = self.bins
        begin = np.arange(len(inside)) * width
        end = np.minimum(begin + width, max(self.until, NARROWEST))
        lengths = np.where(end > begin, end - begin, np.inf)  # one that is about to begin holds nothing
        columns = {"utilization": served / self.concurrency, "inside": inside, "waiting": inside - served}
        means = {name: area / lengths for name, area in columns.items()}
        return pd.DataFrame({"begin": begin, "end": end, **means, "inside_max": peak})

    def _check(self) -> None:
        rest, service = self._rest()
        rounded = self.arrivals * float(np.spacing(self.until))  # an end is a sum, and known to half of that
        serving = f"Work conservation: {self.concurrency} at a time of those inside were served for"
        for law, area, said in (
            ("Little's law: all who were inside were there for", self.inside, self.stays - rest),
            (serving, self.served, self.services - service),
        ):
            if not abs(area - said) <= CLOSE * (1.0 + max(area, said)) + rounded:
                raise AssertionError(f"{law} {area} s, but by their own ends and services it is {said} s")

    def _rest(self) -> tuple[float, float]:
        """Give the part of the stays, and of the services, of the customers inside that is still to come."""
        rest = self._ends - self.until
        return float(rest.sum()), float(np.minimum(rest, self._ends - self._begins).sum())

    def _leave(self) -> None:
        rest, service = self._rest()
        self.stays -= rest
        self.services -= service
        self._begins = self._ends = NOBODY

    def _advance(self, to: float, arrival: Times = NOBODY, begin: Times = NOBODY, end: Times = NOBODY) -> None:
        """Count until `to`, with the customers that came meanwhile."""
        while to >= BINS * self._width:
            self._widen()
        first = int(self.until / self._width)
        edges = np.arange(first, int(to / self._width) + 1, dtype=np.float64) * self._width
        edges[0] = self.until
        begins, ends = np.concatenate([self._begins, begin]), np.concatenate([self._ends, end])
        stay = ends > to
        inside, served, peak = _areas(edges, to, len(self._ends), arrival, ends[~stay], self.concurrency)
        bins = slice(first, first + len(edges))
        self._inside[bins] += inside
        self._served[bins] += served
        self._peak[bins] = np.maximum(self._peak[bins], peak)
        self._most = max(self._most, int(peak.max()))
        self._begins, self._ends, self.until = begins[stay], ends[stay], to

    def _widen(self) -> None:
        self._width *= 2.0
        for areas in (self._inside, self._served):
            areas[: BINS // 2] = areas.reshape(-1, 2).sum(axis=1)
            areas[BINS // 2 :] = 0.0
        self._peak[: BINS // 2] = self._peak.reshape(-1, 2).max(axis=1)
        self._peak[BINS // 2 :] = 0


class SharedStationStats(StationStats):
    """Statistics of a shared processor: nobody waits, and it serves whenever somebody is inside."""

    def __init__(self) -> None:
        super().__init__(1)
        self._number = 0

    def advance(self, to: float, come: Times, go: Times, stays: float, services: float) -> None:
        """Count until `to`.

        Parameters
        ----------
        to : float
            Time in seconds.
        come, go : NDArray[np.float64]
            Times of arrivals and departures since the last call.
        stays, services : float
            Seconds of stay and of service of those that left.
        """
        while to >= BINS * self._width:
            self._widen()
        first = int(self.until / self._width)
        edges = np.arange(first, int(to / self._width) + 1, dtype=np.float64) * self._width
        edges[0] = self.until
        bins = slice(first, first + len(edges))
        inside, served, peak = _areas(edges, to, self._number, come, go, 1)
        self._inside[bins] += inside
        self._served[bins] += served
        self._peak[bins] = np.maximum(self._peak[bins], peak)
        self._most = max(self._most, int(peak.max()))
        self._number += len(come) - len(go)
        self.arrivals += len(come)
        self.stays += stays
        self.services += services
        self.until = to

    def end_warmup(self, at: float) -> None:
        """Leave everything until `at` out of all figures; it has been counted until then."""
        self._begin_figures(self._number)

    def end(self, unfinished: float) -> None:
        """End the observation; `unfinished` is the sum of the stays so far of the customers inside.

        Raises AssertionError as `close` does.
        """
        self.stays += unfinished
        rounded = self.arrivals * float(np.spacing(self.until))
        if not abs(self.inside - self.stays) <= CLOSE * (1.0 + self.inside) + 4.0 * rounded:
            said = f"all who were inside were there for {self.inside} s, but by their own ends it is {self.stays} s"
            raise AssertionError(f"Little's law: {said}")


def _areas(
    edges: Times, to: float, number: int, come: Times, go: Times, servers: int
) -> tuple[Times, Times, NDArray[np.int64]]:
    """Give, by bin, the area under a number, the area under the lesser of it and `servers`, and its peak.

    The number begins with `number` and changes as these come and go. Edges ascend; the last bin ends at `to`. A customer
    that goes in the moment in which another comes makes room for it.
    """
    times = np.concatenate([edges, go, come])
    steps = np.ones(len(times), np.int64)
    steps[: len(edges)] = 0
    steps[len(edges) : len(edges) + len(go)] = -1
    order = np.argsort(times, kind="stable")
    times = times[order]
    numbers = number + np.cumsum(steps[order])
    lengths = np.empty(len(times))
    np.subtract(times[1:], times[:-1], out=lengths[:-1])
    lengths[-1] = to - times[-1]
    starts = np.searchsorted(times, edges)
    served = np.add.reduceat(np.minimum(numbers, servers) * lengths, starts)
    return np.add.reduceat(numbers * lengths, starts), served, np.maximum.reduceat(numbers, starts)


def _close(times: Times) -> float:
    """Give the seconds that the same time may be apart; more where floating-point numbers are further apart."""
    return CLOSE + 4.0 * float(np.spacing(np.abs(times).max()))
