"""`ServerStorage`: a `RemoteStorage` on a real server, whose connections belong to one process and one event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar

from ratesim.errors import StorageConnectionError
from ratesim.limit import Decision, Limits
from ratesim.runtime import Binding, Mutex, Runtime, keep_alive
from ratesim.storage.config import ClientConfig
from ratesim.storage.remote.client import Client
from ratesim.storage.remote.operations import Driver
from ratesim.storage.remote.storage import RemoteStorage

__all__ = ["ServerDriver", "ServerStorage"]


class ServerDriver(Driver, Protocol):
    """A driver with connections."""

    def abandon(self) -> None:
        """Let the connections go at once, without a message to the server: they belong to another process or loop."""


D = TypeVar("D", bound=ServerDriver)


class ServerStorage(RemoteStorage, Generic[D]):
    """Makes its client and its connections anew in the child of a fork, and on another loop when the former one has stopped.

    A storage that is used from a second loop while the first one runs raises a StorageError. One that was closed can be
    opened again.

    Parameters
    ----------
    make_driver
        Returns a driver that has no connection yet.
    config
        The options of the client.
    runtime
        Time and tasks.

    Attributes
    ----------
    driver
        The driver with the connections of this process and loop.
    """

    def __init__(self, make_driver: Callable[[], D], config: ClientConfig, runtime: Runtime) -> None:
        self._make_driver = make_driver
        self.driver = make_driver()
        super().__init__(Client(self.driver, runtime, config), runtime)
        self._binding = Binding(self._move)
        self._turn = Mutex(runtime)  # of opening and closing, one after the other

    def _move(self, forked: bool) -> None:
        self._turn = Mutex(self.runtime)
        self._renew(forked)

    def _renew(self, forked: bool = False) -> None:
        self.driver.abandon()
        if forked:
            keep_alive((self.driver, self.client))
        self.driver = self._make_driver()
        self.client = self.client.successor(self.driver, forked)

    def _bound(self) -> Client:
        self._binding.enter()
        if self._closed:
            raise StorageConnectionError("the storage is closed: open it again", sent=False)
        return self.client

    async def acquire(
        self,
        identifier: str,
        limit: Limits,
        cost: float = 1.0,
        now: float | None = None,
        session: str | None = None,
    ) -> Decision:
        """Acquire at the server, on the loop that awaits this."""
        operation = self._acquire(identifier, limit, cost, now, True)
        decision: Decision = await self._bound().submit(operation)
        return decision

    async def open(self) -> Self:
        """Make a storage that was closed usable again; connections are opened on first use."""
        self._binding.enter()
        async with self._turn:
            if self._closed:
                self._renew()
                self._closed = False
            await self._open()
        return self

    async def _open(self) -> None:
        """Prepare the server."""

    async def close(self) -> None:
        """Let operations that are under way finish, and close the connections."""
        self._binding.enter()
        async with self._turn:
            await self._close()

    async def _close(self) -> None:
        await super().close()
