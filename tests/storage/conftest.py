"""Every backend, opened empty on a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from every_backend import BACKENDS, Clock, make
from pgbouncer import pgbouncer

from ratesim.servers import Server
from ratesim.storage import RateLimitStorage


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def pgbouncer_server(postgres_server: Server) -> Iterator[Server]:
    """A pgbouncer in transaction mode before the PostgreSQL of all tests."""
    with pgbouncer(postgres_server.url) as url:
        yield Server(url, "postgres", postgres_server.version, embedded=True)


@pytest.fixture(params=BACKENDS)
async def storage(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[RateLimitStorage]:
    async with make(request.param, clock, request) as storage:
        yield storage
