"""The servers of a candidate: how many primaries share its keys, how many replicas each has, and how soon one takes over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING, Any, Literal, get_args

from ratesim.server_url import Topology, redis_topology
from ratesim.simulation.scenario.faults import Fault
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    from ratesim.simulation.scenario.deployment import Deployment

__all__ = ["PRIMARIES", "Servers", "replica_lag", "servers_of"]

PRIMARIES = 3  # of a cluster that names no number: the least that elect a replica, https://valkey.io/topics/cluster-spec/

# From the moment at which a primary counts as failed until clients can find its successor, in seconds. Measured on valkey
# 9.1.2 (2026-11-29), with timeouts of 1 to 4 s: 0.2 to 1.4 s in ten clusters, 0.7 s in the middle, since a replica waits a
# random time before it asks for votes. Sentinels promote after 0.4 s, and all of them tell clients after 1.2 to 1.4 s.
CLUSTER_VOTE = 0.7
SENTINEL_VOTE = 1.3

# From the death of a PostgreSQL that is noticed until its standby takes writes. Measured on PostgreSQL 18.4 (2026-11-29):
# pg_promote and a first write take 0.13 s; one of four waited the 5 s of wal_retrieve_retry_interval.
PROMOTION = 0.13

# "The maximum is three times wal_writer_delay" (0.2 s), https://www.postgresql.org/docs/18/wal-async-commit.html: what a
# PostgreSQL that answers before the flush of its log may have lost when it has recovered.
UNFLUSHED = 0.6

Wait = Literal["", "remote_write", "on", "remote_apply"]
Kept = Literal["nothing", "most", "all"]


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
        Seconds by which a replica is behind; 0 where an answer waits for it, so that nothing that was answered is lost.
    standby
        What a commit of PostgreSQL waits for at a standby, as `synchronous_commit` names it; "" for nothing.
    keeps
        What a crash of the server leaves of its memory: "nothing", "all", or "most" without the last moments. PostgreSQL
        recovers what is in its log.
    replicated
        Whether a replica has the state; no standby has the rows of unlogged tables.
    """

    kind: Topology
    primaries: int
    replicas: int
    takeover: float
    lag: float
    standby: Wait = ""
    keeps: Kept = "nothing"
    replicated: bool = True

    def effective_fault(self, fault: Fault) -> Fault:
        """Return the fault as it takes effect on these servers.

        A crash that outlasts the takeover is a failover of that duration. A shorter one ends as it would, before a replica
        was elected. In a cluster the other primaries vote, so a crash of all of them stays a crash. A failover to a standby
        that answers waited for loses nothing.
        """
        if fault.kind == "failover":
            return self._taken_over(fault)
        elected = fault.shard is not None or self.kind != "cluster"
        if fault.kind != "crash":
            return fault
        if not elected or fault.duration <= self.takeover:
            return self._recovered(fault)
        failover = Fault(
            kind="failover",
            start=fault.start,
            duration=self.takeover,
            lag=self.lag,
            shard=fault.shard,
            host_lost=fault.host_lost,
        )
        return self._taken_over(failover)

    def _taken_over(self, failover: Fault) -> Fault:
        """Return a failover with what the replica has."""
        if self.replicated:
            return failover.model_copy(update={"lag": 0.0}) if self.standby else failover
        place = {name: getattr(failover, name) for name in ("start", "duration", "shard", "host_lost")}
        return Fault(kind="crash", **place)

    def _recovered(self, crash: Fault) -> Fault:
        """Return a crash with what the server recovers from its log, unless the fault says itself what is kept."""
        if self.keeps == "nothing" or crash.keeps_memory is not None:
            return crash
        if self.keeps == "all":
            return crash.model_copy(update={"keeps_memory": True})
        place = {name: getattr(crash, name) for name in ("start", "duration", "shard", "host_lost")}
        return Fault(kind="failover", lag=UNFLUSHED, **place)  # it comes back as it was so long before


def servers_of(storage: str, primaries: int | None, replicas: int | None, deployment: Deployment) -> Servers:
    """Return the servers of a candidate with these fields in a deployment; memory:// counts as one.

    A number of replicas that a candidate on PostgreSQL names itself stands for synchronous standbys
    (`synchronous_standby_names`), unless its `synchronous_commit` is `local` or `off`. The replica of a deployment with high
    availability is waited for only where the candidate says remote_write or remote_apply.
    """
    store = _store(storage)
    if primaries is None:
        primaries = deployment.shards if store.backend == "redis" and store.kind != "sentinel" else 1
        if store.kind == "cluster" and primaries == 1:
            primaries = PRIMARIES
    named = replicas is not None
    replicated = deployment.type == "high_availability" or store.kind != "standalone"
    replicas = int(replicated) if replicas is None else replicas
    takeover = deployment.election
    if store.kind == "sentinel":
        takeover += SENTINEL_VOTE
    elif store.backend == "postgres":
        takeover += PROMOTION
    elif store.kind == "cluster":  # two primaries are no majority of three, and one of two is none
        takeover = deployment.node_timeout + CLUSTER_VOTE if primaries >= PRIMARIES else inf
    waits: Wait = ""
    if replicas and (named or store.commit != "on") and store.commit in get_args(Wait):
        waits = store.commit
    lag = 0.0 if waits else replica_lag(store.keeps, deployment)
    return Servers(store.kind, primaries, replicas, takeover if replicas else inf, lag, waits, store.keeps, store.replicated)


def replica_lag(keeps: Kept, deployment: Deployment) -> float:
    """Return the seconds by which a replica is behind that no answer waits for: it is sent what is on the primary's disk."""
    return deployment.replica_lag + (UNFLUSHED if keeps == "most" else 0.0)


@dataclass(frozen=True)
class _Store:
    backend: str
    kind: Topology
    commit: Any = ""
    keeps: Kept = "nothing"
    replicated: bool = True


@lru_cache(maxsize=1024)
def _store(storage: str) -> _Store:
    """Return what a storage URL says of its servers."""
    url = StorageURL.parse(storage)
    if url.backend == "redis":
        return _Store("redis", redis_topology(url.config.url))
    if url.backend != "postgres":
        return _Store(url.backend, "standalone")
    config = url.config
    if config.unlogged:  # in no log, so not on a standby either
        return _Store("postgres", "standalone", replicated=False)
    return _Store(
        "postgres", "standalone", config.synchronous_commit, "most" if config.synchronous_commit == "off" else "all"
    )
