"""`Deployment`: the table of a scenario that describes where the limiter runs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ratesim.simulation.network.load_balancer import Routing
from ratesim.simulation.scenario.fields import Moment, Seconds, StrictModel, share

__all__ = ["Deployment"]


# What Redis Sentinel (down-after-milliseconds) and Patroni for PostgreSQL (ttl) wait unless told otherwise, before another
# primary is chosen. https://github.com/redis/redis/blob/unstable/sentinel.conf,
# https://patroni.readthedocs.io/en/latest/dynamic_configuration.html
ELECTION = 30.0

# cluster-node-timeout, https://github.com/valkey-io/valkey/blob/unstable/valkey.conf
NODE_TIMEOUT = 15.0

# "Usually much less than 100 milliseconds", Amazon Aurora User Guide, Replication with Amazon Aurora.
REPLICA_LAG = 0.1


class Deployment(StrictModel):
    """Where the limiter runs: the API nodes, the load balancing, and the distance of the servers.

    Attributes
    ----------
    type : {"single_instance", "clustered", "high_availability"}
        A single_instance has one node. With high_availability every store (each shard) has a replica. The replica takes in
        every change `replica_lag` seconds later, and takes the store's place `election` seconds after a crash. A candidate
        on a cluster or on Sentinel has a replica in any deployment.
    nodes : int
        Number of API nodes.
    routing : Routing
        The load balancing, see `load_balancer.route`.
    network : str
        A preset (`ratesim.simulation.network.links.PRESETS`).
    rtt : float or None
        Round trip to the servers in seconds, instead of the preset's.
    loss : float or None
        Probability that a message is lost and sent again, instead of the preset's (0 but for mobile_edge).
    shards : int
        Primaries of the Redis cluster that `redis` candidates have, each with as many slots; 1 is a Redis alone. A candidate
        may have its own number (`Candidate.primaries`).
    replica_lag, election : float
        Seconds, see `type`. For Sentinel `election` is down-after-milliseconds, and a vote comes on top.
    node_timeout : float
        Seconds after which a primary of a cluster counts as failed (cluster-node-timeout); a vote comes on top.
    """

    type: Literal["single_instance", "clustered", "high_availability"] = "clustered"
    nodes: int = Field(default=8, ge=1, le=1000)
    routing: Routing = "round_robin"
    network: str = "same_zone"
    rtt: Seconds | None = None
    loss: Annotated[float, BeforeValidator(share), Field(ge=0, lt=1)] | None = None
    shards: int = Field(default=1, ge=1, le=1000)
    replica_lag: Annotated[Moment, Field(le=3600)] = REPLICA_LAG
    election: Seconds = ELECTION
    node_timeout: Seconds = NODE_TIMEOUT

    @model_validator(mode="after")
    def _single(self) -> Self:
        if self.type == "single_instance" and self.nodes != 1:
            raise ValueError("a single_instance has nodes = 1")
        return self
