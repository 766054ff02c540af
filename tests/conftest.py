"""Real servers, started once for a whole test run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ratesim import servers


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[servers.Server]:
    with servers.valkey() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.Server]:
    with servers.postgres() as server:
        yield server
