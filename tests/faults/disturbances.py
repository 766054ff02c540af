"""Faults of callers, keys and nodes' clocks: each is a coroutine that disturbs one subject until it is canceled."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator

from stores import Store
from subjects import PAUSE, PERIOD, PLENTY, Answer, Subject

from ratesim.errors import StorageError

FAR = 3 * PERIOD  # seconds by which a clock is wrong: windows, not a moment


async def cancel_callers(subject: Subject, plenty: str = "plenty") -> None:
    """Cancel callers at random moments of their requests."""
    rng = random.Random(subject.tag)

    async def ask(node: int) -> None:
        try:
            subject.answers.append((await subject.ask(node, plenty, PLENTY, None))[0])
        except asyncio.CancelledError:
            subject.canceled += 1
            raise

    while True:
        async with asyncio.TaskGroup() as group:  # its tasks end with this one
            tasks = [group.create_task(ask(node)) for node in range(len(subject.nodes)) for _ in range(4)]
            await asyncio.sleep(rng.choice((0.0, rng.random() * 0.01)))
            for task in tasks:
                if rng.random() < 0.75:
                    task.cancel()
        await asyncio.sleep(PAUSE)


def refused_keys(store: Store) -> Iterator[str]:
    """Identifiers that the store refuses for good."""
    yield "half a surrogate \ud800"
    if store.name == "postgres":
        yield "NUL \0"
        yield "long " + "x" * 3000
    else:
        yield store.foreign_key()


async def ask_refused_keys(subject: Subject, keys: list[str]) -> None:
    """Send the refused identifiers between the others."""
    while True:
        for node, storage in enumerate(subject.nodes):
            for key in keys:
                begin = time.monotonic()
                try:
                    allowed = (await storage.acquire(key, PLENTY)).allowed
                    error = ""
                except StorageError as raised:
                    allowed, error = False, type(raised).__name__
                subject.answers.append(Answer(begin, time.monotonic(), node, "refused", allowed, error))
        await asyncio.sleep(PAUSE)


async def move_clock(subject: Subject, seconds: float) -> None:
    """Set the clock of one node wrong for some of its requests, and then right."""
    subject.clocks[len(subject.nodes) - 1] = seconds
    try:
        await asyncio.sleep(10 * PAUSE)
    finally:
        subject.clocks[len(subject.nodes) - 1] = 0.0
        subject.right_at = time.monotonic()
    await asyncio.Event().wait()
