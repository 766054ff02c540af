"""What every test shares: the kind that it is of, how many examples it tries, and the servers of its process.

Kinds are markers (pyproject.toml explains each) and follow from the fixtures that a test asks for. Whatever needs neither a
server, nor a kernel, nor a browser is `unit`. `slow` and `nightly` stand where a test does; what `sampled(n)` leaves out is
`nightly` too. The levels are commands of the Makefile: `make quick` runs what is `unit` and not `slow`, `make test` all but
`nightly`, `make nightly` everything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING
from zlib import crc32

import pytest
from examples import covering
from hypothesis import HealthCheck, settings

from ratesim import servers

if TYPE_CHECKING:
    from tiny_report import TinyReport

# A profile is chosen with --hypothesis-profile; `ci` holds where none is. Its examples are always the same ones, so that a
# failure is due to a change. `examples.examples` scales what a test asks for.
common = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=25, derandomize=True, **common)
settings.register_profile("ci", max_examples=100, derandomize=True, **common)
settings.register_profile("nightly", max_examples=1000, derandomize=False, print_blob=True, **common)
settings.load_profile("ci")

# The kind of a test that has one of these fixtures, or one of the parametrized ones with a backend that is a server.
KIND_BY_FIXTURE = {
    "chrome": "browser",
    "program": "browser",
    "execute_here": "notebooks",
    "shelf": "notebooks",
    "tiny_report": "notebooks",
    "valkey_server": "servers",
    "valkey_cluster_server": "servers",
    "valkey_sentinel_server": "servers",
    "postgres_server": "servers",
    "postgres_16_server": "servers",
    "pgbouncer_server": "servers",
    "server": "servers",
    "backends": "servers",
    "_no_existing_servers": "servers",  # every test in tests/servers
}
FIXTURES_OF_BACKENDS = ("storage", "against")
WITH_SERVER = ("redis", "valkey", "cluster", "sentinel", "postgres", "hybrid")
KINDS = ("browser", "notebooks", "servers", "unit")  # the longest first: two processes then end together


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its kinds, leave out what is sampled, and begin with the files that take longest."""
    thin(items)
    rank: dict[object, int] = {}
    for item in items:
        for kind in sorted(kinds(item)):
            item.add_marker(kind)
        own = min(KINDS.index(kind) for kind in KINDS if item.get_closest_marker(kind))
        rank[item.path] = min(own, rank.get(item.path, own))
    items.sort(key=lambda item: rank[item.path])


def thin(items: list[pytest.Item]) -> None:
    """Leave to the night what a test marked `sampled(n)` need not try for each n values of its parameters to meet."""
    products: dict[object, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sampled") and not item.get_closest_marker("nightly"):
            products[item.path, item.originalname].append(item)
    for (_, name), product in products.items():
        first = crc32(name.encode()) % len(product)  # so that not all tests leave out the same
        product = product[first:] + product[:first]
        (together,) = product[0].get_closest_marker("sampled").args
        values = [{parameter: repr(value) for parameter, value in item.callspec.params.items()} for item in product]
        kept = set(covering(values, together))
        for place, item in enumerate(product):
            if place not in kept:
                item.add_marker("nightly")


def kinds(item: pytest.Item) -> set[str]:
    """The kinds that follow from the fixtures of a test; those that it is marked with stay."""
    fixtures = set(getattr(item, "fixturenames", ()))
    found = {kind for fixture, kind in KIND_BY_FIXTURE.items() if fixture in fixtures}
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    backends = [str(parameters.get(fixture, "")) for fixture in FIXTURES_OF_BACKENDS]
    if any(backend.startswith(WITH_SERVER) and "://" not in backend for backend in backends):
        found.add("servers")
    marked = {kind for kind in KINDS if item.get_closest_marker(kind)}
    return found if found | marked else {"unit"}


@pytest.fixture(scope="session")
def tiny_report(tmp_path_factory: pytest.TempPathFactory) -> TinyReport:
    """A report for all tests that only read one."""
    from tiny_report import write

    return write(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[servers.Server]:
    with servers.valkey() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_cluster_server() -> Iterator[servers.Server]:
    with servers.valkey_cluster(primaries=3, replicas=0) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_sentinel_server() -> Iterator[servers.Server]:
    with servers.valkey_sentinel(sentinels=3, replicas=1) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.Server]:
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_16_server() -> Iterator[servers.Server]:
    """The oldest version that is installed; the others are of the newest."""
    with servers.postgres(16) as server:
        yield server
