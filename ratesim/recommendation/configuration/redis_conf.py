"""redis.conf: the directives that matter to a rate limiter, for Redis 7 and Valkey 8 or 9. A fragment to `include`.

What the policies evict: https://valkey.io/topics/lru-cache/; what the append-only file promises:
https://valkey.io/topics/persistence/; after how many probes keepalive gives up: https://valkey.io/topics/clients/.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ratesim.formatting import format_bytes, format_count
from ratesim.recommendation.configuration.escaping import to_comment
from ratesim.recommendation.configuration.replication_conf import backlog_bytes, cluster_parts, replication_parts
from ratesim.recommendation.configuration.store_size import StoreSize
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["maxmemory", "redis_conf"]

MIB = 1024 * 1024
UNMEASURED = (
    512.0  # bytes of a key that nobody measured: above what any algorithm of fixed size takes (profiles/shipped.json)
)
# Beside what MEMORY USAGE counts of a key, the server has its tables (the one it grows into is there before the old one is
# given up), the buffers of its clients and the scripts: half as much again, and 64 MiB in any case.
HEADROOM = 1.5
LEAST = 64 * MIB
MAXCLIENTS = 10_000  # the default
PEOPLE = 32  # connections for whoever looks after the server


def maxmemory(keys: int, bytes_per_key: float) -> int:
    """Bytes that the server may take for so many keys, whole MiB. A nan counts as UNMEASURED."""
    each = UNMEASURED if math.isnan(bytes_per_key) else bytes_per_key
    return max(LEAST, math.ceil(keys * each * HEADROOM / MIB) * MIB)


def redis_conf(
    scenario: Scenario, storage: str, bytes_per_key: float = math.nan, title: str = "", size: StoreSize | None = None
) -> str:
    """Write the settings for a storage URL of redis, or of a hybrid over it: those of each of its servers.

    Parameters
    ----------
    bytes_per_key
        Bytes that the server needs for one key.
    size
        How many servers there are; one unless given.
    """
    wants, nodes, size = scenario.requirements, scenario.deployment.nodes, size or StoreSize()
    clustered = size.topology(storage) == "cluster"
    primaries = size.in_cluster() if clustered else 1
    keys = math.ceil(wants.keys / primaries)
    limit = maxmemory(keys, bytes_per_key) + (backlog_bytes(size) if size.replicas else 0)
    backlog = ", and the backlog of replication, which the server counts" if size.replicas else ""
    measured = "not measured, so 512 bytes" if math.isnan(bytes_per_key) else f"{bytes_per_key:,.0f} bytes measured for one"
    pool = StorageURL.parse(storage).config.pool_size
    clients = nodes * (pool + 2) + PEOPLE
    parts = [
        to_comment(title),
        to_comment(
            "A fragment for Redis 7 and Valkey 8 or 9: `include` it at the end of the server's own file. Who may connect is "
            "said there: no address, password or certificate is in here."
        ),
        _part(
            f"Room for {format_count(keys, 'key')}{_part_of(wants.keys, primaries)} ({measured}), half as much again for "
            f"tables and buffers, 64 MiB at least{backlog}: {format_bytes(limit)}. A replica and a fork for a snapshot come "
            "on top of it in the machine.",
            f"maxmemory {limit}",
        ),
        _eviction(wants.max_over_admission),
        _persistence(wants.persistence),
        *(_part(*each) for each in (cluster_parts(scenario, size) if clustered else ())),
        *(_part(*each) for each in replication_parts(scenario, size)),
        _part(
            "Pools keep their connections. Closing an idle one would cost its next request a new one; a peer that is gone "
            "is found by keepalive, after about two minutes.",
            "timeout 0\ntcp-keepalive 60",
        ),
        _part(
            f"{nodes:,} nodes with pools of {pool} connections and two more for upkeep, and {PEOPLE} for people.",
            f"maxclients {max(MAXCLIENTS, clients)}",
        ),
        _part(
            "Decisions are scripts, and scripts run on one thread whatever is set here; more threads help only where "
            "sockets are what keeps the server busy.",
            "io-threads 1",
        ),
    ]
    return "\n".join(part for part in parts if part)


def _part_of(keys: int, primaries: int) -> str:
    return f" of {keys:,} on {primaries} primaries" if primaries > 1 else ""


def _part(reason: str, directives: str) -> str:
    return f"{to_comment(reason)}{directives}\n"


def _eviction(allowed: float | None) -> str:
    if allowed == 0:
        return _part(
            "No over-admission is allowed, and an evicted key that was live forgets what it counted. So a full server "
            "evicts nothing: it refuses to write, which is an error that everybody sees, and the alert on errors rings.",
            "maxmemory-policy noeviction",
        )
    return _part(
        "Should it be full after all, the key goes that expires soonest. Every key of ratesim expires when its state is as "
        "good as new, so that is the one that forgets least; keys without an expiry are somebody else's, and stay. What it "
        "evicted, the server counts: evicted_keys of INFO stats.",
        "maxmemory-policy volatile-ttl\nmaxmemory-samples 10",
    )


def _persistence(wanted: str) -> str:
    if wanted == "durable":
        return _part(
            "The state is to survive the server: each write is on the disk before it is answered. That costs latency "
            "which the simulation has not in it. A failover to a replica may still lose what it had not received.",
            'appendonly yes\nappendfsync always\nno-appendfsync-on-rewrite no\nsave ""',
        )
    said = "survives a node of the API, since it is here" if wanted == "session" else "need not survive anything"
    return _part(
        f"The state {said}, and after a restart of the server every key begins afresh: nothing is written to the disk.",
        'appendonly no\nsave ""',
    )
