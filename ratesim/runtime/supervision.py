"""`Supervisor`: keeps background tasks going when a round of one fails, and shows the failure until a round succeeds."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any

from ratesim.errors import StorageError
from ratesim.runtime.base import Runtime, Task

__all__ = ["Supervisor", "TaskStatus"]

BACKOFF_CAP = 60.0  # seconds that repeated failures may make an interval at most, unless it is longer itself
LOG_INTERVAL = 60.0  # seconds between two log records of one kind of failure of one task
ONE_OFF_SHOWN = 10.0  # seconds that the failure of a task that nothing repeats counts as present
OPERATIONAL = (StorageError, OSError)  # failures of a server or a disk, which a simulation may bring about on purpose


@dataclass(slots=True)
class TaskStatus:
    """The failures of one background task.

    Attributes
    ----------
    failures
        Failed rounds since the start.
    consecutive
        Failed rounds since the last good one; 0 after a good one.
    error
        The last failure: class and message.
    failed_at
        Time of the last failure, seconds since the epoch.
    shown_until
        Monotonic time until which it counts as present unless a round succeeds.
    logged
        Monotonic time of the last log record of each kind of failure.
    announced
        Whether a failure since the last good round was logged.
    """

    failures: int = 0
    consecutive: int = 0
    error: str = ""
    failed_at: float = -inf
    shown_until: float = -inf
    logged: dict[str, float] = field(default_factory=dict)
    announced: bool = False


class Supervisor:
    """Runs the background tasks of one component.

    An exception ends the round that raised it and not the task. It is logged, counted and kept until a round of that
    task succeeds. Canceling ends a task. In simulated time only failures of servers and disks (`OPERATIONAL`) are treated
    so, and logged at DEBUG, because a scenario brings them about: any other exception is a defect and ends the simulation.
    Supervision draws no random number and, unless a round of `every` fails, waits for nothing.

    Parameters
    ----------
    runtime
        The runtime on which the tasks run.
    logger
        The logger of the component's package.
    *tasks
        The names of the tasks.

    Attributes
    ----------
    tasks
        The status of each task by its name.
    """

    def __init__(self, runtime: Runtime, logger: logging.Logger, *tasks: str) -> None:
        self.tasks = {name: TaskStatus() for name in tasks}
        self._runtime = runtime
        self._logger = logger

    @property
    def failures(self) -> int:
        """Failed rounds of all tasks since the start."""
        return sum(status.failures for status in self.tasks.values())

    @property
    def problems(self) -> str:
        """The tasks whose last round failed, with the error and its time; "" while there is none."""
        now = self._runtime.monotonic()
        return "; ".join(
            f"{name} failed {status.consecutive} times in a row, last at "
            f"{datetime.fromtimestamp(status.failed_at, UTC):%Y-%m-%dT%H:%M:%SZ} ({status.error})"
            for name, status in self.tasks.items()
            if status.consecutive and now < status.shown_until
        )

    def start(self, name: str, work: Callable[..., Awaitable[object]], *arguments: Any) -> Task:
        """Spawn a task of one round. Its failure counts as present for `ONE_OFF_SHOWN` seconds, as nothing repeats it."""
        return self._runtime.spawn(self.attempt(name, work, *arguments, shown=ONE_OFF_SHOWN))

    async def every(self, interval: float, name: str, work: Callable[[], Awaitable[object]]) -> None:
        """Run a round every `interval` seconds until canceled.

        The interval doubles with each further consecutive failure, up to `BACKOFF_CAP`.
        """
        wait = interval
        while True:
            await self._runtime.sleep(wait)
            wait = interval if await self.attempt(name, work) else self._backoff(name, interval)

    def _backoff(self, name: str, interval: float) -> float:
        return min(interval * 2.0 ** min(self.tasks[name].consecutive - 1, 16), max(interval, BACKOFF_CAP))

    async def attempt(self, name: str, work: Callable[..., Awaitable[object]], *arguments: Any, shown: float = inf) -> bool:
        """Run one round of a task.

        Parameters
        ----------
        name
            The name of the task, in log records, health and metrics.
        work
            The round; called with `arguments`.
        shown
            Seconds that a failure counts as present; inf where another round is sure to follow.

        Returns
        -------
        bool
            Whether the round succeeded.
        """
        try:
            await work(*arguments)
        except Exception as error:
            self._runtime.raise_if_canceled()
            if not self._runtime.realtime and not isinstance(error, OPERATIONAL):
                raise
            self._failed(name, error, shown)
            return False
        self._runtime.raise_if_canceled()
        self.succeeded(name)
        return True

    def succeeded(self, name: str) -> None:
        """Note a good round, or that the task has nothing left to do."""
        status = self.tasks[name]
        if status.consecutive:
            if status.announced:
                self._log(logging.INFO, "%s works again after %d failed rounds", name, status.consecutive)
            status.consecutive, status.announced = 0, False

    def _failed(self, name: str, error: Exception, shown: float) -> None:
        status = self.tasks[name]
        now, kind = self._runtime.monotonic(), type(error).__name__
        status.failures += 1
        status.consecutive += 1
        status.error, status.failed_at, status.shown_until = f"{kind}: {error}", self._runtime.time(), now + shown
        if now - status.logged.get(kind, -inf) >= LOG_INTERVAL:
            status.logged[kind], status.announced = now, True
            self._log(logging.ERROR, "%s failed and goes on (failure %d)", name, status.failures, error=error)

    def _log(self, level: int, message: str, *arguments: object, error: Exception | None = None) -> None:
        self._logger.log(level if self._runtime.realtime else logging.DEBUG, message, *arguments, exc_info=error)
