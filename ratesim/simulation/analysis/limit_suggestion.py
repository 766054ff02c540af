"""Who would be limited at which rate, decided by an exact limiter in one place, and which limit would fit.

The limit that is suggested is the smallest round rate at which no more than a given share of the clients, and no more than a
given share of the requests, is ever denied.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ratesim.limit import LARGEST, SMALLEST, Limit
from ratesim.simulation.results.oracle import exact_trace
from traffic import Trace

__all__ = ["DENIED", "TOUCHED", "Effect", "Suggestion", "Trial", "round_rates"]

TOUCHED, DENIED = 0.01, 0.05  # shares of the clients and of the requests that a suggested limit denies, at most
ROUND = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)  # times a power of ten: rates that people write down
STEPS = (1.0, 2.0, 5.0)
LONGEST = 12  # steps of a ladder
ROUNDING = 1e-12  # so that 29 of 100 are not above 0.29


@dataclass(frozen=True)
class Effect:
    """What a limit does to the log. touched: clients of `clients` that are denied at least once; denied: of `requests`."""

    limit: Limit
    touched: int
    clients: int
    denied: int
    requests: int

    @property
    def touched_share(self) -> float:
        """The share of clients with a denied request."""
        return self.touched / self.clients

    @property
    def denied_share(self) -> float:
        """The share of requests that are denied."""
        return self.denied / self.requests


@dataclass(frozen=True)
class Suggestion:
    """A suggested limit.

    Attributes
    ----------
    effect
        The effect of the suggested limit.
    below
        The effect of the next smaller round rate, which denies too much; None if no smaller one admits anything.
    """

    effect: Effect
    below: Effect | None


@dataclass
class Trial:
    """Limits tried on one trace, each once. Raises ValueError for a trace in which nothing costs anything."""

    trace: Trace
    algorithm: str = "sliding_window"
    options: tuple[tuple[str, float], ...] = ()
    _tried: dict[Limit, Effect] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        cost = np.bincount(self.trace.key, self.trace.cost)
        if not cost.any():
            raise ValueError("every request costs 0, so that no limit would deny any; choose another cost")
        self._clients = int(np.count_nonzero(np.bincount(self.trace.key)))
        self._least = float(self.trace.cost[self.trace.cost > 0].min())
        self._most = float(cost.max())  # a limit of all that the greatest client ever asks denies nobody

    def denied(self, limit: Limit) -> NDArray[np.bool_]:
        """Which requests an exact limiter denies."""
        return ~exact_trace(limit, self.trace)

    def effect(self, rate: float, period: float) -> Effect:
        """Replay the trace through a limit.

        Raises
        ------
        InvalidLimitError
            The algorithm is unknown, or a rate or cost is out of bounds.
        """
        limit = Limit(rate, period, self.algorithm, options=self.options)
        if limit not in self._tried:
            denied = self.denied(limit)
            touched = np.count_nonzero(np.bincount(self.trace.key[denied]))
            many = int(np.count_nonzero(denied))
            self._tried[limit] = Effect(limit, int(touched), self._clients, many, len(self.trace))
        return self._tried[limit]

    def suggest(self, period: float, touched: float = TOUCHED, denied: float = DENIED) -> Suggestion:
        """Find the smallest round rate at which at most those shares of clients and of requests are denied.

        It is found by bisection: it does not deny too much, and the next smaller rate does.
        """
        rates = round_rates(self._least, self._most)

        def fits(rate: float) -> bool:
            effect = self.effect(rate, period)
            return effect.touched_share <= touched + ROUNDING and effect.denied_share <= denied + ROUNDING

        first = _first(rates, fits)
        below = self.effect(rates[first - 1], period) if first else None
        return Suggestion(self.effect(rates[first], period), below)

    def ladder(self, period: float) -> tuple[Effect, ...]:
        """Effects at 1, 2, 5, 10 ... from the smallest rate that touches nobody downwards, until half is denied."""
        rates = round_rates(self._least, self._most, STEPS)
        first = _first(rates, lambda rate: self.effect(rate, period).touched == 0)
        found: list[Effect] = []
        for rate in reversed(rates[: first + 1]):
            found.append(self.effect(rate, period))
            if found[-1].denied_share >= 0.5 or len(found) == LONGEST:
                break
        return tuple(reversed(found))


def round_rates(least: float, most: float, digits: tuple[float, ...] = ROUND) -> list[float]:
    """List the round rates from the last that is not above `least` to the first that is not below `most`, ascending.

    Above 1 they are whole numbers.

    Raises
    ------
    ValueError
        A limit cannot be so small or so large.
    """
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    rates = [float(f"{digit:g}e{power}") for power in range(low - 1, high + 1) for digit in digits]
    rates = [rate for rate in rates if rate < 1.0 or rate.is_integer()]
    start = max(i for i, rate in enumerate(rates) if rate <= least)
    end = min(i for i, rate in enumerate(rates) if rate >= most)
    if rates[start] < SMALLEST or rates[end] > LARGEST:
        raise ValueError(f"costs from {least:g} to {most:g} in all; a limit goes from {SMALLEST:g} to {LARGEST:g}")
    return rates[start : end + 1]


def _first(rates: list[float], fits: Callable[[float], bool]) -> int:
    """Find the index of the first rate that fits, provided that all after it fit. The last always does."""
    low, high = 0, len(rates) - 1
    while low < high:
        middle = (low + high) // 2
        if fits(rates[middle]):
            high = middle
        else:
            low = middle + 1
    return low
