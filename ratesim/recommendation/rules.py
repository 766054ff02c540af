"""The rule table of the design sketch, which never looks at the workload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ratesim.simulation.scenario import Deployment, Requirements

__all__ = ["Sketch", "sketch"]

Backend = Literal["memory", "redis", "postgres", "hybrid"]


@dataclass(frozen=True)
class Sketch:
    """What the rule table would have chosen without looking at the workload: the backend, and the rule that fired."""

    backend: Backend
    rule: str
    sentence: str = ""


def sketch(requirements: Requirements, deployment: Deployment) -> Sketch:
    """The rule table of the design sketch that ratesim started from; a p99 below 1 ms is its `SubMillisecond`."""
    if requirements.p99 is not None and requirements.p99 < 1e-3:
        return Sketch("memory", "a latency target below 1 ms")
    match deployment.type, requirements.persistence:
        case "single_instance", "none":
            return Sketch("memory", "a single instance without persistence")
        case "clustered", "session":
            return Sketch("hybrid", "a cluster with session persistence")
        case "high_availability", "durable":
            return Sketch("postgres", "high availability with durable persistence")
    return Sketch("redis", "no other rule, so the default for distributed deployments")
