"""Lone requests: calls at a fixed gap, or one after the other, taken apart by the moments at which their parts ended."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from traffic import Trace, replay
from traffic.live_replay import Selector, running_selector

__all__ = ["FIRST", "Lone", "Walk", "selector_or_none", "take_walk"]

FIRST = 5  # calls that are not counted, since the gap before them is another


class Lone(NamedTuple):
    """The parts of a lone request in seconds, as in `Coldness`; of a walk the medians.

    Attributes
    ----------
    idle : float
        Time for which the loop was idle since the question before: nothing was asked, or an answer was awaited.
    wake : float
        From when it was due until it began.
    ask : float
        Until its question was written.
    served : float
        Until its answer arrived.
    answer : float
        Until its caller had the answer.
    after : float
        Until the loop had nothing to do; 0 where nobody saw it.
    """

    idle: float
    wake: float
    ask: float
    served: float
    answer: float
    after: float


@dataclass
class Walk:
    """Calls of which each was alone, by perf_counter.

    Attributes
    ----------
    begun, ended : NDArray[np.float64]
        When each began and ended.
    late : NDArray[np.float64]
        Seconds by which each began late.
    rested : NDArray[np.float64]
        Seconds from the end of the call before until the loop slept; nan where it did not, or where nobody saw it.
    cpu : float
        Processor seconds of this process by call.
    apart : bool
        Whether there was a gap between them.
    """

    begun: NDArray[np.float64]
    ended: NDArray[np.float64]
    late: NDArray[np.float64]
    rested: NDArray[np.float64]
    cpu: float
    apart: bool

    def lone(self, written: NDArray[np.float64], arrived: NDArray[np.float64]) -> Lone:
        """Return the medians of the parts, with the moments at which questions were written and answers arrived.

        What follows the answer lasts until the loop sleeps. Of calls without a gap it is the rest of the processor time.
        """
        parts = (self.late, written - self.begun, arrived - written, self.ended - arrived)
        wake, ask, served, answer = (float(np.median(part[FIRST:])) for part in parts)
        if self.apart:
            seen = self.rested[FIRST:][~np.isnan(self.rested[FIRST:])]
            after = float(np.median(seen)) if len(seen) else 0.0
        else:
            after = max(self.cpu - ask - answer, 0.0)
        pause = self.begun[1:] - self.late[1:] - self.ended[:-1]
        unasked = max(float(np.median(pause[FIRST:])) - after, 0.0) if self.apart else 0.0
        return Lone(unasked + served, wake, ask, served, answer, after)


async def take_walk(calls: Sequence[Callable[[], Awaitable[object]]], gap: float) -> Walk:
    """Make calls at a fixed gap; at 0.0 each as soon as the one before has ended."""
    selector = selector_or_none()
    begun, ended, slept = [], [], []

    async def call(i: int) -> None:
        begun.append(time.perf_counter())
        slept.append(selector.slept[0] if selector is not None and gap else math.nan)
        await calls[i]()
        ended.append(time.perf_counter())

    used = time.process_time()
    if gap:
        times = gap * np.arange(len(calls))
        result = await replay(Trace(times, np.zeros(len(calls), np.int64), ["everybody"]), call)
        if result.errors:
            raise next(error for error in result.results if isinstance(error, Exception))
        late = result.late
    else:
        late = np.zeros(len(calls))
        for i in range(len(calls)):
            await call(i)
    used = time.process_time() - used
    ends = np.array(ended)
    rested = np.array(slept) - np.concatenate([[np.nan], ends[:-1]])
    return Walk(np.array(begun), ends, late, np.where(rested < 0.0, np.nan, rested), used / len(calls), gap > 0.0)


def selector_or_none() -> Selector | None:
    """Return the selector that saw when the running loop slept; None on a loop that another has made."""
    try:
        return running_selector()
    except TypeError:
        return None
