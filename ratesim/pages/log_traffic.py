"""The log that a page takes in place of the traffic that it makes: its keys, costs and rhythm, at the rate of the page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ratesim.durations import parse_duration
from ratesim.formatting import format_amount, format_count, shorten
from ratesim.limit import Limit
from ratesim.notebook import NotebookError
from ratesim.safe_text import shorten_repr
from ratesim.simulation.scenario.workload import EPOCH
from ratesim.suggestion import unknown_name
from traffic import Trace, read_log
from traffic.times.timestamps import TIME_UNITS

__all__ = ["CHECKED_LINES", "SHIPPED", "LogFields", "LogTraffic"]

SHIPPED = "apache_access_10k.log.gz"  # in traffic/data
CHECKED_LINES = 1000  # of a log, before its page is made
READ_BY = ("key", "format", "log_format", "time", "time_unit", "time_zone", "cost", "status", "session", "endpoint")


@dataclass(frozen=True, kw_only=True)
class LogFields:
    """The parameters of a notebook that name a log and say how it is read; empty ones leave it to `traffic.read_log`.

    Attributes
    ----------
    log
        The file, the glob or the directory.
    key, format, log_format, time, time_unit, time_zone, cost, status, session, endpoint
        As of `traffic.read_log`.
    busiest
        The length of the part that is kept, such as "1h".
    """

    log: str = ""
    key: str = ""
    format: str = ""
    log_format: str = ""
    time: str = ""
    time_unit: str = ""
    time_zone: str = ""
    cost: str = ""
    status: str = ""
    session: str = ""
    endpoint: str = ""
    busiest: str = ""

    def given(self) -> dict[str, str]:
        """Return the fields that are not empty, except the log itself."""
        return {name: value for name, value in vars(self).items() if value and name != "log"}

    def read(self, path: str | Path = "", lines: int | None = None) -> Trace:
        """Read the log, or the file at `path` in its place.

        Parameters
        ----------
        lines
            About how many are read; all of them unless given.

        Raises
        ------
        LogError
            As of `traffic.read_log`.
        NotebookError
            `time_unit` or `busiest` is invalid.
        """
        if self.time_unit and self.time_unit not in TIME_UNITS:
            raise NotebookError(unknown_name("parameter time_unit:", self.time_unit, TIME_UNITS))
        length = self._busiest()
        asked: dict[str, Any] = {each: getattr(self, each) for each in READ_BY if getattr(self, each)}
        trace = read_log(path or self.log, **asked, lines=lines)
        return trace if length is None else trace.busiest(length)

    def traffic(self) -> LogTraffic | None:
        """Read the log, if there is one.

        Raises
        ------
        LogError
            As of `traffic.read_log`.
        NotebookError
            A field is given without a log, or the log has only one request.
        """
        if not self.log:
            if self.given():
                name = next(iter(self.given()))
                raise NotebookError(f"parameter {name}: belongs to a log, and there is none; set log as well")
            return None
        trace = self.read()
        if len(trace) < 2:
            raise NotebookError("parameter log: only one request is left of it; name a longer log, or a longer busiest part")
        return LogTraffic(shorten(Path(self.log).name), trace)

    def _busiest(self) -> float | None:
        if not self.busiest:
            return None
        try:
            found = parse_duration(self.busiest)
        except ValueError as error:
            raise NotebookError(f"parameter busiest: {error}") from error
        if not (math.isfinite(found) and found > 0):
            raise NotebookError(f"parameter busiest: {shorten_repr(self.busiest)} is no length above 0; write 10min or 1h")
        return found


@dataclass(frozen=True, eq=False)
class LogTraffic:
    """A log that was read. name: of its file."""

    name: str
    trace: Trace

    @cached_property
    def spread(self) -> Trace:
        """The requests with stamps of whole seconds spread within their second, the same in every run."""
        return self.trace.spread(np.random.default_rng(0))

    def fitted(self, requests: float, duration: float, seed: int, one_key: bool = False) -> Trace:
        """Return traffic of a given rate with the keys, the costs and the rhythm of the log.

        It is the first requests of the log; of a log with too few, copies of it are superposed (`Trace.scale`). All gaps are
        divided by one number.

        Parameters
        ----------
        requests
            Requests per second.
        duration
            Seconds.
        seed
            Draws the shifts of the copies.
        one_key
            Whether all requests are of one key.

        Raises
        ------
        NotebookError
            The requests that are taken have all the same time.
        """
        count = max(round(requests * duration), 2)
        some = self._first(count, seed)
        since = some.time - some.time[0]
        if not since[-1] > 0:
            raise NotebookError(f"parameter log: the first {count:,} requests have one time; name a log that takes longer")
        # The last request comes one mean gap before the end.
        time = EPOCH + since * (duration * count / (count + 1) / since[-1])
        used, key = np.unique(some.key, return_inverse=True)
        names = ["all"] if one_key else [some.keys[each] for each in used.tolist()]
        key = 0 * key if one_key else key
        return Trace(time, key, names, cost=some.cost, session=some.session, provenance=some.provenance)

    def sentence(self, limit: Limit, requests: float, duration: float, one_key: bool = False) -> str:
        """Say which part of the log is replayed, how much faster than it was, and if the limit binds there."""
        count = max(round(requests * duration), 2)
        some = self._first(count, 0)
        copies = math.ceil(count / len(self.trace))
        part = f"the first {format_count(count, 'request')} of {self.name}"
        if copies > 1:
            part = f"{copies} superposed copies of {self.name}, cut to {count:,} requests,"
        elif count == len(self.trace):
            part = f"all {count:,} requests of {self.name}"
        faster = (some.time[-1] - some.time[0]) / duration
        pressure = "" if one_key else _pressure(limit, self.fitted(requests, duration, 0))
        return (
            f"{self._lost()}The traffic is {part} at {format_amount(count / duration)} requests per second, "
            f"{format_amount(faster)} times as fast as in the log. {pressure}"
        ).strip()

    def describe(self, limit: Limit, most: int | None = None) -> str:
        """Say which part of the log (at most `most` requests) is replayed as it is, and whether the limit binds there."""
        count = len(self.trace) if most is None else min(len(self.trace), most)
        part = f"all {count:,}" if count == len(self.trace) else f"the first {count:,}"
        return (
            f"{self._lost()}Your log: {part} requests of {self.name}, with their keys, costs and times. "
            f"{_pressure(limit, self.spread.head(count))}"
        ).strip()

    def _lost(self) -> str:
        from ratesim.recommendation.investigate.log_reading import EXACT, log_reading

        read = log_reading(self.trace.provenance, EXACT)
        return f"{read.lost_note} " if read and read.lost_note else ""

    def _first(self, count: int, seed: int) -> Trace:
        copies = math.ceil(count / len(self.trace))
        return self.spread.scale(copies, np.random.default_rng([seed, 3]), head=count)


def _pressure(limit: Limit, trace: Trace) -> str:
    # Slow to import, and parameters are checked without them.
    from ratesim.recommendation.decide.verdict import limit_pressure_note
    from ratesim.simulation.analysis.limit_pressure import limit_pressure

    return limit_pressure_note(str(limit), limit_pressure(limit, trace))
