"""`Runtime`: what drives async code. The verbs that storages, clients and background tasks are written against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, Protocol, TypeVar

__all__ = ["Future", "Runtime", "Task"]

T = TypeVar("T")


class Future(Protocol[T]):
    """A value that is yet to come; several may await it."""

    def set_result(self, value: T) -> None: ...
    def set_exception(self, error: BaseException) -> None: ...
    def done(self) -> bool: ...
    def __await__(self) -> Generator[Any, Any, T]: ...


class Task(Protocol):
    """A spawned coroutine; awaiting it gives its result or raises its error."""

    def cancel(self) -> object: ...
    def done(self) -> bool: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...


class Runtime(ABC):
    """Time, sleep, spawn, timeout and futures. `realtime` tells whether its clock is the world's."""

    realtime: bool

    @abstractmethod
    def time(self) -> float:
        """Now, in seconds since the epoch."""

    @abstractmethod
    def sleep(self, seconds: float) -> Awaitable[None]:
        """Wait; at once when seconds <= 0."""

    @abstractmethod
    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Task:
        """Run a coroutine beside the caller."""

    @abstractmethod
    async def timeout(self, awaitable: Awaitable[T], seconds: float) -> T:
        """What is awaited gives; TimeoutError, and it is cancelled, when it takes longer."""

    @abstractmethod
    def future(self) -> Future[Any]:
        """A new future of this runtime."""
