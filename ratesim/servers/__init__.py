"""Real servers for the laboratory: Valkey, alone, in a cluster or behind sentinels, and PostgreSQL, alone or with standbys.

    with valkey() as server:
        async with open_storage(server.url) as storage: ...

Their programs come in the wheels of ``ratesim[embedded]``. Each server runs in a directory of its own (mode 0700). A Valkey
listens on loopback and has a random password; a PostgreSQL listens on a unix socket in its directory only. When the block is
left, the server is stopped and its directory removed. The same happens when this process is killed
(`ratesim.servers.supervisor` explains how). Where ``RATESIM_REDIS_URL`` or ``RATESIM_POSTGRES_URL`` names a running server,
that one is used, and nothing is started or stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ratesim.errors import ServerDiedError, ServerError
from ratesim.servers.cluster_server import valkey_cluster
from ratesim.servers.postgres_server import postgres, promote
from ratesim.servers.sentinel_server import valkey_sentinel
from ratesim.servers.server import Member, Server
from ratesim.servers.valkey_server import valkey

__all__ = [
    "Member",
    "Server",
    "ServerDiedError",
    "ServerError",
    "all_servers",
    "postgres",
    "promote",
    "valkey",
    "valkey_cluster",
    "valkey_sentinel",
]


@contextmanager
def all_servers() -> Iterator[dict[str, Server]]:
    """Start one server for each kind of storage that needs one: "redis" and "postgres"."""
    with valkey() as redis_server, postgres() as postgres_server:
        yield {"redis": redis_server, "postgres": postgres_server}
