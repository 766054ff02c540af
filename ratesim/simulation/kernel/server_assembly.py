"""What a server of a world has beside its station, made of a `StoreServer`: cores, rows, locks, flushes and slow phases."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ratesim.algorithms import bind
from ratesim.simulation.cost_model.postgres_factors import CLEANED, DROPPED, MOVED, READ
from ratesim.simulation.cost_model.profile import QUANTILES, Cost
from ratesim.simulation.engine.cluster import Cluster
from ratesim.simulation.engine.context import RunContext
from ratesim.simulation.engine.postgres_work import PostgresWork
from ratesim.simulation.engine.redis_cluster import ClusterDriver, ShardedDriver
from ratesim.simulation.kernel import layout
from ratesim.simulation.network.hash_slots import shard_of
from ratesim.storage.redis.cluster import PATIENCE

__all__ = ["cluster_deadlines", "free_list", "server_parts"]

Arrays = dict[str, NDArray[Any]]
Scalars = dict[str, float | int]


def server_parts(context: RunContext, cluster: Cluster, places: int) -> tuple[Arrays, Scalars]:
    """Make the arrays and scalars of a server, empty where it has no such part.

    Parameters
    ----------
    context, cluster
        The run, and its servers at the start; only a server that is alone has more than a station.
    places
        Tasks and operations for which there is room.
    """
    server, keys = cluster.servers[0], len(context.trace.keys)
    work, cores = server.work, server.cores
    arrays: Arrays = {
        "places_free": np.zeros(server.costs.concurrency),
        "cores": np.zeros(0 if cores is None else 1, layout.CORES),
        "core_shares": np.array([] if cores is None else cores._shares),
        "soles": free_list(0 if cores is None else places, layout.SOLE),
        "customers": np.zeros(0 if cores is None else places, layout.CUSTOMER),
        "departures": np.zeros(0 if cores is None else places, layout.EVENT),
        "holders": np.zeros(places if server.locks else 0, layout.HOLDER),
        "wants": np.zeros(places if server.locks else 0, layout.WANT),
        "row_holders": np.full(keys if server.locks else 0, layout.NONE, np.int32),
        "commits": np.array([(0.0, inf)] * 2, layout.COMMIT),
        "works": np.zeros(0 if work is None else 1, layout.WORK),
        "stalls": np.zeros(0 if work is None else len(work._stalls), layout.STALL),
        "rows": np.zeros(keys if work is not None and work.follows else 0, layout.ROW),
        "spans": np.zeros(places if work is not None and work.drops else 0, np.uint8),
    }
    arrays.update(_shards(context, cluster, places))
    if cores is not None:
        arrays["cores"]["wakes"] = inf
    if work is not None:
        _set_work(arrays, context, work)
    commit_seconds, arrays["commit_factors"] = _cost(server.costs.commit)
    standby_seconds, arrays["standby_factors"] = _cost(server.standby._cost if server.standby else None)
    scalars: Scalars = {
        "epoch": context.runtime.epoch,
        "serves_plainly": int(server.straight and work is None),
        "straight": int(server.straight),
        "serves_many": int(not server.station.in_order),
        "shares_cores": int(cores is not None),
        "soles_free": 0,
        "locks_rows": int(server.locks is not None),
        "denies_by_reading": int(bind(context.limit).size is not None),
        "commits_wait": int(server.commit is not None),
        "commit_seconds": commit_seconds,
        "standby_waits": int(server.standby is not None),
        "standby_seconds": standby_seconds,
        "standby_way": server.standby._way if server.standby else 0.0,
        **_ways(cluster),
        "works_beside": int(work is not None),
        "follows_rows": int(work is not None and work.follows),
    }
    return arrays, scalars


def cluster_deadlines(cluster: Cluster) -> list[float]:
    """List the seconds after which a node gives up a primary of a cluster; none where it waits as for one server."""
    driver = cluster.remotes[0].client.driver
    return [PATIENCE * driver._config.command_timeout] if isinstance(driver, ClusterDriver) else []


def _ways(cluster: Cluster) -> Scalars:
    sharded = isinstance(cluster.remotes[0].client.driver, ShardedDriver)
    return {"sharded": 1, "answered_at": layout.CLUSTER_ANSWERED} if sharded else {}


def _shards(context: RunContext, cluster: Cluster, places: int) -> Arrays:
    """Make the owner of each key, and what a batch needs that travels in groups."""
    driver, primaries = cluster.remotes[0].client.driver, len(cluster.servers)
    owners: list[int] = []
    if isinstance(driver, ShardedDriver):
        owners = [shard_of(name, primaries, driver._prefix) for name in context.trace.keys]
    else:
        places = 0
    return {
        "key_owners": np.array(owners, np.int32),
        "owner_groups": np.full(primaries, layout.NONE, np.int32),
        "groups": np.zeros(places, layout.GROUP_OF_BATCH),
        "batch_next": np.zeros(places, np.int32),
    }


def free_list(places: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Make records of which none is taken, each with the next one that is free."""
    array = np.zeros(places, dtype)
    array["next"] = np.arange(1, places + 1)
    array["next"][-1:] = layout.NONE
    return array


def _cost(cost: Cost | None) -> tuple[float, NDArray[np.float64]]:
    """Return the seconds of a cost, and the quantiles of its factors with these behind them."""
    return (0.0, np.zeros(0)) if cost is None else (cost.fixed + cost.item, np.array([*QUANTILES, *cost.factors]))


def _set_work(arrays: Arrays, context: RunContext, work: PostgresWork) -> None:
    each, config = arrays["works"][0], work.config
    each["insert"], each["span"], each["charged"] = work._insert, work._span, 2.0 * context.limit.period
    each["cleanup_at"], each["cleanup_interval"] = work.first_cleanup, config.cleanup_interval
    each["cleanup_until"] = context.duration
    each["reading"], each["removal"], each["dropping"] = READ, MOVED if work.drops else CLEANED, DROPPED
    each["most"] = config.cleanup_batch_size
    each["first_span"] = int(context.runtime.epoch // work._span) if work.drops else 0
    for row, (stall, phase) in zip(arrays["stalls"], work._stalls, strict=True):
        row["every"], row["lasts"], row["phase"] = stall.every, stall.lasts, phase
        row["commit"], row["service"] = stall.commit, stall.service
