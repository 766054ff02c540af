"""`Fault`: the table of a scenario that describes a fault and its time."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ratesim.simulation.scenario.fields import Moment, Seconds, StrictModel, share

__all__ = ["Fault"]


class Fault(StrictModel):
    """A fault from `start` seconds after the first request on, for `duration` seconds.

    The kinds, and the fields that each uses:

    - partition: messages between nodes and the server are lost. nodes, direction, shard.
    - lossy: a message is lost with probability `loss` and sent again. nodes, direction, shard.
    - slow: services take `factor` times as long. shard.
    - crash: the server is down, and comes back with its memory or without. keeps_memory, shard, host_lost.
    - failover: the server is down, and a replica comes back in its place that is `lag` seconds behind. shard, host_lost.
    - reshard: `slots` slots of a primary of a cluster move to the next primary, one after the other. shard.
    - restart: nodes are down, and come back without their memory. nodes.
    - clock_skew: the clocks of nodes are `offset` seconds ahead, and `drift` more with each second. nodes.

    Attributes
    ----------
    nodes : tuple[int, ...] or None
        Numbers of the affected nodes, from 0; None for all.
    shard : int or None
        Number of the affected primary of a cluster, from 0; None for all, and for a reshard the first. A server that is
        alone is number 0.
    keeps_memory : bool or None
        Whether the server has its memory when it comes back; None for what its own settings say (`Servers.keeps`).
    host_lost : bool
        Whether the host is gone, so that nothing answers. Otherwise it is the process, and connections are refused at once.
    slots : int
        Slots that move; all of the primary's where it has less.
    """

    kind: Literal["partition", "lossy", "slow", "crash", "failover", "reshard", "restart", "clock_skew"]
    start: Moment
    duration: Seconds
    nodes: tuple[int, ...] | None = None
    direction: Literal["both", "to_server", "from_server"] = "both"
    loss: Annotated[float, BeforeValidator(share), Field(gt=0, lt=1)] = 0.1
    factor: float = Field(default=10.0, gt=0, le=1e6)
    keeps_memory: bool | None = None
    lag: Annotated[Moment, Field(le=3600)] = 0.1
    offset: float = Field(default=0.0, ge=-86400, le=86400)
    drift: float = Field(default=0.0, ge=-0.1, le=0.1)
    shard: int | None = Field(default=None, ge=0)
    host_lost: bool = False
    slots: int = Field(default=1000, ge=1, le=16384)

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
