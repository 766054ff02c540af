"""Clients that react to their answers: closed-loop users, and clients that retry after a denial.

All are `ReactiveClients`. They get a `Runtime` (simulated or real), a function to call (`ask`) and a generator for their
draws. They return the log of their requests, which fills while they run:

    log = ClosedLoopClients(users=50, think=Exponential(2.0), duration=60.0).start(runtime, ask, rng)
    env.run()                   # or whatever runs the runtime
    trace = log.trace()         # every attempt is a request of its own

`ask(key, cost, session, attempt)` is awaited for every attempt. Its answer has `allowed` and `retry_after`, as the decision
of a rate limiter has. Call number n of it (from 0) is row n of the log, so that an `ask` that counts its calls and keeps its
answers can have them scored against the trace. `ask` must turn a failure, such as a server that is down, into an answer. An
exception ends the client, and the runtime reports it.

Draws belong to the user or the request and to the attempt, not to the order of events. So candidates that are compared with
the same seed meet the same clients.
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
    """The answer to one attempt."""

    @property
    def allowed(self) -> bool:
        """Whether the request was admitted."""

    @property
    def retry_after(self) -> float:
        """Seconds until a retry may succeed, inf for never; read only after a denial."""


class SendFn(Protocol):
    """Sends a request of `cost` for a key, an index into the clients' `keys`; attempts count from 1."""

    def __call__(self, key: int, cost: float, session: int, attempt: int, /) -> Awaitable[Response]:
        """Send one attempt, and wait for its answer."""


class ReactiveClients(Protocol):
    """All clients of one run, which react to their answers."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of all keys that may occur."""

    def start(self, runtime: Runtime, ask: SendFn, rng: np.random.Generator) -> RequestLog:
        """Spawn the clients, and return the log of their requests at once; `rng` is used only here."""


class Think(Protocol):
    """A distribution of the time between an answer and the user's next request."""

    def seconds(self, uniform: float) -> float:
        """Map a uniform number in (0, 1) to a think time in seconds."""

    def first(self, uniform: float) -> float:
        """Map a uniform number in (0, 1) to the rest of the think time of a user observed at a random moment, in seconds."""


@dataclass(frozen=True, slots=True)
class Exponential:
    """Exponential think times with this mean in seconds, which have no memory."""

    mean: float

    def __post_init__(self) -> None:
        _positive("Exponential", "mean", self.mean)

    def seconds(self, uniform: float) -> float:
        """Invert the exponential distribution."""
        return -self.mean * math.log(uniform)

    def first(self, uniform: float) -> float:
        """Equal `seconds`, because the distribution has no memory."""
        return self.seconds(uniform)  # it has no memory


@dataclass(frozen=True, slots=True)
class Constant:
    """Think times of exactly so many seconds: pollers, which begin out of step."""

    think: float

    def __post_init__(self) -> None:
        _positive("Constant", "think", self.think)

    def seconds(self, uniform: float) -> float:
        """Return the think time."""
        return self.think

    def first(self, uniform: float) -> float:
        """Spread the first requests over one think time."""
        return self.think * uniform


@dataclass(frozen=True, slots=True)
class ClosedLoopClients:
    """Users that send, wait for the answer, think, and send again: a load that a slow server slows down.

    A denial is an answer, too; with a `retry` policy it is retried first. Nothing is sent after the end. Each user is a
    session and, unless there are fewer `tenants`, a key; user u belongs to tenant u modulo `tenants`. All users begin in
    thought. N users that think for Z seconds and are answered in R, both in the mean, send N / (R + Z) requests/s (the
    interactive response time law: Lazowska et al., Quantitative System Performance, 1984, section 3.5).

    Attributes
    ----------
    users : int
        Number of users.
    think : Think
        The distribution of think times.
    duration : float
        Seconds.
    cost : float
        Cost of each request.
    tenants : int or None
        Number of keys; None for as many as users.
    retry : Retry or None
        Policy after a denial; None to think at once.
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
        """The names of the tenants."""
        return Uniform(self.tenants or self.users).names()

    def start(self, runtime: Runtime, ask: SendFn, rng: np.random.Generator) -> RequestLog:
        """Spawn one task for each user."""
        keys = self.keys
        asked = RequestLog(keys, Provenance(source=repr(self)))
        asking = _ClientRun(runtime, ask, asked, self.retry, Draws.of(rng), runtime.time() + self.duration)
        requests = count()
        for user in range(self.users):
            runtime.spawn(self._user(user, user % len(keys), asking, requests))
        return asked

    async def _user(self, user: int, key: int, asking: _ClientRun, requests: count[int]) -> None:
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
    """The requests of a trace, each at its time, and again as `retry` says when denied.

    The first attempt at row i is made as in an open loop (`open_loop`). `RequestLog.request` is i for all attempts at row i.

    Attributes
    ----------
    trace : Trace
        The first attempts.
    retry : Retry
        Policy after a denial.
    """

    trace: Trace
    retry: Retry

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the trace."""
        return self.trace.keys

    def start(self, runtime: Runtime, ask: SendFn, rng: np.random.Generator) -> RequestLog:
        """Spawn the open loop of first attempts."""
        trace = self.trace
        asked = RequestLog(trace.keys, trace.provenance.with_note(f"denied requests retried: {self.retry}"))
        asking = _ClientRun(runtime, ask, asked, self.retry, Draws.of(rng))

        async def send(i: int) -> None:
            await asking.until_allowed(int(trace.key[i]), float(trace.cost[i]), int(trace.session[i]), i, (i,))

        runtime.spawn(open_loop(trace, send, runtime))
        return asked


@dataclass(frozen=True, slots=True)
class _ClientRun:
    """Shared by the clients of a run: sends, logs, and retries as the policy says, before the end."""

    runtime: Runtime
    ask: SendFn
    asked: RequestLog
    retry: Retry | None
    draws: Draws
    end: float = math.inf

    def in_time(self, wait: float) -> bool:
        return self.runtime.time() + wait < self.end

    async def until_allowed(self, key: int, cost: float, session: int, request: int, purpose: tuple[int, ...]) -> None:
        """Send, and again while denied; draws belong to `purpose` and the attempt."""
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


def _positive(owner: str, name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{owner}: {name} must be a positive finite number, got {value:g}")
