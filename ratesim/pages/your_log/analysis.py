"""One log, read as asked, and all that its page shows of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratesim.limit import InvalidLimitError, Limit
from ratesim.pages.log_traffic import SHIPPED, LogFields
from ratesim.pages.your_log.arrivals import Arrivals, arrivals
from ratesim.pages.your_log.rejections import RejectedRequests, rejected_requests
from ratesim.pages.your_log.skew import Client, Skew, client, skew
from ratesim.safe_text import shorten_repr
from ratesim.simulation.analysis.limit_suggestion import DENIED, TOUCHED, Effect, Suggestion, Trial
from ratesim.simulation.scenario.fields import share
from traffic import Trace

__all__ = ["AffectedClients", "LogAnalysis", "LogQuestion", "analyze_log"]

USUAL = (1.0, 60.0, 3600.0)  # seconds: the periods that are tried beside the one asked for
SHOWN = 12  # clients in a table


@dataclass(frozen=True, kw_only=True)
class LogQuestion(LogFields):
    """What the reader asked. touched, denied: shares of the clients and of the requests."""

    period: str = "minute"
    algorithm: str = "sliding_window"
    touched: float = TOUCHED
    denied: float = DENIED
    show_keys: bool = False
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
    period: str = "minute",
    algorithm: str = "sliding_window",
    touched: str | float = TOUCHED,
    denied: str | float = DENIED,
    show_keys: bool = False,
    seed: int = 1,
    **log_fields: Any,
) -> LogAnalysis:
    """Read a log and work out all that the page shows; without one, the log that ships.

    log_fields: the other fields of `LogFields`. period: "minute", "10 seconds". touched, denied: the shares of the clients
    and of the requests that the suggested limit may deny at most. show_keys: whether clients are named in full. seed: of the
    places that coarse stamps are given within their grain.

    Raises LogError, InvalidLimitError or ValueError, one line that says what is wrong and the remedy.
    """
    shares: dict[str, Any] = {"touched": _share("touched", touched), "denied": _share("denied", denied)}
    asked = LogQuestion(
        log=log,
        **log_fields,
        period=period,
        algorithm=algorithm,
        **shares,
        show_keys=bool(show_keys),
        seed=seed,
    )
    seconds = _period(asked)
    trace = _read(asked)
    spread = trace.spread(np.random.default_rng([seed, 0]))  # as a scenario of that seed
    trial = Trial(spread, algorithm)
    periods = sorted({each for each in USUAL if each <= trace.duration} | {seconds})
    suggestions = {each: trial.suggest(each, asked.touched, asked.denied) for each in periods}
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


def _share(name: str, value: str | float) -> float:
    """Read a share of at least 0 and below 1. Raises ValueError."""
    try:
        found = share(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if not (isinstance(found, int | float) and math.isfinite(found) and 0 <= found < 1):
        raise ValueError(f'{name} {shorten_repr(value)}: is a share of at least 0 and below 1, such as "1%"')
    return float(found)


def _period(asked: LogQuestion) -> float:
    """Seconds of the period. Raises ValueError for what cannot be asked."""
    try:
        return Limit.parse(f"1/{asked.period}", asked.algorithm).period
    except InvalidLimitError:
        shown = shorten_repr(asked.period)
        problem = f"period {shown}: write second, minute, hour, day, week, or a number of them as in '10 seconds'"
        raise InvalidLimitError(problem) from None


def _read(asked: LogQuestion) -> Trace:
    if asked.log:
        return asked.read()
    with resources.as_file(resources.files("traffic") / "data" / SHIPPED) as path:
        return asked.read(path)


def _touched(trace: Trace, shape: Skew, denied: NDArray[np.int64], period: float) -> tuple[AffectedClients, ...]:
    ranks = np.argsort(-denied[shape.order], kind="stable")[:SHOWN]
    found = ((int(rank), int(shape.order[rank])) for rank in ranks)
    return tuple(
        AffectedClients(client(trace, key, period), int(denied[key]), rank + 1) for rank, key in found if denied[key] > 0
    )
