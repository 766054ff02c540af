"""Rounds in which contenders take turns, so that what slows the machine slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["Figures", "Work", "in_turns", "table"]

Work = Callable[[], Awaitable[object]]


@dataclass
class Figures:
    """What was measured of one contender.

    Attributes
    ----------
    rates : list[float]
        Decisions per second, one for each round.
    latency : list[float]
        Seconds of single requests, where they come one at a time.
    """

    rates: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The median of the rates."""
        return statistics.median(self.rates)

    @property
    def p99(self) -> float:
        """The 99th percentile of the latency, in seconds."""
        return float(np.quantile(self.latency, 0.99))


async def in_turns(
    works: Mapping[str, Work], figures: dict[str, Figures], requests: Mapping[str, int] | int, rounds: int
) -> dict[str, Figures]:
    """Let each contender work once a round, and note its rate.

    Parameters
    ----------
    works
        By the name of a contender, what it does in a round.
    figures
        By the same name, where its rate is noted.
    requests
        The decisions of a round, of all contenders or of each.
    rounds
        Their number, after a first one that opens connections and is not counted.
    """
    for number in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            await work()
            took = time.perf_counter() - start
            if number:
                figures[name].rates.append((requests if isinstance(requests, int) else requests[name]) / took)
            else:
                figures[name].latency.clear()
    return figures


def table(title: str, figures: Mapping[str, Figures], reference: str) -> list[str]:
    """Return lines of each contender's rate and its ratio to that of `reference`."""
    base = figures[reference].rate
    return [f"  {title}"] + [
        f"    {name:<40} {each.rate:>10,.0f}   {each.rate / base:.2f}" for name, each in figures.items()
    ]
