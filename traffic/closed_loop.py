"""Clients that react: what they ask depends on what they were answered. Users who wait for an answer and think, and
clients who come again after a denial.

All are `ReactiveClients`. They are given what drives them (a `Runtime`, simulated or real), what they call (`ask`) and a
generator for their draws, and return the record of what they asked, which fills while they run:

    asked = ClosedLoop(users=50, think=Exponential(2.0), duration=60.0).start(runtime, ask, rng)
    env.run()                     # or whatever runs the runtime
    trace = asked.trace()         # every attempt is a request of its own

`ask(key, cost, session, attempt)` is awaited for every attempt; its answer has `allowed` and `retry_after`, as a
decision of a rate limiter has. Call number n of it (from 0) is row n of the record, so that an ask which counts its
calls and keeps its answers can have them scored against the trace. What cannot be answered (a server that is away) is for
`ask` to turn into an answer: an exception ends the client that asked, and is reported by the runtime.

Draws belong to the user or the request and to the attempt, not to the order of events: candidates that are
compared with the same seed meet the same clients.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import numpy as np

from traffic.clients import Runtime, open_loop
from traffic.distributions import Draws
from traffic.keys import Uniform
from traffic.provenance import Provenance
from traffic.recorder import RequestLog
from traffic.retry import Retry
from traffic.trace import Trace

__all__ = [
    "ClosedLoopClients",
    "Constant",
    "Exponential",
    "ReactiveClients",
    "Response",
    "RetryingClients",
    "SendFn",
    "Think",
]


class Response(Protocol):
    """What an `ask` comes to. retry_after: seconds until asking again may help, inf for never; read when denied."""

    @property
    def allowed(self) -> bool: ...

    @property
    def retry_after(self) -> float: ...


class SendFn(Protocol):
    """Asks for `cost` on behalf of a key, an index into the clients' `keys`; attempt counts from 1."""

    def __call__(self, key: int, cost: float, session: int, attempt: int, /) -> Awaitable[Response]: ...


class ReactiveClients(Protocol):
    """Clients that react, all those of one run."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of all keys that may ask."""

    def start(self, runtime: Runtime, ask: SendFn, rng: np.random.Generator) -> RequestLog:
        """Spawn the clients and return, at once, the record of what they ask. Draws from rng only here."""


class Think(Protocol):
    """A distribution of the time between an answer and the user's next request."""

    def seconds(self, uniform: float) -> float:
        """A think time, seconds, from a uniform number in (0, 1)."""

    def first(self, uniform: float) -> float:
        """How long until a user who is seen at some moment of thinking asks, seconds."""


@dataclass(frozen=True, slots=True)
class Exponential:
    """Think times that are exponential with this mean, seconds: at every moment a user may be about to ask."""

    mean: float

    def __post_init__(self) -> None:
        _positive("Exponential", "mean", self.mean)

    def seconds(self, uniform: float) -> float:
        return -self.mean * math.log(uniform)

    def first(self, uniform: float) -> float:
        return self.seconds(uniform)  # it has no memory


@dataclass(frozen=True, slots=True)
class Constant:
    """Think times of exactly so many seconds: pollers. They begin out of step."""

    think: float

    def __post_init__(self) -> None:
        _positive("Constant", "think", self.think)

    def seconds(self, uniform: float) -> float:
        return self.think

    def first(self, uniform: float) -> float:
        return self.think * uniform


@dataclass(frozen=True, slots=True)
class ClosedLoopClients:
    """Users who ask, wait for the answer, think, and ask again, for `duration` seconds: a load that a slow server slows.

    A denial is an answer, too; with a `retry` policy it is first tried again. Nothing is asked from the end on.
    Each user is a session and, unless there are fewer `tenants`, a key; user u belongs to tenant u modulo `tenants`.
    All begin in thought. N users who think Z seconds in the mean and are answered in R ask N / (R + Z) times a second
    (the interactive response time law: Lazowska et al., Quantitative System Performance, 1984, section 3.5).
    """

    users: int
    think: Think
    duration: float
    cost: float = 1.0
    tenants: int | None = None
    retry: Retry | None = None

    def __post_init__(self) -> None:
        _positive("ClosedLoop", "duration", self.duration)
        if self.users < 1:
            raise ValueError(f"ClosedLoop: users must be a whole number >= 1, got {self.users}")
        if self.tenants is not None and not 1 <= self.tenants <= self.users:
            raise ValueError(f"ClosedLoop: tenants must be from 1 to the number of users, got {self.tenants}")
        if not (math.isfinite(self.cost) and self.cost >= 0):
            raise ValueError(f"ClosedLoop: cost must be a finite number >= 0, got {self.cost:g}")

    @property
    def keys(self) -> tuple[str, ...]:
        return Uniform(self.tenants or self.users).names()

    def start(self, runtime: Runtime, ask: SendFn, rng: np.random.Generator) -> RequestLog:
        keys = self.keys
        asked = RequestLog(keys, Provenance(source=repr(self)))
        asking = _Asking(runtime, ask, asked, self.retry, Draws.of(rng), runtime.time() + self.duration)
        requests = count()
        for user in range(self.users):
            runtime.spawn(self._user(user, user % len(keys), asking, requests))
        return asked

    async def _user(self, user: int, key: int, asking: _Asking, requests: count[int]) -> None:
        draws, runtime = asking.draws, asking.runtime
        wait = self.think.first(draws.uniform(user, 0))
        for turn in count(1):
            if not asking.in_time(wait):
                return
            await runtime.sleep(wait)
            await asking.until_allowed(key, self.cost, user, next(requests), (user, turn))
            wait = self.think.seconds(draws.uniform(user, turn))


@dataclass(frozen=True, slots=True)
class RetryingClients:
    """The requests of a trace, each at its time whatever became of others, and again as `retry` says when denied.

    The first attempt at row i is made as in an open loop (`open_loop`); `Asked.request` is i for all attempts at it.
    """

    trace: Trace
    retry: Retry

    @property
    def keys(self) -> tuple[str, ...]:
        return self.trace.keys

    def start(self, runtime: Runtime, ask: SendFn, rng: np.random.Generator) -> RequestLog:
        trace = self.trace
        asked = RequestLog(trace.keys, trace.provenance.noted(f"denied requests asked again: {self.retry}"))
        asking = _Asking(runtime, ask, asked, self.retry, Draws.of(rng))

        async def send(i: int) -> None:
            await asking.until_allowed(int(trace.key[i]), float(trace.cost[i]), int(trace.session[i]), i, (i,))

        runtime.spawn(open_loop(trace, send, runtime))
        return asked


@dataclass(frozen=True, slots=True)
class _Asking:
    """How every client of a run asks: keeps the record, and comes again as the policy says, before the end."""

    runtime: Runtime
    ask: SendFn
    asked: RequestLog
    retry: Retry | None
    draws: Draws
    end: float = math.inf

    def in_time(self, wait: float) -> bool:
        return self.runtime.time() + wait < self.end

    async def until_allowed(self, key: int, cost: float, session: int, request: int, purpose: tuple[int, ...]) -> None:
        """Ask, and again while denied; draw by `purpose` and the attempt."""
        for attempt in count(1):
            self.asked.add(self.runtime.time(), key, cost, session, attempt, request)
            answer = await self.ask(key, cost, session, attempt)
            if answer.allowed or self.retry is None:
                return
            wait = self.retry.wait(attempt, answer.retry_after, self.draws.uniform(*purpose, attempt))
            if wait is None or not self.in_time(wait):
                return
            if wait > 0:
                await self.runtime.sleep(wait)


def _positive(who: str, name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{who}: {name} must be a positive finite number, got {value:g}")
