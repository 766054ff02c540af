"""Alert rules about the servers of a cluster, or of a primary that Sentinels watch, on the metrics of redis_exporter.

The exporter: https://github.com/oliver006/redis_exporter. It names what INFO, CLUSTER INFO and Sentinel say; `EXPORTED` has
the origin of each metric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratesim.formatting import format_amount
from ratesim.recommendation.assess.topology import SENTINELS
from ratesim.recommendation.configuration.alert import Alert
from ratesim.recommendation.configuration.replication_conf import LAG

if TYPE_CHECKING:
    from ratesim.recommendation.configuration.store_size import StoreSize

__all__ = ["EXPORTED", "JOB", "redis_alerts"]

JOB = "ratesim-redis"  # of the exporter, for all servers and Sentinels of the store
SLOTS = 16384
MASTER = 'role="master"'
UNEVEN = 2.0  # times the mean of the primaries

# Metric of the exporter: the command, and its field, that it is read from.
EXPORTED = {
    "redis_up": ("INFO", ""),
    "redis_instance_info": ("INFO", "role"),
    "redis_cluster_state": ("CLUSTER INFO", "cluster_state"),
    "redis_cluster_slots_ok": ("CLUSTER INFO", "cluster_slots_ok"),
    "redis_connected_slave_lag_seconds": ("INFO", "slave0"),
    "redis_connected_slaves": ("INFO", "connected_slaves"),
    "redis_master_link_up": ("INFO", "master_link_status"),
    "redis_cpu_user_main_thread_seconds_total": ("INFO", "used_cpu_user_main_thread"),
    "redis_cpu_sys_main_thread_seconds_total": ("INFO", "used_cpu_sys_main_thread"),
    "redis_sentinel_master_ckquorum_status": ("SENTINEL CKQUORUM", ""),
    "redis_sentinel_master_ok_sentinels": ("SENTINEL SENTINELS", "flags"),
}


def redis_alerts(topology: str, size: StoreSize) -> tuple[Alert, ...]:
    """Return the rules of a topology; none of one server."""
    if topology not in ("cluster", "sentinel"):
        return ()
    found = [_down(), _failover()]
    if topology == "cluster":
        found += [_state(), _slots(), _uneven(size)]
    if topology == "sentinel":
        found += [_quorum(), _sentinels()]
    if size.replicas:
        found += [_link(), _lag(), _missing(size.replicas)]
    return tuple(found)


def _of(metric: str, labels: str = "") -> str:
    assert metric in EXPORTED
    return f'{metric}{{job="{JOB}"{", " if labels else ""}{labels}}}'


def _down() -> Alert:
    return Alert(
        "RateLimitRedisDown",
        f"{_of('redis_up')} == 0",
        "1m",
        "page",
        "A server of the rate limiter's store does not answer its exporter",
        "The label instance names it. Whether its keys have decisions is what the other rules tell.",
    )


def _failover() -> Alert:
    primary = f"max by (instance) ({_of('redis_instance_info', MASTER)})"
    before = f"max by (instance) ({_of('redis_instance_info', MASTER)} offset 10m)"
    return Alert(
        "RateLimitRedisFailover",
        f"{primary} unless {before}",
        "1m",
        "ticket",
        "A replica became a primary in the last 10 minutes",
        "What had not been replicated was forgotten, and may have been admitted again. Look for the primary that was lost.",
    )


def _state() -> Alert:
    return Alert(
        "RateLimitRedisClusterFails",
        f"min({_of('redis_cluster_state')}) == 0",
        "30s",
        "page",
        "A node of the cluster says that the cluster is down",
        "Nodes on the smaller side of a partition, or all of them if most primaries are lost, refuse every decision.",
    )


def _slots() -> Alert:
    return Alert(
        "RateLimitRedisSlotsUncovered",
        f"min({_of('redis_cluster_slots_ok')}) < {SLOTS}",
        "30s",
        "page",
        "Slots of the cluster have no primary that answers",
        f"Their share of {SLOTS:,} is the share of the keys that get no decision. A replica takes over within the election; "
        "where none is left the slots stay uncovered.",
    )


def _uneven(size: StoreSize) -> Alert:
    busy = " + ".join(f"rate({_of(f'redis_cpu_{kind}_main_thread_seconds_total')}[5m])" for kind in ("user", "sys"))
    primaries = f"(({busy}) and on (instance) {_of('redis_instance_info', MASTER)})"
    return Alert(
        "RateLimitRedisShardBusier",
        f"max({primaries}) / avg({primaries}) > {UNEVEN!r}",
        "10m",
        "ticket",
        f"One primary is more than {format_amount(UNEVEN)} times as busy as the mean of all {size.in_cluster()}",
        "A hot key lives on one primary, and no other can take a part of it: only a lease or a hybrid takes requests "
        "off it. If it is many keys, move slots. `redis-cli --hotkeys` needs maxmemory-policy with lfu; MONITOR, for "
        "a second, shows them under any.",
    )


def _quorum() -> Alert:
    return Alert(
        "RateLimitSentinelNoQuorum",
        f"min({_of('redis_sentinel_master_ckquorum_status')}) == 0",
        "1m",
        "page",
        "The Sentinels could not agree to replace the primary",
        "Decisions go on, and the next loss of the primary is an outage until somebody repairs it.",
    )


def _sentinels() -> Alert:
    return Alert(
        "RateLimitSentinelMissing",
        f"min({_of('redis_sentinel_master_ok_sentinels')}) < {SENTINELS}",
        "5m",
        "ticket",
        f"Fewer than {SENTINELS} Sentinels watch the primary",
        "One more that is lost, and nobody can promote a replica.",
    )


def _link() -> Alert:
    return Alert(
        "RateLimitRedisReplicaCutOff",
        f"min by (instance) ({_of('redis_master_link_up')}) == 0",
        "1m",
        "ticket",
        "A replica has lost its primary",
        "Its copy stands still: a failover to it would forget all that was counted since.",
    )


def _lag() -> Alert:
    return Alert(
        "RateLimitRedisReplicaLags",
        f"max by (instance) ({_of('redis_connected_slave_lag_seconds')}) > {LAG}",
        "1m",
        "ticket",
        f"A replica is more than {LAG} s behind its primary",
        "A failover to it would admit again what was admitted in that time.",
    )


def _missing(replicas: int) -> Alert:
    primaries = f"({_of('redis_connected_slaves')} and on (instance) {_of('redis_instance_info', MASTER)})"
    return Alert(
        "RateLimitRedisReplicaMissing",
        f"min({primaries}) < {replicas}",
        "5m",
        "ticket",
        "A primary has no replica" if replicas == 1 else f"A primary has fewer than {replicas} replicas",
        "If it is lost now, its keys have no decisions until it is back, and begin afresh.",
    )
