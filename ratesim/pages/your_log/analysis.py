"""One log, read as asked, and all that its page shows of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ratesim.limit import InvalidLimitError, Limit
from ratesim.pages.your_log.arrivals import Arrivals, arrivals
from ratesim.pages.your_log.limits import Effect, Suggestion, Trial
from ratesim.pages.your_log.rejections import RejectedRequests, rejected_requests
from ratesim.pages.your_log.skew import Client, Skew, client, skew
from ratesim.safe_text import shorten_repr
from traffic import Trace, read_log
from traffic.timestamps import TIME_UNITS

__all__ = ["AffectedClients", "LogAnalysis", "LogQuestion", "analyze_log"]

SHIPPED = "apache_access_10k.log.gz"
USUAL = (1.0, 60.0, 3600.0)  # seconds: the periods that are tried beside the one asked for
SHOWN = 12  # clients in a table


@dataclass(frozen=True)
class LogQuestion:
    """What the reader asked, as it was written. touched, denied: shares of the clients and of the requests."""

    log: str = ""
    key: str = ""
    format: str = ""
    time: str = ""
    time_unit: str = ""
    cost: str = ""
    status: str = ""
    period: str = "minute"
    algorithm: str = "sliding_window"
    touched: float = 0.01
    denied: float = 0.05
    names: bool = True
    seed: int = 1


@dataclass(frozen=True)
class AffectedClients:
    """A client that the suggested limit would touch, how many of its requests are denied, and its rank by requests."""

    client: Client
    denied: int
    rank: int


@dataclass(frozen=True)
class LogAnalysis:
    """The analysis of a log.

    Attributes
    ----------
    period
        Seconds.
    top
        The clients with the most requests.
    suggestions
        The suggested limits, by period in seconds.
    touched
        The clients that the suggestion for the period asked denies most, at most twelve.
    median_touched, median_other
        Requests of the median client among those touched, and among the others; 0 if there are none.
    """

    asked: LogQuestion
    trace: Trace
    period: float
    arrivals: Arrivals
    skew: Skew
    rejected: RejectedRequests
    top: tuple[Client, ...]
    suggestions: dict[float, Suggestion]
    ladders: dict[float, tuple[Effect, ...]]
    touched: tuple[AffectedClients, ...]
    touched_share: float
    median_touched: float
    median_other: float

    @property
    def suggestion(self) -> Suggestion:
        """The suggestion for the period asked."""
        return self.suggestions[self.period]


def analyze_log(
    log: str = "",
    key: str = "",
    format: str = "",
    time: str = "",
    time_unit: str = "",
    cost: str = "",
    status: str = "",
    period: str = "minute",
    algorithm: str = "sliding_window",
    touched: float = 0.01,
    denied: float = 0.05,
    names: bool = True,
    seed: int = 1,
) -> LogAnalysis:
    """Read a log and work out all that the page shows; without one, the log that ships.

    key to status: as `traffic.read_log` takes them, "" for none. period: "minute", "10 seconds". touched, denied: the shares
    of the clients and of the requests that the suggested limit may deny at most. names: whether clients may be named. seed:
    of the places that stamps in whole seconds are given within their second.

    Raises LogError, InvalidLimitError or ValueError, one line that says what is wrong and the remedy.
    """
    asked = LogQuestion(
        log, key, format, time, time_unit, cost, status, period, algorithm, touched, denied, bool(names), seed
    )
    seconds = _checked(asked)
    trace = _read(asked)
    spread = trace.spread(np.random.default_rng(seed))
    trial = Trial(spread, algorithm)
    periods = sorted({each for each in USUAL if each <= trace.duration} | {seconds})
    suggestions = {each: trial.suggest(each, touched, denied) for each in periods}
    shape = skew(trace)
    limited = trial.denied(suggestions[seconds].effect.limit)
    counts = np.bincount(trace.key[limited], minlength=len(trace.keys))
    hit, other = shape.counts[counts[shape.order] > 0], shape.counts[counts[shape.order] == 0]
    return LogAnalysis(
        asked=asked,
        trace=trace,
        period=seconds,
        arrivals=arrivals(trace),
        skew=shape,
        rejected=rejected_requests(trace, seconds),
        top=tuple(client(trace, int(each), seconds) for each in shape.order[:SHOWN]),
        suggestions=suggestions,
        ladders={each: trial.ladder(each) for each in periods},
        touched=_touched(trace, shape, counts, seconds),
        touched_share=float(hit.sum() / len(trace)),
        median_touched=float(np.median(hit)) if len(hit) else 0.0,
        median_other=float(np.median(other)) if len(other) else 0.0,
    )


def _checked(asked: LogQuestion) -> float:
    """Seconds of the period. Raises ValueError for what cannot be asked."""
    for name in ("touched", "denied"):
        value = getattr(asked, name)
        if not (isinstance(value, int | float) and math.isfinite(value) and 0 <= value < 1):
            raise ValueError(f"{name} {shorten_repr(value)}: is a share of at least 0 and below 1, such as 0.01")
    if asked.time_unit and asked.time_unit not in TIME_UNITS:
        raise ValueError(f"time_unit {shorten_repr(asked.time_unit)}: use {', '.join(TIME_UNITS)}, or leave it empty")
    try:
        return Limit.parse(f"1/{asked.period}", asked.algorithm).period
    except InvalidLimitError:
        shown = shorten_repr(asked.period)
        problem = f"period {shown}: write second, minute, hour, day, week, or a number of them as in '10 seconds'"
        raise InvalidLimitError(problem) from None


def _read(asked: LogQuestion) -> Trace:
    unit = next((unit for unit in TIME_UNITS if unit == asked.time_unit), None)

    def read(path: str | Path) -> Trace:
        return read_log(
            path,
            key=asked.key or None,
            format=asked.format or None,
            time=asked.time or None,
            time_unit=unit,
            cost=asked.cost or None,
            status=asked.status or None,
        )

    if asked.log:
        return read(asked.log)
    with resources.as_file(resources.files("traffic") / "data" / SHIPPED) as path:
        return read(path)


def _touched(trace: Trace, shape: Skew, denied: NDArray[np.int64], period: float) -> tuple[AffectedClients, ...]:
    ranks = np.argsort(-denied[shape.order], kind="stable")[:SHOWN]
    found = ((int(rank), int(shape.order[rank])) for rank in ranks)
    return tuple(
        AffectedClients(client(trace, key, period), int(denied[key]), rank + 1) for rank, key in found if denied[key] > 0
    )
