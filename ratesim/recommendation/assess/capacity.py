"""What a candidate needs at the scenario's peak, and what that costs in a month. Pure arithmetic on the rows of its runs.

A run measures what one request takes in the mean: operations and seconds of the store, seconds of its node, bytes. Times
requests per second that gives utilization and traffic (the utilization law, U = X S: P. J. Denning and J. P. Buzen, The
operational analysis of queueing network models, ACM Computing Surveys 10, 1978).

Machines are sized for the busiest second and paid for all month; what is paid by use (network, wrong decisions) goes with
the mean rate. That a request takes as much in the busiest second as in the mean is an upper bound: batches are fuller then,
and more of what a hybrid syncs falls into one interval. More clients of the same kind, though, bring views and deltas of
their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from ratesim.formatting import format_amount, format_bytes, format_money, format_percent
from ratesim.recommendation.assess.prices import GB
from ratesim.recommendation.assess.resource_needs import ResourceNeeds, resource_needs

if TYPE_CHECKING:
    import pandas as pd

    from ratesim.recommendation.assess.prices import Prices, Server
    from ratesim.simulation.cost_model.profile import Profile
    from ratesim.simulation.scenario.scenario import Scenario

__all__ = ["Capacity", "Load", "Price", "capacities", "capacity", "scaled"]

NAMES = {"redis": "Redis", "postgres": "PostgreSQL"}
# Connections that a server takes unless it is told otherwise: maxclients
# (https://redis.io/docs/latest/develop/reference/clients/), max_connections
# (https://www.postgresql.org/docs/current/runtime-config-connection.html).
CONNECTIONS = {"redis": 10_000, "postgres": 100}
ROUNDING = 1e-9  # servers; a sum of floats that is this little above a whole number is that number


@dataclass(frozen=True)
class Price:
    """The cost of a candidate in a month, in `currency`, and its parts.

    Attributes
    ----------
    currency
        Of all figures.
    node_processor, node_memory
        What the limiter takes of the API nodes.
    store
        Servers with their replicas.
    network
        Between the nodes and the store.
    wrong_decisions
        Requests that should have been denied.
    per_month
        The sum.
    """

    currency: str
    node_processor: float
    node_memory: float
    store: float
    network: float
    wrong_decisions: float
    per_month: float


@dataclass(frozen=True)
class Load:
    """Requests per second of all nodes: in the busiest second, and in the mean."""

    peak: float
    mean: float


@dataclass(frozen=True)
class Capacity:
    """The needs of a candidate, at `load`, with `keys` keys. Rates are of the busiest second unless said otherwise.

    Attributes
    ----------
    candidate
        Its name.
    store
        redis, postgres, or none.
    load
        Requests per second.
    keys, nodes
        How many there are.
    operations
        Operations of the store per second.
    connections
        To each server at most: nodes x pool_size.
    bytes_to_store, bytes_from_store
        Payload of TCP per second.
    store_processors
        Seconds per second for which the store's processors are busy.
    store_utilization
        The same as a share of the processors that the simulated store has.
    node_processors
        Seconds per second for which the processors of all nodes together are busy.
    store_bytes, node_bytes
        Memory of all keys in the store, and in each node at most. None where the memory of a key was not measured under this
        algorithm; then it is in no price.
    servers
        Servers that it takes. PostgreSQL is not cut by keys here: so many stand for one that is so many times as large.
    servers_by_processor, servers_by_memory
        How many it takes by each of the two.
    replicas
        Of each server.
    server_rate
        Requests per second that one server carries; None without a store.
    over_admitted
        Requests per second, in the mean, that an exact limiter would have denied.
    price
        Of a month.
    """

    candidate: str
    store: Literal["redis", "postgres", "none"]
    load: Load
    keys: int
    nodes: int
    operations: float
    connections: int
    bytes_to_store: float
    bytes_from_store: float
    store_processors: float
    store_utilization: float
    node_processors: float
    store_bytes: float | None
    node_bytes: float | None
    servers: int
    servers_by_processor: int
    servers_by_memory: int
    replicas: int
    server_rate: float | None
    over_admitted: float
    price: Price

    @property
    def sentences(self) -> tuple[str, ...]:
        """The same in plain words."""
        return (*self._load_sentences(), *self._memory_sentences(), self._price_sentence())

    def _load_sentences(self) -> tuple[str, ...]:
        load = f"In the busiest second, with {format_amount(self.load.peak)} requests,"
        if self.store == "none":
            return (f"{load} no server is asked.",)
        name = NAMES[self.store]
        more = CONNECTIONS[self.store]
        above = f", more than the {more:,} that {name} takes unless told otherwise," if self.connections > more else ""
        traffic = (
            f"{load} {name} is asked for {format_amount(self.operations)} operations, "
            f"over up to {self.connections:,} connections{above} with {format_bytes(self.bytes_to_store)} there and "
            f"{format_bytes(self.bytes_from_store)} back."
        )
        took, needed = self.store_processors, max(self.servers_by_processor, self.servers_by_memory)
        busy = f"That takes {f'{took:.3g} processors' if took > 1 else f'{format_percent(took)} of a processor'}: "
        if self.servers == 1:
            busy += "one server"
        elif self.servers > needed:
            busy += f"{needed} of the {self.servers} servers that the deployment has would do"
        else:
            busy += f"{self.servers} servers, by their "
            busy += "memory" if self.servers_by_memory > self.servers_by_processor else "processor"
        if self.server_rate is not None:
            busy += f", {'each ' * (self.servers > 1)}good for {format_amount(self.server_rate)} such requests per second"
        if self.replicas:
            busy += f"; with {self.replicas} replica{'s' * (self.replicas > 1)} each"
        return traffic, f"{busy}."

    def _memory_sentences(self) -> tuple[str, ...]:
        places = []
        if self.store_bytes is None or self.node_bytes is None:
            return ("What a key takes under this algorithm was not measured, so no memory is in the price.",)
        if self.store != "none":
            places.append(f"{format_bytes(self.store_bytes)} in {NAMES[self.store]}")
        if self.node_bytes:
            each = f"each of {self.nodes} nodes" if self.nodes > 1 else "the node"
            places.append(f"up to {format_bytes(self.node_bytes)} in {each}")
        return (f"{self.keys:,} keys take {' and '.join(places)}.",)

    def _price_sentence(self) -> str:
        price = self.price
        parts = {
            "servers": price.store,
            "processors of the nodes": price.node_processor,
            "memory of the nodes": price.node_memory,
            "network": price.network,
            "wrong decisions": price.wrong_decisions,
        }
        shown = [f"{name} {format_money(part, price.currency)}" for name, part in parts.items() if part > 0]
        return f"In a month: {format_money(price.per_month, price.currency)}" + (f" ({', '.join(shown)})." if shown else ".")


def scaled(summary: Mapping[str, float], times: float) -> dict[str, float]:
    """Return the summary of a trace with so many times its clients, each as before; see `Trace.scale`.

    Only its rates change, which are all that a capacity depends on.
    """
    return {**summary, "mean_rate": summary["mean_rate"] * times, "peak_rate": summary["peak_rate"] * times}


def capacities(
    results: pd.DataFrame, scenario: Scenario, summary: Mapping[str, float], prices: Prices, profile: Profile
) -> dict[str, Capacity]:
    """Return the capacity of each candidate of a table of runs, by its name, in their order; see `capacity`."""
    by_name = {}
    for name, rows in results.groupby("candidate", sort=False):
        by_name[str(name)] = capacity(rows.to_dict("records"), scenario, summary, prices, profile)
    return by_name


def capacity(
    rows: Sequence[Mapping[Any, Any]], scenario: Scenario, summary: Mapping[str, float], prices: Prices, profile: Profile
) -> Capacity:
    """Work out what one candidate needs and costs.

    Parameters
    ----------
    rows
        Of `RunResult.row`, one for each seed; their means count.
    scenario
        The deployment and the requirements.
    summary
        Of `Trace.summary`, or `scaled`.
    prices
        Unit prices.
    profile
        The memory of a key, and the cost of a decision in a node's memory.
    """
    first, deployment = rows[0], scenario.deployment
    scenario = scenario.with_algorithm(first.get("algorithm"))
    needs = resource_needs(str(first["storage"]), str(first["routing"]), scenario, profile)
    load = _load(rows, scenario, summary)
    operations = _mean(rows, "l2_operations_per_request") * load.peak
    busy = _mean(rows, "l2_busy_per_request")
    sent, answered = _mean(rows, "bytes_to_store_per_request"), _mean(rows, "bytes_from_store_per_request")
    node = fmean(_node_seconds(row, deployment.nodes) for row in rows) + needs.node_seconds
    wrong = fmean(map(_over_admitted, rows)) * load.mean
    server = None if needs.store == "none" else prices.server(needs.store)
    by_processor, by_memory = _servers(server, busy * load.peak, needs.store_bytes)
    servers = 0 if server is None else max(by_processor, by_memory, needs.primaries)
    replicas = 0 if server is None else int(getattr(prices.replicas, deployment.type))
    traffic = (sent + answered) * load.mean
    return Capacity(
        candidate=str(first["candidate"]),
        store=needs.store,
        load=load,
        keys=scenario.requirements.key_count,
        nodes=deployment.nodes,
        operations=operations,
        connections=needs.connections,
        bytes_to_store=sent * load.peak,
        bytes_from_store=answered * load.peak,
        store_processors=busy * load.peak,
        store_utilization=busy * load.peak / needs.concurrency if server else 0.0,
        node_processors=node * load.peak,
        store_bytes=needs.store_bytes,
        node_bytes=needs.node_bytes,
        servers=servers,
        servers_by_processor=by_processor,
        servers_by_memory=by_memory,
        replicas=replicas,
        server_rate=server.deciding * server.most_processor / busy if server and busy > 0 else None,
        over_admitted=wrong,
        price=_price(prices, scenario, needs, server, servers * (1 + replicas), node * load.peak, traffic, wrong),
    )


def _price(
    prices: Prices,
    scenario: Scenario,
    needs: ResourceNeeds,
    server: Server | None,
    servers: int,
    node_processors: float,
    traffic: float,
    wrong: float,
) -> Price:
    """Work out the price of a month.

    servers: with their replicas. node_processors: of all nodes. traffic: bytes per second, both ways, in the mean. wrong:
    requests per second that an exact limiter would have denied.
    """
    node, hours = prices.api_node, prices.hours_per_month
    parts = {
        "node_processor": node_processors * node.processor_hour * hours,
        "node_memory": scenario.deployment.nodes * (needs.node_bytes or 0.0) / GB * node.memory_gb_hour * hours,
        "store": 0.0 if server is None else servers * server.month(hours),
        "network": 0.0 if server is None else traffic * prices.month / GB * prices.network[scenario.deployment.network],
        "wrong_decisions": wrong * prices.month * prices.over_admitted_request,
    }
    return Price(currency=prices.currency, **parts, per_month=sum(parts.values()))


def _servers(server: Server | None, busy: float, size: float | None) -> tuple[int, int]:
    """How many it takes by processor, and by memory."""
    if server is None:
        return 0, 0
    return _whole(busy / (server.deciding * server.most_processor)), _whole((size or 0.0) / server.room)


def _whole(servers: float) -> int:
    return max(math.ceil(servers - ROUNDING), 1)


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
