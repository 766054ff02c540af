"""What a storage needs whatever the load: memory for the keys, connections, and a decision in a node's memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from ratesim.recommendation.assess.topology import Topology, topology_of
from ratesim.simulation.scenario.topology import servers_of
from ratesim.storage import HybridStorageConfig, MemoryStorageConfig, StorageURL

if TYPE_CHECKING:
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["BLOAT", "CHECKPOINT", "REPLICATED", "SLOT_LOG", "ResourceNeeds", "log_bytes", "resource_needs"]

Store = Literal["redis", "postgres", "none"]

# Measured on 2026-11-28 (AMD EPYC, 2 cores, Linux; valkey 9.1.2, postgres 18.4, Python 3.11.7), in bytes.
#
# What a store keeps in a key's state of each node that has told it what it admitted: from 8 nodes that did so, with the
# names that nodes have unless they are given others. MEMORY USAGE of 100 keys; pg_column_size of the column of 1,000.
WATERMARK = {"redis": 57.0, "postgres": 76.0}
# What a primary of Redis sends to each replica for an operation that writes: 320 (fixed_window) to 580 (adaptive), the
# effects of the script and not the script. master_repl_offset over 300 decisions of each algorithm, alone and as one batch,
# 2026-11-29. What PostgreSQL writes to its log, and sends to each standby, for a row that changes, its commit included: 216
# (fixed_window) to 390 (adaptive) alone, 176 to 468 in a batch; the first change of a page after a checkpoint some 300 more.
# pg_current_wal_insert_lsn over 200 decisions of each algorithm, 2026-11-29.
REPLICATED = {"redis": 450.0, "postgres": 300.0}
# A table has dead versions of rows until a vacuum: with vacuums at 2 % of it half as much again is ample.
BLOAT = 1.5
CHECKPOINT = 900.0  # seconds between two checkpoints, as postgresql.conf asks
PAGE = 8192.0  # bytes
LEAST_LOG, MOST_LOG = 1024.0**3, 16 * 1024.0**3  # bytes
SLOT_LOG = 4 * 1024.0**3  # bytes that are kept for a standby that is away, as postgresql.conf asks
# What a hybrid keeps of a key beside the entry in its memory: tracemalloc over 20,000 keys that were asked for once.
RECORD = {"eventual": 976.0, "session": 976.0, "lease": 80.0}


@dataclass(frozen=True)
class ResourceNeeds:
    """What a storage needs whatever the load.

    Attributes
    ----------
    store
        The kind of shared store, or none.
    concurrency
        Batches that the store serves at once, as simulated.
    primaries
        Servers into which the candidate, or else the deployment, cuts it.
    topology
        One server, a primary that Sentinels watch, or a cluster.
    connections
        To each server, of all nodes.
    store_bytes, node_bytes
        Of all keys, in the store and in each node; None where it was not measured.
    node_seconds
        Processor time of a request in its node that is in no row.
    """

    store: Store
    concurrency: int
    primaries: int
    topology: Topology
    connections: int
    store_bytes: float | None
    node_bytes: float | None
    node_seconds: float


def resource_needs(
    storage: str, routing: str, scenario: Scenario, profile: Profile, primaries: int | None = None
) -> ResourceNeeds:
    """Work out the needs of a storage URL for the keys of `requirements.keys`.

    Where requests of a key go to any node, each node may know all keys, up to its bound. Where they stay at one node, each
    knows its part. `primaries` are those of the candidate; None as the deployment has them.
    """
    url, deployment = _parsed(storage), scenario.deployment
    algorithm, keys = scenario.limit.algorithm, scenario.requirements.keys
    stays = routing in ("sticky", "key_hash")
    here = float(math.ceil(keys / deployment.nodes) if stays else keys)
    near = profile.backends["memory"].bytes_per_key.get(algorithm)
    if url.backend == "memory":
        return ResourceNeeds("none", 0, 0, "none", 0, 0.0, _held(here, near, 0.0, url.config), 0.0)
    store: Store = "redis" if url.backend == "redis" else "postgres"
    backend = profile.backends[store]
    far = backend.bytes_per_key.get(algorithm)
    node_bytes: float | None = 0.0
    node_seconds = 0.0
    if url.hybrid is not None and url.hybrid.consistency != "strong":  # which decides in the store, and keeps nothing here
        node_bytes = _held(here, near, RECORD[url.hybrid.consistency], url.hybrid)
        # A node's account has what it spends on its way to the store; deciding in memory comes on top (`Dispatcher`).
        node_seconds = profile.backends["memory"].client_cpu
        if far is not None:
            far += WATERMARK[store] * (1 if stays else deployment.nodes)
    shards = servers_of(storage, primaries or None, None, deployment).primaries
    return ResourceNeeds(
        store=store,
        concurrency=backend.concurrency * shards,
        primaries=shards,
        topology=topology_of(storage, shards),
        connections=deployment.nodes * url.config.pool_size,
        store_bytes=None if far is None else keys * far,
        node_bytes=node_bytes,
        node_seconds=node_seconds,
    )


def log_bytes(changes: float, store_bytes: float) -> float:
    """Return the bytes that PostgreSQL's log may take, so that checkpoints come by the clock and not by its size.

    A checkpoint begins when about half of `max_wal_size` is written. The log has a row's bytes for each change, and each
    page that changes once as a whole.

    Parameters
    ----------
    changes
        Rows that change per second; nan where that is not known.
    store_bytes
        Of the table with its index.
    """
    if changes != changes:  # nan
        return min(max(LEAST_LOG, 2.0 * store_bytes), MOST_LOG)
    rows = changes * CHECKPOINT
    return min(max(LEAST_LOG, 2.0 * (rows * REPLICATED["postgres"] + min(store_bytes, rows * PAGE))), MOST_LOG)


@lru_cache(maxsize=1024)
def _parsed(storage: str) -> StorageURL:
    """Parse a URL; a price against the load asks for the same few hundreds of times."""
    return StorageURL.parse(storage)


def _held(
    keys: float, entry: float | None, beside: float, config: MemoryStorageConfig | HybridStorageConfig
) -> float | None:
    """Return the bytes of so many keys within the bounds of a memory, with what is kept beside the entries."""
    if entry is None:
        return None
    held = min(keys, config.max_entries)
    entries = held * entry if config.memory_limit is None else min(held * entry, config.memory_limit)
    return entries + held * beside
