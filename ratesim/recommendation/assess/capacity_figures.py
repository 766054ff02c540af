"""`Capacity`: what a candidate needs and costs, and the same in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ratesim.formatting import format_amount, format_bytes, format_count, format_money, format_percent
from ratesim.recommendation.assess.crash_loss import CrashLoss
from ratesim.recommendation.assess.monthly_price import Price
from ratesim.recommendation.assess.partition_effect import PartitionEffect
from ratesim.recommendation.assess.primary_outage import PrimaryOutage
from ratesim.recommendation.assess.topology import LEAST_PRIMARIES, Topology

__all__ = ["NAMES", "Capacity", "Load", "processors_in_words"]

# What a store of one server has its replica promoted by.
PROMOTERS = {
    "redis": "a managed service with one endpoint does, or Sentinels, where redis+sentinel:// names them",
    "postgres": "a managed service does, or Patroni",
}
NAMES = {"redis": "Redis", "postgres": "PostgreSQL"}
# Connections that a server takes unless it is told otherwise: maxclients
# (https://redis.io/docs/latest/develop/reference/clients/), max_connections
# (https://www.postgresql.org/docs/current/runtime-config-connection.html).
CONNECTIONS = {"redis": 10_000, "postgres": 100}


def processors_in_words(count: float) -> str:
    """Write processors that are busy: "3.46 processors", "20 % of a processor"."""
    return f"{format_amount(count)} processors" if count > 1 else f"{format_percent(count)} of a processor"


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
    topology
        One server (standalone), a primary that Sentinels watch, or a cluster; a Redis that takes more than one server is a
        cluster, with a replica of each.
    primaries
        Servers into which the keys were cut in these runs; 0 without a store.
    servers
        Servers that it takes, without replicas: the primaries of a cluster, of which there are three at least. PostgreSQL is
        not cut by keys here: so many stand for one that is so many times as large.
    servers_by_processor, servers_by_memory
        How many it takes by each of the two. By processor no primary of a cluster is then busier than the prices allow, that
        of the hottest key included.
    replicas
        Of each server.
    sentinels
        Processes that watch the primary; 0 unless the topology is that of Sentinel.
    server_rate
        Requests per second that one server carries, as busy as the prices allow; None without a store.
    server_end
        Requests per second at which one server ends: its processor is then busy all the time. None without a store. Where
        the simulated store was not busy all the time it is a lower bound, because batches are fuller under more load.
    hottest_share
        The share of the store's operations that are for the hottest key, at most.
    hot_server_utilization
        The share of the time for which the primary of the hottest key is busy, with even slots; None without a Redis.
    hot_key_rate
        Requests per second at which the hottest key alone keeps its primary busy all the time, however many primaries there
        are; None without a Redis or a hottest key.
    hot_key_fits
        Whether one primary carries the hottest key, as busy as the prices allow. A lease is taken to fit: how many requests
        of the hottest key one operation stands for was not measured.
    outage
        What the loss of one primary takes away; None without a store.
    managed_month
        A month of the same servers as a managed service, in the currency of the price; None where the prices have none.
    over_admitted
        Requests per second, in the mean, that an exact limiter would have denied.
    price
        Of a month.
    disk_bytes
        On the disk of a PostgreSQL: its tables with dead versions of rows, and its write-ahead log, with what is kept for
        standbys. None without one, or
        where the memory of a key was not measured.
    standby
        What an answer of PostgreSQL waits for at its standby, as `synchronous_commit` names it; "" for nothing.
    crash
        What a PostgreSQL forgets that crashes and recovers; None without one.
    partitions
        What partitions of its tables would take and spare; None without a PostgreSQL.
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
    topology: Topology
    primaries: int
    servers: int
    servers_by_processor: int
    servers_by_memory: int
    replicas: int
    sentinels: int
    server_rate: float | None
    server_end: float | None
    hottest_share: float
    hot_server_utilization: float | None
    hot_key_rate: float | None
    hot_key_fits: bool
    over_admitted: float
    outage: PrimaryOutage | None
    managed_month: float | None
    price: Price
    disk_bytes: float | None = None
    standby: str = ""
    crash: CrashLoss | None = None
    partitions: PartitionEffect | None = None

    @property
    def reach(self) -> str:
        """How `server_end` is to be read: "ends at" where that was seen."""
        return "ends at" if self.store_utilization >= 1 else "does not end before"

    @property
    def hot_server_fits(self) -> bool:
        """Whether the primary of the hottest key is no busier than the prices allow, with even slots."""
        if self.hot_server_utilization is None or self.server_rate is None or self.server_end is None:
            return True
        return self.hot_server_utilization <= self.server_rate / self.server_end * (1.0 + 1e-6)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The same in plain words."""
        return (
            *self._load_sentences(),
            *self._memory_sentences(),
            *self._topology_sentences(),
            self._price_sentence(),
        )

    def _load_sentences(self) -> tuple[str, ...]:
        load = f"In the busiest second, with {format_amount(self.load.peak)} requests,"
        if self.store == "none":
            return (f"{load} no server is asked.",)
        name = NAMES[self.store]
        more = CONNECTIONS[self.store]
        above = f", more than the {more:,} that {name} takes unless told otherwise," if self.connections > more else ""
        traffic = (
            f"{load} {name} is asked for {format_amount(self.operations, 4)} operations, "
            f"over up to {self.connections:,} connections{above} with {format_bytes(self.bytes_to_store)} there and "
            f"{format_bytes(self.bytes_from_store)} back."
        )
        took, needed = self.store_processors, max(self.servers_by_processor, self.servers_by_memory)
        busy = f"That takes {processors_in_words(took)}: "
        busy += self._servers_in_words(needed)
        if self.server_rate is not None and self.server_end is not None:
            busy += f", {'each ' * (self.servers > 1)}good for {format_amount(self.server_rate)} such requests per second; "
            busy += f"one server {self.reach} {format_amount(self.server_end)} of them"
        if self.replicas:
            several = self.store == "redis"
            kind = "synchronous standby" if self.standby else "standby" if self.store == "postgres" else "replica"
            busy += f"; with {self.replicas} {kind}{'s' * (self.replicas > 1)}{' each' * several}"
        if self.sentinels:
            busy += f"{' and' if self.replicas else '; with'} {self.sentinels} Sentinels"
        return traffic, f"{busy}."

    def _servers_in_words(self, needed: int) -> str:
        if self.servers == 1:
            return "one server"
        by = "memory" if self.servers_by_memory > self.servers_by_processor else "processor"
        kind = f"{self.servers} primaries of a cluster" if self.topology == "cluster" else f"{self.servers} servers"
        if self.store == "postgres":  # its keys are not spread over servers
            return f"one server as large as {self.servers} of those that are priced, by its {by}"
        if self.servers == needed:
            return f"{kind}, by their {by}"
        enough = "one server" if needed == 1 else f"{needed} servers"
        if self.topology == "cluster" and self.servers == LEAST_PRIMARIES:
            return f"{enough} by the {by}, but {kind} are the least"
        return f"{enough} would do of the {kind} that there are"

    def _topology_sentences(self) -> tuple[str, ...]:
        """Say what the hottest key and the loss of a primary mean, where there is more than one server."""
        said = []
        if self.topology == "cluster" and self.hot_server_utilization is not None and self.hottest_share > 0:
            busy = format_percent(self.hot_server_utilization)
            apart = "" if self.hot_server_fits else ", more than is planned: its slot belongs on a primary of its own"
            said.append(
                f"The hottest key is at most {format_percent(self.hottest_share)} of the operations. Its primary is the "
                f"busiest: {busy} of a processor, with even slots{apart}."
            )
            if not self.hot_key_fits and self.hot_key_rate is not None:
                said.append(
                    "No number of primaries carries the hottest key, since it lives on one: that ends at "
                    f"{format_amount(self.hot_key_rate)} such requests per second, with no other key. Only a lease or a "
                    "hybrid that decides in its nodes takes it off there."
                )
        if self.outage is not None and (self.topology in ("cluster", "sentinel") or self.store == "postgres"):
            said.append(self.outage.sentence)
        if self.crash is not None:
            said.append(self.crash.sentence)
        if self.partitions is not None:
            said.append(self.partitions.sentence)
        if self.topology == "standalone" and self.replicas:
            said.append(f"What makes the replica the primary is not in the price: {PROMOTERS[self.store]}.")
        return tuple(said)

    def _memory_sentences(self) -> tuple[str, ...]:
        places = []
        if self.store_bytes is None or self.node_bytes is None:
            return ("What a key takes under this algorithm was not measured, so no memory is in the price.",)
        if self.store != "none":
            disk = "" if self.disk_bytes is None else f" (on its disk up to {format_bytes(self.disk_bytes)}, with its log)"
            places.append(f"{format_bytes(self.store_bytes)} in {NAMES[self.store]}{disk}")
        if self.node_bytes:
            where = f"each of {self.nodes} nodes" if self.nodes > 1 else "the node"
            places.append(f"up to {format_bytes(self.node_bytes)} in {where}")
        takes = "takes" if self.keys == 1 else "take"
        return (f"{format_count(self.keys, 'key')} {takes} {' and '.join(places)}.",)

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
        said = f"In a month: {format_money(price.per_month, price.currency)}" + (f" ({', '.join(shown)})" if shown else "")
        several = self.topology in ("cluster", "sentinel") or self.store == "postgres"
        if self.managed_month is not None and several:
            said += f"; as a managed service the servers are {format_money(self.managed_month, price.currency)}"
        return f"{said}."
