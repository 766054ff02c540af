"""What a candidate needs at the scenario's peak, and what that costs in a month. Pure arithmetic on the rows of its runs.

A run measures what one request takes in the mean: operations and seconds of the store, seconds of its node, bytes. Times
requests per second that gives utilization and traffic (the utilization law, U = X S: P. J. Denning and J. P. Buzen, The
operational analysis of queueing network models, ACM Computing Surveys 10, 1978).

Machines are sized for the busiest second and paid for all month; what is paid by use (network, wrong decisions) goes with
the mean rate. That a request takes as much in the busiest second as in the mean is an upper bound: batches are fuller then,
and more of what a hybrid syncs falls into one interval. More clients of the same kind, though, bring views and deltas of
their own. Cold caches of a server that a run left idle do not count.

How many primaries a load takes follows from the same figures, and from the share of the hottest key (`topology.Spread`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ratesim.recommendation.assess.candidate_runs import runs_by_candidate
from ratesim.recommendation.assess.capacity_figures import Capacity, Load
from ratesim.recommendation.assess.crash_loss import CrashLoss, counted
from ratesim.recommendation.assess.monthly_price import Use, managed_month, monthly_price
from ratesim.recommendation.assess.partition_effect import PartitionEffect, partition_effect
from ratesim.recommendation.assess.prices import GB, PostgresServer
from ratesim.recommendation.assess.primary_outage import PrimaryOutage
from ratesim.recommendation.assess.resource_needs import BLOAT, REPLICATED, SLOT_LOG, log_bytes, resource_needs
from ratesim.recommendation.assess.topology import (
    LEAST_PRIMARIES,
    SENTINELS,
    Spread,
    Topology,
    cluster_url,
    hottest_share,
    whole_servers,
)
from ratesim.simulation.scenario.topology import Servers, replica_lag, servers_of
from ratesim.storage import StorageURL

if TYPE_CHECKING:
    import pandas as pd

    from ratesim.recommendation.assess.prices import Prices, Server
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["Capacity", "Load", "capacities", "capacity", "scaled"]


def scaled(summary: Mapping[str, float], times: float) -> dict[str, float]:
    """Return the summary of a trace with so many times its clients, each as before; see `Trace.scale`.

    Only its rates change, which are all that a capacity depends on.
    """
    return {**summary, "mean_rate": summary["mean_rate"] * times, "peak_rate": summary["peak_rate"] * times}


def capacities(
    results: pd.DataFrame, scenario: Scenario, summary: Mapping[str, float], prices: Prices, profile: Profile
) -> dict[str, Capacity]:
    """Return the capacity of each candidate of a table of runs, by its name, in their order; see `capacity`."""
    runs = runs_by_candidate(results)
    return {name: capacity(rows, scenario, summary, prices, profile) for name, rows in runs.items()}


def capacity(
    rows: Sequence[Mapping[Any, Any]], scenario: Scenario, summary: Mapping[str, float], prices: Prices, profile: Profile
) -> Capacity:
    """Work out what one candidate needs and costs.

    Parameters
    ----------
    rows
        Of `RunResult.row`, one for each seed; their means count.
    scenario
        The deployment and the requirements. Without a key count all keys of the summary must fit.
    summary
        Of `Trace.summary`, or `scaled`.
    prices
        Unit prices.
    profile
        The memory of a key, and the cost of a decision in a node's memory.
    """
    first, deployment = rows[0], scenario.deployment
    scenario = scenario.with_algorithm(first.get("algorithm"))
    if scenario.requirements.key_count is None:
        scenario = scenario.requiring(key_count=int(summary.get("keys", 1)))
    storage = str(first["storage"])
    needs = resource_needs(storage, str(first["routing"]), scenario, profile, _count(first, "primaries"))
    load = _load(rows, scenario, summary)
    operations = _mean(rows, "l2_operations_per_request")
    busy = _mean(rows, "l2_busy_per_request")
    if needs.store != "none":
        busy = profile.backends[needs.store].while_busy(busy, operations, _mean(rows, "utilization"))
    sent, answered = _mean(rows, "bytes_to_store_per_request"), _mean(rows, "bytes_from_store_per_request")
    node = fmean(_node_seconds(row, deployment.nodes) for row in rows) + needs.node_seconds
    wrong = fmean(map(_over_admitted, rows)) * load.mean
    server = None if needs.store == "none" else prices.server(needs.store)
    share = hottest_share(storage, float(summary.get("top_key_share", 0.0)), deployment.nodes, operations * load.peak)
    spread = Spread(busy * load.peak, share if needs.store == "redis" else 0.0)
    replicas = 0 if server is None else _replicas(first, scenario, prices)
    disk = _disk_bytes(needs.store, needs.store_bytes, operations * load.peak, replicas)
    by_processor, by_memory = _servers(server, spread, needs.store_bytes, disk)
    needed = max(by_processor, by_memory, needs.primaries)
    if needs.store == "redis" and needed > 1 and needs.primaries == 1:
        needed, replicas = max(needed, LEAST_PRIMARIES), max(replicas, 1)
    servers = 0 if server is None else needed
    topology: Topology = "cluster" if needs.store == "redis" and servers > 1 else needs.topology
    sentinels = SENTINELS if topology == "sentinel" else 0
    hot = server is not None and needs.store == "redis"
    hybrid = StorageURL.parse(storage).hybrid
    lends = hybrid is not None and hybrid.consistency == "lease"
    hot_busy = busy * share if hot else 0.0
    topped = None if server is None else _servers_of(storage, needs.store, servers, replicas, first, scenario)
    admitted = load.peak * _admitted(rows)
    each = fmean(map(_admitted_cost, rows))
    all_counted = counted(scenario.limit.limit(), scenario.requirements.keys, admitted, each)
    use = Use(
        nodes=deployment.nodes,
        network=deployment.network,
        node_processors=node * load.peak,
        node_bytes=needs.node_bytes or 0.0,
        server=server,
        servers=servers * (1 + replicas),
        sentinels=sentinels,
        traffic=(sent + answered) * load.mean,
        replicated=0.0 if server is None else operations * load.mean * REPLICATED[needs.store] * replicas,
        wrong=wrong,
    )
    return Capacity(
        candidate=str(first["candidate"]),
        store=needs.store,
        load=load,
        keys=scenario.requirements.keys,
        nodes=deployment.nodes,
        operations=operations * load.peak,
        connections=needs.connections,
        bytes_to_store=sent * load.peak,
        bytes_from_store=answered * load.peak,
        store_processors=busy * load.peak,
        store_utilization=busy * load.peak / needs.concurrency if server else 0.0,
        node_processors=node * load.peak,
        store_bytes=needs.store_bytes,
        node_bytes=needs.node_bytes,
        topology=topology,
        primaries=needs.primaries,
        servers=servers,
        servers_by_processor=by_processor,
        servers_by_memory=by_memory,
        replicas=replicas,
        sentinels=sentinels,
        server_rate=server.deciding * server.most_processor / busy if server and busy > 0 else None,
        server_end=server.deciding / busy if server and busy > 0 else None,
        hottest_share=share if hot else 0.0,
        hot_server_utilization=spread.busiest(servers) / server.deciding if server and hot else None,
        hot_key_rate=server.deciding / hot_busy if server and hot_busy > 0 else None,
        hot_key_fits=server is None or lends or hot_busy * load.peak <= server.deciding * server.most_processor,
        over_admitted=wrong,
        outage=None if topped is None else _outage(storage, topped, spread, load, admitted, all_counted),
        managed_month=managed_month(prices, needs.store, use.servers),
        price=monthly_price(prices, use),
        disk_bytes=disk,
        standby="" if topped is None else topped.standby,
        crash=CrashLoss.of(topped.keeps, admitted, all_counted) if topped and needs.store == "postgres" else None,
        partitions=_partitions(storage, scenario, operations * load.peak, load.peak),
    )


def _servers(server: Server | None, spread: Spread, size: float | None, disk: float | None) -> tuple[int, int]:
    """How many it takes by processor, and by memory or disk."""
    if server is None:
        return 0, 0
    by_memory = whole_servers((size or 0.0) / server.room)
    if isinstance(server, PostgresServer):
        by_memory = max(by_memory, whole_servers((disk or 0.0) / (server.disk_gb * GB)))
    return spread.needed(server.deciding * server.most_processor), by_memory


def _disk_bytes(store: str, size: float | None, changes: float, replicas: int) -> float | None:
    """Return the bytes on the disk of a PostgreSQL: its tables with dead versions, and its log, also for standbys."""
    if store != "postgres" or size is None:
        return None
    return size * BLOAT + log_bytes(changes, size) + (SLOT_LOG if replicas else 0.0)


def _count(row: Mapping[Any, Any], name: str) -> int | None:
    """Return a number of servers that a candidate names; None where it leaves that to the deployment."""
    value = row.get(name)
    return None if value is None or value != value else int(value)  # a table has nan where a row has nothing


def _replicas(row: Mapping[Any, Any], scenario: Scenario, prices: Prices) -> int:
    """Return the replicas of each server: those that the candidate names, or as many as the prices have if that is more."""
    deployment, priced = scenario.deployment, int(getattr(prices.replicas, scenario.deployment.type))
    usual = servers_of(str(row["storage"]), _count(row, "primaries") or None, None, deployment).replicas
    simulated = _count(row, "replicas")
    return max(usual, priced) if simulated is None or simulated == usual else simulated


def _partitions(storage: str, scenario: Scenario, operations: float, requests: float) -> PartitionEffect | None:
    url = StorageURL.parse(storage)
    if url.backend != "postgres":
        return None
    return partition_effect(url.config, scenario.limit.limit(), scenario.requirements.keys, operations, requests)


def _servers_of(
    storage: str, store: str, primaries: int, replicas: int, row: Mapping[Any, Any], scenario: Scenario
) -> Servers:
    """Return the servers in the size that the load takes. PostgreSQL is not cut, so one stands for all of them."""
    if store == "postgres":
        found = servers_of(storage, 1, replicas, scenario.deployment)
        standby: Any = row.get("standby") or ""
        return replace(found, standby=standby, lag=0.0 if standby else replica_lag(found.keeps, scenario.deployment))
    return servers_of(cluster_url(storage) if primaries > 1 else storage, primaries, replicas, scenario.deployment)


def _outage(
    storage: str, servers: Servers, spread: Spread, load: Load, admitted: float, all_counted: float
) -> PrimaryOutage:
    hybrid = StorageURL.parse(storage).hybrid
    is_replaced = math.isfinite(servers.takeover)
    share = spread.busiest_share(servers.primaries)
    lost = min(admitted * servers.lag, all_counted) if servers.replicated else all_counted
    return PrimaryOutage(
        primaries=servers.primaries,
        key_share=1.0 / servers.primaries,
        request_share=share,
        seconds=servers.takeover if is_replaced else None,
        requests=load.peak * share * servers.takeover if is_replaced else None,
        over_admitted=lost * share if is_replaced else None,
        fallback="" if hybrid is None else hybrid.on_store_failure,
        remembers=servers.keeps != "nothing",
        waits=bool(servers.standby),
    )


def _admitted(rows: Sequence[Mapping[Any, Any]]) -> float:
    return fmean(float(row["admitted"]) / float(row["requests"]) for row in rows)


def _admitted_cost(row: Mapping[Any, Any]) -> float:
    """Return the mean cost of an admitted request; of any request where an exact limiter admits nothing."""
    exact, admitted = float(row["exact_total"]), float(row["admitted"])
    if exact > 0 and admitted:
        return exact * (1.0 + float(row["over_admission"]) - float(row["false_denial"])) / admitted
    return float(row["asked_total"]) / float(row["requests"])


def _load(rows: Sequence[Mapping[Any, Any]], scenario: Scenario, summary: Mapping[str, float]) -> Load:
    """Of a trace that takes less than a second the mean rate, which then is the higher one, counts as the peak.

    Clients that react ask more (or less) often than the trace tells, and are taken to do so at all times alike: as often as
    they asked in these rows, over the trace.
    """
    mean, peak = summary["mean_rate"], summary["peak_rate"]
    if not math.isfinite(mean):  # all at the same time
        mean = peak
    peak = max(peak, mean)
    if scenario.workload.clients is not None and summary["duration"] > 0:
        rate = fmean(float(row["requests"]) / max(float(row["simulated_seconds"]), 1e-9) for row in rows)
        more = rate * summary["duration"] / summary["requests"]
        return Load(peak * more, mean * more)
    return Load(peak, mean)


def _mean(rows: Sequence[Mapping[Any, Any]], name: str) -> float:
    return fmean(float(row[name]) for row in rows)


def _node_seconds(row: Mapping[Any, Any], nodes: int) -> float:
    """Processor seconds of its node that a request takes: `node_utilization` is the mean of all nodes over the run."""
    return float(row["node_utilization"]) * nodes * max(float(row["simulated_seconds"]), 1e-9) / float(row["requests"])


def _over_admitted(row: Mapping[Any, Any]) -> float:
    """Return the share of a request that was admitted and should not have been.

    `over_admission` is relative to what the oracle admits; where that is nothing, all that was admitted is too much.
    """
    over, requested = float(row["over_admission"]), float(row["asked_total"])
    if math.isinf(over):
        return float(row["admitted"]) / float(row["requests"])
    return over * float(row["exact_total"]) / requested if requested > 0 else 0.0
