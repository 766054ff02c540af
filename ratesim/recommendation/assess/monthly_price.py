"""The price of a month: machines that are paid for all of it, and traffic and wrong decisions that are paid by use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ratesim.recommendation.assess.prices import GB

if TYPE_CHECKING:
    from ratesim.recommendation.assess.prices import Prices, Server

__all__ = ["Price", "Use", "managed_month", "monthly_price"]

# A replica in the same zone is lost with its primary, so it is in another one.
REPLICAS_IN = "cross_zone"


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
        Servers with their replicas, and Sentinels.
    network
        Between the nodes and the store, and from primaries to their replicas.
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
class Use:
    """What a price is worked out from.

    Attributes
    ----------
    nodes
        API nodes.
    network
        The preset between the nodes and the store.
    node_processors
        Of all nodes, in the busiest second.
    node_bytes
        Memory of each node.
    server, servers
        A server of the store, None without one; and how many of them there are, with their replicas.
    sentinels
        Processes that watch a primary.
    traffic, replicated
        Bytes per second in the mean: between the nodes and the store, and from primaries to their replicas.
    wrong
        Requests per second, in the mean, that an exact limiter would have denied.
    """

    nodes: int
    network: str
    node_processors: float
    node_bytes: float
    server: Server | None
    servers: int
    sentinels: int
    traffic: float
    replicated: float
    wrong: float


def monthly_price(prices: Prices, use: Use) -> Price:
    """Return the price of a month."""
    node, hours = prices.api_node, prices.hours_per_month
    watched = use.sentinels * prices.sentinel.month(hours) if prices.sentinel is not None else 0.0
    sent = use.traffic * prices.network[use.network] + use.replicated * prices.network[REPLICAS_IN]
    parts = {
        "node_processor": use.node_processors * node.processor_hour * hours,
        "node_memory": use.nodes * use.node_bytes / GB * node.memory_gb_hour * hours,
        "store": 0.0 if use.server is None else use.servers * use.server.month(hours) + watched,
        "network": 0.0 if use.server is None else sent * prices.month / GB,
        "wrong_decisions": use.wrong * prices.month * prices.over_admitted_request,
    }
    return Price(currency=prices.currency, **parts, per_month=sum(parts.values()))


def managed_month(prices: Prices, store: Literal["redis", "postgres", "none"], servers: int) -> float | None:
    """Return a month of so many servers of a store as a managed service; None where the prices have none."""
    hours = prices.hours_per_month
    if store == "redis" and prices.managed_redis is not None:
        return servers * prices.managed_redis.node_hour * hours
    managed = prices.managed_postgres
    if store == "postgres" and managed is not None:
        return servers * (managed.node_hour * hours + prices.postgres.disk_gb * managed.disk_gb_month)
    return None
