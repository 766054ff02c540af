"""The servers of a candidate: how many primaries share its keys, how many replicas each has, and how soon one takes over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING

from ratesim.server_url import Topology, redis_topology
from ratesim.simulation.scenario.faults import Fault
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.simulation.scenario.deployment import Deployment

__all__ = ["PRIMARIES", "Servers", "servers_of"]

PRIMARIES = 3  # of a cluster that names no number: the least that elect a replica, https://valkey.io/topics/cluster-spec/

# From the moment at which a primary counts as failed until clients can find its successor, in seconds. Measured on valkey
# 9.1.2 (2026-11-29), with timeouts of 1 to 4 s: 0.2 to 1.4 s in ten clusters, 0.7 s in the middle, since a replica waits a
# random time before it asks for votes. Sentinels promote after 0.4 s, and all of them tell clients after 1.2 to 1.4 s.
CLUSTER_VOTE = 0.7
SENTINEL_VOTE = 1.3


@dataclass(frozen=True)
class Servers:
    """The shared store of a candidate.

    Attributes
    ----------
    kind
        standalone, cluster or sentinel. Clients of the last two find a new primary by themselves. A standalone one keeps its
        address when a replica takes over.
    primaries
        Servers that share the keys, each with as many slots.
    replicas
        Replicas of each.
    takeover
        Seconds from the crash of a primary until a replica answers in its place; inf where none does.
    lag
        Seconds by which a replica is behind.
    """

    kind: Topology
    primaries: int
    replicas: int
    takeover: float
    lag: float

    def effective_fault(self, fault: Fault) -> Fault:
        """Return the fault as it takes effect on these servers.

        A crash that outlasts the takeover is a failover of that duration. A shorter one ends as it would, before a replica
        was elected. In a cluster the other primaries vote, so a crash of all of them stays a crash.
        """
        elected = fault.shard is not None or self.kind != "cluster"
        if fault.kind != "crash" or not elected or fault.duration <= self.takeover:
            return fault
        return Fault(
            kind="failover",
            start=fault.start,
            duration=self.takeover,
            lag=self.lag,
            shard=fault.shard,
            host_lost=fault.host_lost,
        )


def servers_of(storage: str, primaries: int | None, replicas: int | None, deployment: Deployment) -> Servers:
    """Return the servers of a candidate with these fields in a deployment; memory:// counts as one."""
    redis, kind = _kind(storage)
    if primaries is None:
        primaries = deployment.shards if redis and kind != "sentinel" else 1
        if kind == "cluster" and primaries == 1:
            primaries = PRIMARIES
    replicated = deployment.type == "high_availability" or kind != "standalone"
    replicas = int(replicated) if replicas is None else replicas
    takeover = deployment.election
    if kind == "sentinel":
        takeover += SENTINEL_VOTE
    elif kind == "cluster":  # two primaries are no majority of three, and one of two is none
        takeover = deployment.node_timeout + CLUSTER_VOTE if primaries >= PRIMARIES else inf
    return Servers(kind, primaries, replicas, takeover if replicas else inf, deployment.replica_lag)


@lru_cache(maxsize=1024)
def _kind(storage: str) -> tuple[bool, Topology]:
    """Return whether a storage URL names Redis, and its topology."""
    url = StorageURL.parse(storage)
    return (True, redis_topology(url.config.url)) if url.backend == "redis" else (False, "standalone")
