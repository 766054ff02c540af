"""`play`: subjects through one fault of their server; `Measured`: what one of them made of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import stat
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from stores import PATIENCE, Store
from subjects import PAUSE, PLENTY, POLL, SCARCE, TIMES, Lag, Policy, Subject

# A fault is held for long enough that breakers open, views grow old and leases end.
HOLD = TIMES["l1_ttl"] + TIMES["max_wait"] + TIMES["command_timeout"]
WAL_WRITER_DELAY = 0.2  # seconds, PostgreSQL's default
# The age of a view (docs/bounds.md, 9): it is flushed, it is read, and a request waits for either.
AGE = TIMES["sync_interval"] + TIMES["l1_ttl"] + 2 * TIMES["max_wait"]


@dataclass
class Measured:
    """What one subject did in one fault.

    Attributes
    ----------
    letters
        The values of the letters that bounds are given in (guarantees.toml explains each).
    """

    policy: Policy
    errors: Counter[str]
    over: float
    lost: float
    vain: float
    longest: float
    well: float
    lag: float
    letters: dict[str, float]

    def __str__(self) -> str:
        errors = ", ".join(f"{name} {count}" for name, count in sorted(self.errors.items())) or "none"
        letters = ", ".join(f"{name} {value:g}" for name, value in self.letters.items() if name.isupper())
        return (
            f"{self.policy!s:22} over {self.over:4.0f} lost {self.lost:4.0f} vain {self.vain:4.0f} "
            f"longest {self.longest:5.2f} s well {self.well:5.2f} s, {errors}; {letters}"
        )


async def play(
    store: Store,
    fault: str,
    policies: Sequence[Policy],
    tag: str,
    disturb: Callable[[Subject], Awaitable[None]] | None = None,
) -> list[Measured]:
    """Ask every subject at once before, while and after the server has the fault.

    Parameters
    ----------
    disturb
        The fault, where it is one of callers or nodes instead of the server; canceled at the end of the fault.
    """
    url, lag = store.url_for(fault), Lag()
    subjects = [Subject.open(policy, url, tag) for policy in policies]
    lag_task = asyncio.create_task(lag.run())
    callers: list[asyncio.Future[None]] = []
    disturbances: list[asyncio.Future[None]] = []
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(subject.recover() for subject in subjects))  # connected, scripts and functions made
        callers += [asyncio.ensure_future(caller) for subject in subjects for caller in subject.callers()]
        await _until(
            lambda: all(subject.progressed(0.0, 5, sound=True) for subject in subjects), callers, "the first answers"
        )
        begin = time.monotonic()
        lag.most = 0.0
        if disturb is None:
            await asyncio.to_thread(store.inject, fault)
        else:
            disturbances = [asyncio.ensure_future(disturb(subject)) for subject in subjects]
            callers += disturbances
        held = time.monotonic()
        await _until(
            lambda: time.monotonic() > held + HOLD and all(subject.progressed(held, 2) for subject in subjects),
            callers,
            "answers while the server is away",
        )
        await asyncio.to_thread(store.mend)
        await _end(disturbances)
        callers = callers[: len(callers) - len(disturbances)]
        mended = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(subject.recover() for subject in subjects))
        recovered = time.monotonic()
        await _until(
            lambda: all(subject.progressed(recovered, 3, sound=True) for subject in subjects), callers, "answers afterwards"
        )
        for subject in subjects:
            subject.ended = True
        await _until(lambda: all(caller.done() for caller in callers), callers, "the ends of the callers")
    finally:
        await _end([*callers, lag_task])
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(subject.close() for subject in subjects))
    return [await measured(subject, store, fault, begin, mended, lag.most) for subject in subjects]


async def _until(ready: Callable[[], bool], callers: Sequence[asyncio.Future[None]], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        for caller in callers:
            assert not caller.cancelled(), "a caller was canceled that nobody has canceled"
            if caller.done():
                caller.result()  # raises what ended it
        assert time.monotonic() < deadline, f"{what} have not come in {PATIENCE:.0f} s"
        await asyncio.sleep(POLL)


async def _end(tasks: Sequence[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def measured(
    subject: Subject, store: Store, fault: str, begin: float, mended: float, lag: float, number: str = ""
) -> Measured:
    """What a subject did with its two keys of a number, from what its callers saw and what the store counts in the end."""
    scarce, plenty = f"scarce{number}", f"plenty{number}"
    well = max(subject.well_at.values())
    counted = await subject.counted(plenty, PLENTY, store.url_for(fault))
    since = begin - PAUSE - lag if fault in ("failover", "freeze") else 0.0  # what the replica has not got
    until = max(begin + TIMES["max_wait"], subject.right_at + AGE) + lag
    lost = subject.admitted(plenty) - counted
    letters = {
        "R": SCARCE.rate,
        "N": len(subject.nodes),
        "D": subject.requested(scarce, begin, well + TIMES["l1_ttl"]),
        "V": max(subject.admitted(key, begin - 3 * WAL_WRITER_DELAY - lag, until) for key in (scarce, plenty)),
        "U": subject.unknown,
        "C": subject.canceled,
        "X": subject.changes(scarce, begin, subject.right_at),
        "S": subject.largest,
        "F": len(subject.nodes) * subject.largest if subject.policy.consistency == "lease" else 0,
        "A": subject.unseen(scarce, AGE + 2 * lag),
        "L": max(subject.admitted(key, since, until) for key in (scarce, plenty)),
    }
    return Measured(
        subject.policy,
        subject.errors(begin),
        max(0, subject.admitted(scarce) - SCARCE.rate),
        max(0, lost),
        max(0, -lost),
        subject.longest(begin),
        max(0.0, well - mended),
        lag,
        letters | TIMES,
    )


async def nothing_is_left(store: Store, descriptors: int, connections: int) -> None:
    """Wait until no task, no connection and no file descriptor of the subjects is left."""

    def left() -> list[str]:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        found = [f"task {task.get_name()} {task.get_coro()}" for task in tasks]
        if (more := store.connections() - connections) > 0:
            found.append(f"{more} connections to the server")
        if (more := descriptor_count() - descriptors) > 0:
            found.append(f"{more} file descriptors, of {', '.join(open_descriptors())}")
        return found

    deadline = time.monotonic() + PATIENCE
    while found := left():  # closing happens behind the callers' backs, and servers notice it a moment later
        assert time.monotonic() < deadline, "\n".join(found)
        await asyncio.sleep(0.05)


def descriptor_count() -> int:
    """The open file descriptors of this process that something still refers to."""
    gc.collect()
    return len(open_descriptors())


def open_descriptors() -> list[str]:
    """What each open file descriptor of this process leads to; of a socket both ends."""
    found = []
    for number in sorted(map(int, os.listdir("/proc/self/fd"))):
        with contextlib.suppress(OSError):  # the one that lists them, or closed meanwhile by another thread
            found.append(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                with socket.socket(fileno=os.dup(number)) as twin:
                    found[-1] += f" {twin.getsockname()}-{twin.getpeername()}"
    return found
