"""`Binding`: the process and the event loop to which the connections, tasks and futures of a storage belong.

Sockets, tasks and futures work in one process and on one event loop. Their owner binds them at first use. On another loop,
once the former one has stopped, and in the child of a fork, the owner makes them anew. While the former loop runs, in
another thread, use is refused.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
from asyncio import _get_running_loop
from collections.abc import Callable, Iterable
from typing import Protocol
from weakref import WeakSet

from ratesim.errors import StorageError

__all__ = ["Binding", "ForkObserver", "abandon_descriptors", "keep_alive", "observe_forks"]


class ForkObserver(Protocol):
    """An object that is told of forks."""

    def before_fork(self) -> None:
        """Prepare for a fork, in the thread that forks."""

    def after_fork(self, in_child: bool) -> None:
        """Go on after a fork, in the parent or in the child. It must not raise."""


class Binding:
    """The event loop to which an owner's tasks and connections belong, in this process.

    Parameters
    ----------
    renew
        Makes everything anew that belongs to a loop or a process. It is called with True in the child of a fork, where
        connections and identity are still the parent's, and with False when the former loop has stopped.
    forks
        Whether to look out for forks.

    Attributes
    ----------
    thread
        The identifier of the thread that ran the loop when it was bound; 0 while none is bound.
    loop
        The loop, where one is bound.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, renew: Callable[[bool], None], forks: bool = True) -> None:
        self.thread = 0
        self._renew = renew
        self._lock = threading.Lock()
        if forks:
            observe_forks(self)

    def enter(self) -> None:
        """Bind to the running loop. Outside of any loop nothing happens.

        Raises
        ------
        StorageError
            The former loop still runs, in another thread.
        """
        loop = _get_running_loop()
        if loop is not None and not (self.thread and loop is self.loop):
            self._move(loop)

    def _move(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if self.thread:
                if self.loop.is_running():
                    raise StorageError(
                        "the storage belongs to another event loop, which still runs; open one for each loop, "
                        "or use ratesim.storage.sync, which any thread may call"
                    )
                self._renew(False)
            self.loop, self.thread = loop, threading.get_ident()

    def leave(self) -> None:
        """Be bound to no loop."""
        self.thread = 0

    def before_fork(self) -> None:
        """Do nothing: whatever is under way stays the parent's."""

    def after_fork(self, in_child: bool) -> None:
        """Make everything anew in the child."""
        if in_child:
            self._lock = threading.Lock()
            self.leave()
            self._renew(True)


def abandon_descriptors(descriptors: Iterable[int]) -> None:
    """Point descriptors at the null device, so that nothing is sent on what they were open to.

    The objects that own them may still close them, or write what they like. In the child of a fork this leaves the parent's
    connections as they are: no farewell of a protocol or of TLS is sent, and no registration in the parent's epoll is
    removed.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        for descriptor in descriptors:
            if descriptor >= 0:
                os.dup2(null, descriptor, inheritable=False)
    finally:
        os.close(null)


def keep_alive(inherited: object) -> None:
    """Keep an object of the parent process from being finalized in this one, also when this one ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


# -- forks ----------------------------------------------------------------------------------------------------------------

_observers: WeakSet[ForkObserver] = WeakSet()
_forking = threading.Lock()
_told: list[ForkObserver] = []


def observe_forks(observer: ForkObserver) -> None:
    """Tell an object of forks, as long as it lives."""
    _observers.add(observer)


def _before_fork() -> None:
    _forking.acquire()
    _told[:] = list(_observers)
    for observer in _told:
        observer.before_fork()


def _after_fork(in_child: bool) -> None:
    told = _told.copy()
    _told.clear()
    _forking.release()
    for observer in told:
        observer.after_fork(in_child)


if hasattr(os, "register_at_fork"):  # a system that cannot fork has none
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(False),
        after_in_child=lambda: _after_fork(True),
    )
