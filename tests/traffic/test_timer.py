"""Timer: by a timerfd and by the loop's own timer, never early, once, and closed for good."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from time import perf_counter
from types import SimpleNamespace

import pytest

from traffic import timer as module
from traffic.timer import Timer

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="a timerfd is Linux's")


class Fired:
    """The times at which a timer called."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.event = asyncio.Event()

    def __call__(self) -> None:
        self.at.append(perf_counter())
        self.event.set()


@pytest.fixture(params=["timerfd", "loop"])
async def fired(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fired:
    if request.param == "loop":
        monkeypatch.setattr(module, "_open_timerfd", lambda: None)
    return Fired()


async def test_it_calls_once_and_not_before_the_time(fired: Fired) -> None:
    timer = Timer(fired)
    at = perf_counter() + 0.01
    timer.arm(at)
    await fired.event.wait()
    await asyncio.sleep(0.005)
    assert len(fired.at) == 1
    assert fired.at[0] >= at
    timer.close()


async def test_a_time_that_is_over_is_now_and_a_new_time_replaces_the_old_one(fired: Fired) -> None:
    timer = Timer(fired)
    timer.arm(perf_counter() + 3600.0)
    timer.arm(perf_counter() - 1.0)
    await fired.event.wait()
    timer.arm(perf_counter() - 1.0)
    timer.arm(perf_counter() + 3600.0)
    await asyncio.sleep(0.005)
    assert len(fired.at) == 1
    timer.close()


async def test_a_closed_timer_calls_nothing(fired: Fired) -> None:
    timer = Timer(fired)
    timer.arm(perf_counter() - 1.0)
    timer.close()
    await asyncio.sleep(0.005)
    assert fired.at == []


async def test_a_loop_that_is_early_is_asked_again(fired: Fired) -> None:
    timer = Timer(fired)
    at = perf_counter() + 0.01
    timer.arm(at)
    timer._expire()
    assert fired.at == []
    await fired.event.wait()
    assert fired.at[0] >= at
    timer.close()


@on_linux
async def test_on_linux_it_is_a_timerfd_on_the_clock_of_perf_counter() -> None:
    before, read, after = time.clock_gettime(time.CLOCK_MONOTONIC), perf_counter(), time.monotonic()
    assert before <= read <= after  # one clock, which the loop has as well
    timer = Timer(lambda: None)
    descriptor = timer.descriptor
    assert descriptor is not None
    assert "timerfd" in os.readlink(f"/proc/self/fd/{descriptor}")
    timer.close()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)


@on_linux
async def test_a_timer_that_was_armed_again_since_the_loop_saw_it_waits() -> None:
    fired = Fired()
    timer = Timer(fired)
    timer.arm(perf_counter() + 3600.0)
    timer._on_readable()
    assert fired.at == []
    timer.close()


@pytest.fixture(params=["a C library without it", "no descriptor left", "another clock", "another system"])
def without_timerfd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    match request.param:
        case "a C library without it":
            monkeypatch.setattr(module, "_libc", SimpleNamespace)
        case "no descriptor left":
            monkeypatch.setattr(module, "_libc", lambda: SimpleNamespace(timerfd_create=lambda clock, flags: -1))
        case "another clock":
            clock = SimpleNamespace(implementation="mach_absolute_time()")
            monkeypatch.setattr(module, "time", SimpleNamespace(get_clock_info=lambda name: clock))
        case "another system":
            monkeypatch.setattr(module, "sys", SimpleNamespace(platform="darwin"))


@pytest.mark.usefixtures("without_timerfd")
async def test_without_a_timerfd_the_loop_keeps_the_time() -> None:
    fired = Fired()
    timer = Timer(fired)
    assert timer.descriptor is None
    timer.arm(perf_counter())
    await fired.event.wait()
    timer.close()


@on_linux
async def test_a_time_that_the_kernel_refuses_is_an_error() -> None:
    timer = Timer(lambda: None)
    with pytest.raises(OSError, match="timerfd_settime failed"):
        timer.arm(-5.0)
    timer.close()
