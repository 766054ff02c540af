"""`StoreSize`: the number of servers for which configuration is written."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ratesim.recommendation.assess.topology import LEAST_PRIMARIES, Topology, topology_of
from ratesim.server_url import redis_service
from ratesim.storage import StorageURL

__all__ = ["StoreSize", "service_of"]


@dataclass(frozen=True)
class StoreSize:
    """How many servers a store has.

    Attributes
    ----------
    primaries
        Servers into which the keys are cut.
    replicas
        Of each.
    writes
        Operations per second of all primaries in the busiest second; nan where that is not known.
    standby
        What an answer of PostgreSQL waits for at a standby, as `synchronous_commit` names it; "" for nothing.
    memory
        Bytes of the memory of a PostgreSQL's machine; inf where that is not known.
    """

    primaries: int = 1
    replicas: int = 0
    writes: float = math.nan
    standby: str = ""
    memory: float = math.inf

    def topology(self, storage: str) -> Topology:
        """Return the topology of a storage URL in this size."""
        return topology_of(storage, self.primaries)

    def in_cluster(self) -> int:
        """Return the primaries of a cluster: what creates one refuses fewer than three."""
        return max(self.primaries, LEAST_PRIMARIES)


def service_of(storage: str) -> str:
    """Return the name under which Sentinels know the primary of a storage URL."""
    return redis_service(StorageURL.parse(storage).config.url) or "ratesim"
