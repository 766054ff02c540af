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

from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ratesim.simulation.jit_cache import compiled
from ratesim.simulation.queueing import station_account
from ratesim.simulation.queueing.station_account import (
    ACCOUNT_DISORDER,
    ACCOUNT_DOWN,
    ACCOUNT_EARLY,
    ACCOUNT_FULL,
    ACCOUNT_OVERTAKEN,
    BIN,
    BINS,
    CLOSE,
    GUEST,
    NARROWEST,
    ROOM,
    account_empty,
    records,
)

__all__ = ["BINS", "Bins", "SharedStationStats", "StationStats", "Totals"]

Times = NDArray[np.float64]

_VIOLATIONS = {
    ACCOUNT_DISORDER: "customers must come to a station in order of time",
    ACCOUNT_EARLY: "a customer was served before he came",
    ACCOUNT_DOWN: "a customer came to a station that is down until {} s",
    ACCOUNT_OVERTAKEN: "a customer was served before one who came earlier",
}


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

    Parameters
    ----------
    concurrency : int
        Number of equal servers.

    Attributes
    ----------
    account, by_bin, guests
        The records of `station_account`, which are its state.
    """

    def __init__(self, concurrency: int) -> None:
        self.account, self.by_bin, self.guests = account_empty(concurrency), records(BINS, BIN), records(ROOM, GUEST)
        self.concurrency = concurrency
        self._before = Totals(0.0, 0, 0, 0.0, 0.0, 0)

    @property
    def arrivals(self) -> int:
        """Customers that came."""
        return int(self.account.arrivals)

    @property
    def lost(self) -> int:
        """Customers that a crash sent away."""
        return int(self.account.lost)

    @property
    def stays(self) -> float:
        """Seconds inside, as the station reports them."""
        return float(self.account.stays)

    @property
    def services(self) -> float:
        """Seconds of service, as the station reports them."""
        return float(self.account.services)

    @property
    def until(self) -> float:
        """The time up to which the number inside is counted."""
        return float(self.account.until)

    @property
    def bins(self) -> Bins:
        """The number inside over time, up to `until`; the last bin may not be over."""
        some = self.by_bin[: min(int(self.account.bin) + 1, BINS)]
        return Bins(float(self.account.width), some.inside, some.served, some.peak)

    @property
    def inside(self) -> float:
        """Area under the number inside, counted from comings and goings: customer-seconds until `until`."""
        return float(compiled(station_account).account_areas(self.by_bin)[0])

    @property
    def served(self) -> float:
        """Area under the number that a queue serves with so many inside: server-seconds until `until`."""
        return float(compiled(station_account).account_areas(self.by_bin)[1])

    @property
    def peak(self) -> int:
        """The most customers that were inside at once."""
        return int(self.by_bin.peak.max())

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
            int(self.account.most),
        )

    def end_warmup(self, at: float) -> None:
        """Leave everything until `at` out of all figures, but not out of the proof.

        No customer that came later may have been added yet.
        """
        self._advance(max(at, self.until))
        self._before = Totals(self.until, self.arrivals, self.lost, self.inside, self.served, 0)
        self.account.most = self.account.inside

    def add(self, rows: Times) -> None:
        """Add customers in the order in which they came, none before those of earlier calls.

        Parameters
        ----------
        rows : NDArray[np.float64]
            Arrival, service time and end of each, in seconds, shape (n, 3).

        Raises
        ------
        AssertionError
            As `close` does.
        """
        self._take(compiled(station_account).account_take, rows)

    def enter(self, arrival: Times, service: Times, stay: Times, rows: NDArray[np.int64]) -> None:
        """Add the customers of these rows, in the order in which they came, as `add` does.

        Parameters
        ----------
        arrival, service, stay : NDArray[np.float64]
            Of all customers, in seconds; `stay` is waiting and service.
        rows : NDArray[np.int64]
            The customers of this station.
        """
        self._take(compiled(station_account).account_enter, arrival, service, stay, rows)

    def _take(self, take: Callable[..., int], *columns: NDArray[Any]) -> None:
        first = 0
        while (first := take(self.account, self.by_bin, self.guests, *columns, first)) < len(columns[-1]):
            if self.account.code != ACCOUNT_FULL:
                raise AssertionError(_VIOLATIONS[int(self.account.code)].format(self.account.opened))
            more = records(2 * len(self.guests), GUEST)
            compiled(station_account).account_room(self.account, self.guests, more)
            self.guests = more
        self._check()

    def restart(self, down: float, at: float) -> None:
        """Let everybody inside leave at `down`, and serve nobody before `at`."""
        self._advance(max(down, self.until))
        self.account.lost += self.account.inside
        self._leave()
        self.account.opened, self.account.last_begin = at, -inf

    def close(self, at: float) -> None:
        """End the observation at `at`, or for inf when the last customer leaves.

        Raises AssertionError if Little's law does not hold, or the station was no queue.
        """
        last = self.account.head + self.account.inside - 1
        end = float(self.guests[last & (len(self.guests) - 1)].end) if self.account.inside else 0.0
        self._advance(max(at if at < inf else end, self.until))
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
        inside, served = compiled(station_account).account_areas(self.by_bin)
        rest, service = compiled(station_account).account_rest(self.account, self.guests)
        rounded = self.arrivals * float(np.spacing(self.until))  # an end is a sum, and known to half of that
        serving = f"Work conservation: {self.concurrency} at a time of those inside were served for"
        for law, area, said in (
            ("Little's law: all who were inside were there for", inside, self.stays - rest),
            (serving, served, self.services - service),
        ):
            if not abs(area - said) <= CLOSE * (1.0 + max(area, said)) + rounded:
                raise AssertionError(f"{law} {area} s, but by their own ends and services it is {said} s")

    def _leave(self) -> None:
        compiled(station_account).account_leave(self.account, self.guests)

    def _advance(self, to: float) -> None:
        compiled(station_account).account_advance(self.account, self.by_bin, self.guests, to)
        compiled(station_account).account_peak(self.account, self.by_bin)


class SharedStationStats(StationStats):
    """Statistics of a shared processor: nobody waits, and it serves whenever somebody is inside."""

    def __init__(self) -> None:
        super().__init__(1)
        self.guests = records(1, GUEST)
        self.guests.end = inf  # the account is told who leaves

    def advance(self, to: float, rows: Times) -> None:
        """Count until `to`.

        Parameters
        ----------
        to : float
            Time in seconds.
        rows : NDArray[np.float64]
            Those that came and went since the last call, in order of time, shape (n, 3): the time, and the seconds of stay
            and of service of one who goes, -1 and 0 of one who comes.
        """
        compiled(station_account).account_share(self.account, self.by_bin, self.guests, rows)
        self._advance(to)

    def end(self, unfinished: float) -> None:
        """End the observation; `unfinished` is the sum of the stays so far of the customers inside.

        Raises AssertionError as `close` does.
        """
        self.account.stays += unfinished
        rounded = self.arrivals * float(np.spacing(self.until))
        if not abs(self.inside - self.stays) <= CLOSE * (1.0 + self.inside) + 4.0 * rounded:
            said = f"all who were inside were there for {self.inside} s, but by their own ends it is {self.stays} s"
            raise AssertionError(f"Little's law: {said}")
