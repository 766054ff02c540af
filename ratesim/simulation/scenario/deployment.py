"""`Deployment`: the table of a scenario that describes where the limiter runs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from ratesim.simulation.network.links import PRESETS
from ratesim.simulation.network.load_balancer import Routing
from ratesim.simulation.scenario.fields import Moment, Seconds, Share, StrictModel
from ratesim.suggestion import unknown_name

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

    With high_availability the replica of a store (of each shard) takes in every change `replica_lag` later, and takes the
    store's place `election` after a crash. A candidate on a cluster or on Sentinel has a replica in any deployment.
    """

    type: Literal["single_instance", "clustered", "high_availability"] = "clustered"
    """single_instance (one node), clustered, or high_availability, where every store has a replica."""
    nodes: int = Field(default=8, ge=1, le=1000)
    """API nodes that share the limit."""
    routing: Routing = "round_robin"
    """How the load balancer spreads requests over the nodes."""
    network: str = "same_zone"
    """Distance of the servers: a preset."""
    rtt: Seconds | None = None
    """Round trip to the servers, instead of the preset's."""
    loss: Annotated[Share, Field(lt=1)] | None = None
    """Share of messages that are lost and sent again, instead of the preset's."""
    shards: int = Field(default=1, ge=1, le=1000)
    """Primaries of the Redis cluster that redis candidates have; 1 is a Redis alone."""
    replica_lag: Annotated[Moment, Field(le=3600)] = REPLICA_LAG
    """Time by which a replica is behind its primary."""
    election: Seconds = ELECTION
    """Time from a crash until a replica takes over; of Sentinel its down-after-milliseconds, and a vote comes on top."""
    node_timeout: Seconds = NODE_TIMEOUT
    """Time after which a primary of a cluster counts as failed; a vote comes on top."""

    @field_validator("network")
    @classmethod
    def _is_a_preset(cls, name: str) -> str:
        if name not in PRESETS:
            raise ValueError(unknown_name("network", name, PRESETS))
        return name

    @model_validator(mode="after")
    def _single(self) -> Self:
        if self.type == "single_instance" and self.nodes != 1:
            raise ValueError("a single_instance has nodes = 1")
        return self
