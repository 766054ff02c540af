"""`FaultTimeline`: which faults of a scenario hold at a moment. Times are seconds since the first request."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from ratesim.simulation.scenario.scenario import Fault

__all__ = ["FaultTimeline"]


class FaultTimeline:
    """Looks up faults by time.

    Several faults may hold at once: those that lengthen something multiply, those that shift a clock add up.

    Parameters
    ----------
    faults
        Of the scenario.
    shard
        Number of the server whose faults are delivered; all faults unless given.
    """

    def __init__(self, faults: Sequence[Fault], shard: int | None = None) -> None:
        ours = faults if shard is None else [fault for fault in faults if fault.shard in (None, shard)]
        self.faults = tuple(sorted(ours, key=lambda fault: fault.start))
        self._of = {kind: [each for each in self.faults if each.kind == kind] for kind in {each.kind for each in faults}}
        self._outages = [each for each in self.faults if each.kind in ("crash", "failover")]

    def cut(self, node: int, now: float, direction: str) -> bool:
        """Return whether a message that starts now is lost for good. direction: to_server or from_server."""
        return any(
            _holds(each, now) and _meets(each, node) and each.direction in ("both", direction)
            for each in self._of.get("partition", ())
        )

    def loss(self, node: int, now: float, direction: str) -> float:
        """Return the probability that a message must be sent again."""
        delivered = 1.0
        for each in self._of.get("lossy", ()):
            if _holds(each, now) and _meets(each, node) and each.direction in ("both", direction):
                delivered *= 1.0 - each.loss
        return 1.0 - delivered

    def slowness(self, now: float) -> float:
        """Return the factor by which a service is longer that begins to wait now."""
        factor = 1.0
        for each in self._of.get("slow", ()):
            if _holds(each, now):
                factor *= each.factor
        return factor

    def server_down(self, now: float) -> bool:
        """Return whether the server is down."""
        return any(_holds(each, now) for each in self._outages)

    def host_lost(self, now: float) -> bool:
        """Return whether the server's host is gone, so that nothing answers."""
        return any(_holds(each, now) and each.host_lost for each in self._outages)

    def next_outage(self, now: float) -> float:
        """Return when the server goes down next; inf if never."""
        return next((each.start for each in self._outages if each.start > now), inf)

    def nodes_up(self, nodes: int, now: float) -> Sequence[int]:
        """Return which of so many nodes are up."""
        restarts = [each for each in self._of.get("restart", ()) if _holds(each, now)]
        up = range(nodes)
        return [node for node in up if not any(_meets(each, node) for each in restarts)] if restarts else up

    def next_restart(self, node: int, now: float) -> float:
        """Return when a node goes down next; inf if never."""
        return next((each.start for each in self._of.get("restart", ()) if each.start > now and _meets(each, node)), inf)

    def skew(self, node: int, now: float) -> float:
        """Return by how many seconds a node's clock is ahead."""
        return sum(
            each.offset + each.drift * (now - each.start)
            for each in self._of.get("clock_skew", ())
            if _holds(each, now) and _meets(each, node)
        )


def _holds(fault: Fault, now: float) -> bool:
    return fault.start <= now < fault.start + fault.duration


def _meets(fault: Fault, node: int) -> bool:
    return fault.nodes is None or node in fault.nodes
