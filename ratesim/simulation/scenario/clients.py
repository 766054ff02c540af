"""`ClientsSpec`: the table of a scenario that describes how clients react to their answers."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
import simpy
from pydantic import Field, model_validator

from ratesim.runtime import SimRuntime
from ratesim.simulation.scenario.fields import Seconds, StrictModel
from traffic import ClosedLoopClients, Constant, Exponential, ExponentialBackoff, ImmediateRetry, RespectRetryAfter, Trace

__all__ = ["ClientsSpec", "unlimited_demand"]


class ClientsSpec(StrictModel):
    """Clients that react to their answers. Without this table requests come at their times, whatever became of others.

    Users of a closed loop share the workload's `keys` where those are fewer, and ask for its `duration`.
    """

    users: int | None = Field(default=None, ge=1, le=10_000_000)
    """A closed loop of so many users; each sends, waits for the answer, thinks, and sends again."""
    think: Seconds = 1.0
    """Mean think time, exponential unless `constant`."""
    constant: bool = False
    """Whether think times are all the same."""
    retry: Literal["none", "at_once", "backoff", "retry_after"] = "none"
    """Reaction to a denial: none, at once, after a backoff with jitter, or when the answer said."""
    attempts: int = Field(default=3, ge=2, le=1000)
    """Attempts in all."""

    @model_validator(mode="after")
    def _react(self) -> Self:
        if self.users is None and self.retry == "none":
            raise ValueError("give `users` (a closed loop), or `retry`, or both")
        return self

    def policy(self) -> ImmediateRetry | ExponentialBackoff | RespectRetryAfter | None:
        """Return the retry policy."""
        if self.retry == "at_once":
            return ImmediateRetry(self.attempts)
        if self.retry == "backoff":
            return ExponentialBackoff(max_attempts=self.attempts)
        return RespectRetryAfter(self.attempts) if self.retry == "retry_after" else None

    def loop(self, keys: int, duration: float, cost: float) -> ClosedLoopClients:
        """Return the closed loop of `users`."""
        assert self.users is not None
        think = Constant(self.think) if self.constant else Exponential(self.think)
        tenants = min(keys, self.users)
        return ClosedLoopClients(self.users, think, duration, cost=cost, tenants=tenants, retry=self.policy())


def unlimited_demand(clients: ClosedLoopClients, rng: np.random.Generator, epoch: float) -> Trace:
    """Return the requests that clients would send if every answer came at once and was yes.

    It is the demand that a limit meets.
    """

    class Yes:
        allowed, retry_after = True, 0.0

    async def ask(key: int, cost: float, session: int, attempt: int) -> Yes:
        return Yes()

    env = simpy.Environment()
    asked = clients.start(SimRuntime(env, epoch), ask, rng)
    env.run()
    return asked.trace()
