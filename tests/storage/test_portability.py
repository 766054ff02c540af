"""A state moves from any backend to any other, and the next decisions are as if it had never moved."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import numpy as np
import pytest
from every_backend import Clock, make
from msgspec.structs import replace

from ratesim import Limit
from ratesim.algorithms import names
from ratesim.state import decode, encode
from ratesim.storage import MemoryStorage, RateLimitStorage

BACKENDS = ("memory", "fakeredis", "redis", "postgres", "hybrid-strong", "hybrid-eventual", "hybrid-postgres")
LIMITS = {
    "adaptive": {"options": {"weight": 0.25}},
    "gcra": {"burst": 9.5},
    "leaky_bucket": {"burst": 9.5},
    "sliding_window": {"options": {"buckets": 3}},
    "token_bucket": {"burst": 9.5},
}


@pytest.fixture
async def backends(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[dict[str, RateLimitStorage]]:
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(make(name, clock, request)) for name in BACKENDS}


@pytest.mark.parametrize("algorithm", names())
async def test_decisions_go_on_as_if_the_state_had_never_moved(
    backends: dict[str, RateLimitStorage], clock: Clock, algorithm: str
) -> None:
    limit = Limit(7, 9.0, algorithm, **LIMITS.get(algorithm, {}))  # type: ignore[arg-type]
    rng = np.random.default_rng(4)
    moved = 0
    for here, there in itertools.permutations(BACKENDS, 2):
        user = f"{here} to {there}"
        stayed = MemoryStorage(runtime=backends[here].runtime)
        denied = 0
        for step in range(40):
            clock.now += float(rng.exponential(0.6))
            cost = float(rng.choice([0.5, 1.0, 1.3]))
            if step == 20:
                state = await backends[here].get_state(user)
                if state is None:  # it had expired, and is as good as new there too
                    continue
                await backends[there].set_state(user, decode(encode(state)))
                moved += 1
            if algorithm == "adaptive" and step % 5 == 0:
                for each in (backends[here if step < 20 else there], stayed):
                    await each.observe(user, limit, 0.4, clock.now)
            expected = await stayed.acquire(user, limit, cost)
            decision = await backends[here if step < 20 else there].acquire(user, limit, cost)
            decision.view_age = 0.0  # what was decided is the same, however long ago the store was heard of
            assert decision == expected
            denied += not expected.allowed
        assert 0 < denied < 40
    assert moved > 30


async def test_a_long_log_moves_bit_for_bit_with_its_metadata(backends: dict[str, RateLimitStorage], clock: Clock) -> None:
    limit = Limit(400, 60.0, "sliding_log")
    rng = np.random.default_rng(5)
    memory = MemoryStorage(runtime=backends["memory"].runtime)
    for _ in range(500):
        clock.now += float(rng.exponential(0.05))
        await memory.acquire("long", limit, float(rng.choice([1.0, 0.1, 1.0 / 3.0])), clock.now)
    known = await memory.get_state("long")
    assert known is not None
    known = replace(known, metadata={f"account_{place}": f"team-payments-{place}" for place in range(40)})
    for here, there in itertools.permutations(BACKENDS, 2):
        user = f"{here} to {there}"
        await backends[here].set_state(user, known)
        state = await backends[here].get_state(user)
        assert state == known
        await backends[there].set_state(user, decode(encode(state)))
        await memory.set_state(user, known)
        for cost in (0.7, 1.0, 300.0):
            expected = await memory.acquire(user, limit, cost)
            decision = await backends[there].acquire(user, limit, cost)
            decision.view_age = 0.0
            assert decision == expected
