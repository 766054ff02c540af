"""Every fault of a server, through every backend and policy that stands before it, held against the table of guarantees."""

from __future__ import annotations

import asyncio
import gc
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path

import pytest
from guarantees import cells
from outage import play
from stores import PATIENCE, STORES, OnDemand, Store

FAULTS = ("freeze", "partition", "reset", "read_only", "full", "kill")
NIGHTLY = [("postgres", fault) for fault in ("partition", "reset", "read_only", "full")]


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, Store]]:
    with ExitStack() as stack:
        yield OnDemand(lambda name: stack.enter_context(STORES[name]()))


def every_fault() -> list[object]:
    every = product(STORES, FAULTS)
    return [pytest.param(*each, marks=[pytest.mark.nightly] if each in NIGHTLY else []) for each in every]


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), every_fault())
async def test_every_cell_keeps_to_the_table(stores: dict[str, Store], name: str, fault: str) -> None:
    store = stores[name]
    try:
        await hold_against_the_table(store, fault)
    finally:
        if store.fault:
            await asyncio.to_thread(store.mend)


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.parametrize("name", ["redis", pytest.param("postgres", marks=pytest.mark.nightly)])
async def test_a_failover_keeps_to_the_table(name: str) -> None:
    with STORES[name](replica=True) as store:
        await hold_against_the_table(store, "failover")


async def hold_against_the_table(store: Store, fault: str) -> None:
    expected = cells(fault, store.name)
    descriptors, connections = descriptor_count(), store.connections()
    measured = await play(store, fault, [cell.policy for cell in expected], uuid.uuid4().hex[:8])
    deviations = [each for cell, found in zip(expected, measured, strict=True) for each in cell.deviations(found)]
    assert not deviations, "\n".join(deviations)
    await nothing_is_left(store, descriptors, connections)


async def nothing_is_left(store: Store, descriptors: int, connections: int) -> None:
    """Wait until no task, no connection and no file descriptor of the subjects is left."""

    def left() -> list[str]:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        found = [f"task {task.get_name()} {task.get_coro()}" for task in tasks]
        if (more := store.connections() - connections) > 0:
            found.append(f"{more} connections to the server")
        if (more := descriptor_count() - descriptors) > 0:
            found.append(f"{more} file descriptors")
        return found

    deadline = time.monotonic() + PATIENCE
    while found := left():  # closing happens behind the callers' backs, and servers notice it a moment later
        assert time.monotonic() < deadline, "\n".join(found)
        await asyncio.sleep(0.05)


def descriptor_count() -> int:
    """The open file descriptors of this process that something still refers to."""
    gc.collect()
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))
