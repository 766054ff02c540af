"""Every fault of a server, through every backend and policy that stands before it, held against the table of guarantees."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product

import pytest
from examples import sample
from guarantees import hold_against_the_table
from stores import STORES, OnDemand, Store, standby_store

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
@pytest.mark.parametrize("name", sample(["redis", "postgres", "standby"], ["redis"]))
async def test_a_failover_keeps_to_the_table(name: str) -> None:
    with (standby_store if name == "standby" else STORES[name])(replica=True) as store:
        await hold_against_the_table(store, "failover")
