"""Every fault of a server, through every backend and policy that stands before it, held against the table of guarantees."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from guarantees import cells
from outage import play
from stores import PATIENCE, STORES, Store

FAULTS = ("kill", "freeze", "partition", "reset", "read_only", "full", "failover")


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with STORES[request.param](replica="failover" in request.node.name) as store:
        yield store


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
async def test_every_cell_keeps_to_the_table(store: Store, fault: str) -> None:
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
    """The open file descriptors of this process."""
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))
