"""Faults of callers, keys, clocks and a pooler, through every backend and policy, against the table of guarantees."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial

import pytest
from disturbances import FAR, ask_refused_keys, cancel_callers, move_clock, refused_keys
from guarantees import cells
from outage import play
from stores import STORES, Store
from subjects import Subject
from transaction_pooler import TransactionPooler


@pytest.fixture(params=["redis", pytest.param("postgres", marks=pytest.mark.nightly)], scope="module")
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with STORES[request.param]() as store:
        yield store


@pytest.fixture
async def pooled(store: Store) -> AsyncIterator[Store]:
    pooler, url = TransactionPooler(store.url, size=16), store.proxied_url
    store.proxied_url = await pooler.start()
    yield store
    store.proxied_url = url
    await pooler.stop()


Disturb = Callable[[Subject], Awaitable[None]]


async def measured(store: Store, fault: str, disturb: Disturb) -> None:
    expected = cells(fault, store.name)
    found = await play(store, fault, [cell.policy for cell in expected], uuid.uuid4().hex[:8], disturb)
    deviations = [each for cell, one in zip(expected, found, strict=True) for each in cell.deviations(one)]
    assert not deviations, "\n".join(deviations)


@pytest.mark.servers
@pytest.mark.slow
async def test_only_who_is_canceled_is_canceled(store: Store) -> None:
    await measured(store, "cancel", cancel_callers)


@pytest.mark.servers
@pytest.mark.slow
async def test_a_refused_key_harms_no_other(store: Store) -> None:
    await measured(store, "poison", partial(ask_refused_keys, keys=list(refused_keys(store))))


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "seconds"), [("clock_ahead", FAR), pytest.param("clock_back", -FAR, marks=pytest.mark.nightly)]
)
async def test_a_wrong_clock_of_one_node(store: Store, fault: str, seconds: float) -> None:
    await measured(store, fault, partial(move_clock, seconds=seconds))


@pytest.mark.servers
@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("store", ["postgres"], indirect=True)
async def test_a_pooler_in_transaction_mode(pooled: Store) -> None:
    async def nothing(_: Subject) -> None:
        await asyncio.Event().wait()

    await measured(pooled, "pooler", nothing)
