"""The processor of an asyncio process: an event loop whose turn serves what is ready, in order."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import cast

import simpy

from ratesim.runtime import Future, SimRuntime
from ratesim.simulation.queueing.fifo_station import FifoStation
from ratesim.simulation.queueing.pace import Pace
from ratesim.simulation.queueing.station_stats import StationStats

__all__ = ["EventLoopCPU"]

CLOSE = 1e-6  # seconds: a turn is rounded


class EventLoopCPU:
    """An event loop in simulated time.

    A turn begins when something is ready and the turn before is over. It looks for news, and then serves what was ready at
    its beginning, in the order in which that became so; what becomes ready meanwhile belongs to the next turn. A caller
    enters, and then works: all steps of a turn run at the simulated time of its beginning, and the loop's own clock,
    `ahead`, says when each is done. A turn takes one event at most, and none where the loop was idle or nothing else happens
    before it.

    Parameters
    ----------
    turn : float
        Seconds of the look for news. A loop that was idle is looking already.
    pace : Pace, optional
        How much longer than usual work takes.

    Attributes
    ----------
    station : FifoStation
        Its steps as customers.
    idle : float
        Seconds without work so far.
    woken_at : float
        When the loop last ran a handler after a sleep.
    """

    def __init__(self, runtime: SimRuntime, turn: float = 0.0, pace: Pace | None = None) -> None:
        self._turn = turn
        self._pace = pace
        self._runtime = runtime
        self._env = runtime.env
        self.station = FifoStation()
        self._ready: list[tuple[float, Future[None]]] = []  # since when, and who waits
        self._turn_at = -1.0  # when the turn began whose steps run now, or ran last
        self._until = 0.0  # when they are done
        self._later = 0.0  # seconds of work at the end of the turn
        self._came: list[float] = []  # since when the steps of the turn were ready
        self._worked = 0.0  # seconds of the turn
        self._last_came = 0.0
        self._scheduled = False
        self._asked_at = 0.0  # `idle` at the question before
        self.idle = self.woken_at = 0.0

    @property
    def ahead(self) -> float:
        """Seconds from the simulated time until the loop has done what it has begun."""
        ahead = self._until - self._env.now
        return ahead if ahead > 0.0 else 0.0

    @property
    def busy(self) -> float:
        """Seconds of work."""
        return self.station.busy + self._worked

    @property
    def stats(self) -> StationStats:
        """Statistics up to a moment ago; complete once the loop is closed."""
        return self.station.stats

    def is_idle(self) -> bool:
        """Tell whether whoever comes now need not wait."""
        return not self._ready and self._until + self._later <= self._env._now

    @property
    def slept(self) -> float:
        """Seconds since the last work; 0 while there is some."""
        slept = self._env.now - self._until - self._later
        return slept if slept > 0.0 else 0.0

    def is_in_turn(self) -> bool:
        """Tell whether the caller runs within a turn, as what it has woken does."""
        return self._turn_at == self._env._now

    def wake(self, seconds: float) -> float:
        """Begin a turn of an idle loop, which works for `seconds` until it runs a handler; returns when that is."""
        now = self._env.now
        self._begin(now, [now])
        self.woken_at = now + self.work(seconds)
        return self.woken_at

    def enter(self) -> Awaitable[None]:
        """Wait for a place in a turn."""
        if self.is_idle():
            now = self._env.now
            self._begin(now, [now])
            return self._runtime.sleep(0.0)
        return self.next_turn()

    def serve_alone(self, turns: int, seconds: float, later: float) -> bool:
        """Work for one who comes now, in so many turns more, if the loop is idle and nobody else takes part in them.

        It is what `enter`, `next_turn` as often, `work` and `work_later` do, in half of the time.
        """
        env = self._env
        now = env._now
        if self._ready or self._until + self._later > now or env.peek() <= now + turns * self._turn:
            return False
        self._begin(now, [now])
        seconds += turns * self._turn
        if self._pace is not None:
            factor = self._pace.at(now)
            seconds, later = seconds * factor, later * factor
        self._until += seconds
        self._worked += seconds
        self._later = later
        return True

    def next_turn(self) -> Awaitable[None]:
        """Wait for a place in the turn after this one, behind those that are ready already."""
        future = self._runtime.future()
        self._ready.append((self._env.now, future))
        if not self._scheduled:
            self._schedule()
        return future

    def work_between(self, seconds: float) -> float:
        """Work for one who comes now and waits for what has begun, and for nobody else; returns the seconds until then."""
        self._settle()
        self._came = [self._env.now]
        return self.work(seconds)

    def work(self, seconds: float) -> float:
        """Work in this step; returns the seconds from the simulated time until that is done."""
        if self._pace is not None:
            seconds *= self._pace.at(self._env.now)
        self._until += seconds
        self._worked += seconds
        return self._until - self._env.now

    def work_later(self, seconds: float) -> None:
        """Work at the end of this turn, when all who are ready have been served."""
        if self._pace is not None:
            seconds *= self._pace.at(self._env.now)
        self._later += seconds

    def idle_since_question(self) -> float:
        """Return the idle seconds since the last call: how cold a question finds the process."""
        idle, self._asked_at = self.idle - self._asked_at, self.idle
        return idle

    def close(self, at: float) -> None:
        """End the observation at `at`; for inf, when the last work is done. Raises AssertionError as `FifoStation` does."""
        self._settle()
        self.station.close(at)

    def end_warmup(self, at: float) -> None:
        """Count figures from now, `at`, on."""
        self._settle()
        self.station.end_warmup(at)
        self._last_came = at  # who has waited since before is counted from now

    def _begin(self, now: float, came: list[float]) -> None:
        self._settle()
        if now > self._until:
            self.idle += now - self._until
            self._until = now
        self._turn_at = now
        self._came = came

    def _settle(self) -> None:
        """Account for the turn that is over: its steps share its work equally."""
        self._until += self._later
        self._worked += self._later
        if self._came:
            share, end, last = self._worked / len(self._came), 0.0, self._last_came
            for came in self._came:
                last = max(last, came)
                end = self.station.serve(last, share)
            self._last_came = last
            if abs(self._until - end) > CLOSE:
                raise AssertionError(f"Work conservation: a loop is busy until {self._until} s, and its steps until {end} s")
            self._came, self._worked = [], 0.0
        self._later = 0.0

    def _schedule(self) -> None:
        self._scheduled = True
        event = simpy.Timeout(self._env, max(self._until + self._later - self._env.now, 0.0))
        cast("list[object]", event.callbacks).append(self._on_free)

    def _on_free(self, _: simpy.Event) -> None:
        now = self._env.now
        if self._until + self._later > now:
            self._schedule()  # it has been given more to do since
            return
        while self._ready:
            ready, self._ready = self._ready, []
            self._begin(now, [came for came, _ in ready])
            self.work(self._turn)
            self._runtime.run(_set_all, [future for _, future in ready])
            if self._env.peek() <= self._until + self._later:
                break
        self._scheduled = False
        if self._ready:
            self._schedule()


def _set_all(futures: list[Future[None]]) -> None:
    for future in futures:
        if not future.done():  # its caller was canceled
            future.set_result(None)
