"""The part of redis.conf that is about several servers: replication, and a cluster.

What the directives mean: https://valkey.io/topics/replication/, https://valkey.io/topics/cluster-tutorial/.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ratesim.formatting import format_bytes, format_seconds
from ratesim.recommendation.assess.resource_needs import REPLICATED

if TYPE_CHECKING:
    from ratesim.recommendation.configuration.store_size import StoreSize
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["backlog_bytes", "cluster_parts", "replication_parts"]

MIB = 1024 * 1024
LEAST_BACKLOG, MOST_BACKLOG = 16 * MIB, 256 * MIB
MISSED = 10.0  # seconds that a replica may be cut off without a full copy afterwards
LAG = 10  # seconds, the default of min-replicas-max-lag


def backlog_bytes(size: StoreSize) -> int:
    """Return the bytes of replication that a primary keeps for a replica that comes back, whole MiB."""
    writes = 0.0 if math.isnan(size.writes) else size.writes / size.primaries
    return min(max(LEAST_BACKLOG, math.ceil(writes * REPLICATED["redis"] * MISSED / MIB) * MIB), MOST_BACKLOG)


def replication_parts(scenario: Scenario, size: StoreSize) -> list[tuple[str, str]]:
    """Return reasons and directives of a server that has replicas, or is one; none without replicas."""
    if not size.replicas:
        return []
    backlog = backlog_bytes(size)
    return [
        (
            f"What a replica misses while it is cut off for {format_seconds(MISSED)} is kept for it: "
            f"{format_bytes(backlog)}. More than that, and it needs a full copy, which the primary forks for.",
            f"repl-backlog-size {backlog}",
        ),
        (
            "A replica attaches without waiting for others, and without a file.",
            "repl-diskless-sync yes\nrepl-diskless-sync-delay 0",
        ),
        (
            "A replica takes no writes, or its counts would be lost with the next copy. One that has lost its primary "
            "answers with what it has: that is as old as the link is gone.",
            "replica-read-only yes\nreplica-serve-stale-data yes",
        ),
        _connected(scenario, size),
    ]


def cluster_parts(scenario: Scenario, size: StoreSize) -> list[tuple[str, str]]:
    """Return reasons and directives of a node of a cluster."""
    timeout = scenario.deployment.node_timeout
    return [
        (
            "A node of a cluster. It writes nodes.conf itself: the file is its identity and must survive a restart.",
            "cluster-enabled yes\ncluster-config-file nodes.conf",
        ),
        (
            f"A node without an answer for {format_seconds(timeout)} counts as lost. Its replica has taken over "
            "about a second later. Shorter, and a pause of a virtual machine is a failover, which forgets what was not "
            "replicated.",
            f"cluster-node-timeout {round(timeout * 1000)}",
        ),
        (
            "The slots of a primary that is lost, and has no replica left, are without decisions; all others go on. "
            "With yes one lost primary would stop every key.",
            "cluster-require-full-coverage no",
        ),
        (
            "A node that is cut off from most of the others answers no read either: its counts are of another time, and "
            "clients learn from the error that slots have moved.",
            "cluster-allow-reads-when-down no\ncluster-allow-pubsubshard-when-down no",
        ),
        (
            "A replica that was cut off for more than ten timeouts does not take over: it would bring back counts that are "
            "as old. A spare replica moves to a primary that has lost its own.",
            "cluster-replica-validity-factor 10\ncluster-allow-replica-migration yes\ncluster-migration-barrier 1",
        ),
    ]


def _connected(scenario: Scenario, size: StoreSize) -> tuple[str, str]:
    """Whether a primary without a replica goes on."""
    if scenario.requirements.max_over_admission == 0:
        cost = "every decision there is an error while its only replica is gone"
        if size.replicas > 1:
            cost = "every decision there is an error while all of its replicas are gone"
        return (
            "No over-admission is allowed, so a primary that hears of no replica stops to write: cut off with some "
            f"nodes, it would admit what its successor admits, too. That bounds it to {LAG} s, and does not make "
            f"replication synchronous. It costs availability: {cost}.",
            f"min-replicas-to-write 1\nmin-replicas-max-lag {LAG}",
        )
    return (
        "A primary goes on without its replicas. min-replicas-to-write 1 would bound what is admitted twice when it is cut "
        "off, and would turn the loss of a replica into an outage of its primary.",
        "min-replicas-to-write 0",
    )
