"""`Deployment`: the part of a scenario that says where the limiter runs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ratesim.simulation.routing import Routing
from ratesim.simulation.spec import Part, Seconds, share

__all__ = ["Deployment"]


class Deployment(Part):
    """Where the limiter runs: how many API nodes, who sends a request to which, how far the servers are.

    network: a preset (`ratesim.simulation.network.PRESETS`).
    rtt: seconds to the servers and back, in the place of the preset's.
    loss: the probability that a message is lost and sent again, in the place of the preset's (0 but for mobile_edge).
    shards: primaries of the Redis cluster that `redis` candidates have, each with as many slots; 1 is a Redis alone.
    """

    type: Literal["single_instance", "clustered", "high_availability"] = "clustered"
    nodes: int = Field(default=8, ge=1, le=1000)
    routing: Routing = "round_robin"
    network: str = "same_zone"
    rtt: Seconds | None = None
    loss: Annotated[float, BeforeValidator(share), Field(ge=0, lt=1)] | None = None
    shards: int = Field(default=1, ge=1, le=1000)

    @model_validator(mode="after")
    def _single(self) -> Self:
        if self.type == "single_instance" and self.nodes != 1:
            raise ValueError("a single_instance has nodes = 1")
        return self
