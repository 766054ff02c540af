"""`Runtime`: the verbs with which storages, clients and background tasks are written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, Protocol, TypeVar

__all__ = ["Future", "Runtime", "Task"]

T = TypeVar("T")


class Future(Protocol[T]):
    """A value that is set later. One coroutine may await it: canceling that one cancels the future on asyncio."""

    def set_result(self, value: T) -> None:
        """Set the value, once."""

    def set_exception(self, error: BaseException) -> None:
        """Set an error, which is raised where the future is awaited."""

    def cancel(self) -> object:
        """Give the future up; returns whether it was neither set nor given up before."""

    def cancelled(self) -> bool:
        """Return whether it was given up."""

    def done(self) -> bool:
        """Return whether a value or an error was set, or the future was given up."""

    def __await__(self) -> Generator[Any, Any, T]: ...


class Task(Protocol):
    """A spawned coroutine; awaiting it returns its result or raises its error."""

    def cancel(self) -> object:
        """Raise CancelledError where the coroutine waits."""

    def done(self) -> bool:
        """Return whether the coroutine has ended."""

    def __await__(self) -> Generator[Any, Any, Any]: ...


class Runtime(ABC):
    """Clocks, sleep, tasks, timeouts and futures.

    Attributes
    ----------
    realtime
        Whether the clock is that of the real world.
    """

    realtime: bool

    @abstractmethod
    def time(self) -> float:
        """Return the time, seconds since the epoch. It may be set back or forth: `monotonic` measures durations."""

    @abstractmethod
    def monotonic(self) -> float:
        """Return the seconds of a clock that is never set, from a start of its own; for durations and deadlines."""

    @abstractmethod
    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait for some seconds; returns at once when they are <= 0."""

    @abstractmethod
    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Task:
        """Run a coroutine concurrently with the caller."""

    @abstractmethod
    async def timeout(self, awaitable: Awaitable[T], seconds: float) -> T:
        """Await something for some seconds, and for as long as it needs to end when it is canceled then.

        Returns
        -------
        T
            The result of the awaitable.

        Raises
        ------
        TimeoutError
            It takes longer; it is canceled then.
        """

    @abstractmethod
    async def abandon_after(self, awaitable: Awaitable[T], seconds: float) -> T:
        """Await something for some seconds at most, also if it does not end when it is canceled.

        For code of others, such as a driver. It is left behind when it has not ended a moment after it was canceled, by the
        deadline or with its caller. On asyncio it runs as a task of its own.

        Returns
        -------
        T
            The result of the awaitable.

        Raises
        ------
        TimeoutError
            It takes longer; it is canceled then.
        """

    def raise_if_canceled(self) -> None:  # noqa: B027 - where no cancellation can be lost there is nothing to do
        """Raise the cancellation of the task that runs, if something that it awaited has taken no notice of it."""

    @abstractmethod
    def future(self) -> Future[Any]:
        """Return a new future of this runtime."""
