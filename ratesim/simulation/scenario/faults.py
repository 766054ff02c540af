"""`Fault`: the table of a scenario that describes a fault and its time."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ratesim.simulation.scenario.fields import Moment, Seconds, StrictModel, Unit

__all__ = ["Fault"]


class Fault(StrictModel):
    """A fault from `start` on, counted from the first request, for `duration`.

    The kinds, and the fields that each uses:

    - partition: messages between nodes and the server are lost. nodes, direction, shard.
    - lossy: a message is lost with probability `loss` and sent again. nodes, direction, shard.
    - slow: services take `factor` times as long. shard.
    - crash: the server is down, and comes back with its memory or without. keeps_memory, shard, host_lost.
    - failover: the server is down, and a replica comes back in its place that is `lag` behind. shard, host_lost.
    - reshard: `slots` slots of a primary of a cluster move to the next primary, one after the other. shard.
    - restart: nodes are down, and come back without their memory. nodes.
    - clock_skew: the clocks of nodes are `offset` ahead, and run fast by `drift`. nodes.

    A server that is alone is shard 0. What a crash leaves of a server's memory is `Servers.keeps`.
    """

    kind: Literal["partition", "lossy", "slow", "crash", "failover", "reshard", "restart", "clock_skew"]
    """What fails."""
    start: Moment
    """When it begins, counted from the first request."""
    duration: Seconds
    """How long it lasts."""
    nodes: tuple[int, ...] | None = None
    """Numbers of the affected nodes, from 0; all unless given."""
    direction: Literal["both", "to_server", "from_server"] = "both"
    """Which messages are lost."""
    loss: Annotated[float, Unit("share"), Field(gt=0, lt=1)] = 0.1
    """Share of messages that are lost and sent again."""
    factor: float = Field(default=10.0, gt=0, le=1e6)
    """How many times as long a service takes."""
    keeps_memory: bool | None = None
    """Whether the server has its memory when it comes back; what its own settings say unless given."""
    lag: Annotated[Moment, Field(le=3600)] = 0.1
    """Time by which the replica is behind that takes over."""
    offset: Annotated[float, Unit("time", signed=True), Field(ge=-86400, le=86400)] = 0.0
    """Time by which the clocks of the nodes are ahead; below 0, behind."""
    drift: Annotated[float, Unit("share", signed=True), Field(ge=-0.1, le=0.1)] = 0.0
    """Share by which they run fast: 0.1% is 1 ms more in each second."""
    shard: int | None = Field(default=None, ge=0)
    """Number of the affected primary of a cluster, from 0; all unless given, and for a reshard the first."""
    host_lost: bool = False
    """Whether the host is gone, so that nothing answers; else connections are refused at once."""
    slots: int = Field(default=1000, ge=1, le=16384)
    """Slots that move; all of the primary's where it has fewer."""

    @model_validator(mode="after")
    def _takes_what_it_is_given(self) -> Self:
        takes = {
            "partition": {"nodes", "direction", "shard"},
            "lossy": {"nodes", "direction", "loss", "shard"},
            "slow": {"factor", "shard"},
            "crash": {"keeps_memory", "shard", "host_lost"},
            "failover": {"lag", "shard", "host_lost"},
            "reshard": {"shard", "slots"},
            "restart": {"nodes"},
            "clock_skew": {"nodes", "offset", "drift"},
        }[self.kind]
        for name in sorted(self.model_fields_set - {"kind", "start", "duration"} - takes):
            if getattr(self, name) == type(self).model_fields[name].default:
                continue  # a scenario that was written in full repeats the defaults
            raise ValueError(f"a {self.kind} takes no {name}; it takes {', '.join(sorted(takes))}")
        return self
