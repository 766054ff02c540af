"""The topology of a shared store: one server, a primary that Sentinel watches, or a cluster; and how many servers that is.

A cluster's slots are shared out evenly when it is created. A key lives in one slot, so the hottest key bounds what a cluster
carries: its primary has the share h of the operations for it, and 1/P of all others.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from ratesim.server_url import redis_topology, split_url
from ratesim.storage import StorageURL
from ratesim.storage.urls import localhost_url

__all__ = [
    "LEAST_PRIMARIES",
    "SENTINELS",
    "Spread",
    "Topology",
    "cluster_url",
    "hottest_share",
    "topology_of",
    "whole_servers",
]

Topology = Literal["none", "standalone", "sentinel", "cluster"]

# "Redis Cluster requires at least 3 master nodes" (redis-cli --cluster create): a majority of primaries elects a replica.
LEAST_PRIMARIES = 3
# "You need at least three Sentinel instances for a robust deployment", https://valkey.io/topics/sentinel/.
SENTINELS = 3
ROUNDING = 1e-9  # servers; a sum of floats that is this little above a whole number is that number


def topology_of(storage: str, primaries: int = 1) -> Topology:
    """Return the topology that a storage URL names. More than one primary of Redis are a cluster whatever it names.

    Parameters
    ----------
    storage
        The storage URL.
    primaries
        Servers into which the keys are cut.
    """
    url = StorageURL.parse(storage)
    if url.backend == "memory":
        return "none"
    if url.backend != "redis":
        return "standalone"
    return "cluster" if primaries > 1 else redis_topology(url.config.url)


def cluster_url(storage: str) -> str:
    """Return the URL of a Redis with its cluster mode, if it does not have it.

    Sentinels, a socket and the number of a database are no part of a cluster: then the URL keeps its options and names
    localhost.
    """
    topology, parts = redis_topology(StorageURL.parse(storage).config.url), split_url(storage.strip())
    if topology == "cluster":
        return storage
    if topology == "sentinel" or parts.path.strip("/") or any(name == "db" for name, _ in parts.options):
        storage = re.sub(r"\+sentinel://localhost/[^?]*", "://localhost", localhost_url(storage))
    named = re.sub(r"(?i)(?<=[?&])cluster_mode=[^&]*&?", "", storage).rstrip("?&")
    return f"{named}{'&' if '?' in named else '?'}cluster_mode=true"


def hottest_share(storage: str, share: float, nodes: int, operations: float) -> float:
    """Return the share of a store's operations that are for the hottest key, at most.

    A node of a hybrid that writes back flushes a key once in an interval at most, and reads it once more where its view has
    gone, however often the key is requested.

    Parameters
    ----------
    storage
        The storage URL.
    share
        The hottest key's share of the requests.
    nodes
        API nodes.
    operations
        Of the store per second.
    """
    hybrid = StorageURL.parse(storage).hybrid
    if hybrid is None or hybrid.consistency not in ("eventual", "session") or hybrid.write != "write_back":
        return share
    return min(share, 2.0 * nodes / hybrid.sync_interval / operations) if operations > 0 else 0.0


@dataclass(frozen=True)
class Spread:
    """A load over the primaries of a cluster.

    Attributes
    ----------
    busy
        Seconds per second for which processors are busy, of all primaries together.
    hottest
        The share of it that is for the hottest key.
    """

    busy: float
    hottest: float

    def needed(self, allowed: float) -> int:
        """Return the least number of primaries of which none is busier than `allowed`, with even slots.

        Where the hottest key is nearly all that a primary may carry, that would be very many. With a primary for its slot
        alone it takes `apart`, and twice that is returned at most. If the hottest key is more than a primary may carry, no
        number is enough for it.
        """
        if self.busy <= allowed * (1.0 + ROUNDING):
            return 1
        others, spare = self.busy * (1.0 - self.hottest), allowed - self.busy * self.hottest
        apart = 1 + whole_servers(others / allowed)
        if spare <= 0:
            return apart
        return min(2 * apart, whole_servers(others / spare))

    def busiest(self, primaries: int) -> float:
        """Return the seconds per second for which the primary of the hottest key is busy, with even slots."""
        return self.busy * self.busiest_share(primaries)

    def busiest_share(self, primaries: int) -> float:
        """Return the share of the operations that come to the primary of the hottest key, with even slots."""
        return self.hottest + (1.0 - self.hottest) / primaries


def whole_servers(servers: float) -> int:
    """Round up to a whole number of servers, one at least."""
    return max(math.ceil(servers - ROUNDING), 1)
