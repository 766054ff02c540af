"""`Timer`: calls a function when the clock reaches a time, to some microseconds, on an asyncio loop.

A timer of asyncio fires up to a millisecond late, because epoll waits whole milliseconds. That is longer than a fast server
takes. On Linux a timerfd wakes the loop instead: its time is absolute, and the kernel's own timers keep it. Elsewhere, and
where no timerfd can be made, the loop's timer is the best there is.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import math
import os
import struct
import sys
import time
from collections.abc import Callable
from time import perf_counter

__all__ = ["Timer"]

ABSOLUTE = 1  # TFD_TIMER_ABSTIME of <sys/timerfd.h>


class Timer:
    """Calls a function on the running loop once after each `arm`, never before the time.

    Parameters
    ----------
    callback
        What is called.

    Attributes
    ----------
    descriptor
        The timerfd, or None where the loop's own timer is used.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._at = math.inf
        self._handle: asyncio.TimerHandle | None = None
        self.descriptor = _open_timerfd()
        if self.descriptor is not None:
            self._loop.add_reader(self.descriptor, self._on_readable)

    def arm(self, at: float) -> None:
        """Call at a time of `perf_counter`, in seconds, in place of the time before. One that is over is now."""
        self._at = at
        if self.descriptor is not None:
            seconds, nanoseconds = divmod(math.ceil(at * 1e9), 10**9)
            value = struct.pack("4l", 0, 0, seconds, nanoseconds)  # itimerspec: no interval, and the time
            if _libc().timerfd_settime(self.descriptor, ABSOLUTE, value, None):
                raise OSError(ctypes.get_errno(), "timerfd_settime failed")
            return
        if self._handle is not None:
            self._handle.cancel()
        self._handle = self._loop.call_at(self._loop.time() + at - perf_counter(), self._expire)

    def close(self) -> None:
        """Call nothing any more."""
        if self._handle is not None:
            self._handle.cancel()
        if self.descriptor is not None:
            self._loop.remove_reader(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = None

    def _on_readable(self) -> None:
        assert self.descriptor is not None
        try:
            os.read(self.descriptor, 8)
        except BlockingIOError:  # it was armed again since the loop saw it
            return
        self._expire()

    def _expire(self) -> None:
        if perf_counter() < self._at:  # a loop fires early by the resolution of its clock
            self.arm(self._at)
        else:
            self._at = math.inf
            self._callback()


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _open_timerfd() -> int | None:
    """Open a timer of CLOCK_MONOTONIC, which `perf_counter` and the time of asyncio's loops are on Linux."""
    if sys.platform != "linux" or "CLOCK_MONOTONIC" not in time.get_clock_info("perf_counter").implementation:
        return None
    try:
        descriptor = int(_libc().timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
    except AttributeError:  # a C library without it
        return None
    return descriptor if descriptor >= 0 else None
