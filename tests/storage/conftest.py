"""Every backend, opened empty on a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from every_backend import BACKENDS, Clock, make

from ratesim.storage import RateLimitStorage


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=BACKENDS)
async def storage(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[RateLimitStorage]:
    async with make(request.param, clock, request) as storage:
        yield storage
